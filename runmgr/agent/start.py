"""Starting a run: from an agent and the arguments of one call to an `AgentRun`, within its block."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, cast

from runmgr.agent.cancel import Cancellation
from runmgr.agent.capture import claim_captured_messages
from runmgr.agent.history import prompt_of
from runmgr.agent.host import current_host
from runmgr.agent.nodes import AgentNode, CallToolsNode, ModelRequestNode, UserPromptNode
from runmgr.agent.planning import instrumentation_for
from runmgr.agent.result import FinalResult
from runmgr.agent.run import AgentRun
from runmgr.agent.state import GraphAgentDeps, GraphAgentState, new_run_id
from runmgr.concurrency import check_in_trio
from runmgr.graph import End
from runmgr.messages import ModelMessage, ModelRequest, ModelResponse, UserContent, merge_consecutive
from runmgr.output import OutputDataT
from runmgr.records.snapshots import (
    PendingCallTools,
    PendingEnd,
    PendingModelRequest,
    PendingUserPrompt,
    RunSnapshot,
)
from runmgr.settings import merge_model_settings
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.manager import ToolManager
from runmgr.usage import RunUsage, UsageLimits

if TYPE_CHECKING:
    from runmgr.agent.agent import Agent
    from runmgr.agent.host import RunHost
    from runmgr.agent.plan import Plan
    from runmgr.agent.tracing import RunSpan
    from runmgr.models import Model
    from runmgr.settings import ModelSettings
    from runmgr.tools.deferred import DeferredToolResults
    from runmgr.toolsets.abstract import AbstractToolset

__all__ = ("NO_LIMITS_GIVEN", "RunBlock", "first_node")

NO_LIMITS_GIVEN = UsageLimits()
"""The limits of a run that was given none."""


class RunBlock(Generic[AgentDepsT, OutputDataT]):
    """``async with agent.iter(...) as run``: starts the run, and at the end closes what it opened."""

    __slots__ = (
        "_agent", "_cancellable", "_deferred_tool_results", "_deps", "_entered", "_history", "_host", "_metadata",
        "_model", "_outer_host", "_plan", "_prompt", "_run_id", "_settings", "_snapshot", "_span", "_usage", "_usage_limits",
    )  # fmt: skip

    def __init__(
        self,
        agent: Agent[AgentDepsT, Any],
        plan: Plan,
        model: Model,
        *,
        prompt: str | Sequence[UserContent] | None,
        history: Sequence[ModelMessage] | None,
        deferred_tool_results: DeferredToolResults | None,
        deps: AgentDepsT,
        model_settings: Any,
        metadata: Any,
        usage_limits: UsageLimits | None,
        usage: RunUsage | None,
        host: RunHost | None,
        snapshot: RunSnapshot | None,
        run_id: str | None,
        cancellable: bool,
    ) -> None:
        self._agent = agent
        self._plan = plan
        self._model = model
        self._prompt = prompt
        self._history = history
        self._deferred_tool_results = deferred_tool_results
        self._deps = deps
        self._settings = model_settings
        self._metadata = metadata
        self._usage_limits = usage_limits
        self._usage = usage
        self._host = host
        self._snapshot = snapshot
        self._run_id = run_id
        self._cancellable = cancellable
        self._entered: AbstractToolset[AgentDepsT] | None = None
        self._span: RunSpan | None = None
        self._outer_host: Token[RunHost | None] | None = None

    async def __aenter__(self) -> AgentRun[AgentDepsT, OutputDataT]:
        check_in_trio()
        plan = self._plan
        snapshot = self._snapshot
        state = self._state()
        toolset = plan.toolset_for_run()
        own_host = self._host
        host = current_host.get() if own_host is None else own_host
        manager: ToolManager[AgentDepsT] | None = None
        if snapshot is not None:
            manager = ToolManager(
                toolset,
                plan.tool_timeout,
                default_max_retries=plan.max_tool_retries,
                retries=dict(snapshot.tool_retries),
                retries_of=snapshot.run_step if type(snapshot.pending) is PendingCallTools else None,
            )
        if snapshot is not None and self._prompt is None:
            self._prompt = prompt_of_snapshot(snapshot)
        model = self._model
        instrumentation = instrumentation_for(self._agent, model)
        if instrumentation is not None and not instrumentation.is_heard:
            instrumentation = None
        if instrumentation is not None:
            from runmgr.models.instrumented import instrument_model

            model = instrument_model(model, instrumentation)
        settings_change = plan.settings_function or callable(self._settings)
        settings = model.settings
        if not settings_change:
            if plan.model_settings is not None:
                settings = merge_model_settings(settings, plan.model_settings)
            if self._settings is not None:
                settings = merge_model_settings(settings, cast("ModelSettings", self._settings))
        deps: GraphAgentDeps[AgentDepsT, OutputDataT] = GraphAgentDeps(
            user_deps=self._deps,
            prompt=self._prompt,
            new_message_index=len(state.message_history) if snapshot is None else snapshot.new_message_index,
            model=model,
            model_settings=settings,
            usage_limits=self._usage_limits or NO_LIMITS_GIVEN,
            plan=plan,
            toolset=toolset,
            manager=manager,
            run_state=state,
            settings_change=settings_change,
            run_settings=self._settings,
            has_neighbours=snapshot is not None,
            host=host,
            hosted=own_host is not None,
            cancellation=Cancellation(scoped=True) if self._cancellable and own_host is None else None,
        )
        final_metadata: FinalMetadata | None = None
        if plan.validation_context_function:
            context = deps.run_context
            context.validation_context = plan.validation_context(context)
        if plan.metadata is not None or self._metadata is not None:
            given = (plan.metadata, self._metadata)
            context = deps.run_context
            context.metadata = state.metadata = metadata_of(given, context)
            if any(map(callable, given)):
                final_metadata = FinalMetadata(given, context)
        if instrumentation is not None:
            from runmgr.agent.tracing import start_run_span

            deps.instrumentation_settings = instrumentation
            context = deps.run_context
            context.tracer = instrumentation.tracer
            context.trace_include_content = instrumentation.include_content
            context.instrumentation_version = instrumentation.version
            self._span = start_run_span(instrumentation, self._agent.name, deps, state)
        if plan.has_lifecycle:
            try:
                await toolset.__aenter__()
            except BaseException as error:
                if self._span is not None:
                    self._span.end(error)
                raise
            self._entered = toolset
        if own_host is not None and current_host.get() is not own_host:
            self._outer_host = current_host.set(own_host)
        run: AgentRun[AgentDepsT, OutputDataT] = AgentRun(
            state,
            deps,
            self._first_node(state),
            final_metadata=final_metadata,
            traceparent=None if self._span is None else self._span.traceparent,
        )
        if self._span is not None:
            self._span.run = run
        return run

    @property
    def is_open(self) -> bool:
        """Whether there is anything to close: where not, whoever entered it need not leave it."""
        return self._entered is not None or self._outer_host is not None or self._span is not None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._entered = self._entered, None
        outer, self._outer_host = self._outer_host, None
        if outer is not None:
            current_host.reset(outer)
        try:
            if entered is not None:
                await entered.__aexit__(kind, error, trace)
        finally:
            if self._span is not None:
                self._span.end(error)

    def _state(self) -> GraphAgentState:
        """The run's state; the list of messages is the one that ``capture_run_messages`` waits with, if it does."""
        snapshot = self._snapshot
        claimed = claim_captured_messages()
        history: list[ModelMessage] = [] if claimed is None else claimed
        usage = self._usage
        if snapshot is None:
            if self._history:
                history.extend(merge_consecutive(self._history))
            return GraphAgentState(
                message_history=history,
                usage=RunUsage() if usage is None else usage,
                run_id=self._run_id or new_run_id(),
            )
        history.extend(snapshot.messages)
        if usage is None:
            usage = RunUsage() if snapshot.usage is None else RunUsage() + snapshot.usage
        return GraphAgentState(
            message_history=history,
            usage=usage,
            retries=snapshot.output_retries,
            run_step=snapshot.run_step,
            run_id=snapshot.run_id,
            metadata=snapshot.metadata,
            history_epoch=snapshot.history_epoch,
        )

    def _first_node(
        self, state: GraphAgentState
    ) -> AgentNode[AgentDepsT, OutputDataT] | End[FinalResult[OutputDataT]]:
        snapshot = self._snapshot
        prompt = self._prompt
        if snapshot is not None:
            pending: Any = snapshot.pending
            history = state.message_history
            if isinstance(pending, PendingModelRequest):
                return ModelRequestNode(pending.request)
            if isinstance(pending, PendingCallTools):
                last = history[-1] if history else None
                if not isinstance(last, ModelResponse):
                    last = pending.response
                    history.append(last)
                return CallToolsNode(last)
            if isinstance(pending, PendingEnd):
                return End(FinalResult(pending.output, pending.tool_name, pending.tool_call_id))
            prompt = pending.prompt
        return first_node(self._plan, prompt, self._deferred_tool_results)


def first_node(plan: Plan, prompt: Any, results: DeferredToolResults | None) -> UserPromptNode[Any, Any]:
    """What a run begins with that goes on from no snapshot."""
    return _USER_PROMPT(  # without names: a class that is called with them makes a dict of them first
        prompt,
        results,
        plan.instructions,
        plan.instructions_functions,
        plan.system_prompts,
        plan.system_prompt_functions,
        plan.system_prompt_dynamic_functions,
    )


_USER_PROMPT: Any = UserPromptNode
"""Without parameters: filling them in costs more than the call."""


def prompt_of_snapshot(snapshot: RunSnapshot) -> Any:
    """What the run was started with, as far as its own messages tell."""
    pending: Any = snapshot.pending
    if isinstance(pending, PendingUserPrompt):
        return pending.prompt
    requests = [*snapshot.messages[snapshot.new_message_index :], getattr(pending, "request", None)]
    return next((prompt_of(m) for m in requests if isinstance(m, ModelRequest)), None)


def metadata_of(given: tuple[Any, ...], ctx: RunContext[Any]) -> dict[str, Any] | None:
    """Metadata merged from dicts and functions that make them, later ones on top."""
    merged: dict[str, Any] | None = None
    for item in given:
        more = cast("dict[str, Any] | None", item(ctx) if callable(item) else item)
        if more is not None:
            merged = {**(merged or {}), **more}
    return merged


class FinalMetadata:
    """Asks for the metadata again when the run is over."""

    __slots__ = ("_context", "_given")

    def __init__(self, given: tuple[Any, ...], context: RunContext[Any]) -> None:
        self._given = given
        self._context = context

    def __call__(self) -> dict[str, Any] | None:
        return metadata_of(self._given, self._context)
