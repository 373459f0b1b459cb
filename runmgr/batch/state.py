"""A batch while it runs: what a progress display reads and what stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs
import trio

from runmgr.report.summary import Tally

__all__ = ("BatchState", "Stop")

Stop: TypeAlias = Literal["interrupted", "budget_exhausted", "failed"]


@attrs.define(eq=False)
class BatchState:
    """Where a batch stands. Read it as often as you like: every property is a few attribute look-ups.

    One task writes it. `stop` is the one call that others may make.
    """

    tally: Tally
    total: int | None = None
    """Runs in all; None while unknown (standard input)."""
    admitted: int = 0
    """Runs handed to the supervisor, plus those found finished."""
    resumed: int = 0
    """Runs found finished when the batch began."""
    phase: Literal["reading", "running", "finishing", "done"] = "reading"
    rows_read: int = 0
    """Rows seen while the input is checked."""
    stopped: Stop | None = None
    """Why the batch stops before its end."""
    max_running: int = 1
    unfinished: dict[str, Any] = attrs.field(factory=dict[str, Any])
    """Runs handed to the supervisor that have not ended, by their id; a few times ``max_running`` at most."""
    on_stop: Callable[[], None] | None = None
    """How to stop what is going on now."""
    models: Callable[[], dict[str, Any]] | None = None
    """How the models are being used now (`ModelState` by name), while requests are sent."""
    provider_batches: Callable[[], list[tuple[str, str, int, int]]] | None = None
    """With ``via_batch_api``: batches at providers: id, the provider's word for how they stand, requests dealt with, and in all."""
    started: float = attrs.field(factory=trio.current_time)
    notes: list[str] = attrs.field(factory=list[str])
    """What people should know: dropped lines, unscored runs, ... in the order in which it was found."""

    def stop(self, why: Stop = "interrupted") -> None:
        """Stops admission and cancels what runs; the journal keeps those runs open for resume. Takes effect soon; idempotent."""
        if self.stopped is None:
            self.stopped = why
        if self.on_stop is not None:
            self.on_stop()

    @property
    def running(self) -> int:
        """Runs that hold a place now."""
        return min(len(self.unfinished), self.max_running)
