"""How long to wait before trying again: full jitter. Pure: no clock, no trio.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 4 March 2015
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): ``sleep = random_between(0, min(cap, base *
2 ** attempt))``. Of the schemes compared there, full jitter leaves the server the least work, as clients that failed
together do not come back together.
"""

from __future__ import annotations

import math
import random

__all__ = ("backoff_ceiling", "full_jitter")


def backoff_ceiling(attempt: int, *, base: float, cap: float) -> float:
    """The longest wait, in seconds, before try ``attempt + 1``: ``min(cap, base * 2 ** attempt)``.

    Args:
        attempt: how many tries have failed before this one failed: 0 the first time.
        base: seconds; the ceiling the first time.
        cap: seconds; the ceiling of all ceilings.

    Raises:
        ValueError: an argument is negative or not a number.
    """
    if attempt < 0 or not base >= 0 or not cap >= 0:
        raise ValueError(f"attempt, base and cap must not be negative: {attempt=}, {base=}, {cap=}")
    try:
        return min(cap, math.ldexp(base, attempt))
    except OverflowError:
        return cap


def full_jitter(attempt: int, *, base: float, cap: float, rng: random.Random) -> float:
    """Seconds to wait before try ``attempt + 1``: uniform between 0 and `backoff_ceiling`.

    Args:
        attempt: how many tries have failed before this one failed: 0 the first time.
        base: seconds; the ceiling the first time.
        cap: seconds; the ceiling of all ceilings.
        rng: where the jitter comes from.

    Raises:
        ValueError: an argument is negative or not a number.
    """
    return rng.random() * backoff_ceiling(attempt, base=base, cap=cap)
