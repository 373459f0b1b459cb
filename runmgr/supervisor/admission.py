"""Who gets a place next. Pure bookkeeping: starts nothing itself, knows no clock.

At most ``max_running`` runs hold a place. Behind them a queue of at most ``max_queued``: higher priority first, then first
come first served. Behind the queue stand those who called ``submit`` and wait for room, first come first served.
Runs that come back from a pause go before the queue: they have already waited once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import outcome
import trio

from runmgr.records.outcomes import RunState

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ("Admission",)


class Admission:
    """Places, queue and line of one supervisor.

    Args:
        max_running: places.
        max_queued: room in the queue.
        enter: called with each run when it is admitted: when it gets a seat in the queue, or a place at once.
        start: called with each run that got a place.
    """

    __slots__ = (
        "_enter",
        "_line",
        "_queue",
        "_returning",
        "_sequence",
        "_start",
        "closed",
        "max_queued",
        "max_running",
        "queued",
        "running",
    )

    def __init__(
        self,
        max_running: int,
        max_queued: int,
        enter: Callable[[Actor], None],
        start: Callable[[Actor], None],
    ) -> None:
        self.max_running = max_running
        self.max_queued = max_queued
        self.running = 0
        """Places taken."""
        self.queued = 0
        """Runs in the queue, without those that were cancelled there."""
        self.closed = False
        """While set, nobody gets a place (the supervisor is paused)."""
        self._enter = enter
        self._start = start
        self._queue: list[tuple[int, int, Actor]] = []
        self._sequence = 0
        self._returning: deque[Actor] = deque()
        self._line: OrderedDict[trio.lowlevel.Task, Actor] = OrderedDict()

    def offer(self, actor: Actor) -> bool:
        """Give the run a place or a seat in the queue; False when both are full."""
        if not self.closed and self.running < self.max_running and not self.queued and not self._returning:
            self._enter(actor)
            self._begin(actor)
            return True
        if self.queued < self.max_queued and not self._line:
            self._enter(actor)
            self._push(actor)
            return True
        return False

    async def wait(self, actor: Actor) -> None:
        """Stand in line until the run has a place or a seat. Cancelling leaves the line, the run not admitted."""
        task = trio.lowlevel.current_task()
        self._line[task] = actor

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._line[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def give_back(self) -> None:
        """A run gives its place back; the next ones begin."""
        self.running -= 1
        self.fill()

    def come_back(self, actor: Actor) -> None:
        """A run that was paused wants a place again."""
        self._returning.append(actor)
        self.fill()

    def leave(self, actor: Actor) -> None:
        """A run leaves the queue without a place: it ended or was paused there."""
        actor._seat = 0
        self.queued -= 1
        self._fill_seats()
        if len(self._queue) > 2 * self.queued + 64:  # mostly dead: sweep, O(1) amortised
            self._queue = [entry for entry in self._queue if entry[2]._seat == entry[1]]
            heapify(self._queue)

    def fill(self) -> None:
        """Hand out free places."""
        while not self.closed and self.running < self.max_running:
            if self._returning:
                actor = self._returning.popleft()
                if actor.state != RunState.QUEUED:
                    continue
                self._begin(actor)
            elif self._queue:
                _, seat, actor = heappop(self._queue)
                if actor._seat != seat:
                    continue
                actor._seat = 0
                self.queued -= 1
                self._begin(actor)
                self._fill_seats()
            elif self._line:
                task, actor = self._line.popitem(last=False)
                trio.lowlevel.reschedule(task)
                self._enter(actor)
                self._begin(actor)
            else:
                return

    def dismiss(self, error: Callable[[], BaseException]) -> None:
        """Send those in line away: each one's wait raises an error of its own."""
        while self._line:
            task, _ = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Error(error()))

    def seated(self) -> list[Actor]:
        """The runs in the queue, and those back from a pause, in no order. O(n)."""
        return [actor for _, seat, actor in self._queue if actor._seat == seat]

    def _begin(self, actor: Actor) -> None:
        self.running += 1
        self._start(actor)

    def _push(self, actor: Actor) -> None:
        self._sequence += 1
        self.queued += 1
        actor._seat = self._sequence
        heappush(self._queue, (-actor.priority, self._sequence, actor))

    def _fill_seats(self) -> None:
        while self._line and self.queued < self.max_queued:
            task, actor = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task)
            self._enter(actor)
            self._push(actor)
