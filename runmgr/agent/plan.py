"""What is the same in every run of an agent, worked out once: output schema, tools, request parameters, instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from runmgr.agent.prompts import SystemPromptRunner, call_with_context, join_instructions
from runmgr.output import OutputSchema, OutputValidator
from runmgr.output.processors import TextProcessor
from runmgr.records.definitions import ModelRequestParameters
from runmgr.tools.context import RunContext
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool
from runmgr.toolsets.combined import CombinedToolset
from runmgr.toolsets.dynamic import DynamicToolset
from runmgr.toolsets.function import FunctionToolset

if TYPE_CHECKING:
    from runmgr.agent.history import HistoryProcessor

__all__ = ("Plan",)


class Plan:
    """An agent's constants, for one combination of overrides and per-run arguments.

    Args:
        output_schema: what the output may look like.
        output_validators: see the output before it is the result.
        toolset: all tools, output tools included.
        end_strategy: ``early`` or ``exhaustive``.
        max_result_retries: how often the model may be asked again for its output.
        max_tool_retries: failures in a row of a tool that does not exist.
        max_concurrency: how many tools of one turn may run at once; None is no limit.
        tool_timeout: seconds for function tools that say nothing themselves.
        instructions: their constant part.
        instructions_functions: make the rest.
        system_prompts: constant system prompts.
        system_prompt_functions: make further ones.
        system_prompt_dynamic_functions: those of them that are asked again when a run is continued.
        history_processors: rewrite the history before each request.
        builtin_tools: the provider's own tools, and functions that choose them.
        model_settings: the agent's settings, or a function that makes them.
        validation_context: for pydantic validators, or a function that makes it.
        metadata: the agent's metadata, or a function that makes it.
    """

    __slots__ = (
        "_params", "_params_tools", "builtin_functions", "builtin_tools", "calls_directly", "end_strategy", "has_dynamic_toolsets",
        "has_lifecycle", "history_processors", "instructions", "instructions_functions", "max_concurrency",
        "max_result_retries", "max_tool_retries", "metadata", "model_settings", "output_schema", "output_validators",
        "plain_text", "settings_function", "starts_plainly", "system_prompt_dynamic_functions", "system_prompt_functions",
        "system_prompts", "tool_timeout", "toolset", "validation_context", "validation_context_function",
    )  # fmt: skip

    def __init__(
        self,
        *,
        output_schema: OutputSchema[Any],
        output_validators: list[OutputValidator[Any, Any]],
        toolset: AbstractToolset[Any],
        end_strategy: str,
        max_result_retries: int,
        max_tool_retries: int,
        max_concurrency: int | None,
        tool_timeout: float | None,
        instructions: str | None,
        instructions_functions: list[SystemPromptRunner[Any]],
        system_prompts: tuple[str, ...],
        system_prompt_functions: list[SystemPromptRunner[Any]],
        system_prompt_dynamic_functions: dict[str, SystemPromptRunner[Any]],
        history_processors: Sequence[HistoryProcessor[Any]],
        builtin_tools: Sequence[Any],
        model_settings: Any,
        validation_context: Any,
        metadata: Any,
    ) -> None:
        self.output_schema = output_schema
        self.output_validators = output_validators
        self.toolset = toolset
        self.end_strategy = end_strategy
        self.max_result_retries = max_result_retries
        self.max_tool_retries = max_tool_retries
        self.max_concurrency = max_concurrency
        self.tool_timeout = tool_timeout
        self.instructions = instructions
        self.instructions_functions = instructions_functions
        self.system_prompts = system_prompts
        self.system_prompt_functions = system_prompt_functions
        self.system_prompt_dynamic_functions = system_prompt_dynamic_functions
        self.history_processors = history_processors
        self.builtin_tools = list(builtin_tools)
        self.builtin_functions = any(callable(tool) for tool in builtin_tools)
        self.model_settings = model_settings
        self.settings_function = callable(model_settings)
        self.validation_context = validation_context
        self.validation_context_function = callable(validation_context)
        self.metadata = metadata
        self.plain_text = type(output_schema.text_processor) is TextProcessor and not output_validators
        self.has_lifecycle = toolset.has_lifecycle
        found: list[bool] = []
        toolset.apply(lambda leaf: found.append(isinstance(leaf, DynamicToolset)))
        self.has_dynamic_toolsets = any(found)
        self.calls_directly = (
            type(toolset).call_tool in {FunctionToolset.call_tool, CombinedToolset.call_tool}
            and tool_timeout is None
            and not self.validation_context_function
        )
        """Whether a call comes down to `ToolsetTool.direct`, where a tool has one."""
        self.starts_plainly = not (
            self.has_lifecycle
            or self.has_dynamic_toolsets
            or self.settings_function
            or self.validation_context_function
            or metadata is not None
            or instructions_functions
            or system_prompt_functions
        )
        """Whether nobody is asked for anything, and nothing opened, before a run's first request."""
        self._params: ModelRequestParameters | None = None
        self._params_tools: Mapping[str, ToolsetTool[Any]] | None = None

    def toolset_for_run(self) -> AbstractToolset[Any]:
        """The toolset for one run: shared, unless parts of it remember what they did in a run."""
        if not self.has_dynamic_toolsets:
            return self.toolset
        return self.toolset.visit_and_replace(_own)

    def parameters(self, tools: Mapping[str, ToolsetTool[Any]]) -> ModelRequestParameters | None:
        """What to tell the model of these tools and of the output; None where built-in tools are yet to be chosen.

        For constant tools it is one object for all runs, which models prepare once.
        """
        if tools is self._params_tools:
            return self._params
        if self.builtin_functions:
            return None
        params = self._build(tools, self.builtin_tools)
        if tools is self.toolset.static_tools():
            self._params = params
            self._params_tools = tools
        return params

    async def parameters_for(
        self, ctx: RunContext[Any], tools: Mapping[str, ToolsetTool[Any]]
    ) -> ModelRequestParameters:
        """As `parameters`, with functions asked for built-in tools."""
        builtin: list[Any] = []
        for tool in self.builtin_tools:
            chosen = await call_with_context(tool, ctx) if callable(tool) else tool
            if chosen is not None:
                builtin.append(chosen)
        return self._build(tools, builtin)

    def _build(self, tools: Mapping[str, ToolsetTool[Any]], builtin: list[Any]) -> ModelRequestParameters:
        schema = self.output_schema
        function_tools = [tool.tool_def for tool in tools.values() if tool.tool_def.kind != "output"]
        output_tools = [tool.tool_def for tool in tools.values() if tool.tool_def.kind == "output"]
        return ModelRequestParameters(
            function_tools=function_tools,
            builtin_tools=builtin,
            output_mode=schema.mode,
            output_object=schema.object_def,
            output_tools=output_tools,
            prompted_output_template=schema.template,
            allow_text_output=schema.allows_text,
            allow_image_output=schema.allows_image,
        )

    async def instructions_for(self, ctx: RunContext[Any]) -> str | None:
        """The instructions for the next request."""
        if not self.instructions_functions:
            return self.instructions
        return await join_instructions(self.instructions, self.instructions_functions, ctx)

    def with_instructions(self, text: str | None, functions: list[SystemPromptRunner[Any]]) -> Plan:
        """The same plan with other instructions."""
        plan = copy(self)
        plan.instructions = text
        plan.instructions_functions = functions
        plan.starts_plainly = self.starts_plainly and not functions
        return plan

    def ask_for_output(self) -> str:
        """What the model is told when its response holds no output."""
        schema = self.output_schema
        ways: list[str] = []
        if schema.text_processor is not None:
            ways.append("return text")
        ways.append("include your response in a tool call" if schema.toolset is not None else "call a tool")
        if schema.allows_image:
            ways.append("return an image")
        return f"Please {' or '.join(ways)}."


def _own(leaf: AbstractToolset[Any]) -> AbstractToolset[Any]:
    return leaf.copy() if isinstance(leaf, DynamicToolset) else leaf
