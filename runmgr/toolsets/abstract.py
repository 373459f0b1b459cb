"""What every collection of tools does: list them, call one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias

from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.types import AgentDepsT, ToolsPrepareFunc

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic_core import SchemaValidator

    from runmgr.toolsets.approval_required import ApprovalRequiredToolset
    from runmgr.toolsets.filtered import FilteredToolset
    from runmgr.toolsets.prefixed import PrefixedToolset
    from runmgr.toolsets.prepared import PreparedToolset
    from runmgr.toolsets.renamed import RenamedToolset

__all__ = (
    "AbstractToolset",
    "ArgsValidator",
    "ToolsetFunc",
    "ToolsetTool",
    "always",
    "overrides_lifecycle",
)


class ArgsValidator(Protocol):
    """What validates a tool's arguments: pydantic's compiled validator, or anything that looks like it."""

    def validate_json(self, input: str | bytes | bytearray, /, **options: Any) -> Any: ...

    def validate_python(self, input: Any, /, **options: Any) -> Any: ...


@dataclass(kw_only=True)
class ToolsetTool(Generic[AgentDepsT]):
    """One tool of a toolset, ready to be called.

    Args:
        toolset: the toolset that calls it.
        tool_def: what the model sees.
        max_retries: failures in a row before the run fails.
        args_validator: checks the model's arguments.
        direct: an async function, where calling it with validated arguments is all that ``call_tool`` of this very toolset would do.
    """

    toolset: AbstractToolset[AgentDepsT]
    tool_def: ToolDefinition
    max_retries: int
    args_validator: SchemaValidator | ArgsValidator
    direct: Callable[..., Awaitable[Any]] | None = field(default=None, repr=False, compare=False)


def overrides_lifecycle(toolset: AbstractToolset[Any], base: type[AbstractToolset[Any]]) -> bool:
    """Whether a toolset of a class below ``base`` is entered or left in another way than that."""
    kind = type(toolset)
    return kind.__aenter__ is not base.__aenter__ or kind.__aexit__ is not base.__aexit__


class AbstractToolset(ABC, Generic[AgentDepsT]):
    """A collection of tools.

    Toolsets are shared by the runs of an agent: what belongs to one run is in ``RunContext``. ``async with toolset``
    opens what it needs (a connection to a server) and may be entered by several runs at once.
    """

    @property
    @abstractmethod
    def id(self) -> str | None:
        """A name that is unique among an agent's toolsets; None where nobody needs to tell it from others."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The toolset's name in error messages."""
        label = type(self).__name__
        return f"{label} {self.id!r}" if self.id else label

    @property
    def tool_name_conflict_hint(self) -> str:
        """What error messages suggest when a tool's name is taken."""
        return "Rename the tool or wrap the toolset in a `PrefixedToolset` to avoid name conflicts."

    @property
    def has_lifecycle(self) -> bool:
        """Whether entering and leaving the toolset does anything: runs skip it where it does not."""
        return overrides_lifecycle(self, AbstractToolset)

    async def __aenter__(self) -> Self:
        """Open what the tools need. Does nothing by default."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        """Close what ``__aenter__`` opened. Does nothing by default."""
        return None

    @abstractmethod
    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        """The tools for the next model request, by name."""
        raise NotImplementedError

    @abstractmethod
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        """Call a tool with validated arguments.

        Args:
            name: one of the names that ``get_tools`` gave.
            tool_args: validated arguments.
            ctx: the call's own context.
            tool: what ``get_tools`` gave under that name.

        Raises:
            ModelRetry: the model should try again.
            CallDeferred: the result comes from outside.
            ApprovalRequired: a person must approve the call.
        """
        raise NotImplementedError

    def static_tools(self) -> dict[str, ToolsetTool[AgentDepsT]] | None:
        """The tools, where they depend on no context; None where ``get_tools`` must be asked before each request.

        As long as nothing changes, the same dict is returned each time: callers compare by identity and change nothing
        in it.
        """
        return None

    def apply(self, visitor: Callable[[AbstractToolset[AgentDepsT]], None]) -> None:
        """Call ``visitor`` with every toolset inside that holds tools itself."""
        visitor(self)

    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[AgentDepsT]], AbstractToolset[AgentDepsT]]
    ) -> AbstractToolset[AgentDepsT]:
        """The same structure, with every toolset that holds tools itself replaced by what ``visitor`` makes of it."""
        return visitor(self)

    def filtered(
        self, filter_func: Callable[[RunContext[AgentDepsT], ToolDefinition], bool]
    ) -> FilteredToolset[AgentDepsT]:
        """Only the tools for which ``filter_func(ctx, tool_def)`` is true."""
        from runmgr.toolsets.filtered import FilteredToolset

        return FilteredToolset(self, filter_func)

    def prefixed(self, prefix: str) -> PrefixedToolset[AgentDepsT]:
        """The same tools, each named ``{prefix}_{name}``."""
        from runmgr.toolsets.prefixed import PrefixedToolset

        return PrefixedToolset(self, prefix)

    def prepared(self, prepare_func: ToolsPrepareFunc[AgentDepsT]) -> PreparedToolset[AgentDepsT]:
        """The same tools, with definitions changed by ``prepare_func(ctx, tool_defs)`` before each request."""
        from runmgr.toolsets.prepared import PreparedToolset

        return PreparedToolset(self, prepare_func)

    def renamed(self, name_map: dict[str, str]) -> RenamedToolset[AgentDepsT]:
        """The same tools under other names: ``{new: old}``."""
        from runmgr.toolsets.renamed import RenamedToolset

        return RenamedToolset(self, name_map)

    def approval_required(
        self,
        approval_required_func: Callable[[RunContext[AgentDepsT], ToolDefinition, dict[str, Any]], bool]
        | None = None,
    ) -> ApprovalRequiredToolset[AgentDepsT]:
        """The same tools; calls for which ``approval_required_func(ctx, tool_def, tool_args)`` is true wait for a person."""
        from runmgr.toolsets.approval_required import ApprovalRequiredToolset

        return ApprovalRequiredToolset(self, approval_required_func or always)


def always(_ctx: RunContext[Any], _tool_def: ToolDefinition, _tool_args: dict[str, Any], /) -> bool:
    """The default of ``approval_required``: every call needs approval."""
    return True


ToolsetFunc: TypeAlias = Callable[
    [RunContext[AgentDepsT]],
    AbstractToolset[AgentDepsT] | Awaitable[AbstractToolset[AgentDepsT] | None] | None,
]
"""Makes a toolset from the context, or None."""
