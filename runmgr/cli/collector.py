"""How often Python's collector looks in a process that is ours: seldom, as nearly all objects die by their reference count."""

from __future__ import annotations

import gc

__all__ = ("calm", "settle", "thresholds")

YOUNG = 5_000
"""New objects until they are looked through. That many are still in the processor's caches: ten times as many took twice as long each."""
MIDDLE = 1_000_000
"""Objects more, until all that came since the last such round are looked through; they are in no cache by then."""
A_RUN = 150
"""Objects, for each run in flight: what one of three turns makes that lives through a young round is gone before anybody looks again."""
OLD = 100
"""Such rounds until everything is looked through."""


def thresholds(in_flight: int = 0) -> tuple[int, int, int]:
    """For ``gc.set_threshold``, where at most so many runs are in flight.

    What is lost in cycles is at most in proportion to them, or to a million objects, until it is found.
    """
    return YOUNG, max(MIDDLE, in_flight * A_RUN) // YOUNG, OLD


def calm() -> None:
    """Look seldom from now on. Called before a command's imports, which stay: looking them through was a tenth of its start."""
    gc.set_threshold(*thresholds())


def settle(in_flight: int = 0) -> None:
    """What is imported by now lives for ever: no collection need look at it. Blocks for one full collection.

    Args:
        in_flight: runs, or requests, at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds(in_flight))
