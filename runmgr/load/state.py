"""What a load knows of itself while it runs: counts, and marks of them at the ends of the steady window."""

from __future__ import annotations

import time
from typing import Literal

import attrs
import trio

__all__ = ("LoadState", "Mark")

Phase = Literal["sending", "draining", "done"]


@attrs.frozen
class Mark:
    """The counts at one moment.

    Args:
        at: seconds since the start.
        sent: requests begun.
        succeeded: requests that ended well.
        failed: requests that failed.
        chunks: pieces of content that arrived.
        tokens: output tokens of requests that ended well.
        good: requests that ended well and within every service level.
        area: requests in flight, integrated over time.
        cpu: processor seconds of this process.
    """

    at: float
    sent: int
    succeeded: int
    failed: int
    chunks: int
    tokens: int
    good: int
    area: float
    cpu: float


@attrs.define(eq=False)
class LoadState:
    """A load that is running.

    Args:
        started: when it began, on trio's clock.
        total: how many requests there will be, where that is known.
        duration: for how long it sends, where that is known.
    """

    started: float
    total: int | None = None
    duration: float | None = None
    phase: Phase = "sending"
    stopped: str | None = None
    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    chunks: int = 0
    tokens: int = 0
    good: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first: Mark | None = None
    last: Mark | None = None
    _area: float = 0.0
    _changed: float = 0.0
    stopping: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return trio.current_time() - self.started

    @property
    def ended(self) -> int:
        """Requests that came to an end of any kind."""
        return self.succeeded + self.failed + self.cancelled

    def stop(self, why: str = "interrupted") -> None:
        """Send nothing more and drop what is in flight; what was measured is kept. Sync; idempotent."""
        if self.stopped is None:
            self.stopped = why
            self.stopping.set()
            self.scope.cancel()

    def flight(self, change: int, now: float) -> None:
        """Requests in flight become more or fewer, at ``now`` (since the start)."""
        self._area += self.in_flight * (now - self._changed)
        self._changed = now
        self.in_flight += change
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def mark(self) -> Mark:
        """The counts now."""
        now = self.elapsed
        self.flight(0, now)
        return Mark(
            at=now,
            sent=self.sent,
            succeeded=self.succeeded,
            failed=self.failed,
            chunks=self.chunks,
            tokens=self.tokens,
            good=self.good,
            area=self._area,
            cpu=time.process_time(),
        )
