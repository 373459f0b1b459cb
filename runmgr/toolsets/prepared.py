"""The same tools, with their definitions changed before each request."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

from typing_extensions import override

from runmgr.exceptions import UserError
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT, ToolsPrepareFunc
from runmgr.toolsets.abstract import ToolsetTool
from runmgr.toolsets.wrapper import WrapperToolset

__all__ = ("PreparedToolset",)


@dataclass
class PreparedToolset(WrapperToolset[AgentDepsT]):
    """Changes or leaves out tools' definitions before each model request.

    Args:
        wrapped: the toolset inside.
        prepare_func: gets the context and all definitions, gives those that the model shall see (None: none). It may
            not add or rename tools.
    """

    prepare_func: ToolsPrepareFunc[AgentDepsT]

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        tools = await self.wrapped.get_tools(ctx)
        prepared = self.prepare_func(ctx, [tool.tool_def for tool in tools.values()])
        defs = {d.name: d for d in (await prepared if inspect.isawaitable(prepared) else prepared) or ()}
        if not tools.keys() >= defs.keys():
            raise UserError(
                "Prepare function cannot add or rename tools. Use `FunctionToolset.add_function()` or "
                "`RenamedToolset` instead."
            )
        return {
            name: replace(tools[name], toolset=self, tool_def=tool_def) for name, tool_def in defs.items()
        }
