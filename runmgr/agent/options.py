"""What every way to start a run takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

from typing_extensions import TypedDict, TypeVar

from runmgr.agent.prompts import Instructions
from runmgr.builtin_tools import AbstractBuiltinTool
from runmgr.messages import ModelMessage
from runmgr.settings import ModelSettings
from runmgr.tools.context import RunContext
from runmgr.tools.deferred import DeferredToolResults
from runmgr.tools.types import AgentDepsT, BuiltinToolFunc
from runmgr.toolsets.abstract import AbstractToolset
from runmgr.usage import RunUsage, UsageLimits

if TYPE_CHECKING:
    from runmgr.models import KnownModelName, Model

__all__ = ("UNSET", "AgentMetadata", "AgentModelSettings", "OptionsBesideDeps", "RunOptions", "Unset")

AgentMetadata: TypeAlias = dict[str, Any] | Callable[[RunContext[AgentDepsT]], dict[str, Any]]
"""A run's metadata, or what makes it: asked when the run starts, and again when it is over."""

AgentModelSettings: TypeAlias = ModelSettings | Callable[[RunContext[AgentDepsT]], ModelSettings | None]
"""Settings, or what makes them: asked before each model request."""

DepsT = TypeVar("DepsT", default=None)


class OptionsBesideDeps(TypedDict, Generic[DepsT], total=False):
    """`RunOptions` without ``deps``: signatures that type checkers see name that one, since leaving it out is an error where
    the agent's type of it is not None.
    """

    message_history: Sequence[ModelMessage] | None
    """The conversation to go on from. It is not changed."""
    deferred_tool_results: DeferredToolResults | None
    """Answers to the tool calls that the history ends with."""
    model: Model | KnownModelName | str | None
    """The model to use instead of the agent's."""
    instructions: Instructions[DepsT]
    """Instructions for this run, added to the agent's."""
    model_settings: AgentModelSettings[DepsT] | None
    """Settings for this run, on top of the agent's, which are on top of the model's."""
    usage_limits: UsageLimits | None
    """Limits of this run: 50 requests unless told otherwise."""
    usage: RunUsage | None
    """A usage to count on, for sharing one among runs: ``usage=ctx.usage`` in a tool."""
    metadata: AgentMetadata[DepsT] | None
    """Metadata of this run, on top of the agent's."""
    infer_name: bool
    """Whether an agent without a name takes that of the variable which holds it."""
    toolsets: Sequence[AbstractToolset[DepsT]] | None
    """Further tools for this run."""
    builtin_tools: Sequence[AbstractBuiltinTool | BuiltinToolFunc[DepsT]] | None
    """Further tools of the provider's for this run."""
    run_id: str | None
    """The run's id; a random UUID unless given."""


class RunOptions(OptionsBesideDeps[DepsT], Generic[DepsT], total=False):
    """The keyword arguments that ``run``, ``run_sync``, ``run_stream``, ``run_stream_events`` and ``iter`` share."""

    deps: DepsT
    """What tools, instructions and validators find in ``ctx.deps``."""


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Stands for an argument that was not given, where None is something to give."""
