"""Some of the tools, chosen before each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import ToolsetTool
from runmgr.toolsets.wrapper import WrapperToolset

__all__ = ("FilteredToolset",)


@dataclass
class FilteredToolset(WrapperToolset[AgentDepsT]):
    """Only the tools that pass a test, asked before each model request.

    Args:
        wrapped: the toolset inside.
        filter_func: whether the model may see the tool now.
    """

    filter_func: Callable[[RunContext[AgentDepsT], ToolDefinition], bool]

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        tools = await self.wrapped.get_tools(ctx)
        return {name: tool for name, tool in tools.items() if self.filter_func(ctx, tool.tool_def)}
