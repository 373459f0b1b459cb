"""Runs by way of their provider's batch API: at half the price, within hours."""

from __future__ import annotations

from runmgr.batch.provider_batches.lane import Lane, Patience
from runmgr.batch.provider_batches.model import ProviderBatchModel, has_batch_api
from runmgr.batch.provider_batches.opening import (
    Standing,
    cancel_batches,
    forget_claims,
    look_at_batches,
    open_batches,
    open_provider_batches,
)

__all__ = (
    "Lane",
    "Patience",
    "ProviderBatchModel",
    "Standing",
    "cancel_batches",
    "forget_claims",
    "has_batch_api",
    "look_at_batches",
    "open_batches",
    "open_provider_batches",
)
