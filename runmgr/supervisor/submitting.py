"""The half of `Supervisor` that admits runs: one by one, graphs, and maps of many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio

from .actor import Actor
from .elsewhere import CarriedJob
from .family import child_id
from .jobs import AgentJob, GraphJob, Job, encode_prompt
from .mapping import Outcomes
from .spec import AGENT_OPTIONS, RunSpec

if TYPE_CHECKING:
    from .handle import RunHandle
    from .runtime import Runtime

__all__ = ("Submitting",)

_AGENT_OPTIONS = frozenset(AGENT_OPTIONS)
COMMITTING = 1_000
"""How many more runs of a map may be unfinished with a journal: those whose outcome is only being committed."""


class Submitting:
    """Admits runs, of the block or of a run that is their parent. See `Supervisor`."""

    __slots__ = ("_parent", "_runtime")

    def __init__(self, runtime: Runtime, parent: Actor | None = None) -> None:
        self._runtime = runtime
        self._parent = parent

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
            job = cast("Job", CarriedJob(job, runtime.carrier))  # which no actor opens
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
        if options and not options.keys() <= _AGENT_OPTIONS:
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
                run_id, who = runtime.journal.identify(agent, prompt, input, options)
                fingerprint = who if fingerprint is None else fingerprint
            elif fingerprint is None:
                fingerprint = runtime.journal.fingerprint(agent, options)
        job: Job = AgentJob(agent, prompt, options or None)
        if runtime.carrier is not None:
            job = cast("Job", CarriedJob(job, runtime.carrier))  # which no actor opens
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
