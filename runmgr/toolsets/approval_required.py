"""Tools whose calls wait for a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from runmgr.exceptions import ApprovalRequired
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import ToolsetTool, always
from runmgr.toolsets.wrapper import WrapperToolset

__all__ = ("ApprovalRequiredToolset",)


@dataclass
class ApprovalRequiredToolset(WrapperToolset[AgentDepsT]):
    """Calls need a person's approval when a function of the context, definition and arguments says so.

    Args:
        wrapped: the toolset inside.
        approval_required_func: whether this call needs approval; by default each does.
    """

    approval_required_func: Callable[[RunContext[AgentDepsT], ToolDefinition, dict[str, Any]], bool] = always

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        if not ctx.tool_call_approved and self.approval_required_func(ctx, tool.tool_def, tool_args):
            raise ApprovalRequired
        return await self.wrapped.call_tool(name, tool_args, ctx, tool)
