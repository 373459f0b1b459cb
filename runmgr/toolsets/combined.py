"""Several toolsets as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, cast

from typing_extensions import override

from runmgr.exceptions import UserError
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool, overrides_lifecycle
from runmgr.toolsets.entered import EnteredByTask
from runmgr.toolsets.function import FunctionToolset

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("CombinedToolset",)


@dataclass(kw_only=True)
class CombinedToolsetTool(ToolsetTool[AgentDepsT]):
    """A tool, and the toolset that it came from."""

    source_toolset: AbstractToolset[AgentDepsT]
    source_tool: ToolsetTool[AgentDepsT]


@dataclass
class CombinedToolset(AbstractToolset[AgentDepsT]):
    """The tools of several toolsets; a name may be used only once.

    Args:
        toolsets: in the order in which the model sees their tools.
    """

    toolsets: Sequence[AbstractToolset[AgentDepsT]]
    _entered: EnteredByTask[AsyncExitStack] = field(
        default_factory=EnteredByTask[AsyncExitStack], init=False, repr=False, compare=False
    )
    _static: tuple[list[Any], dict[str, ToolsetTool[AgentDepsT]]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    @override
    def id(self) -> str | None:
        return None

    @property
    @override
    def label(self) -> str:
        return f"{type(self).__name__}({', '.join(toolset.label for toolset in self.toolsets)})"

    @property
    @override
    def has_lifecycle(self) -> bool:
        return overrides_lifecycle(self, CombinedToolset) or any(t.has_lifecycle for t in self.toolsets)

    @override
    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for toolset in self.toolsets:
                await stack.enter_async_context(toolset)
            self._entered.push(stack.pop_all())
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        return await self._entered.pop().__aexit__(exc_type, exc, traceback)

    @override
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        static = self.static_tools()
        if static is not None:
            return dict(static)
        # One after the other: a toolset that asks a server caches what it learns.
        return self._combine([(toolset, await toolset.get_tools(ctx)) for toolset in self.toolsets])

    @override
    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        if type(self).get_tools is not CombinedToolset.get_tools:
            return None
        known = self._static
        if known is not None and len(known[0]) == len(self.toolsets):
            for toolset, tools in zip(self.toolsets, known[0], strict=True):
                if toolset.static_tools() is not tools:
                    break
            else:
                return known[1]
        found: list[dict[str, ToolsetTool[AgentDepsT]]] = []
        for toolset in self.toolsets:
            tools = toolset.static_tools()
            if tools is None:
                return None
            found.append(tools)
        combined = self._combine(zip(self.toolsets, found, strict=True))
        self._static = (found, combined)
        return combined

    def _combine(
        self, found: Iterable[tuple[AbstractToolset[AgentDepsT], dict[str, ToolsetTool[AgentDepsT]]]]
    ) -> dict[str, ToolsetTool[AgentDepsT]]:
        combined: dict[str, ToolsetTool[AgentDepsT]] = {}
        for toolset, tools in found:
            direct = type(toolset).call_tool is FunctionToolset.call_tool
            for name, tool in tools.items():
                if name in combined:
                    first = cast("CombinedToolsetTool[AgentDepsT]", combined[name]).source_toolset
                    raise UserError(
                        f"{toolset.label[:1].upper()}{toolset.label[1:]} defines a tool whose name conflicts with existing tool from {first.label}: "
                        f"{name!r}. {toolset.tool_name_conflict_hint}"
                    )
                combined[name] = CombinedToolsetTool(
                    toolset=self,
                    tool_def=tool.tool_def,
                    max_retries=tool.max_retries,
                    args_validator=tool.args_validator,
                    source_toolset=toolset,
                    source_tool=tool,
                    direct=tool.direct if direct and tool.toolset is toolset else None,
                )
        return combined

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        if not isinstance(tool, CombinedToolsetTool):
            raise TypeError(f"{self.label} was handed a tool that it did not give: {tool!r}")
        return await tool.source_toolset.call_tool(name, tool_args, ctx, tool.source_tool)

    @override
    def apply(self, visitor: Callable[[AbstractToolset[AgentDepsT]], None]) -> None:
        for toolset in self.toolsets:
            toolset.apply(visitor)

    @override
    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[AgentDepsT]], AbstractToolset[AgentDepsT]]
    ) -> AbstractToolset[AgentDepsT]:
        return replace(self, toolsets=[toolset.visit_and_replace(visitor) for toolset in self.toolsets])
