"""One heap of deadlines for everyone who sleeps.

``trio.sleep`` makes a cancel scope and wakes by raising through it; a task that is merely rescheduled wakes several times
cheaper. Here one task sleeps until the earliest deadline and reschedules whoever is due.
"""

from __future__ import annotations

import heapq
import math
from types import TracebackType
from typing import Any

import attrs
import trio

from .nursery import BareNursery

__all__ = ("Timers", "TimersStatistics", "open_timers")


@attrs.frozen
class TimersStatistics:
    """What a `Timers` holds."""

    sleeping: int
    """Tasks asleep."""
    cancelled: int
    """Entries of cancelled sleepers that are not swept yet: never many more than ``sleeping``."""
    next_deadline: float
    """When the next one is looked at, in seconds of trio's clock; ``inf`` if nobody sleeps."""


class _Sleeper(list[Any]):
    """An entry of the heap, ``[deadline, number, task]``; the task is None once it was cancelled or the timers closed.

    A list, so that the heap compares in C, and callable, as what trio calls to cancel a sleep: one object a sleeper.
    """

    __slots__ = ("timers",)
    timers: Timers

    def __call__(self, _: object) -> trio.lowlevel.Abort:
        self[2] = None
        self.timers._one_cancelled()
        return trio.lowlevel.Abort.SUCCEEDED


_SWEEP_OVER = 64


class Timers:
    """Sleeping through one shared timer. Made by `open_timers`."""

    __slots__ = ("_cancelled", "_closed", "_guard", "_heap", "_number", "_scope")

    def __init__(self) -> None:
        self._heap: list[_Sleeper] = []
        self._number = 0
        self._cancelled = 0
        self._closed = False
        self._scope: trio.CancelScope | None = None  # in which the serving task sleeps
        self._guard = trio.CancelScope(shield=True)  # ends the serving task, and nothing else does

    async def sleep(self, seconds: float) -> None:
        """As ``trio.sleep``: wait ``seconds`` of trio's clock. Raises as `sleep_until`, and ValueError if negative."""
        if not seconds >= 0:
            raise ValueError(f"seconds must not be negative, got {seconds!r}")
        if seconds == 0:
            await trio.lowlevel.checkpoint()
            return
        sleeper = self._fall_asleep(trio.current_time() + seconds)
        await trio.lowlevel.wait_task_rescheduled(sleeper)
        if sleeper[2] is None:
            raise trio.ClosedResourceError("these timers were closed")

    async def sleep_until(self, deadline: float) -> None:
        """As ``trio.sleep_until``: wait until trio's clock says ``deadline``. A checkpoint.

        Cancelling leaves an entry in the heap that is swept when it is due, or when half the heap is such entries.

        Raises:
            trio.ClosedResourceError: the `open_timers` block is left, or was left while this slept.
        """
        sleeper = self._fall_asleep(deadline)
        await trio.lowlevel.wait_task_rescheduled(sleeper)
        if sleeper[2] is None:
            raise trio.ClosedResourceError("these timers were closed")

    def _fall_asleep(self, deadline: float) -> _Sleeper:
        if self._closed:
            raise trio.ClosedResourceError("these timers are closed")
        self._number += 1  # so that tasks are never compared
        sleeper = _Sleeper((deadline, self._number, trio.lowlevel.current_task()))
        sleeper.timers = self
        heapq.heappush(self._heap, sleeper)
        if self._scope is not None and deadline < self._scope.deadline:
            self._scope.deadline = deadline
        return sleeper

    def _one_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _SWEEP_OVER and self._cancelled * 2 > len(self._heap):
            self._heap = [sleeper for sleeper in self._heap if sleeper[2] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def statistics(self) -> TimersStatistics:
        """Counts."""
        sleeping = len(self._heap) - self._cancelled
        return TimersStatistics(sleeping, self._cancelled, self._heap[0][0] if self._heap else math.inf)

    def _wake_due(self) -> float:
        """Reschedule whoever is due; returns the deadline of the next."""
        now = trio.current_time()
        while self._heap:
            deadline, _, task = self._heap[0]
            if task is not None and deadline > now:
                return deadline
            heapq.heappop(self._heap)
            if task is None:
                self._cancelled -= 1
            else:
                trio.lowlevel.reschedule(task)
        return math.inf

    async def _serve(self) -> None:
        # Shielded: while the block lasts, even a body that is being cancelled may sleep here in its clean-up.
        with self._guard:
            while True:
                deadline = self._wake_due()
                # Whoever falls asleep with an earlier deadline moves the scope's: no wake-up is needed for that.
                with trio.CancelScope(deadline=deadline) as self._scope:
                    await trio.sleep_forever()

    def _close(self) -> None:
        self._closed = True
        self._guard.cancel()
        for sleeper in sorted(self._heap):
            task, sleeper[2] = sleeper[2], None
            if task is not None:
                trio.lowlevel.reschedule(task)
        self._heap.clear()
        self._cancelled = 0


class open_timers:  # noqa: N801  # reads as the function that it is, `async with open_timers() as timers`
    """A shared timer, served while the block lasts by one task of its own.

    Leaving the block wakes whoever still sleeps with ``trio.ClosedResourceError``. Exceptions of the body come out bare.
    """

    __slots__ = ("_nursery", "_timers")

    async def __aenter__(self) -> Timers:
        self._timers = Timers()
        self._nursery = BareNursery("the timer task failed")
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._timers._serve, name="runmgr timers")
        return self._timers

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._timers._close()
        return await self._nursery.__aexit__(kind, error, traceback)
