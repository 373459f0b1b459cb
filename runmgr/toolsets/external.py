"""Tools whose results come from outside the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from typing_extensions import override

from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.tool import any_object
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool

__all__ = ("DeferredToolset", "ExternalToolset")


class ExternalToolset(AbstractToolset[AgentDepsT]):
    """Tools that somebody else runs: a call ends the run with ``DeferredToolRequests``.

    Args:
        tool_defs: what the model sees; their ``kind`` becomes ``external``.
        id: a name that is unique among the agent's toolsets.
    """

    tool_defs: list[ToolDefinition]

    def __init__(self, tool_defs: list[ToolDefinition], *, id: str | None = None) -> None:
        self.tool_defs = tool_defs
        self._id = id
        self._tools: tuple[list[ToolDefinition], dict[str, ToolsetTool[AgentDepsT]]] | None = None

    @property
    @override
    def id(self) -> str | None:
        return self._id

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        return dict(self._static())

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        return self._static() if type(self).get_tools is ExternalToolset.get_tools else None

    def _static(self) -> dict[str, ToolsetTool[AgentDepsT]]:
        if self._tools is None or self._tools[0] != self.tool_defs:
            tools: dict[str, ToolsetTool[AgentDepsT]] = {
                tool_def.name: ToolsetTool(
                    toolset=self,
                    tool_def=replace(tool_def, kind="external"),
                    max_retries=0,
                    args_validator=any_object(),
                )
                for tool_def in self.tool_defs
            }
            self._tools = (list(self.tool_defs), tools)
        return self._tools[1]

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        raise NotImplementedError("External tools cannot be called directly")


DeferredToolset = ExternalToolset
"""The older name of ``ExternalToolset``."""
