"""A group's own rate, over all models that its requests go to.

A request of such a group takes a turn and a permit here and at its model in one moment, and holds neither while it waits for the other.
It stands in its model's line; where the model has room for it and the group has not, the line passes its group over, and the group
calls the models that have passed it over, one after the other, as it has room again. Each call lets one request in, so the group's
models take turns.

Where two doors have to be open at once, a request could be unlucky for ever: its model has room when its group has none, and the
other way round, because others are quicker each time. So after `PATIENCE` such misses the group lets nobody else go
before it, until its model has room again (or rests: a model that nobody may ask keeps nobody else waiting).
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from runmgr.records.budgets import RateLimit

from .rates import CATCH_UP, Booking, Place, RateDoor

__all__ = ("PATIENCE", "GroupRate")

PATIENCE = 4
"""How often a model may have room in vain, until the group waits for it."""
_LOOK_AGAIN = 1.0
"""Seconds until it is seen that a model rests that the group waits for."""


class GroupRate(RateDoor):
    """What a group's `RateLimit` asks for.

    Args:
        group: its name.
        limit: what was told.
        services: where its timer runs.
    """

    __slots__ = ("_again", "_called", "_serving", "_turns", "group")

    def __init__(self, group: str, limit: RateLimit, services: trio.Nursery | None) -> None:
        super().__init__(limit, adapt=False, services=services)
        self.group = group
        self._turns: OrderedDict[RateDoor, int] = OrderedDict()
        """Models that pass the group over, in the order in which they are called, with how often they had room in vain. This door itself
        is among them while requests wait that have no model's rate to pass.
        """
        self._called: RateDoor | None = None  # who may let one in now
        self._serving = False
        self._again = False

    @property
    def waiting(self) -> int:
        """How many wait for the group's rate, whether or not for their model's too."""
        return sum(door.in_line(self.group) for door in self._turns)

    def pass_nowait(self, now: float, booking: Booking | None) -> bool:
        """As `RateDoor.pass_nowait`; never before those who wait."""
        return not self._turns and super().pass_nowait(now, booking)

    def leave(self) -> None:
        """Give the permit back."""
        self.used -= 1
        if self._turns:
            self._serve()

    # ---------------------------------------------------------------- called by the models' doors

    def take_with(self, door: RateDoor, now: float, booking: Booking | None) -> bool:
        """Take a turn and a permit for a request whose model has both for it. False: the door is to pass the group over until it is called."""
        turns = self._turns
        if not turns:
            self._clock = now
        elif not self._may_go(door, now):
            if door not in turns:
                turns[door] = 0
                self._again = True  # if they are being called right now, it is not among those
            return False
        due = None if self.closed else self._due_at(now, booking)
        if due is None:
            turns[door] = turns.get(door, 0) + 1
            return False
        self._called = None
        self._let_in(due, booking)
        return True

    def _may_go(self, door: RateDoor, now: float) -> bool:
        if self._serving:
            return self._called is door
        for other in self._turns:
            if other is door:
                return True
            if self._waits_for(other, now):
                return False
        return True

    def _waits_for(self, door: RateDoor, now: float) -> bool:
        """Whether nobody goes before a model has room, because it had room in vain too often."""
        if self._turns[door] < PATIENCE or door.rests(now):
            return False
        self._wake_at(now + _LOOK_AGAIN)
        return True

    def went(self, door: RateDoor) -> None:
        """A request of the group has passed a model's door: the others are next."""
        if self._turns.pop(door, None) is not None and door.in_line(self.group):
            self._turns[door] = 0
        if self._turns:
            self._serve()

    def one_left(self, door: RateDoor) -> None:
        """A request of the group does not wait at a model's door any more."""
        if door in self._turns and not door.in_line(self.group):
            self._forget(door)
            if self._turns:
                self._serve()

    def _forget(self, door: RateDoor) -> None:
        del self._turns[door]
        door.pass_over(self.group, over=False)

    # ---------------------------------------------------------------- requests without a model's rate

    async def pass_(self, place: Place) -> None:
        """Wait for a turn and a permit here alone. Cancelled: nothing is taken."""
        self._turns.setdefault(self, 0)
        await super().pass_(place)

    def _remove(self, task: trio.lowlevel.Task) -> None:
        super()._remove(task)
        self.one_left(self)

    def call(self, group: str) -> None:  # noqa: ARG002  its own
        """Let in one of those that have no model's rate to pass."""
        now = trio.current_time()
        first = self._line.peek()
        assert first is not None
        task, place = first
        if self.take_with(self, now, place.booking):
            self._line.pop()
            if task is not trio.lowlevel.current_task():
                trio.lowlevel.reschedule(task)
            self.went(self)

    # ---------------------------------------------------------------- the turns

    def _serve(self) -> None:
        """Call the models one after the other, until nobody can go."""
        if self._serving:
            self._again = True
            return
        now = trio.current_time()
        self._clock = max(self._clock, now - CATCH_UP)
        self._serving = self._again = True
        try:
            while self._again and not self.closed:
                self._again = False
                self._call_all(now)
        finally:
            self._serving = False
            self._called = None

    def _call_all(self, now: float) -> None:
        turns = self._turns
        for door in list(turns):
            missed = turns.get(door)
            if missed is None:
                continue
            if not door.in_line(self.group):
                self._forget(door)
                continue
            self._called = door
            door.call(self.group)
            if self._called is door and door in turns and (
                turns[door] > missed or self._waits_for(door, now)
            ):  # fmt: skip
                return  # there is no room here, or it is kept
