"""Who gets a place next. Bookkeeping: starts nothing itself, knows no clock.

At most ``max_running`` runs hold a place. Behind them a queue of at most ``max_queued``: higher priority first, then fair
between groups (`runmgr.concurrency.fair` names the source), then first come first served. Behind the queue stand those who
called ``submit`` and wait for room, first come first served. Runs that come back from a pause go before the queue: they have
already waited once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import outcome
import trio

from runmgr.concurrency import FairQueue
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
        "_start",
        "closed",
        "max_queued",
        "max_running",
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
        self.closed = False
        """While set, nobody gets a place: the supervisor is paused, or stops."""
        self._enter = enter
        self._start = start
        self._queue: FairQueue[str, Actor] = FairQueue()
        self._returning: deque[Actor] = deque()
        self._line: OrderedDict[trio.lowlevel.Task, Actor] = OrderedDict()

    @property
    def queued(self) -> int:
        """Runs in the queue."""
        return len(self._queue)

    @property
    def submitting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def offer(self, actor: Actor) -> bool:
        """Give the run a place or a seat in the queue; False when both are full."""
        if (
            self.running < self.max_running
            and not self.closed
            and not self._queue
            and not self._returning
            and not self._line
        ):
            self._enter(actor)
            self._begin(actor)
            return True
        if len(self._queue) < self.max_queued and not self._line:
            self._seat(actor)
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
        self._queue.remove(actor.run_id)
        actor._seated = False
        self._fill_seats()

    def fill(self) -> None:
        """Hand out free places."""
        while self.running < self.max_running and not self.closed:
            if self._returning:
                actor = self._returning.popleft()
                if actor.state != RunState.QUEUED:
                    continue  # it ended, or was paused again, while it waited here
                self._begin(actor)
            elif self._queue:
                _, actor = self._queue.pop()
                actor._seated = False
                self._begin(actor)
                if self._line:
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

    def _begin(self, actor: Actor) -> None:
        self.running += 1
        self._start(actor)

    def _seat(self, actor: Actor) -> None:
        self._enter(actor)
        actor._seated = True
        self._queue.push(actor.run_id, actor, priority=actor.priority, group=actor.group)

    def _fill_seats(self) -> None:
        while self._line and len(self._queue) < self.max_queued:
            task, actor = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task)
            self._seat(actor)
