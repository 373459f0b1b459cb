"""Type variables and function types that tools, toolsets and outputs share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, Literal, TypeAlias

from typing_extensions import ParamSpec, TypeVar

from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext

if TYPE_CHECKING:
    from runmgr.builtin_tools import AbstractBuiltinTool

__all__ = (
    "AgentDepsT",
    "BuiltinToolFunc",
    "DocstringFormat",
    "SystemPromptFunc",
    "ToolAgentDepsT",
    "ToolFuncContext",
    "ToolFuncEither",
    "ToolFuncPlain",
    "ToolParams",
    "ToolPrepareFunc",
    "ToolsPrepareFunc",
)

AgentDepsT = TypeVar("AgentDepsT", default=None, contravariant=True)  # noqa: PLC0105 (a documented name)
"""The dependencies that an agent or toolset needs."""

ToolAgentDepsT = TypeVar("ToolAgentDepsT", default=object, contravariant=True)  # noqa: PLC0105 (a documented name)
"""The dependencies that a tool needs: a tool that needs none fits every agent."""

ToolParams = ParamSpec("ToolParams", default=...)
"""The parameters of a tool's function, after ``RunContext``."""

DocstringFormat: TypeAlias = Literal["google", "numpy", "sphinx", "auto"]
"""How a docstring is written; ``auto`` looks at it."""

SystemPromptFunc: TypeAlias = (
    Callable[[RunContext[AgentDepsT]], str | None]
    | Callable[[RunContext[AgentDepsT]], Awaitable[str | None]]
    | Callable[[], str | None]
    | Callable[[], Awaitable[str | None]]
)
"""A function that makes instructions or a system prompt; takes ``RunContext`` or nothing."""

ToolFuncContext: TypeAlias = Callable[Concatenate[RunContext[AgentDepsT], ToolParams], Any]
"""A tool's function that takes ``RunContext`` first."""

ToolFuncPlain: TypeAlias = Callable[ToolParams, Any]
"""A tool's function that takes only what the model sends."""

ToolFuncEither: TypeAlias = ToolFuncContext[AgentDepsT, ToolParams] | ToolFuncPlain[ToolParams]
"""A tool's function, with or without ``RunContext``."""

ToolPrepareFunc: TypeAlias = Callable[
    [RunContext[AgentDepsT], ToolDefinition], Awaitable[ToolDefinition | None]
]
"""Changes a tool's definition before each request, or leaves the tool out of it by returning None."""

ToolsPrepareFunc: TypeAlias = Callable[
    [RunContext[AgentDepsT], list[ToolDefinition]], Awaitable[list[ToolDefinition] | None]
]
"""Changes the definitions of all tools before each request; None leaves all of them out."""

BuiltinToolFunc: TypeAlias = Callable[
    [RunContext[AgentDepsT]],
    "Awaitable[AbstractBuiltinTool | None] | AbstractBuiltinTool | None",
]
"""Makes one of the provider's own tools from the context, or leaves it out."""
