"""`Agent`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, cast, overload

from typing_extensions import Unpack

from runmgr.agent.abstract import EventStreamHandler, RunOutputDataT
from runmgr.agent.decorators import DecoratedAgent
from runmgr.agent.history import HistoryProcessor
from runmgr.agent.hosted import start_hosted
from runmgr.agent.nodes import EndStrategy
from runmgr.agent.options import UNSET, AgentMetadata, AgentModelSettings, OptionsBesideDeps, Unset
from runmgr.agent.plan import Plan
from runmgr.agent.planning import Override, overrides, own_toolset, plan_for
from runmgr.agent.prompts import Instructions, SystemPromptRunner, as_list
from runmgr.agent.start import RunBlock
from runmgr.concurrency import check_in_trio
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, UserContent
from runmgr.models import KnownModelName, Model, infer_model
from runmgr.output import OutputDataT, OutputSchema, OutputSpec, OutputValidator
from runmgr.tools.deferred import DeferredToolResults
from runmgr.tools.tool import Tool
from runmgr.tools.types import (
    AgentDepsT,
    BuiltinToolFunc,
    SystemPromptFunc,
    ToolFuncEither,
    ToolsPrepareFunc,
)
from runmgr.toolsets.abstract import AbstractToolset, ToolsetFunc
from runmgr.toolsets.combined import CombinedToolset
from runmgr.toolsets.dynamic import DynamicToolset
from runmgr.toolsets.entered import EnteredByTask
from runmgr.usage import RunUsage, UsageLimits

if TYPE_CHECKING:
    from runmgr.agent.host import RunHost
    from runmgr.agent.run import AgentRun
    from runmgr.builtin_tools import AbstractBuiltinTool
    from runmgr.models.instrumented import InstrumentationSettings
    from runmgr.records.snapshots import RunSnapshot

__all__ = ("Agent",)


class Agent(DecoratedAgent[AgentDepsT, OutputDataT]):
    """A model with instructions, tools and a type of output.

    An agent holds nothing of its runs: one can run any number of times at once. What the runs have in common is worked
    out once and kept until the agent is changed.

    Args:
        model: the model, or its string (``'openai:gpt-5'``); None leaves it to each run.
        output_type: what runs put out: ``str``, a type, a function, an output marker, or a list of these.
        instructions: texts and functions, sent with each request and not kept in the history.
        system_prompt: texts that begin the history of a run without one.
        deps_type: the type of ``deps``; only type checkers look at it.
        name: for logs and spans; by default the name of the variable that holds the agent when it first runs.
        model_settings: on top of the model's; or a function that makes them before each request.
        retries: failures in a row of a tool that are allowed.
        validation_context: for pydantic validators, as ``info.context``; or a function that makes it.
        output_retries: how often the model may be asked again for its output; ``retries`` unless given.
        tools: functions that the model may call, with or without ``RunContext`` first, or `Tool` objects.
        builtin_tools: the provider's own tools, and functions that choose them.
        prepare_tools: changes the definitions of tools before each request.
        prepare_output_tools: the same for output tools.
        toolsets: further tools, and functions that make toolsets.
        defer_model_check: do not look the model's string up before it is used.
        end_strategy: what happens to tool calls beside a final result: ``early`` leaves them, ``exhaustive`` runs them.
        instrument: leave OpenTelemetry spans behind; None does what ``Agent.instrument_all`` said.
        metadata: for the program, with each run; or a function that makes it.
        history_processors: rewrite the history before each request; what they return is what is kept.
        event_stream_handler: gets the events of every run.
        tool_timeout: seconds for tools that say nothing themselves.
        max_concurrency: how many tools of one turn may run at once; None is no limit.

    Raises:
        UserError: the model's string, a tool's function, the output type or an argument's name is of no use.
    """

    _instrument_default: ClassVar[InstrumentationSettings | bool] = False

    def __init__(
        self,
        model: Model | KnownModelName | str | None = None,
        *,
        output_type: OutputSpec[OutputDataT] = str,
        instructions: Instructions[AgentDepsT] = None,
        system_prompt: str | Sequence[str] = (),
        deps_type: type[AgentDepsT] = NoneType,
        name: str | None = None,
        model_settings: AgentModelSettings[AgentDepsT] | None = None,
        retries: int = 1,
        validation_context: Any | Callable[[Any], Any] = None,
        output_retries: int | None = None,
        tools: Sequence[Tool[AgentDepsT] | ToolFuncEither[AgentDepsT, ...]] = (),
        builtin_tools: Sequence[AbstractBuiltinTool | BuiltinToolFunc[AgentDepsT]] = (),
        prepare_tools: ToolsPrepareFunc[AgentDepsT] | None = None,
        prepare_output_tools: ToolsPrepareFunc[AgentDepsT] | None = None,
        toolsets: Sequence[AbstractToolset[AgentDepsT] | ToolsetFunc[AgentDepsT]] | None = None,
        defer_model_check: bool = False,
        end_strategy: EndStrategy = "early",
        instrument: InstrumentationSettings | bool | None = None,
        metadata: AgentMetadata[AgentDepsT] | None = None,
        history_processors: Sequence[HistoryProcessor[AgentDepsT]] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        tool_timeout: float | None = None,
        max_concurrency: int | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise UserError(f"Unknown keyword arguments: {', '.join(f'`{name}`' for name in unknown)}")
        if max_concurrency is not None and max_concurrency < 1:
            raise UserError(f"max_concurrency is at least 1, not {max_concurrency!r}; None is no limit")
        self._plan: Plan | None = None
        self._plans: dict[Any, Plan] = {}
        self._model: Model | str | None = model if model is None or defer_model_check else infer_model(model)
        self._name = name
        self._deps_type = deps_type
        self._output_type: OutputSpec[OutputDataT] = output_type
        self._end_strategy: EndStrategy = end_strategy
        self._model_settings = model_settings
        self.instrument: InstrumentationSettings | bool | None = instrument
        """How runs are instrumented; None does what `instrument_all` said."""
        self._metadata = metadata
        self._max_tool_retries = retries
        self._max_result_retries = retries if output_retries is None else output_retries
        self._validation_context = validation_context
        self._output_schemas: dict[Any, OutputSchema[Any]] = {}
        self._output_schema = OutputSchema[Any].build(output_type)
        self._output_validators: list[OutputValidator[AgentDepsT, OutputDataT]] = []
        self._instructions: list[str | SystemPromptFunc[AgentDepsT]] = list(as_list(instructions))
        self._system_prompts = (system_prompt,) if isinstance(system_prompt, str) else tuple(system_prompt)
        self._system_prompt_functions: list[SystemPromptRunner[AgentDepsT]] = []
        self._system_prompt_dynamic_functions: dict[str, SystemPromptRunner[AgentDepsT]] = {}
        self._builtin_tools = tuple(builtin_tools)
        self._prepare_tools = prepare_tools
        self._prepare_output_tools = prepare_output_tools
        self._tool_timeout = tool_timeout
        self._max_concurrency = max_concurrency
        self._function_toolset = own_toolset(self, tools)
        self._user_toolsets: list[AbstractToolset[AgentDepsT]] = []
        self._dynamic_toolsets: list[DynamicToolset[AgentDepsT]] = []
        for toolset in toolsets or ():
            if isinstance(toolset, AbstractToolset):
                self._user_toolsets.append(cast("AbstractToolset[AgentDepsT]", toolset))
            else:
                self._dynamic_toolsets.append(DynamicToolset(toolset))
        self._history_processors = list(history_processors or ())
        self._event_stream_handler = event_stream_handler
        self._entered: EnteredByTask[CombinedToolset[AgentDepsT]] = EnteredByTask()

    @classmethod
    def instrument_all(cls, instrument: InstrumentationSettings | bool = True) -> None:
        """How agents are instrumented that do not say so themselves."""
        Agent._instrument_default = instrument

    # ------------------------------------------------------------------ about

    @property
    def model(self) -> Model | KnownModelName | str | None:
        """The model that runs use unless told otherwise."""
        override = self._override()
        if override is not None and override.model is not UNSET:
            return override.model
        return self._model

    @model.setter
    def model(self, value: Model | KnownModelName | str | None) -> None:
        self._model = value

    @property
    def name(self) -> str | None:
        """The agent's name, for logs and spans."""
        override = self._override()
        if override is not None and override.name is not UNSET:
            return override.name
        return self._name

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = value

    @property
    def deps_type(self) -> type:
        """The type of ``deps``; only type checkers look at it."""
        return self._deps_type

    @property
    def output_type(self) -> OutputSpec[OutputDataT]:
        """What runs put out."""
        return self._output_type

    @property
    def event_stream_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        """Gets the events of every run."""
        return self._event_stream_handler

    @property
    def end_strategy(self) -> EndStrategy:
        """What happens to tool calls beside a final result."""
        return self._end_strategy

    @end_strategy.setter
    def end_strategy(self, value: EndStrategy) -> None:
        self._end_strategy = value
        self._changed()

    @property
    def model_settings(self) -> AgentModelSettings[AgentDepsT] | None:
        """Settings on top of the model's."""
        return self._model_settings

    @model_settings.setter
    def model_settings(self, value: AgentModelSettings[AgentDepsT] | None) -> None:
        self._model_settings = value
        self._changed()

    @property
    def history_processors(self) -> list[HistoryProcessor[AgentDepsT]]:
        """Rewrite the history before each request, in this order; the list may be changed."""
        return self._history_processors

    @history_processors.setter
    def history_processors(self, value: Sequence[HistoryProcessor[AgentDepsT]]) -> None:
        self._history_processors = list(value)
        self._changed()

    @property
    def toolsets(self) -> Sequence[AbstractToolset[AgentDepsT]]:
        """All toolsets, the agent's own functions first, but not output tools."""
        override = self._override()
        own: AbstractToolset[AgentDepsT] = self._function_toolset
        further: Sequence[AbstractToolset[AgentDepsT]] = [*self._dynamic_toolsets, *self._user_toolsets]
        if override is not None:
            if override.tools is not UNSET:
                own = own_toolset(self, override.tools)
            if override.toolsets is not UNSET:
                further = override.toolsets
        return [own, *further]

    def output_json_schema(self, output_type: OutputSpec[Any] | None = None) -> dict[str, Any]:
        """The JSON schema of the output, or of another type of output."""
        from runmgr.agent.output_json import output_json_schema

        return output_json_schema(self._output_type if output_type is None else output_type)

    def fingerprint(self) -> str:
        """What the agent would send, as a hex digest: the same for agents that ask the same.

        Covers the model's name, constant instructions and system prompts, the output's and the tools' schemas, and
        constant settings; functions count by their qualified name.
        """
        from runmgr.agent.fingerprint import fingerprint

        return fingerprint(self)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(model={self.model!r}, name={self.name!r}, end_strategy={self.end_strategy!r}, "
            f"model_settings={self.model_settings!r}, output_type={self.output_type!r}, "
            f"instrument={self.instrument!r})"
        )

    # ------------------------------------------------------------------- runs

    @overload
    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: None = None,
        host: RunHost | None = None,
        snapshot: RunSnapshot | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]]: ...

    @overload
    def iter(
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[RunOutputDataT],
        host: RunHost | None = None,
        snapshot: RunSnapshot | None = None,
        deps: AgentDepsT = None,  # pyright: ignore[reportArgumentType]
        **options: Unpack[OptionsBesideDeps[AgentDepsT]],
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, RunOutputDataT]]: ...

    def iter(  # pyright: ignore[reportIncompatibleMethodOverride]  # host and snapshot come on top
        self,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        output_type: OutputSpec[Any] | None = None,
        message_history: Sequence[ModelMessage] | None = None,
        deferred_tool_results: DeferredToolResults | None = None,
        model: Model | KnownModelName | str | None = None,
        instructions: Instructions[AgentDepsT] = None,
        deps: Any = None,
        model_settings: AgentModelSettings[AgentDepsT] | None = None,
        usage_limits: UsageLimits | None = None,
        usage: RunUsage | None = None,
        metadata: AgentMetadata[AgentDepsT] | None = None,
        infer_name: bool = True,
        toolsets: Sequence[AbstractToolset[AgentDepsT]] | None = None,
        builtin_tools: Sequence[AbstractBuiltinTool | BuiltinToolFunc[AgentDepsT]] | None = None,
        run_id: str | None = None,
        host: RunHost | None = None,
        snapshot: RunSnapshot | None = None,
        _cancellable: bool = True,
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, Any]]:
        """Start a run to drive a step at a time: ``async with agent.iter('Hi') as run: async for node in run: ...``.

        Args:
            user_prompt: what to say to the model; None goes on from ``message_history``.
            output_type: what this run puts out, instead of the agent's type.
            message_history: this and the next ones: see `RunOptions`.
            deferred_tool_results: answers to the tool calls that the history ends with.
            model: the model to use instead of the agent's.
            instructions: added to the agent's.
            deps: what tools and other functions find in ``ctx.deps``.
            model_settings: on top of the agent's.
            usage_limits: 50 requests unless told otherwise.
            usage: a usage to count on.
            metadata: on top of the agent's.
            infer_name: whether an agent without a name takes that of the variable which holds it.
            toolsets: further tools.
            builtin_tools: further tools of the provider's.
            run_id: the run's id; a random UUID unless given.
            host: for supervisors: the doors that model requests pass. The run opens no cancel scope of its own then.
            snapshot: for supervisors: where an earlier run of this agent stood, to go on from.

        Raises:
            UserError: there is no model, or the arguments do not fit the agent.
        """
        if infer_name and host is None and self._name is None:
            self._infer_name(inspect.currentframe())
        override = self._override()
        if override is not None:
            if override.model is not UNSET:
                model = override.model
            if override.deps is not UNSET:
                deps = override.deps
            if override.metadata is not UNSET:
                metadata = None
        plan = plan_for(self, override, output_type, instructions, toolsets, builtin_tools)
        chosen = self._model if model is None else model
        if not isinstance(chosen, Model):
            chosen = self._inferred(chosen, keep=model is None)
        return RunBlock(
            self,
            plan,
            chosen,
            prompt=user_prompt,
            history=message_history,
            deferred_tool_results=deferred_tool_results,
            deps=deps,
            model_settings=model_settings,
            metadata=metadata,
            usage_limits=usage_limits,
            usage=usage,
            host=host,
            snapshot=snapshot,
            run_id=run_id,
            cancellable=_cancellable,
        )

    def _start_hosted(self, user_prompt: Any, host: RunHost, run_id: str, options: Any) -> Any:
        """As `iter`, for supervisors: the run itself, where starting it opens nothing and asks nobody; else None."""
        if type(self).iter is not Agent.iter:
            return None
        return start_hosted(self, user_prompt, host, run_id, options)

    def _iter_for_run(self, user_prompt: Any, output_type: Any, options: Any) -> Any:
        options["infer_name"] = False
        return cast("Any", self.iter)(user_prompt, output_type=output_type, _cancellable=False, **options)

    def _inferred(self, model: str | None, *, keep: bool) -> Model:
        if model is None:
            raise UserError("`model` must either be set on the agent or included when calling it.")
        found = infer_model(model)
        if keep:
            self._model = found
        return found

    # ------------------------------------------------------------------ plans

    def _changed(self) -> None:
        self._plan = None
        self._plans.clear()

    def _override(self) -> Override | None:
        here = overrides.get()
        return here.get(id(self)) if here else None

    @contextmanager
    def override(
        self,
        *,
        name: str | Unset = UNSET,
        deps: AgentDepsT | Unset = UNSET,
        model: Model | KnownModelName | str | Unset = UNSET,
        toolsets: Sequence[AbstractToolset[AgentDepsT]] | Unset = UNSET,
        tools: Sequence[Tool[AgentDepsT] | ToolFuncEither[AgentDepsT, ...]] | Unset = UNSET,
        instructions: Instructions[AgentDepsT] | Unset = UNSET,
        metadata: AgentMetadata[AgentDepsT] | Unset = UNSET,
    ) -> Generator[None]:
        """Replace parts of the agent within a block, for tests: they win over what runs are given, too.

        Holds for runs that are started in the block, by this task or by tasks that were started in it.

        Args:
            name: its name.
            deps: what runs find in ``ctx.deps``.
            model: the model, or its string.
            toolsets: all toolsets but the agent's own functions.
            tools: the agent's own functions.
            instructions: all instructions.
            metadata: all metadata.
        """
        own = Override(
            name=name,
            deps=deps,
            model=model if isinstance(model, Unset) else infer_model(model),
            toolsets=toolsets,
            tools=tools,
            instructions=instructions,
            metadata=metadata,
        )
        outer = self._override()
        token = overrides.set({**overrides.get(), id(self): own if outer is None else own.within(outer)})
        try:
            yield
        finally:
            overrides.reset(token)

    # -------------------------------------------------------------- lifecycle

    async def __aenter__(self) -> Self:
        """Open what the agent's toolsets need, to keep it open from run to run."""
        check_in_trio()
        toolset = CombinedToolset([t for t in self.toolsets if not isinstance(t, DynamicToolset)])
        await toolset.__aenter__()
        self._entered.push(toolset)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._entered.pop().__aexit__(kind, error, trace)
