"""The same tools under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from typing_extensions import override

from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import ToolsetTool
from runmgr.toolsets.wrapper import WrapperToolset

__all__ = ("NamingToolset",)


@dataclass
class NamingToolset(WrapperToolset[AgentDepsT]):
    """Base of toolsets that only rename: says how names inside and outside correspond."""

    _renamed: tuple[Mapping[str, Any], dict[str, ToolsetTool[Any]]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def outer_name(self, name: str) -> str:
        """The name that models see for a tool of the wrapped toolset."""
        raise NotImplementedError

    def inner_name(self, name: str) -> str:
        """The name that the wrapped toolset knows a tool by."""
        raise NotImplementedError

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        return self._rename(await self.wrapped.get_tools(ctx))

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        if type(self).get_tools is not NamingToolset.get_tools:
            return None
        inside = self.wrapped.static_tools()
        if inside is None:
            return None
        if self._renamed is None or self._renamed[0] is not inside:
            self._renamed = (inside, self._rename(inside))
        return self._renamed[1]

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        inner = self.inner_name(name)
        if inner != name:
            ctx = ctx.copied()
            ctx.tool_name = inner
            tool = replace(tool, tool_def=replace(tool.tool_def, name=inner))
        return await self.wrapped.call_tool(inner, tool_args, ctx, tool)

    def _rename(self, tools: Mapping[str, ToolsetTool[AgentDepsT]]) -> dict[str, ToolsetTool[AgentDepsT]]:
        renamed: dict[str, ToolsetTool[AgentDepsT]] = {}
        for name, tool in tools.items():
            outer = self.outer_name(name)
            renamed[outer] = replace(
                tool, toolset=self, tool_def=replace(tool.tool_def, name=outer), direct=None
            )
        return renamed
