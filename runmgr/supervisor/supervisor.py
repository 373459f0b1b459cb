"""`Supervisor`: what the block of `open_supervisor` is given. How it admits runs is in `runmgr.supervisor.submitting`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import trio

from runmgr.agent.host import current_host
from runmgr.concurrency import Overflow, Subscription
from runmgr.exceptions import UserError
from runmgr.usage import RunUsage

from .channels import RunChannel
from .ledger import BY, By
from .states import TERMINAL
from .submitting import Submitting

if TYPE_CHECKING:
    from decimal import Decimal

    from runmgr.journal import JournalWriter
    from runmgr.records.budgets import Budget, RateLimit
    from runmgr.records.snapshots import SupervisorSnapshot

    from .actor import Actor
    from .handle import RunHandle
    from .tally import Tally

__all__ = ("Supervisor", "current_supervisor")


def checked(name: str, value: Any, least: int) -> int:
    """A count that a user gave.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r}: must be a whole number of at least {least}")
    return value


class Supervisor(Submitting):
    """Many runs under one owner: admits, accounts, steers and ends them. Made by `open_supervisor`.

    To a tool it is ``ctx.supervisor``, and there what it submits are child runs of the tool's run: cancelled with it, and
    awaited before it ends. To a graph's node it is what `current_supervisor` gives.
    """

    __slots__ = ()

    def channel(
        self, name: str, *, buffer: int | None = None, owners: Iterable[RunHandle] = ()
    ) -> RunChannel:
        """This run's end of the channel of a name, or the block's; the same each time.

        Args:
            name: the channel's, among those of this supervisor.
            buffer: values that may wait in it; said by whoever makes it, 0 when left out.
            owners: other runs that have an end from now on, though they have not asked for it yet: so that who receives from
                them does not take the channel for ended before they have begun.

        Raises:
            UserError: it is open with another buffer.
            RunEnded: this run has ended.
        """
        return self._runtime.channels.open(name, buffer, self._parent, cast("Iterable[Actor]", owners))

    # ---------------------------------------------------------------- watching

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        filter: Callable[[Any], bool] | None = None,
        buffer: int = 1_000,
        overflow: Overflow = "drop_oldest",
        key: Callable[[Any], Hashable] | None = None,
        streams: bool = False,
    ) -> AsyncGenerator[Subscription[Any], None]:
        """Events of all runs from now on; iterate what this gives. Ends when the supervisor does.

        Args:
            filter: only events for which it is true. Called where the event happens: keep it cheap.
            buffer: events that may wait to be read.
            overflow: what happens when it is full: the oldest are dropped (``'drop_oldest'``), or of those with one ``key`` only
                the newest is kept (``'coalesce'``), and an `EventsMissed` says how many; or every run stops at its next
                node until there is room (``'wait'``).
            key: what an event is about, for ``'coalesce'``.
            streams: the events of model streams too.
        """
        runtime = self._runtime
        assert runtime.services is not None
        with runtime.events.open(
            filter=filter,
            buffer=buffer,
            overflow=overflow,
            key=key,
            streams=streams,
            services=runtime.services,
        ) as subscription:
            yield subscription

    def listen(self, told: Callable[[Any], object], *, ended: Callable[[], object] | None = None) -> None:
        """Have a function called with every event from now on, those of model streams left out, until the supervisor ends. No task is
        needed for that, and no event is missed.

        Args:
            told: called where the event happens: it must be quick. What it raises is logged.
            ended: called when the supervisor has ended. It must not raise.
        """
        self._runtime.events.listen(told, ended)

    @overload
    def usage(self, by: None = None) -> RunUsage: ...
    @overload
    def usage(self, by: By) -> dict[str, RunUsage]: ...
    def usage(self, by: By | None = None) -> RunUsage | dict[str, RunUsage]:
        """What was used so far: in total, or by something. At every instant the sums are equal.

        Args:
            by: ``'run'``, ``'attempt'`` (``RUN_ID#1``, ``#2`` after a restart), ``'group'``, ``'agent'``, ``'model'``, ``'provider'``, or
                ``'status'``: how the runs ended that paid for it; of runs that have not, ``'live'``; of attempts that were
                followed by others, ``'restarted'``. By run and attempt, the runs that ended longer ago than the last
                ``remember`` are one entry, ``'(older)'``.
        """
        if by is None:
            return self._runtime.ledger.total.usage()
        return {name: tally.usage() for name, tally in self._tallies(by).items()}

    @overload
    def cost(self, by: None = None) -> Decimal | None: ...
    @overload
    def cost(self, by: By) -> dict[str, Decimal | None]: ...
    def cost(self, by: By | None = None) -> Decimal | dict[str, Decimal | None] | None:
        """What was paid so far, in US dollars, as `usage` gives what was used; None where any price is unknown."""
        if by is None:
            return self._runtime.ledger.total.known_cost
        return {name: tally.known_cost for name, tally in self._tallies(by).items()}

    def _tallies(self, by: By) -> dict[str, Tally]:
        runtime = self._runtime
        if by not in BY:
            raise UserError(f"by={by!r}: it is one of {', '.join(map(repr, BY))}, or left out for the total")
        return runtime.ledger.by(
            by,
            lambda: (
                (actor.run_id, actor._tally)
                for actor in runtime.live.values()
                if actor._tally is not None and actor.state not in TERMINAL  # else the ledger has it already
            ),
        )

    def set_budget(self, budget: Budget, *, group: str | None = None, run_id: str | None = None) -> None:
        """Give a budget, or another one, while runs go on. What is raised lets waiting requests go at once; what is lowered stops
        only requests to come. What was spent so far counts, and what is in flight as it is answered: a new budget can be passed by that much.

        Args:
            budget: the new budget; ``Budget()`` limits nothing.
            group: whose it is, instead of the supervisor's.
            run_id: whose it is: a live run's.

        Raises:
            UserError: there is no live run of this id.
        """
        runtime = self._runtime
        actor = None
        if runtime.carrier is not None:
            if run_id is not None:
                raise UserError(
                    f"set_budget(run_id={run_id!r}): the run is worked on by a worker of the cluster, which a budget of its own does "
                    "not reach any more: give it with submit(budget=...)"
                )
            runtime.carrier.check_budget(budget, group)
        if run_id is not None:
            actor = runtime.live.get(run_id)
            if actor is None:
                raise UserError(f"set_budget(run_id={run_id!r}): there is no live run of this id")
        if group is not None and actor is None:
            runtime.tenants.set(group, weight=None, max_running=None, rate=None, budget=budget)
        else:
            runtime.gates.set_budget(budget, group=group, actor=actor)

    def snapshot(self) -> SupervisorSnapshot:
        """How it stands now: runs by state, queue, usage, models, budget. O(models)."""
        return self._runtime.snapshot()

    @property
    def journal(self) -> JournalWriter | None:
        """The journal that is being written, for its ``set_meta``; None without one."""
        journal = self._runtime.journal
        return None if journal is None else journal.writer

    def get(self, run_id: str) -> RunHandle | None:
        """The handle of a run that is live or among the last ended ones; None where it is neither."""
        return self._runtime.known(run_id)

    # ---------------------------------------------------------------- steering

    @property
    def max_running(self) -> int:
        """How many runs hold a place at once. May be changed at any time; lowering it interrupts nobody."""
        return self._runtime.admission.max_running

    @max_running.setter
    def max_running(self, places: int) -> None:
        self._runtime.admission.max_running = checked("max_running", places, 1)

    @property
    def max_queued(self) -> int:
        """How many runs wait for a place, beyond which `submit` waits. May be changed at any time."""
        return self._runtime.admission.max_queued

    @max_queued.setter
    def max_queued(self, seats: int) -> None:
        self._runtime.admission.max_queued = checked("max_queued", seats, 0)

    def set_group(
        self,
        group: str,
        *,
        weight: float | None = None,
        max_running: int | None = None,
        rate: RateLimit | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Make a group, or change one while its runs go on. What is left out stays as it is. Snapshots show it from now on.

        Args:
            group: its name.
            weight: its share relative to other groups', from its next run on; 1 where nothing is said.
            max_running: places that it may hold at once; lowering it interrupts nobody.
            rate: how fast its runs together may ask all models together, beside what the models' own limits say.
            budget: what its runs together may spend; what they spent so far counts.

        Raises:
            ValueError: the weight is not a number over 0.
            UserError: ``max_running`` is no whole number, or below 0.
        """
        if max_running is not None:
            checked("max_running", max_running, 0)
        self._runtime.tenants.set(group, weight=weight, max_running=max_running, rate=rate, budget=budget)

    def drop_group(self, group: str, *, cancel: str | None = None) -> bool:
        """Forget a group as soon as none of its runs is left: its settings, and what it spent. Returns at once.

        Until then its runs go on under its settings, and so do those that are still submitted to it. Its share of `usage` and
        `cost` stays in the sums, under the group ``'(dropped)'``; made again under the same name, it begins at nothing.

        Args:
            group: its name; of no effect on one that there is not.
            cancel: a reason: its runs are cancelled, and submitters that wait for room are sent away with `SupervisorClosed`.

        Returns:
            Whether it is forgotten already.
        """
        return self._runtime.tenants.drop(group, cancel)

    async def drain(self) -> None:
        """Admit no more runs, and wait until all admitted ones have ended, with the child runs that they still submit.

        Cancelling only ends the wait.

        Raises:
            UserError: a run waits for its own supervisor.
        """
        if self._runtime.parking.caller() is not None:
            raise UserError("a run cannot drain its own supervisor: it would wait for its own end")
        self._runtime.close("it is being drained")
        await self._runtime.wait_idle()
        await trio.lowlevel.checkpoint()

    def cancel(self, reason: str | None = None, *, grace: float = 0.0) -> None:
        """Admit no more runs and cancel all. In the journal they stay open, to be resumed.

        Returns at once; `drain` waits for their ends. A second call with a shorter ``grace`` hurries the first.

        Args:
            reason: becomes their outcomes' error message; ``'shutdown'`` when left out.
            grace: seconds that runs have to end at their next node boundary, before they are cancelled wherever they are:
                what they have asked a model for is then answered, paid and kept.

        Raises:
            UserError: ``grace`` is no number of seconds, or negative.
        """
        if not grace >= 0:
            raise UserError(f"cancel(grace={grace!r}): must be a number of seconds, not negative")
        self._runtime.stop(reason or "shutdown", grace)

    def pause(self) -> None:
        """Give nobody a place, and stop every run at its next node boundary."""
        self._runtime.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._runtime.resume()


def current_supervisor() -> Supervisor | None:
    """The supervisor of the run that this is called in, in its tools or in a graph's nodes; None where there is none.

    As ``ctx.supervisor``: what is submitted there are child runs of this run.
    """
    host = current_host.get()
    return None if host is None else host.supervisor
