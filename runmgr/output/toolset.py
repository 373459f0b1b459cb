"""Tools whose call is the run's output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from typing_extensions import override

from runmgr.output.markers import ToolOutput
from runmgr.output.processors import ObjectProcessor
from runmgr.output.validator import OutputValidator
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool

__all__ = ("DEFAULT_OUTPUT_TOOL_DESCRIPTION", "DEFAULT_OUTPUT_TOOL_NAME", "OutputToolset")

DEFAULT_OUTPUT_TOOL_NAME = "final_result"
DEFAULT_OUTPUT_TOOL_DESCRIPTION = "The final response which ends this conversation"


@dataclass(kw_only=True)
class OutputToolsetTool(ToolsetTool[AgentDepsT]):
    """An output tool, with what makes the output of its arguments."""

    processor: ObjectProcessor


class OutputToolset(AbstractToolset[AgentDepsT]):
    """The output tools of an agent: one for each type or function that an output may be.

    Args:
        tool_defs: the tools, in order.
        processors: by tool name, what makes the output of the arguments.
        own_retries: by tool name, ``max_retries`` of those that say so themselves.
        max_retries: failures in a row before the run fails.
        output_validators: run on each output before it is final.
    """

    def __init__(
        self,
        tool_defs: Sequence[ToolDefinition],
        processors: dict[str, ObjectProcessor],
        own_retries: dict[str, int],
        *,
        max_retries: int = 1,
        output_validators: Sequence[OutputValidator[AgentDepsT, Any]] = (),
    ) -> None:
        self.tool_defs = list(tool_defs)
        self.processors = processors
        self.max_retries = max_retries
        self.output_validators = output_validators
        self._own_retries = own_retries
        self._tools: tuple[int, dict[str, ToolsetTool[AgentDepsT]]] | None = None

    @classmethod
    def build(
        cls,
        outputs: Sequence[Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> OutputToolset[AgentDepsT] | None:
        """Make the tools for types, functions and ``ToolOutput`` markers; None if there are none.

        Args:
            outputs: what the output may be.
            name: instead of ``final_result``.
            description: goes before what types say of themselves.
            strict: ask the provider to enforce the schemas.
        """
        if not outputs:
            return None
        base = name or DEFAULT_OUTPUT_TOOL_NAME
        tool_defs: list[ToolDefinition] = []
        processors: dict[str, ObjectProcessor] = {}
        own_retries: dict[str, int] = {}
        for output in outputs:
            marker = (
                cast("ToolOutput[Any]", output) if isinstance(output, ToolOutput) else ToolOutput[Any](output)
            )
            processor = ObjectProcessor(
                marker.output,
                description=marker.description or description,
                strict=strict if marker.strict is None else marker.strict,
            )
            found = processor.object_def
            tool_name = marker.name or base
            about = found.description
            if len(outputs) > 1:
                if marker.name is None:
                    tool_name = f"{base}_{re.sub(r'[^a-zA-Z0-9_-]', '', found.name or '')}"
                about = about or f"{found.name}: {DEFAULT_OUTPUT_TOOL_DESCRIPTION}"
            first, n = tool_name, 1
            while tool_name in processors:
                n += 1
                tool_name = f"{first}_{n}"
            tool_defs.append(
                ToolDefinition(
                    name=tool_name,
                    description=about or DEFAULT_OUTPUT_TOOL_DESCRIPTION,
                    parameters_json_schema=found.json_schema,
                    strict=found.strict,
                    outer_typed_dict_key=processor.outer_key,
                    kind="output",
                )
            )
            processors[tool_name] = processor
            if marker.max_retries is not None:
                own_retries[tool_name] = marker.max_retries
        return cls(tool_defs, processors, own_retries)

    def configured(
        self, *, max_retries: int, output_validators: Sequence[OutputValidator[AgentDepsT, Any]] = ()
    ) -> OutputToolset[AgentDepsT]:
        """The same tools with an agent's number of retries and its validators. Shares the compiled schemas."""
        return OutputToolset(
            self.tool_defs,
            self.processors,
            self._own_retries,
            max_retries=max_retries,
            output_validators=output_validators,
        )

    @property
    @override
    def id(self) -> str | None:
        return "<output>"

    @property
    @override
    def label(self) -> str:
        return "the agent's output tools"

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        return dict(self.static_tools())

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]]:
        known = self._tools
        if known is None or known[0] != self.max_retries:
            tools: dict[str, ToolsetTool[AgentDepsT]] = {
                tool_def.name: OutputToolsetTool(
                    toolset=self,
                    tool_def=tool_def,
                    max_retries=self._own_retries.get(tool_def.name, self.max_retries),
                    args_validator=self.processors[tool_def.name].validator,
                    processor=self.processors[tool_def.name],
                )
                for tool_def in self.tool_defs
            }
            known = self._tools = (self.max_retries, tools)
        return known[1]

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        output = await self.processors[name].call(tool_args, ctx)
        for validator in self.output_validators:
            output = await validator.validate(output, ctx, wrap_validation_errors=False)
        return output
