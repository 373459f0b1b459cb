"""What a run is made of while it runs: its state, what it depends on, and the one context that its functions see."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

from runmgr.exceptions import IncompleteToolCall, UnexpectedModelBehavior
from runmgr.graph import GraphRunContext
from runmgr.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserContent
from runmgr.tools.context import RunContext, no_tracer
from runmgr.toolsets.manager import ToolManager
from runmgr.usage import RunUsage, UsageLimits

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from runmgr.agent.cancel import Cancellation
    from runmgr.agent.host import RunHost
    from runmgr.agent.plan import Plan
    from runmgr.models import Model
    from runmgr.models.instrumented import InstrumentationSettings
    from runmgr.output import OutputSchema
    from runmgr.settings import ModelSettings
    from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool

__all__ = ("GraphAgentDeps", "GraphAgentState", "NodeContext", "build_run_context", "new_run_id")

DepsT = TypeVar("DepsT")
OutputDataT = TypeVar("OutputDataT")

_ids = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)  # or parent and child would go on with the same ids


def new_run_id() -> str:
    """A random UUID (version 4) as text; a third of what ``uuid.uuid4`` costs."""
    bits = f"{_ids.getrandbits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


@dataclass(kw_only=True, slots=True)
class GraphAgentState:
    """What changes while a run runs."""

    message_history: list[ModelMessage] = field(default_factory=list[ModelMessage])
    """The conversation, oldest first. Appended to; rewritten in place only by history processors."""
    usage: RunUsage = field(default_factory=RunUsage)
    """What was used; may be shared with other runs (``usage=``)."""
    retries: int = 0
    """How often the model had to be asked again for its output."""
    run_step: int = 0
    """Number of model requests, the current one included."""
    run_id: str = field(default_factory=new_run_id)
    """The run's id, also on each message it makes."""
    metadata: dict[str, Any] | None = None
    """The run's metadata."""
    abandoned_threads: Sequence[str] = field(default=(), repr=False, compare=False)
    """Names of sync functions whose threads outlived a cancellation or timeout and were left behind; a list from when any
    function could have been."""
    history_epoch: int = field(default=0, repr=False, compare=False)
    """Goes up when the history was rewritten instead of appended to."""

    def increment_retries(
        self,
        max_result_retries: int,
        error: BaseException | None = None,
        model_settings: ModelSettings | None = None,
    ) -> None:
        """Count one more failed output.

        Args:
            max_result_retries: how many the run allows.
            error: why it failed; becomes the cause of what is raised.
            model_settings: for naming the token limit that cut a response.

        Raises:
            IncompleteToolCall: they are used up, and the last response was cut inside a tool call's arguments.
            UnexpectedModelBehavior: they are used up.
        """
        self.retries += 1
        if self.retries <= max_result_retries:
            return
        history = self.message_history
        last = history[-1] if history else None
        if isinstance(last, ModelResponse) and last.finish_reason == "length" and last.parts:
            call = last.parts[-1]
            if isinstance(call, ToolCallPart):
                try:
                    call.args_as_dict()
                except (ValueError, AssertionError):
                    raise IncompleteToolCall(
                        f"Model token limit ({token_limit(model_settings)}) exceeded while generating a tool call, "
                        "resulting in incomplete arguments. Increase the `max_tokens` model setting, or simplify the "
                        "prompt to result in a shorter response that will fit within the limit."
                    ) from None
        raise UnexpectedModelBehavior(
            f"Exceeded maximum retries ({max_result_retries}) for output validation"
        ) from error


def token_limit(settings: ModelSettings | None) -> Any:
    """The ``max_tokens`` that applied, for error messages."""
    return (settings or {}).get("max_tokens") or "provider default"


@dataclass(slots=True, eq=False, repr=False)
class GraphAgentDeps(Generic[DepsT, OutputDataT]):
    """What a run needs and does not change: the plan of its agent, its model, its limits."""

    user_deps: DepsT
    prompt: str | Sequence[UserContent] | None
    new_message_index: int
    model: Model
    model_settings: ModelSettings | None
    """As merged for the current request."""
    usage_limits: UsageLimits
    plan: Plan
    """What is worked out once per agent."""
    toolset: AbstractToolset[DepsT]
    """All tools, output tools included: the plan's, or a copy where parts of it remember what they did in a run."""
    run_state: GraphAgentState
    """The run's state, for its context."""
    host: RunHost | None = None
    """Whose doors model requests pass: of the run itself, or of the run that it is a part of."""
    hosted: bool = False
    """Whether the host is the run's own: it drives and cancels the run, and gets its events."""
    manager: ToolManager[DepsT] | None = None
    """See `tool_manager`, which makes it."""
    tools: Mapping[str, ToolsetTool[DepsT]] | None = None
    """The tools of the current step, where they depend on no context."""
    _context: RunContext[DepsT] | None = None
    settings_change: bool = False
    """Whether settings are worked out anew for each request: one of them is a function."""
    run_settings: Any = None
    """What the run itself was given as ``model_settings``."""
    has_neighbours: bool = False
    """Whether the history may hold two requests in a row, which are sent as one."""
    kept: tuple[ModelRequest, ModelMessage] | None = None
    """The request that came into the history last, and what history processors left of it there."""
    cancellation: Cancellation | None = None
    """None where only a host, or nobody, can cancel this run alone."""
    instrumentation_settings: InstrumentationSettings | None = None

    @property
    def run_context(self) -> RunContext[DepsT]:
        """The one context of the run, made when the first function is to see it."""
        context = self._context
        if context is None:
            context = self._context = _new_context(self)
        return context

    @property
    def tool_manager(self) -> ToolManager[DepsT]:
        """What the run does with its tools, made when it is first needed: plain calls that succeed need none."""
        manager = self.manager
        if manager is None:
            plan = self.plan
            manager = self.manager = ToolManager(
                self.toolset, plan.tool_timeout, default_max_retries=plan.max_tool_retries
            )
            if self.tools is not None:
                manager.take(self.run_state.run_step, self.tools)
        return manager

    @property
    def supervisor(self) -> Any:
        """Whom the run belongs to; None where to nobody."""
        return None if self.host is None else self.host.supervisor

    @property
    def abandoned_threads(self) -> list[str]:
        """The run's list of threads that were left behind."""
        threads = self.run_state.abandoned_threads
        if not isinstance(threads, list):
            threads = self.run_state.abandoned_threads = list(threads)
        return threads

    @property
    def max_result_retries(self) -> int:
        """How often the model may be asked again for its output."""
        return self.plan.max_result_retries

    @property
    def end_strategy(self) -> str:
        """What happens to tool calls beside a final result."""
        return self.plan.end_strategy

    @property
    def output_schema(self) -> OutputSchema[OutputDataT]:
        """What the output may look like."""
        return self.plan.output_schema

    @property
    def output_validators(self) -> list[Any]:
        """The agent's validators, in the order in which they run."""
        return self.plan.output_validators

    @property
    def history_processors(self) -> Sequence[Any]:
        """What rewrites the history before each request."""
        return self.plan.history_processors

    @property
    def builtin_tools(self) -> Sequence[Any]:
        """The provider's own tools to ask for."""
        return self.plan.builtin_tools

    @property
    def tracer(self) -> Tracer:
        """Records spans; a no-op without instrumentation."""
        return self.run_context.tracer

    async def get_instructions(self, run_context: RunContext[DepsT]) -> str | None:
        """The instructions for the next request."""
        return await self.plan.instructions_for(run_context)


NodeContext = GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]
"""What an agent's nodes are given."""


def _new_context(deps: GraphAgentDeps[DepsT, Any]) -> RunContext[DepsT]:
    state = deps.run_state
    plan = deps.plan
    new = cast("RunContext[DepsT]", RunContext.of_run(deps))
    new.deps = deps.user_deps
    new.model = deps.model
    new.usage = state.usage
    new.prompt = deps.prompt
    new.messages = state.message_history
    new.validation_context = None if plan.validation_context_function else plan.validation_context
    new.tracer = no_tracer()
    new.trace_include_content = False
    new.instrumentation_version = 2
    new.retries = deps.tool_manager.retries
    new.tool_call_id = new.tool_name = None
    new.retry = 0
    new.max_retries = plan.max_result_retries
    new.run_step = state.run_step
    new.tool_call_approved = new.partial_output = False
    new.tool_call_metadata = new.metadata = None
    new.run_id = state.run_id
    new.model_settings = None if deps.settings_change else deps.model_settings
    return new


def build_run_context(ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[DepsT, Any]]) -> RunContext[DepsT]:
    """The run's context, brought up to date. It is one object for the whole run: copy what must not change."""
    state = ctx.state
    run_context = ctx.deps.run_context
    run_context.run_step = state.run_step
    run_context.messages = state.message_history
    run_context.retries = ctx.deps.tool_manager.retries
    run_context.retry = state.retries
    run_context.metadata = state.metadata
    return run_context
