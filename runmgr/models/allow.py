"""The switch that keeps tests from calling real models."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from runmgr import models

__all__ = ("check_allow_model_requests", "override_allow_model_requests")

# The switch itself is `runmgr.models.ALLOW_MODEL_REQUESTS`, because that is where people set it.


def check_allow_model_requests() -> None:
    """Called by every model that leaves the process, before it does.

    Raises:
        RuntimeError: `runmgr.models.ALLOW_MODEL_REQUESTS` is False.
    """
    if not models.ALLOW_MODEL_REQUESTS:
        raise RuntimeError("Model requests are not allowed, since ALLOW_MODEL_REQUESTS is False")


@contextlib.contextmanager
def override_allow_model_requests(allow_model_requests: bool) -> Generator[None]:
    """Set `runmgr.models.ALLOW_MODEL_REQUESTS` within a block.

    Args:
        allow_model_requests: whether models may leave the process within the block.
    """
    before = models.ALLOW_MODEL_REQUESTS
    models.ALLOW_MODEL_REQUESTS = allow_model_requests
    try:
        yield
    finally:
        models.ALLOW_MODEL_REQUESTS = before
