"""`open_supervisor` and `Supervisor`: many runs under one owner."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

import trio

from runmgr.concurrency import Overflow, Subscription, open_timers
from runmgr.exceptions import UserError
from runmgr.models.retry import RetryPolicy
from runmgr.usage import RunUsage

from .actor import Actor
from .budget import Meter, Purse
from .groups import has_cancelled, not_cancelled, raise_bare
from .jobs import AgentJob, GraphJob
from .journaling import open_run_journal
from .mapping import Outcomes
from .runtime import Runtime
from .spec import AGENT_OPTIONS, RunSpec
from .states import TERMINAL

if TYPE_CHECKING:
    from runmgr.journal import JournalWriter
    from runmgr.records.budgets import Budget, Price, RateLimit, RestartPolicy
    from runmgr.records.snapshots import SupervisorSnapshot
    from runmgr.usage import UsageLimits

    from .handle import RunHandle

__all__ = ("Supervisor", "open_supervisor")

COMMITTING = 1_000
"""How many more runs of a map may be unfinished with a journal: those whose outcome is only being committed."""


class Supervisor:
    """Many runs under one owner: admits, accounts, steers and ends them. Made by `open_supervisor`."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        runtime.facade = self

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
            await runtime.admit(actor)
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
            runtime.admit_nowait(actor)
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
        actor = runtime.make(
            GraphJob(graph, start_node, state, deps),
            run_id=run_id,
            group=group,
            priority=priority,
            timeout=timeout,
            deadline=deadline,
            metadata=metadata,
            input=input,
            fingerprint=fingerprint,
        )
        if runtime.journal is not None:
            runtime.from_journal(actor)
        if actor._outcome is None:
            await runtime.admit(actor)
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
        runtime.check_open()

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
        if run_id is not None:
            known = runtime.known(run_id)
            if known is not None:
                return known
        if runtime.limits is not None and "usage_limits" not in options:
            options = {**options, "usage_limits": runtime.limits}
        actor = runtime.make(
            AgentJob(agent, prompt, options or None),
            run_id=run_id,
            index=index,
            group=group,
            priority=priority,
            timeout=timeout,
            deadline=deadline,
            metadata=metadata,
            input=input,
            fingerprint=fingerprint,
        )
        if runtime.journal is not None:
            runtime.from_journal(actor)
        return actor

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

    @overload
    def usage(self, by: None = None) -> RunUsage: ...
    @overload
    def usage(self, by: Literal["model", "group", "run"]) -> dict[str, RunUsage]: ...
    def usage(self, by: Literal["model", "group", "run"] | None = None) -> RunUsage | dict[str, RunUsage]:
        """What was used so far: in total, or by model, group or run. At every instant the sums are equal.

        By run, the runs that ended longer ago than the last ``remember`` are one entry, ``'(older)'``.
        """
        runtime = self._runtime
        ledger = runtime.ledger
        if by is None:
            return ledger.total.usage()
        if by == "run":
            return ledger.by_run(
                (actor.run_id, actor._tally)
                for actor in runtime.live.values()
                if actor._tally is not None and actor.state not in TERMINAL  # else the ledger has it already
            )
        if by not in {"model", "group"}:
            raise UserError(f"usage(by={by!r}): by is 'model', 'group' or 'run', or left out for the total")
        tallies = ledger.models if by == "model" else ledger.groups
        return {name: tally.usage() for name, tally in tallies.items() if tally.requests or tally.tool_calls}

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

    async def drain(self) -> None:
        """Admit no more runs, and wait until all admitted ones have ended. Cancelling only ends the wait."""
        self._runtime.close("it is being drained")
        await self._runtime.wait_idle()
        await trio.lowlevel.checkpoint()

    def cancel(self, reason: str | None = None) -> None:
        """Admit no more runs and cancel all. In the journal they stay open, to be resumed.

        Returns at once; `drain` waits for their ends.

        Args:
            reason: becomes their outcomes' error message; ``'shutdown'`` when left out.
        """
        self._runtime.stop(reason or "shutdown")

    def pause(self) -> None:
        """Give nobody a place, and stop every run at its next node boundary."""
        self._runtime.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._runtime.resume()


def _positive(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"open_supervisor({name}={value!r}): must be a whole number of at least {least}")
    return value


@asynccontextmanager
async def open_supervisor(
    *,
    max_running: int = 100,
    max_queued: int = 1_000,
    max_parked: int = 1_000,
    limits: UsageLimits | None = None,
    budget: Budget | None = None,
    rate_limits: Mapping[str, RateLimit] | RateLimit | None = None,
    prices: Mapping[str, Price] | None = None,
    restart: RestartPolicy | None = None,
    max_failures: float | None = None,
    min_sample: int = 20,
    journal: str | PathLike[str] | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    durability: Literal["process", "power"] = "process",
    journal_thread: bool | None = None,
    retries: int | RetryPolicy = 8,
    remember: int = 1_000,
    rng: random.Random | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncGenerator[Supervisor, None]:
    """Open a supervisor. Leaving the block waits for every run; nothing outlives it.

    An exception or a cancellation in the block cancels every run, waits for their ends and comes out bare.

    Args:
        max_running: runs that hold a place at once.
        max_queued: runs that wait for a place; beyond it `submit` waits.
        max_parked: paused runs that give up their place; beyond it they keep it.
        limits: `UsageLimits` of every run that does not bring its own.
        budget: what all runs together may spend.
        rate_limits: how fast models may be asked: by model name (or ``system:name``), or one for each.
        prices: what models cost, by model name, where the published table does not know or you pay otherwise.
        restart: which failed runs begin again.
        max_failures: failed runs (a whole number), or their share of the ended ones (a number below 1, over at least
            ``min_sample``), beyond which everything stops and `TooManyFailures` is raised from the block.
        min_sample: see ``max_failures``.
        journal: file to keep every run in; None keeps nothing.
        resume: go on with what the journal holds: finished runs are not run again, unfinished ones go on from their last
            checkpoint, when they are submitted again under their ``run_id``.
        retry_failed: run those again that the journal holds as failed or cancelled.
        durability: ``'process'`` survives the end of the process, ``'power'`` that of the machine.
        journal_thread: write it in a thread (True) or in the event loop (False: for virtual time, which would jump while a
            thread works); by the clock when left out.
        retries: resends of one request, or a whole policy.
        remember: how many ended runs `get`, deduplication by ``run_id`` and ``usage(by='run')`` know one by one.
        rng: source of the jitter.
        wall_clock: Unix seconds, read once; from there on trio's clock counts.

    Raises:
        UserError: an argument is wrong.
        JournalError: the journal cannot be opened or written.
        TooManyFailures: see ``max_failures``.
        RunmgrError: a task of the supervisor itself failed: a bug in runmgr.
    """
    runtime = Runtime(
        max_running=_positive("max_running", max_running, 1),
        max_queued=_positive("max_queued", max_queued, 0),
        max_parked=_positive("max_parked", max_parked, 0),
        limits=limits,
        max_failures=max_failures,
        min_sample=min_sample,
        retry_policy=RetryPolicy(max_retries=retries) if isinstance(retries, int) else retries,
        remember=_positive("remember", remember, 0),
        retry_failed=retry_failed,
        restart=restart,
        rate_limits=rate_limits,
        prices=prices,
        rng=rng or random.Random(),
        wall_clock=wall_clock,
    )
    if journal is None:
        async with _open(runtime, budget) as sup:
            yield sup
    else:
        async with (
            open_run_journal(
                runtime, journal, resume=resume, durability=durability, threaded=journal_thread
            ) as runtime.journal,
            _open(runtime, budget) as sup,
        ):
            yield sup


@asynccontextmanager
async def _open(runtime: Runtime, budget: Budget | None) -> AsyncGenerator[Supervisor, None]:
    """The block itself: its nurseries, and how it is left."""
    sup = Supervisor(runtime)
    if budget is not None:
        runtime.purse = Purse(Meter(budget, runtime.spent_before()))
    body_error: BaseException | None = None
    try:
        async with open_timers() as runtime.timers, trio.open_nursery() as services:
            runtime.services = services
            await services.start(_own_actors, runtime)
            try:
                yield sup
                await runtime.wait_idle()
            except BaseException as error:
                interrupted = isinstance(error, trio.Cancelled)
                runtime.stop("shutdown" if interrupted else f"the block raised {type(error).__name__}")
                if has_cancelled(error):
                    raise  # it belongs to a scope outside, or to the nursery here, which takes it
                body_error = error
            finally:
                runtime.close("its block has been left")
                with trio.CancelScope(shield=True):
                    await runtime.wait_idle()
                    await runtime.close_models()
                runtime.events.close()
                services.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_bare(group, internal=runtime.broken is not None)
    if body_error is not None:
        raise body_error
    if runtime.escalation is not None:
        raise runtime.escalation


async def _own_actors(runtime: Runtime, *, task_status: trio.TaskStatus[None]) -> None:
    """Own the actors: a nursery of their own, so that all can be cancelled while the block's body goes on."""
    try:
        async with trio.open_nursery() as actors:
            runtime.actors = actors
            task_status.started()
            await trio.sleep_forever()
    except BaseException as error:
        if not_cancelled(error) is not None:
            runtime.breaks(error)
        raise
