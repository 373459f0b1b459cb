"""How often Python's collector looks in a process that is ours: seldom, as nearly all objects die by their reference count."""

from __future__ import annotations

import gc

__all__ = ("THRESHOLDS", "calm", "settle")

THRESHOLDS = (50_000, 20, 100)
"""Of the three generations (``gc.set_threshold``). Ten thousand runs in flight are 400,000 objects: the second generation, a million
of them, is not looked through while they wait."""


def calm() -> None:
    """Look seldom from now on. Called before a command's imports, which stay: looking them through was a tenth of its start."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """What is imported by now lives for ever: no collection need look at it. Blocks for one full collection."""
    gc.collect()
    gc.freeze()
    calm()
