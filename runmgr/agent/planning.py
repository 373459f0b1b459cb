"""Which plan a run follows: found, or made from the agent, its overrides and what the run itself was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runmgr.agent.options import UNSET
from runmgr.agent.plan import Plan
from runmgr.agent.prompts import split_instructions
from runmgr.exceptions import UserError
from runmgr.models import Model
from runmgr.models.otel import is_heard
from runmgr.output import OutputSchema
from runmgr.tools.tool import Tool
from runmgr.tools.types import AgentDepsT, ToolFuncEither
from runmgr.toolsets.abstract import AbstractToolset
from runmgr.toolsets.combined import CombinedToolset
from runmgr.toolsets.function import FunctionToolset
from runmgr.toolsets.prepared import PreparedToolset

if TYPE_CHECKING:
    from runmgr.agent.agent import Agent
    from runmgr.models.instrumented import InstrumentationSettings

T = TypeVar("T")

_REMEMBERED = 64
"""Output types of single runs whose plans and schemas an agent keeps."""

__all__ = ("AgentToolset", "Override", "instrumentation_for", "overrides", "own_toolset", "plan_for")


class Override:
    """What `Agent.override` replaces, for one agent; `UNSET` leaves a thing as it is."""

    __slots__ = ("deps", "instructions", "metadata", "model", "name", "plans", "tools", "toolsets")

    def __init__(self, **given: Any) -> None:
        self.deps = given["deps"]
        self.instructions = given["instructions"]
        self.metadata = given["metadata"]
        self.model = given["model"]
        self.name = given["name"]
        self.tools = given["tools"]
        self.toolsets = given["toolsets"]
        self.plans: dict[Any, Plan] = {}

    def within(self, outer: Override) -> Override:
        """This override inside the block of another one."""
        names = [name for name in self.__slots__ if name != "plans"]
        own = {name: getattr(self, name) for name in names}
        return Override(**{name: getattr(outer, name) if own[name] is UNSET else own[name] for name in names})


overrides: ContextVar[Mapping[int, Override]] = ContextVar("runmgr_agent_overrides", default={})  # noqa: B039 (never mutated)
"""The overrides that hold here, by the id of their agent, which is alive as long as its block."""


class AgentToolset(FunctionToolset[AgentDepsT]):
    """The agent's own functions."""

    def __init__(self, allows_deferred: Callable[[], bool], *args: Any, **kwargs: Any) -> None:
        self._allows_deferred = allows_deferred
        super().__init__(*args, **kwargs)

    @property
    def id(self) -> str:
        return "<agent>"

    @property
    def label(self) -> str:
        return "the agent"

    def add_tool(self, tool: Tool[AgentDepsT]) -> None:
        if tool.requires_approval and not self._allows_deferred():
            raise UserError(
                "To use tools that require approval, add `DeferredToolRequests` to the list of output types for this agent."
            )
        super().add_tool(tool)


def own_toolset(
    agent: Agent[Any, Any], tools: Sequence[Tool[Any] | ToolFuncEither[Any, ...]]
) -> AgentToolset[Any]:
    """A toolset of an agent's own functions."""
    return AgentToolset(
        lambda: agent._output_schema.allows_deferred_tools, tools, max_retries=agent._max_tool_retries
    )


def instrumentation_for(agent: Agent[Any, Any], model: Model) -> InstrumentationSettings | None:
    """How a run with this model is instrumented; None: not at all."""
    instrument = type(agent)._instrument_default if agent.instrument is None else agent.instrument
    if instrument is False:
        # A model that is instrumented by itself has the run's spans too.
        return getattr(model, "instrumentation_settings", None)
    if instrument is True:
        settings = getattr(model, "instrumentation_settings", None)
        if settings is not None:
            return settings
        if not is_heard(None, None):
            return None
        from runmgr.models.instrumented import InstrumentationSettings

        return InstrumentationSettings()
    return instrument


def plan_for(
    agent: Agent[Any, Any],
    override: Override | None,
    output_type: Any,
    instructions: Any,
    toolsets: Any,
    builtin_tools: Any,
) -> Plan:
    """The plan for a run; kept for the next one where the run brings no tools of its own.

    Raises:
        UserError: the arguments do not fit the agent.
    """
    if toolsets or builtin_tools:
        plan = _make_plan(agent, override, output_type, toolsets, builtin_tools)
    elif override is None and output_type is None:
        plan = agent._plan
        if plan is None:
            plan = agent._plan = _make_plan(agent, None, None)
    elif (key := _key(output_type)) is None:
        plan = _make_plan(agent, override, output_type)
    else:
        plans = agent._plans if override is None else override.plans
        plan = plans.get(key)
        if plan is None:
            plan = _remember(plans, key, _make_plan(agent, override, output_type))
    if instructions is not None and (override is None or override.instructions is UNSET):
        plan = plan.with_instructions(*split_instructions(agent._instructions, instructions))
    return plan


def _make_plan(
    agent: Agent[Any, Any],
    override: Override | None,
    output_type: Any,
    toolsets: Any = None,
    builtin_tools: Any = None,
) -> Plan:
    schema = _schema_for(agent, output_type)
    own: AbstractToolset[Any] = agent._function_toolset
    further: list[AbstractToolset[Any]] = [*agent._dynamic_toolsets, *agent._user_toolsets, *(toolsets or ())]
    instructions: Any = agent._instructions
    metadata: Any = agent._metadata
    if override is not None:
        if override.tools is not UNSET:
            own = own_toolset(agent, override.tools)
        if override.toolsets is not UNSET:
            further = list(override.toolsets)
        if override.instructions is not UNSET:
            instructions = override.instructions
        if override.metadata is not UNSET:
            metadata = override.metadata
    toolset = CombinedToolset([own, *further]) if further else own
    if agent._prepare_tools is not None:
        toolset = PreparedToolset(toolset, agent._prepare_tools)
    if schema.toolset is not None:
        outputs: AbstractToolset[Any] = schema.toolset.configured(
            max_retries=agent._max_result_retries, output_validators=agent._output_validators
        )
        if agent._prepare_output_tools is not None:
            outputs = PreparedToolset(outputs, agent._prepare_output_tools)
        toolset = CombinedToolset([outputs, toolset])
    text, functions = split_instructions(instructions)
    return Plan(
        output_schema=schema,
        output_validators=agent._output_validators,
        toolset=toolset,
        end_strategy=agent.end_strategy,
        max_result_retries=agent._max_result_retries,
        max_tool_retries=agent._max_tool_retries,
        max_concurrency=agent._max_concurrency,
        tool_timeout=agent._tool_timeout,
        instructions=text,
        instructions_functions=functions,
        system_prompts=agent._system_prompts,
        system_prompt_functions=agent._system_prompt_functions,
        system_prompt_dynamic_functions=agent._system_prompt_dynamic_functions,
        history_processors=agent.history_processors,
        builtin_tools=[*agent._builtin_tools, *(builtin_tools or ())],
        model_settings=agent.model_settings,
        validation_context=agent._validation_context,
        metadata=metadata,
    )


def _schema_for(agent: Agent[Any, Any], output_type: Any) -> OutputSchema[Any]:
    if output_type is None:
        return agent._output_schema
    if agent._output_validators:
        raise UserError("Cannot set a custom run `output_type` when the agent has output validators")
    key = _key(output_type)
    if key is None:
        return OutputSchema[Any].build(output_type)
    schema = agent._output_schemas.get(key)
    if schema is None:
        schema = _remember(agent._output_schemas, key, OutputSchema[Any].build(output_type))
    return schema


def _remember(kept: dict[Any, T], key: Any, made: T) -> T:
    """Keep something for the next run, and no more than a few: a program may make its output types anew for each run."""
    if len(kept) >= _REMEMBERED:
        del kept[next(iter(kept))]
    kept[key] = made
    return made


def _key(output_type: Any) -> Any:
    """What is kept for an output type is kept under this; None where it cannot be."""
    if isinstance(output_type, list):
        output_type = tuple(cast("list[Any]", output_type))
    try:
        hash(output_type)
    except TypeError:
        return None
    return (output_type,)
