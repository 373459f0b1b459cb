"""`Supervisor`: what the block of `open_supervisor` is given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import trio

from runmgr.agent.host import current_host
from runmgr.concurrency import Overflow, Subscription
from runmgr.exceptions import UserError
from runmgr.usage import RunUsage

from .actor import Actor
from .channels import RunChannel
from .elsewhere import CarriedJob
from .family import child_id
from .jobs import AgentJob, GraphJob, Job, encode_prompt
from .ledger import BY, By
from .mapping import Outcomes
from .runtime import Runtime
from .spec import AGENT_OPTIONS, RunSpec
from .states import TERMINAL

if TYPE_CHECKING:
    from decimal import Decimal

    from runmgr.journal import JournalWriter
    from runmgr.records.budgets import Budget, RateLimit
    from runmgr.records.snapshots import SupervisorSnapshot

    from .handle import RunHandle
    from .tally import Tally

__all__ = ("Supervisor", "current_supervisor")

_AGENT_OPTIONS = frozenset(AGENT_OPTIONS)


def checked(name: str, value: Any, least: int) -> int:
    """A count that a user gave.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r}: must be a whole number of at least {least}")
    return value


COMMITTING = 1_000
"""How many more runs of a map may be unfinished with a journal: those whose outcome is only being committed."""


class Supervisor:
    """Many runs under one owner: admits, accounts, steers and ends them. Made by `open_supervisor`.

    To a tool it is ``ctx.supervisor``, and there what it submits are child runs of the tool's run: cancelled with it, and
    awaited before it ends. To a graph's node it is what `current_supervisor` gives.
    """

    __slots__ = ("_parent", "_runtime")

    def __init__(self, runtime: Runtime, parent: Actor | None = None) -> None:
        self._runtime = runtime
        self._parent = parent

    # ---------------------------------------------------------------- submitting

    async def submit(
        self,
        agent: Any,
        prompt: Any = None,
        *,
        run_id: str | None = None,
        group: str = "",
        priority: int = 0,
        timeout: float | None = None,
        deadline: float | None = None,
        metadata: dict[str, Any] | None = None,
        input: Any = None,
        fingerprint: str | None = None,
        **options: Any,
    ) -> RunHandle:
        """Admit a run of an agent; waits while the queue is full. Does not wait for the run.

        Cancelling the wait means that the run was not admitted.

        Args:
            agent: what to run.
            prompt: text or a list of content parts.
            run_id: the run's identity, made up when left out. Where a run of this id is live, among the last ended
                ones, or finished in the journal, that one's handle is given and nothing is run.
            group: whose run it is, for fairness and accounting.
            priority: higher goes first.
            timeout: seconds from the run's start; beyond it fails with a ``TimeoutError``.
            deadline: the same, counted from now.
            metadata: kept in the outcome and the journal.
            input: what the outcome shows as its input; the prompt when left out.
            fingerprint: what else the run depends on, for the journal.
            options: ``deps``, ``model``, ``model_settings``, ``message_history``, ``usage_limits``,
                ``deferred_tool_results``, ``toolsets``, ``output_type``, ``instructions``: as in `Agent.iter`.

        Raises:
            SupervisorClosed: it admits no more runs.
        """
        runtime = self._runtime
        actor = self._actor(
            agent,
            prompt,
            run_id,
            None,
            group,
            priority,
            timeout,
            deadline,
            metadata,
            input,
            fingerprint,
            options,
        )
        if actor._outcome is not None or runtime.live.get(actor.run_id) is actor:
            await trio.lowlevel.checkpoint()
        else:
            await self._admit(actor)
        return actor

    def submit_nowait(
        self,
        agent: Any,
        prompt: Any = None,
        *,
        run_id: str | None = None,
        group: str = "",
        priority: int = 0,
        timeout: float | None = None,
        deadline: float | None = None,
        metadata: dict[str, Any] | None = None,
        input: Any = None,
        fingerprint: str | None = None,
        **options: Any,
    ) -> RunHandle:
        """As `submit`, at once or not at all.

        Raises:
            trio.WouldBlock: the queue is full.
            SupervisorClosed: it admits no more runs.
        """
        runtime = self._runtime
        actor = self._actor(
            agent,
            prompt,
            run_id,
            None,
            group,
            priority,
            timeout,
            deadline,
            metadata,
            input,
            fingerprint,
            options,
        )
        if actor._outcome is None and actor.run_id not in runtime.live:
            try:
                runtime.admit_nowait(actor)
            except BaseException:
                runtime.not_admitted(actor)
                raise
        return actor

    async def submit_graph(
        self,
        graph: Any,
        start_node: Any,
        *,
        state: Any = None,
        deps: Any = None,
        run_id: str | None = None,
        group: str = "",
        priority: int = 0,
        timeout: float | None = None,
        deadline: float | None = None,
        metadata: dict[str, Any] | None = None,
        input: Any = None,
        fingerprint: str | None = None,
    ) -> RunHandle:
        """Admit a run of any node graph, as the same kind of actor; otherwise as `submit`.

        Args:
            graph: a `Graph`.
            start_node: the node to begin with.
            state: the graph's state.
            deps: the graph's dependencies.
            run_id: this and the next ones: as in `submit`.
            group: as in `submit`.
            priority: as in `submit`.
            timeout: as in `submit`.
            deadline: as in `submit`.
            metadata: as in `submit`.
            input: as in `submit`.
            fingerprint: as in `submit`.
        """
        runtime = self._runtime
        known = None if run_id is None else runtime.known(run_id)
        if known is not None:
            await trio.lowlevel.checkpoint()
            return known
        if run_id is None and self._parent is None and runtime.journal is not None:
            run_id = runtime.journal.identify_graph(graph, start_node, state)
        job: Job = GraphJob(graph, start_node, state, deps)
        if runtime.carrier is not None:
            job = CarriedJob(job, runtime.carrier)
        actor = runtime.make(
            job,
            run_id=run_id,
            group=group,
            priority=priority,
            timeout=timeout,
            deadline=deadline,
            metadata=metadata,
            input=input,
            fingerprint=fingerprint,
            parent=self._parent,
        )
        if runtime.journal is not None:
            runtime.from_journal(actor)
        if actor._outcome is None:
            await self._admit(actor)
        else:
            await trio.lowlevel.checkpoint()
        return actor

    @asynccontextmanager
    async def map(
        self,
        agent: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = False,
        window: int | None = None,
        group: str = "",
        priority: int = 0,
        timeout: float | None = None,
        deadline: float | None = None,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Outcomes, None]:
        """Run an agent on each item; iterate what this gives for the outcomes.

        Items are pulled one by one as the queue has room. Leaving the block early stops the pulling, cancels the map's
        unfinished runs and waits for their end.

        Args:
            agent: what to run; a `RunSpec` may name another.
            items: prompts or `RunSpec` values, sync or async.
            ordered: give outcomes in the order of the items instead of as they come.
            window: how many runs may be unfinished, or ended and not taken, at once; the supervisor's places and
                queue together when left out.
            group: this and the next ones: for every item that does not say otherwise; as in `submit`.
            priority: as in `submit`.
            timeout: as in `submit`.
            deadline: as in `submit`.
            metadata: as in `submit`.
            options: as in `submit`.
        """
        runtime = self._runtime
        runtime.check_open(self._parent)

        def make(item: Any, index: int) -> Actor:
            if isinstance(item, RunSpec):
                merged = options
                own = {name: value for name in AGENT_OPTIONS if (value := getattr(item, name)) is not None}
                if own:
                    merged = {**options, **own}
                return self._actor(
                    agent if item.agent is None else item.agent,
                    item.prompt,
                    item.run_id,
                    index,
                    group if item.group is None else item.group,
                    priority if item.priority is None else item.priority,
                    timeout if item.timeout is None else item.timeout,
                    deadline if item.deadline is None else item.deadline,
                    metadata if item.metadata is None else item.metadata,
                    item.input,
                    item.fingerprint,
                    merged,
                )
            return self._actor(
                agent, item, None, index, group, priority, timeout, deadline, metadata, None, None, options
            )

        if window is None:
            window = runtime.admission.max_running + max(1, runtime.admission.max_queued)
            if runtime.journal is not None:
                window += COMMITTING
        outcomes = Outcomes(runtime, items, make, ordered=ordered, window=window)
        assert runtime.services is not None
        runtime.services.start_soon(outcomes.feed, name="runmgr map")
        try:
            yield outcomes
        finally:
            await outcomes.aclose()

    async def _admit(self, actor: Actor) -> None:
        runtime = self._runtime
        try:
            await runtime.admit(actor, runtime.parking.caller())
        except BaseException:
            runtime.not_admitted(actor)
            raise

    def _actor(
        self,
        agent: Any,
        prompt: Any,
        run_id: str | None,
        index: int | None,
        group: str,
        priority: int,
        timeout: float | None,
        deadline: float | None,
        metadata: dict[str, Any] | None,
        input: Any,
        fingerprint: str | None,
        options: dict[str, Any],
    ) -> Actor:
        runtime = self._runtime
        if not options.keys() <= _AGENT_OPTIONS:
            raise TypeError(
                f"unknown options {sorted(options.keys() - _AGENT_OPTIONS)}: a run of an agent takes, besides those of the "
                f"supervisor, {', '.join(AGENT_OPTIONS)}"
            )
        if run_id is not None:
            known = runtime.known(run_id)
            if known is not None:
                return known
        parent = self._parent
        if parent is not None:
            group = group or parent.group
            if run_id is None and runtime.journal is not None:
                run_id = child_id(parent, encode_prompt(agent, prompt))
                known = runtime.known(run_id)
                if known is not None:
                    return known
        model = options.get("model")
        if (
            isinstance(model, str) and runtime.carrier is None
        ):  # one object for all runs, so that they share its connections and doors
            options = {**options, "model": runtime.gates.named(model)}
        if runtime.limits is not None and "usage_limits" not in options:
            options = {**options, "usage_limits": runtime.limits}
        if runtime.journal is not None:
            if run_id is None:
                run_id = runtime.journal.identify(agent, prompt, input, options)
            if fingerprint is None:
                fingerprint = runtime.journal.fingerprint(agent, options)
        job: Job = AgentJob(agent, prompt, options or None)
        if runtime.carrier is not None:
            job = CarriedJob(job, runtime.carrier)
        actor = runtime.make(
            job,
            run_id=run_id,
            index=index,
            group=group,
            priority=priority,
            timeout=timeout,
            deadline=deadline,
            metadata=metadata,
            input=input,
            fingerprint=fingerprint,
            parent=parent,
        )
        if runtime.journal is not None:
            runtime.from_journal(actor)
        return actor

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
        only requests to come. What was spent so far counts.

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
