"""Runs that give their place up while they wait for something that may need it: for other runs, or to be resumed.

A run whose part (a tool, say) waits for a child, for room to submit one, or at a channel, is *parked*: it keeps its task, its
place goes to another, and its state is ``paused``. When the last such part has what it waited for, the run queues for a place
before all others, and that part goes on when it has one. Where what it waited for is a run's end, it queues before that run's
place goes on to anybody (`Wait.over`), so nothing new is begun in its stead. While one part waits, others of the same run go on without a place:
were they to hold one, the run that is waited for might never get it.

At most ``max_parked`` runs are parked. Beyond that a run keeps its place while it waits. Were every place kept that way,
nothing could go on any more; the wait that would bring that about is refused. Where that comes of a lower
``max_running``, or of a group's limit, one place stays beside those that are kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from runmgr.agent.host import current_host
from runmgr.exceptions import UserError
from runmgr.records.outcomes import RunState

from .commands import answer_all
from .states import TERMINAL

if TYPE_CHECKING:
    from .actor import Actor
    from .extras import Extras
    from .runtime import Runtime

__all__ = ("Parking", "Wait", "waits_of", "waits_of_listener")

T = TypeVar("T")


class Wait:
    """A part of a run that waits without the run's place."""

    __slots__ = ("_gate", "_is_over", "_parking", "actor")

    def __init__(self, parking: Parking, actor: Actor) -> None:
        self._parking = parking
        self.actor = actor
        self._is_over = False
        self._gate: trio.Event | None = None

    def over(self) -> trio.Event | None:
        """It has what it waited for; gives what to wait at until the run has its place, if it has to. Once is enough."""
        if not self._is_over:
            self._is_over = True
            self._gate = self._parking.back(self.actor)
        return self._gate


def waits_of(actor: Actor) -> list[Wait]:
    """The parts of runs that wait for this run's end."""
    extras = actor.extras()
    if extras.awaited is None:
        extras.awaited = []
    return extras.awaited


def waits_of_listener(listener: Any) -> Iterable[Wait]:
    """The parts of runs that wait for what a run's listener is told: those of a map, or a fork. Listeners from elsewhere have none."""
    return getattr(listener, "waits", ())


class Parking:
    """The parked runs of one supervisor."""

    __slots__ = ("_runtime", "max_parked", "parked")

    def __init__(self, runtime: Runtime, max_parked: int) -> None:
        self._runtime = runtime
        self.max_parked = max_parked
        self.parked = 0
        """Runs that have a task and no place."""

    def caller(self) -> Actor | None:
        """The run of this supervisor that the calling code is a part of; None where it is of none."""
        host = current_host.get()
        if host is None or getattr(host, "_sup", None) is not self._runtime:
            return None
        actor: Actor = host  # pyright: ignore[reportAssignmentType]  # the only hosts with a `_sup` are ours
        return None if actor.state in TERMINAL else actor

    async def wait(
        self,
        actor: Actor | None,
        wait: Callable[[], Awaitable[T]],
        reason: str,
        *,
        for_runs: bool = True,
        waits: list[Wait] | None = None,
    ) -> T:
        """Wait as a part of a run, without its place; afterwards it has one again.

        Cancelled, the run queues for its place, and waits for it at its next node boundary.

        Args:
            actor: the run; None: nobody's part, so it simply waits.
            wait: what to wait for.
            reason: said in events.
            for_runs: only other runs of this supervisor can end the wait.
            waits: it is in this list while it waits, for whoever ends the wait to say so at once.

        Raises:
            UserError: every place is kept by a run that waits for others, and no more runs may be parked.
        """
        if actor is None:
            return await wait()
        self.leave(actor, reason, for_runs=for_runs)
        part = Wait(self, actor)
        if waits is not None:
            waits.append(part)
        try:
            return await wait()
        finally:
            if waits is not None:
                waits.remove(part)
            gate = part.over()
            if gate is not None:
                actor._interrupts = True  # should it be cancelled here: it waits on at its next node boundary
                await gate.wait()

    def leave(self, actor: Actor, reason: str, *, for_runs: bool) -> None:
        """A part of the run begins to wait without a place."""
        extras = actor.extras()
        if extras.away or actor.state in TERMINAL:
            extras.away += 1
            return
        runtime = self._runtime
        if extras.gate is not None:  # it queues for a place that it no longer wants; it is parked still
            extras.away = 1
            runtime.admission.stay_away(actor)
            runtime.move(actor, "pause", reason)
            extras.gate.set()  # other parts go on without
            extras.gate = None
        elif self.parked < self.max_parked:
            extras.away = 1
            self.parked += 1
            extras.parked = True
            runtime.move(actor, "pause", reason)
            actor._holds = False
            runtime.admission.give_back(actor)
        else:
            if for_runs:
                self._check_deadlock(reason)
            extras.away = 1
            runtime.move(actor, "pause", reason)
            if for_runs:
                extras.stuck = True
                runtime.admission.keep(1, actor.group)

    def _check_deadlock(self, reason: str) -> None:
        admission = self._runtime.admission
        places = admission.max_running
        if admission.kept + 1 >= places:
            raise UserError(
                f"this run cannot wait ({reason}): all {places} places would be kept by runs that wait for other runs, and "
                f"{self.parked} are parked already, as many as may be. Raise open_supervisor(max_parked={self.max_parked}), or "
                "begin fewer runs that wait for others"
            )

    def back(self, actor: Actor) -> trio.Event | None:
        """A part of the run no longer waits; gives what to wait at until the run has its place, if it has to."""
        extras = actor.extras()
        if not extras.away:
            return None  # its run has gone on, or ended, without it
        extras.away -= 1
        if extras.away or actor.state is not RunState.PAUSED:
            return None
        runtime = self._runtime
        runtime.move(actor, "resume", "its wait is over")
        if actor._holds:
            self._unstick(actor, extras)
            self.seated(actor)
            runtime.goes_on(actor)
            return None
        gate = extras.gate = trio.Event()
        runtime.admission.come_back(actor)
        return None if gate.is_set() else gate

    async def settle(self, actor: Actor, extras: Extras) -> None:
        """The run is about to end: whatever parts of it still wait somewhere are no longer its own."""
        if extras.away:
            extras.away = 1
            self.back(actor)
        while extras.gate is not None:
            await extras.gate.wait()

    def seated(self, actor: Actor) -> None:
        """A run that was parked has a place again."""
        extras = actor.extras()
        if extras.parked:
            extras.parked = False
            self.parked -= 1
        if extras.resumed is not None:
            answer_all(extras.resumed)
            extras.resumed = None
        self._opens(extras)

    def ended(self, actor: Actor, extras: Extras) -> None:
        """The run has ended, wherever it stood."""
        if extras.parked:
            extras.parked = False
            self.parked -= 1
        self._unstick(actor, extras)
        self._runtime.admission.stay_away(actor)
        self._opens(extras)

    @staticmethod
    def _opens(extras: Extras) -> None:
        gate, extras.gate = extras.gate, None
        if gate is not None:
            gate.set()

    def _unstick(self, actor: Actor, extras: Extras) -> None:
        if extras.stuck:
            extras.stuck = False
            self._runtime.admission.keep(-1, actor.group)
