"""Providers: where a model is served, with which key, over which connections.

A provider is cheap to make, holds no connection (see ``runmgr.models.http``) and may be shared by any number of models,
runs and threads.
"""

from __future__ import annotations

from runmgr.providers.base import Provider
from runmgr.providers.infer import infer_provider, infer_provider_class

__all__ = ("Provider", "infer_provider", "infer_provider_class")
