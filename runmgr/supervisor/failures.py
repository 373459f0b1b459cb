"""How many runs may fail before everything stops. Pure."""

from __future__ import annotations

from collections import deque

from runmgr.exceptions import TooManyFailures
from runmgr.records.outcomes import RunOutcome, RunState

__all__ = ("Failures",)

KEPT = 100
"""How many failed outcomes `TooManyFailures` holds at most."""


class Failures:
    """Counts ended runs. Child runs are not counted: their failures are their parents' to deal with.

    Args:
        limit: failed runs (a whole number), or their share of the ended ones (below 1); None: any number.
        sample: how many runs must have ended before their share counts.
    """

    __slots__ = ("_failed", "_kept", "_limit", "_sample", "_succeeded")

    def __init__(self, limit: float | None, sample: int) -> None:
        self._limit = limit
        self._sample = sample
        self._failed = 0
        self._succeeded = 0
        self._kept: deque[RunOutcome] = deque(maxlen=KEPT)

    def ended(self, outcome: RunOutcome) -> TooManyFailures | None:
        """A run has ended; gives what is to be raised if that was one failure too many."""
        limit = self._limit
        if limit is None or outcome.parent is not None:
            return None
        if outcome.status is RunState.SUCCEEDED:
            self._succeeded += 1
        elif outcome.status is RunState.FAILED:
            self._failed += 1
            self._kept.append(outcome)
        failed = self._failed
        if isinstance(limit, float) and limit < 1:
            ended = failed + self._succeeded
            too_many = ended >= self._sample and failed > limit * ended
            text = f"{failed} of {ended} runs failed, more than max_failures={limit:.0%}"
        else:
            too_many = failed > limit
            text = f"{failed} runs failed, more than max_failures={limit:g}"
        return TooManyFailures(text, tuple(self._kept)) if too_many else None
