"""Pieces of parts as they stream in; a delta is applied to the part (or delta) so far and gives a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, overload

from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages.base import MessageValue
from runmgr.messages.ids import generate_tool_call_id
from runmgr.messages.responses import (
    BuiltinToolCallPart,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.structs import replace

__all__ = (
    "ModelResponsePartDelta",
    "ProviderDetailsDelta",
    "TextPartDelta",
    "ThinkingPartDelta",
    "ToolCallPartDelta",
)

if TYPE_CHECKING:
    ProviderDetailsDelta: TypeAlias = (
        dict[str, Any] | Callable[[dict[str, Any] | None], dict[str, Any]] | None
    )
    """Details to add to a part's, or a function from the details so far to those to add."""
else:
    ProviderDetailsDelta = Any


def _merged(details: dict[str, Any] | None, more: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**(details or {}), **more} if more else details


class _TextDelta(MessageValue, tag_field="part_delta_kind", gc=False):
    content_delta: str


class TextPartDelta(_TextDelta, kw_only=True, tag="text", gc=False):
    """More text for a ``TextPart``.

    Args:
        content_delta: appended to the text.
        provider_details: added to the part's.
    """

    part_delta_kind: ClassVar[Literal["text"]] = "text"

    provider_details: dict[str, Any] | None = None

    def apply(self, part: ModelResponsePart) -> TextPart:
        """A new part with the text appended. Raises ``ValueError`` for a part that is no ``TextPart``."""
        if not isinstance(part, TextPart):
            raise ValueError("Cannot apply TextPartDeltas to non-TextParts")  # noqa: TRY004 (documented)
        return TextPart(
            part.content + self.content_delta,
            id=part.id,
            provider_details=_merged(part.provider_details, self.provider_details),
        )


class ThinkingPartDelta(MessageValue, kw_only=True, tag_field="part_delta_kind", tag="thinking"):
    """More thoughts for a ``ThinkingPart``.

    Args:
        content_delta: appended to the thoughts.
        signature_delta: replaces the signature (providers send it whole).
        provider_name: replaces the provider's name.
        provider_details: added to the part's, or a function from those so far to what is added.
    """

    part_delta_kind: ClassVar[Literal["thinking"]] = "thinking"

    content_delta: str | None = None
    signature_delta: str | None = None
    provider_name: str | None = None
    provider_details: ProviderDetailsDelta = None

    @overload
    def apply(self, part: ModelResponsePart) -> ThinkingPart: ...
    @overload
    def apply(self, part: ModelResponsePart | ThinkingPartDelta) -> ThinkingPart | ThinkingPartDelta: ...
    def apply(self, part: ModelResponsePart | ThinkingPartDelta) -> ThinkingPart | ThinkingPartDelta:
        """A new part, or delta, with this one added.

        Raises ``ValueError`` for anything but a ``ThinkingPart`` or its delta, and where this delta would add neither
        content nor signature to another delta.
        """
        if isinstance(part, ThinkingPart):
            details = self.provider_details
            return replace(
                part,
                content=part.content + (self.content_delta or ""),
                signature=part.signature if self.signature_delta is None else self.signature_delta,
                provider_name=part.provider_name if self.provider_name is None else self.provider_name,
                provider_details=_merged(
                    part.provider_details, details(part.provider_details) if callable(details) else details
                ),
            )
        if not isinstance(part, ThinkingPartDelta):
            raise ValueError(  # noqa: TRY004 (documented)
                "Cannot apply ThinkingPartDeltas to non-ThinkingParts or non-ThinkingPartDeltas "
                f"({part=}, {self=})"
            )
        if self.content_delta is None and self.signature_delta is None:
            raise ValueError("Cannot apply ThinkingPartDelta with no content or signature")
        return ThinkingPartDelta(
            content_delta=(
                part.content_delta
                if self.content_delta is None
                else (part.content_delta or "") + self.content_delta
            ),
            signature_delta=part.signature_delta if self.signature_delta is None else self.signature_delta,
            provider_name=part.provider_name if self.provider_name is None else self.provider_name,
            provider_details=_chained(part.provider_details, self.provider_details),
        )


def _chained(first: ProviderDetailsDelta, then: ProviderDetailsDelta) -> ProviderDetailsDelta:
    """The delta that does what ``first`` and ``then`` do one after the other."""
    if then is None:
        return first
    if first is None:
        return then
    if not callable(first) and not callable(then):
        return {**first, **then}

    def both(details: dict[str, Any] | None) -> dict[str, Any]:
        for step in (first, then):
            details = _merged(details, step(details) if callable(step) else step)
        return details or {}

    return both


class ToolCallPartDelta(MessageValue, kw_only=True, tag_field="part_delta_kind", tag="tool_call", gc=False):
    """More of a tool call.

    Args:
        tool_name_delta: appended to the tool's name.
        args_delta: appended to the arguments' text, or merged into their dict.
        tool_call_id: the call's id; replaces what there was.
        provider_details: added to the part's.
    """

    part_delta_kind: ClassVar[Literal["tool_call"]] = "tool_call"

    tool_name_delta: str | None = None
    args_delta: str | dict[str, Any] | None = None
    tool_call_id: str | None = None
    provider_details: dict[str, Any] | None = None

    def as_part(self) -> ToolCallPart | None:
        """The call so far as a part, or None while the tool's name is not known."""
        if self.tool_name_delta is None:
            return None
        return ToolCallPart(
            self.tool_name_delta,
            self.args_delta,
            self.tool_call_id or generate_tool_call_id(),
            provider_details=self.provider_details,
        )

    @overload
    def apply(self, part: ModelResponsePart) -> ToolCallPart | BuiltinToolCallPart: ...
    @overload
    def apply(
        self, part: ModelResponsePart | ToolCallPartDelta
    ) -> ToolCallPart | BuiltinToolCallPart | ToolCallPartDelta: ...
    def apply(
        self, part: ModelResponsePart | ToolCallPartDelta
    ) -> ToolCallPart | BuiltinToolCallPart | ToolCallPartDelta:
        """A new part with this delta added; from a delta, a part as soon as the tool's name is known.

        Raises ``ValueError`` for anything but a tool call or its delta, ``UnexpectedModelBehavior`` where text is
        added to a dict or a dict to text.
        """
        if isinstance(part, (ToolCallPart, BuiltinToolCallPart)):
            name = part.tool_name
            if self.tool_name_delta:
                name += self.tool_name_delta
            return replace(
                part,
                tool_name=name,
                args=self._add_args(part.args, f"{part=}"),
                tool_call_id=self.tool_call_id or part.tool_call_id,
                provider_details=_merged(part.provider_details, self.provider_details),
            )
        if not isinstance(part, ToolCallPartDelta):
            raise ValueError(  # noqa: TRY004 (documented)
                "Can only apply ToolCallPartDeltas to ToolCallParts, BuiltinToolCallParts, or ToolCallPartDeltas, "
                f"not {part!r}"
            )
        name = part.tool_name_delta
        if self.tool_name_delta:
            name = (name or "") + self.tool_name_delta
        total = ToolCallPartDelta(
            tool_name_delta=name,
            args_delta=self._add_args(part.args_delta, f"delta={part!r}"),
            tool_call_id=self.tool_call_id or part.tool_call_id,
            provider_details=_merged(part.provider_details, self.provider_details),
        )
        return total if name is None else (total.as_part() or total)

    def _add_args(self, args: str | dict[str, Any] | None, described: str) -> str | dict[str, Any] | None:
        more = self.args_delta
        if more is None:
            return args
        if isinstance(more, str):
            if isinstance(args, dict):
                raise UnexpectedModelBehavior(
                    f"Cannot apply JSON deltas to non-JSON tool arguments ({described}, {self=})"
                )
            return (args or "") + more
        if isinstance(args, str):
            raise UnexpectedModelBehavior(
                f"Cannot apply dict deltas to non-dict tool arguments ({described}, {self=})"
            )
        return {**(args or {}), **more}


ModelResponsePartDelta: TypeAlias = TextPartDelta | ThinkingPartDelta | ToolCallPartDelta
