"""A toolset around another one: the base of all that change how tools look or are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool, overrides_lifecycle

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("WrapperToolset",)


@dataclass
class WrapperToolset(AbstractToolset[AgentDepsT]):
    """Passes everything on to ``wrapped``; override ``get_tools`` or ``call_tool`` to change something.

    Args:
        wrapped: the toolset inside.
    """

    wrapped: AbstractToolset[AgentDepsT]

    @property
    @override
    def id(self) -> str | None:
        return None  # a wrapper is told from others by what it wraps

    @property
    @override
    def label(self) -> str:
        return f"{type(self).__name__}({self.wrapped.label})"

    @property
    @override
    def has_lifecycle(self) -> bool:
        return overrides_lifecycle(self, WrapperToolset) or self.wrapped.has_lifecycle

    @override
    async def __aenter__(self) -> Self:
        await self.wrapped.__aenter__()
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        return await self.wrapped.__aexit__(exc_type, exc, traceback)

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        return await self.wrapped.get_tools(ctx)

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        return await self.wrapped.call_tool(name, tool_args, ctx, tool)

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        # A subclass that lists tools in its own way must be asked each time.
        return self.wrapped.static_tools() if type(self).get_tools is WrapperToolset.get_tools else None

    @override
    def apply(self, visitor: Callable[[AbstractToolset[AgentDepsT]], None]) -> None:
        self.wrapped.apply(visitor)

    @override
    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[AgentDepsT]], AbstractToolset[AgentDepsT]]
    ) -> AbstractToolset[AgentDepsT]:
        return replace(self, wrapped=self.wrapped.visit_and_replace(visitor))
