"""A toolset that a function makes while the run is on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from runmgr.exceptions import UserError
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import AbstractToolset, ToolsetFunc, ToolsetTool

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("DynamicToolset",)


class DynamicToolset(AbstractToolset[AgentDepsT]):
    """Asks a function for a toolset before each model request, or once a run.

    It remembers the toolset that it was given, so each run works on a ``copy()`` of its own.

    Args:
        toolset_func: gets the context; gives a toolset, or None for no tools. May be async.
        per_run_step: ask before each request; otherwise only before the first.
        id: a name that is unique among the agent's toolsets.
    """

    def __init__(
        self, toolset_func: ToolsetFunc[AgentDepsT], *, per_run_step: bool = True, id: str | None = None
    ) -> None:
        self.toolset_func = toolset_func
        self.per_run_step = per_run_step
        self._id = id
        self._toolset: AbstractToolset[AgentDepsT] | None = None
        self._run_step: int | None = None

    @property
    @override
    def id(self) -> str | None:
        return self._id

    def copy(self) -> DynamicToolset[AgentDepsT]:
        """The same function, not asked yet."""
        return DynamicToolset(self.toolset_func, per_run_step=self.per_run_step, id=self._id)

    @override
    async def __aenter__(self) -> Self:
        # The toolset inside is entered once there is one.
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        toolset, self._toolset = self._toolset, None
        self._run_step = None
        if toolset is not None:
            return await toolset.__aexit__(exc_type, exc, traceback)
        return None

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        if self._run_step is None or (self.per_run_step and ctx.run_step != self._run_step):
            await self._replace(ctx)
            self._run_step = ctx.run_step
        return {} if self._toolset is None else await self._toolset.get_tools(ctx)

    async def _replace(self, ctx: RunContext[AgentDepsT]) -> None:
        made = self.toolset_func(ctx.copied())  # tools may close over it: the run goes on to change its own
        toolset = await made if inspect.isawaitable(made) else made
        if toolset is self._toolset:
            return
        before, self._toolset = self._toolset, None
        if before is not None:
            await before.__aexit__(None, None, None)
        if toolset is not None:
            await toolset.__aenter__()
            self._toolset = toolset

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        if self._toolset is None:
            raise UserError(
                f"{self.label} has no tool {name!r} now: its function gave no toolset for this step"
            )
        return await self._toolset.call_tool(name, tool_args, ctx, tool)

    @override
    def apply(self, visitor: Callable[[AbstractToolset[AgentDepsT]], None]) -> None:
        if self._toolset is None:
            visitor(self)
        else:
            self._toolset.apply(visitor)

    @override
    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[AgentDepsT]], AbstractToolset[AgentDepsT]]
    ) -> AbstractToolset[AgentDepsT]:
        if self._toolset is None:
            return visitor(self)
        copied = self.copy()
        copied._run_step = self._run_step
        copied._toolset = self._toolset.visit_and_replace(visitor)
        return copied
