"""The rate door of one model: requests and tokens a minute, and requests in flight.

A request takes its turn in time when it comes: GCRA gives the moment at which it conforms (see `runmgr.concurrency.gcra` for
the source), the turn is booked, and it sleeps until then. So the order is first come, first served, nobody wakes in vain, and
nothing is held while sleeping. Tokens are booked by an estimate, the mean of what requests took so far, and corrected when
the answer is there.
"""

from __future__ import annotations

import trio

from runmgr.concurrency import Gcra, ResizableLimiter, Timers
from runmgr.records.budgets import RateLimit

__all__ = ("RateDoor",)

FIRST_GUESS = 500
"""Tokens that a request is booked with before any answer was seen."""
_SMOOTHING = 0.05


class RateDoor:
    """What `RateLimit` asks for, for one model."""

    __slots__ = ("_mean", "_requests", "_tokens", "cool_until", "in_flight", "limit")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        requests, tokens = limit.requests_per_minute, limit.tokens_per_minute
        # A burst of one: turns are booked ahead, so a late timer loses nothing, and no window of the provider's, wherever it
        # begins, sees more than its share.
        self._requests = None if requests is None else Gcra(requests / 60, 1.0)
        self._tokens = None if tokens is None else Gcra(tokens / 60, max(1.0, tokens / 60))
        self.in_flight = None if limit.max_in_flight is None else ResizableLimiter(limit.max_in_flight)
        self._mean: float | None = None
        self.cool_until = 0.0
        """Nobody is sent before: the provider asked for it."""

    def _guess(self) -> float:
        return FIRST_GUESS if self._mean is None else self._mean

    def wait_for(self, now: float) -> float:
        """Book a turn; gives the seconds until it."""
        wait = max(0.0, self.cool_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.delay(now))
            self._requests.force(now, 1.0)
        if self._tokens is not None:
            guess = self._guess()
            wait = max(wait, self._tokens.delay(now, min(guess, self._tokens.burst)))
            self._tokens.force(now, guess)
        return wait

    def give_back(self, now: float) -> None:
        """A turn that was booked is not taken."""
        if self._requests is not None:
            self._requests.give_back(now, 1.0)
        if self._tokens is not None:
            self._tokens.give_back(now, self._guess())

    def settle(self, now: float, tokens: int) -> None:
        """An answer took so many tokens."""
        guess = self._guess()
        if self._tokens is not None:
            if tokens > guess:
                self._tokens.force(now, tokens - guess)
            elif tokens < guess:
                self._tokens.give_back(now, guess - tokens)
        self._mean = float(tokens) if self._mean is None else guess + (tokens - guess) * _SMOOTHING

    def cool_down(self, until: float) -> None:
        """Nobody is sent before ``until``."""
        self.cool_until = max(self.cool_until, until)

    def pass_nowait(self) -> bool:
        """Take a turn and a permit if both are there now."""
        now = trio.current_time()
        if self.cool_until > now:
            return False
        if self._requests is not None and self._requests.delay(now) > 0:
            return False
        if self._tokens is not None and self._tokens.delay(now, min(self._guess(), self._tokens.burst)) > 0:
            return False
        if self.in_flight is not None:
            try:
                self.in_flight.acquire_nowait()
            except trio.WouldBlock:
                return False
        self.wait_for(now)
        return True

    async def pass_(self, timers: Timers) -> None:
        """Wait for a turn and, where there is a limit, for a permit, which `leave` gives back.

        Cancelled: the turn is given back, and no permit is held.
        """
        due = trio.current_time()
        due += self.wait_for(due)
        try:
            await timers.sleep_until(due)
            while self.cool_until > due:  # asked for while this slept
                due = self.cool_until
                await timers.sleep_until(due)
            if self.in_flight is not None:
                await self.in_flight.acquire()
        except trio.Cancelled:
            self.give_back(trio.current_time())
            raise

    def leave(self) -> None:
        """Give the permit back."""
        if self.in_flight is not None:
            self.in_flight.release()
