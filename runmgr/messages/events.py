"""What a run tells while it streams: parts that start, grow and end, the final result, tools called and returned."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal, TypeAlias

from typing_extensions import deprecated

from runmgr.messages.base import MessageValue
from runmgr.messages.content import UserContent
from runmgr.messages.deltas import ModelResponsePartDelta
from runmgr.messages.requests import RetryPromptPart, ToolReturnPart
from runmgr.messages.responses import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    ModelResponsePart,
    ToolCallPart,
)

__all__ = (
    "AgentStreamEvent",
    "BuiltinToolCallEvent",
    "BuiltinToolResultEvent",
    "FinalResultEvent",
    "FunctionToolCallEvent",
    "FunctionToolResultEvent",
    "HandleResponseEvent",
    "ModelResponseStreamEvent",
    "PartDeltaEvent",
    "PartEndEvent",
    "PartStartEvent",
)

_PartKind: TypeAlias = Literal[
    "text", "thinking", "tool-call", "builtin-tool-call", "builtin-tool-return", "file"
]


class PartStartEvent(MessageValue, kw_only=True, tag_field="event_kind", tag="part_start"):
    """A part began.

    Args:
        index: its place in the response's parts.
        part: what there is of it so far.
        previous_part_kind: the kind of the part before it, if there is one.
    """

    event_kind: ClassVar[Literal["part_start"]] = "part_start"

    index: int
    part: ModelResponsePart
    previous_part_kind: _PartKind | None = None


class PartDeltaEvent(MessageValue, kw_only=True, tag_field="event_kind", tag="part_delta"):
    """A part grew.

    Args:
        index: its place in the response's parts.
        delta: by what.
    """

    event_kind: ClassVar[Literal["part_delta"]] = "part_delta"

    index: int
    delta: ModelResponsePartDelta


class PartEndEvent(MessageValue, kw_only=True, tag_field="event_kind", tag="part_end"):
    """A part is whole.

    Args:
        index: its place in the response's parts.
        part: all of it.
        next_part_kind: the kind of the part that follows, if there is one.
    """

    event_kind: ClassVar[Literal["part_end"]] = "part_end"

    index: int
    part: ModelResponsePart
    next_part_kind: _PartKind | None = None


class FinalResultEvent(MessageValue, kw_only=True, tag_field="event_kind", tag="final_result", gc=False):
    """The response holds the run's final result, though it may not be whole yet.

    Args:
        tool_name: the output tool; None where the result is text or native output.
        tool_call_id: the id of its call; None likewise.
    """

    event_kind: ClassVar[Literal["final_result"]] = "final_result"

    tool_name: str | None
    tool_call_id: str | None


class _Called(MessageValue, tag_field="event_kind"):
    part: ToolCallPart


class FunctionToolCallEvent(_Called, kw_only=True, tag="function_tool_call"):
    """A tool of ours is about to run."""

    event_kind: ClassVar[Literal["function_tool_call"]] = "function_tool_call"

    @property
    def tool_call_id(self) -> str:
        """The id of the call."""
        return self.part.tool_call_id

    @property
    @deprecated("`call_id` is deprecated, use `tool_call_id` instead.")
    def call_id(self) -> str:
        """Old name of ``tool_call_id``."""
        return self.part.tool_call_id


class _Result(MessageValue, tag_field="event_kind"):
    result: ToolReturnPart | RetryPromptPart


class FunctionToolResultEvent(_Result, kw_only=True, tag="function_tool_result"):
    """A tool of ours returned, or its call is to be tried again.

    Args:
        result: what the model will get.
        content: what the model will get besides, as a user prompt.
    """

    event_kind: ClassVar[Literal["function_tool_result"]] = "function_tool_result"

    content: str | list[UserContent] | None = None

    @property
    def tool_call_id(self) -> str:
        """The id of the call."""
        return self.result.tool_call_id


class _BuiltinCalled(MessageValue, tag_field="event_kind"):
    part: BuiltinToolCallPart


class BuiltinToolCallEvent(_BuiltinCalled, kw_only=True, tag="builtin_tool_call"):
    """Deprecated: part events with a ``BuiltinToolCallPart`` tell the same."""

    event_kind: ClassVar[Literal["builtin_tool_call"]] = "builtin_tool_call"

    def __post_init__(self) -> None:
        _warn("BuiltinToolCallEvent", "BuiltinToolCallPart")


class _BuiltinResult(MessageValue, tag_field="event_kind"):
    result: BuiltinToolReturnPart


class BuiltinToolResultEvent(_BuiltinResult, kw_only=True, tag="builtin_tool_result"):
    """Deprecated: part events with a ``BuiltinToolReturnPart`` tell the same."""

    event_kind: ClassVar[Literal["builtin_tool_result"]] = "builtin_tool_result"

    def __post_init__(self) -> None:
        _warn("BuiltinToolResultEvent", "BuiltinToolReturnPart")


def _warn(name: str, part: str) -> None:
    warnings.warn(
        f"`{name}` is deprecated, look for `PartStartEvent` and `PartDeltaEvent` with `{part}` instead.",
        DeprecationWarning,
        stacklevel=3,
    )


ModelResponseStreamEvent: TypeAlias = PartStartEvent | PartDeltaEvent | PartEndEvent | FinalResultEvent
"""What a model's streamed response tells."""

HandleResponseEvent: TypeAlias = (
    FunctionToolCallEvent | FunctionToolResultEvent | BuiltinToolCallEvent | BuiltinToolResultEvent
)
"""What the handling of a response tells."""

AgentStreamEvent: TypeAlias = ModelResponseStreamEvent | HandleResponseEvent
"""Either."""
