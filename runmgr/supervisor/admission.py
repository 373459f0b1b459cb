"""Who gets a place next. Bookkeeping: starts nothing itself, knows no clock.

At most ``max_running`` runs hold a place, and of a group with a limit of its own no more than that. First come runs that had a
place and gave it up (`runmgr.supervisor.parking`), then child runs, the deepest first, then all others: what is begun is
finished before more is begun, so the runs that wait for others stay few.

Child runs and others have a lane each: a queue of at most ``max_queued``, and behind it those who called ``submit`` and wait
for room. In both, higher priority goes first, then it is fair between groups (`runmgr.concurrency.fair` names the source), then
first come, first served.

Invariant: while a place is free, whoever waits is of a group that is at its limit, or the door is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, cast

import trio

from runmgr.concurrency import FairQueue
from runmgr.records.outcomes import RunState

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ("Admission",)

_DEEPER = 1_000_000
"""How much more a level of depth counts than any priority."""


class Ticket:
    """A submitter's turn in line."""

    __slots__ = ("_error", "_task", "actor", "called")

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.called = False
        """Whether it has its place or seat, or was sent away."""
        self._error: BaseException | None = None
        self._task: trio.lowlevel.Task | None = None

    def call(self, error: BaseException | None = None) -> None:
        """Its turn has come, or never will."""
        self.called = True
        self._error = error
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    async def wait(self, abort: Callable[[], None]) -> None:
        """Wait for the turn. Cancelled: ``abort`` is called."""
        if not self.called:
            self._task = trio.lowlevel.current_task()

            def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                abort()
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(leave)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if self._error is not None:
            raise self._error


class _Lane:
    """A queue, and the line of those who wait for room in it."""

    __slots__ = ("line", "queue")

    def __init__(self, weights: Mapping[str, float]) -> None:
        shares: dict[Hashable, float] = {**weights}
        self.queue: FairQueue[Actor, Actor] = FairQueue(weights=shares)
        self.line: FairQueue[Actor, Ticket] = FairQueue(weights=shares)


class Admission:
    """Places, queues and lines of one supervisor.

    Args:
        max_running: places.
        max_queued: room in each queue.
        enter: called with each run when it is admitted: when it gets a seat in the queue, or a place at once.
        start: called with each run that got a place.
        weights: of groups, where not 1.
        limits: places of groups, where they are limited.
    """

    __slots__ = (
        "_children",
        "_enter",
        "_held",
        "_in_group",
        "_kept",
        "_kept_in",
        "_lanes",
        "_limits",
        "_max_queued",
        "_max_running",
        "_places",
        "_returning",
        "_roots",
        "_start",
        "closed",
        "finishing",
        "running",
    )

    def __init__(
        self,
        max_running: int,
        max_queued: int,
        enter: Callable[[Actor], None],
        start: Callable[[Actor], None],
        *,
        weights: Mapping[str, float] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._kept = 0
        self._kept_in: dict[str, int] = {}
        self._places = max_running
        """How many may be taken now."""
        self.running = 0
        """Places taken."""
        self.closed = False
        """While set, nobody gets a place: the supervisor is paused, or stops."""
        self.finishing = False
        """While set, only those get one that had one before."""
        self._enter = enter
        self._start = start
        self._limits: dict[str, float] = dict(limits or {})
        self._in_group: dict[str, int] = {}
        """Places that groups with a limit hold."""
        self._held: set[str] = {group for group, limit in self._limits.items() if limit < 1}
        """Groups that are at their limit."""
        self._returning: dict[Actor, None] = {}
        self._children = _Lane(weights or {})
        self._roots = _Lane(weights or {})
        self._lanes = (self._children, self._roots)
        for group in self._held:
            self._hold(group)

    # ---------------------------------------------------------------- limits

    @property
    def max_running(self) -> int:
        """Places. Raising it hands the new ones out at once; lowering it interrupts nobody."""
        return self._max_running

    @max_running.setter
    def max_running(self, places: int) -> None:
        self._max_running = places
        self._places = max(places, self._kept + 1)
        self.fill()

    @property
    def kept(self) -> int:
        """Places that are kept by runs which wait for other runs."""
        return self._kept

    def keep(self, more: int, group: str) -> None:
        """So many more are kept by runs of this group. Where that is all that there are, or all that the group may hold, as limits can be
        lowered and come late, one stays beside them: what they wait for needs it.
        """
        self._kept += more
        self._places = max(self._max_running, self._kept + 1)
        self._kept_in[group] = self._kept_in.get(group, 0) + more
        if not self._kept_in[group]:
            del self._kept_in[group]
        if group in self._limits:
            self.count_group(group, self._in_group.get(group, 0))

    @property
    def max_queued(self) -> int:
        """Room in each queue. Raising it lets those in line sit down; lowering it sends nobody away."""
        return self._max_queued

    @max_queued.setter
    def max_queued(self, seats: int) -> None:
        self._max_queued = seats
        for lane in self._lanes:
            self._fill_seats(lane)

    def set_group(self, group: str, *, weight: float | None = None, limit: float | None = None) -> None:
        """Change a group's weight and limit, where given; `count_group` has to be told what it holds.

        Raises:
            ValueError: the weight is not a number over 0.
        """
        if weight is not None:
            for lane in self._lanes:
                lane.queue.set_weight(group, weight)
                lane.line.set_weight(group, weight)
        if limit is not None:
            self._limits[group] = limit

    def count_group(self, group: str, places: int) -> None:
        """How many places a group holds whose limit is new or has changed; holds it or lets it go accordingly."""
        self._in_group[group] = places
        if places >= self._most(group):
            if group not in self._held:
                self._held.add(group)
                self._hold(group)
        elif group in self._held:
            self._release(group)
            self.fill()

    def is_counted(self, group: str) -> bool:
        """Whether the group has a limit, so that its places are counted."""
        return group in self._limits

    def group(self, group: str) -> tuple[float, int | None, int]:
        """A group's weight, its limit, and the places it holds; 0 where they are not counted."""
        limit = self._limits.get(group, inf)
        weight = self._roots.queue.weight(group)
        return weight, None if limit == inf else int(limit), self._in_group.get(group, 0)

    def forget_group(self, group: str) -> None:
        """A group without runs is a group like others again."""
        self._limits.pop(group, None)
        self._in_group.pop(group, None)
        if group in self._held:
            self._release(group)
        for lane in self._lanes:
            lane.queue.set_weight(group, None)
            lane.line.set_weight(group, None)

    def in_line(self, group: str) -> bool:
        """Whether anybody stands in line with a run of this group. O(those in line)."""
        return any(actor.group == group for lane in self._lanes for actor in lane.line)

    def queued_by_group(self) -> dict[str, int]:
        """Runs in the queues, by group. O(groups that have any)."""
        counts: Counter[str] = Counter()
        for lane in self._lanes:
            counts.update(cast("dict[str, int]", lane.queue.statistics().by_group))
        return counts

    def dismiss_group(self, group: str, error: Callable[[], BaseException]) -> None:
        """Send those in line away who have a run of this group."""
        for lane in self._lanes:
            for actor in [actor for actor in lane.line if actor.group == group]:
                lane.line.remove(actor).call(error())

    # ---------------------------------------------------------------- looking

    @property
    def queued(self) -> int:
        """Runs in the queues."""
        return len(self._roots.queue) + len(self._children.queue)

    @property
    def submitting(self) -> int:
        """How many stand in line."""
        return len(self._roots.line) + len(self._children.line)

    @property
    def returning(self) -> int:
        """Runs that had a place and want one again."""
        return len(self._returning)

    # ---------------------------------------------------------------- coming

    def offer(self, actor: Actor) -> bool:
        """Give the run a place or a seat in the queue; False when both are full."""
        if self.running < self._places and not self.closed and actor.group not in self._held:
            enter = self._enter  # not called as a method would be, which is slow for attributes
            enter(actor)  # by the invariant nobody is waiting who could go
            self._begin(actor)
            return True
        lane = self._lane(actor)
        if len(lane.queue.where) < self._max_queued and not lane.line.where:
            actor._context = copy_context()
            self._seat(actor, lane)
            return True
        return False

    def stand(self, actor: Actor) -> Ticket:
        """Stand in line until the run has a place or a seat: to be waited for, or given up, at once after this."""
        ticket = Ticket(actor)
        actor._context = copy_context()
        self._lane(actor).line.push(actor, ticket, priority=_priority(actor), group=actor.group)
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """Leave the line, the run not admitted; nothing where its turn has come already."""
        if not ticket.called:
            self._lane(ticket.actor).line.remove(ticket.actor)

    def come_back(self, actor: Actor) -> None:
        """A run that gave its place up wants one again."""
        self._returning[actor] = None
        self.fill()

    # ---------------------------------------------------------------- going

    def give_back(self, actor: Actor) -> None:
        """A run gives its place back; the next ones begin."""
        self.running -= 1
        if self._limits and actor.group in self._limits:
            group = actor.group
            self._in_group[group] -= 1
            if group in self._held and self._in_group[group] < self._most(group):
                self._release(group)
        self.fill()

    def stay_away(self, actor: Actor) -> None:
        """A run that wanted its place again no longer does."""
        self._returning.pop(actor, None)

    def leave(self, actor: Actor) -> None:
        """A run leaves its seat without a place: it ended or was paused there."""
        lane = self._lane(actor)
        lane.queue.remove(actor)
        actor._seated = False
        self._fill_seats(lane)

    def fill(self) -> None:
        """Hand out free places."""
        while self.running < self._places and not self.closed:
            actor = self._next()
            if actor is None:
                return
            self._begin(actor)

    def dismiss(self, error: Callable[[], BaseException], *, children: bool) -> None:
        """Send those in line away: each one's wait raises an error of its own. Child runs' parents only where said so."""
        for lane in self._lanes if children else (self._roots,):
            for actor in list(lane.line):
                lane.line.remove(actor).call(error())

    # ---------------------------------------------------------------- inside

    def _lane(self, actor: Actor) -> _Lane:
        extras = actor._extras
        return self._roots if extras is None or extras.parent is None else self._children

    def _next(self) -> Actor | None:
        if self._returning:
            for actor in self._returning:
                if actor.group not in self._held:
                    del self._returning[actor]
                    return actor
        for lane in () if self.finishing else self._lanes:
            if lane.queue.where:
                with suppress(IndexError):  # all of them are held
                    _, actor = lane.queue.pop()
                    actor._seated = False
                    if lane.line.where:
                        self._fill_seats(lane)
                    return actor
            if lane.line.where:
                with suppress(IndexError):
                    actor, ticket = lane.line.pop()
                    ticket.call()
                    self._enter(actor)
                    return actor
        return None

    def _begin(self, actor: Actor) -> None:
        self.running += 1
        if self._limits and actor.group in self._limits:
            group = actor.group
            count = self._in_group[group] = self._in_group.get(group, 0) + 1
            if count >= self._most(group) and group not in self._held:
                self._held.add(group)
                self._hold(group)
        start = self._start
        start(actor)

    def _seat(self, actor: Actor, lane: _Lane) -> None:
        self._enter(actor)
        if actor.state is not RunState.QUEUED:
            return  # whoever was told of it ended it at once
        actor._seated = True
        lane.queue.push(actor, actor, priority=_priority(actor), group=actor.group)

    def _fill_seats(self, lane: _Lane) -> None:
        while lane.line and len(lane.queue) < self._max_queued:
            first = lane.line.peek()
            if first is None:  # all of them are held: the first to come sits down
                actor = next(iter(lane.line))
                ticket = lane.line.remove(actor)
            else:
                actor, ticket = lane.line.pop()
            ticket.call()
            self._seat(actor, lane)

    def _most(self, group: str) -> float:
        """Places that a group with a limit may hold now. None is none."""
        limit = self._limits[group]
        return limit if limit < 1 else max(limit, self._kept_in.get(group, 0) + 1)

    def _hold(self, group: str) -> None:
        for lane in self._lanes:
            lane.queue.hold(group)
            lane.line.hold(group)

    def _release(self, group: str) -> None:
        self._held.discard(group)
        for lane in self._lanes:
            lane.queue.unhold(group)
            lane.line.unhold(group)


def _priority(actor: Actor) -> int:
    extras = actor._extras
    return actor.priority if extras is None else actor.priority + extras.depth * _DEEPER
