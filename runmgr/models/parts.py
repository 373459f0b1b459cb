"""`ModelResponsePartsManager`: builds a response's parts from what a provider streams, and the events that tell of it.

Text and argument deltas are only collected; they are joined when somebody asks for the parts, so that a long streamed
answer costs what it is long and not its square.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import (
    BuiltinToolCallPart,
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

__all__ = ("ModelResponsePartsManager", "VendorId")

VendorId: TypeAlias = Hashable
"""What a provider calls one part of its response: an index, an id."""

Details: TypeAlias = dict[str, Any]
DetailsDelta: TypeAlias = Details | Callable[[Details | None], Details] | None

_P = TypeVar("_P")

_CALLS = (ToolCallPart, BuiltinToolCallPart)
_GROWING = (TextPart, ThinkingPart, *_CALLS)


class _Unnamed:
    """A tool call whose name has not come yet; takes its place among the parts."""

    __slots__ = ("args", "details", "tool_call_id")

    def __init__(self) -> None:
        self.args: str | dict[str, Any] | None = None
        self.tool_call_id: str | None = None
        self.details: Details | None = None


class ModelResponsePartsManager:
    """The parts of one streamed response, as far as they have come.

    Every ``handle_`` method takes one piece and returns the events to pass on. ``vendor_part_id`` says which part the
    piece belongs to; with None it belongs to the latest part, if that is of the piece's kind.
    """

    __slots__ = ("_by_vendor_id", "_parts", "_pending")

    def __init__(self) -> None:
        self._parts: list[ModelResponsePart | _Unnamed] = []
        self._by_vendor_id: dict[VendorId, int] = {}
        # Pieces of text or of arguments not joined to their part yet, by the part's index.
        self._pending: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_parts()!r})"

    def get_parts(self) -> list[ModelResponsePart]:
        """The parts so far, without tool calls whose name has not come yet. Later pieces don't change them."""
        if self._pending:
            for index in list(self._pending):
                self._join(index)
        return [part for part in self._parts if not isinstance(part, _Unnamed)]

    def get_part(self, index: int) -> ModelResponsePart | None:
        """The part of an event's ``index`` as it is now, or None."""
        if not 0 <= index < len(self._parts):
            return None
        self._join(index)
        part = self._parts[index]
        return None if isinstance(part, _Unnamed) else part

    # ------------------------------------------------------------------ text

    def handle_text_delta(
        self,
        *,
        vendor_part_id: VendorId | None,
        content: str,
        id: str | None = None,
        provider_details: Details | None = None,
        thinking_tags: tuple[str, str] | None = None,
        ignore_leading_whitespace: bool = False,
    ) -> Sequence[ModelResponseStreamEvent]:
        """A piece of text.

        Args:
            vendor_part_id: see the class.
            content: the text.
            id: the text part's id.
            provider_details: merged into the part's.
            thinking_tags: a piece that is exactly one of these starts or ends a thinking part.
            ignore_leading_whitespace: drop whitespace that would start a part.

        Raises:
            UnexpectedModelBehavior: the part of that id is of another kind.
        """
        index = self._find(vendor_part_id, TextPart)
        if index is not None:
            part = self._parts[index]
            if thinking_tags and isinstance(part, ThinkingPart):
                if content == thinking_tags[1]:
                    # The next piece of this id starts a part of its own.
                    self._by_vendor_id.pop(vendor_part_id, None)
                    return ()
                return self.handle_thinking_delta(
                    vendor_part_id=vendor_part_id, content=content, provider_details=provider_details
                )
            if not isinstance(part, TextPart):
                raise UnexpectedModelBehavior(f"Cannot apply a text delta to existing_part={part!r}")
            if thinking_tags and content == thinking_tags[0]:
                self._by_vendor_id.pop(vendor_part_id, None)
                index = None
        if index is not None:
            self._pending.setdefault(index, []).append(content)
            if provider_details:
                self._merge_details(index, provider_details)
                delta = TextPartDelta(content_delta=content, provider_details=provider_details)
            else:
                delta = TextPartDelta(content_delta=content)
            return (PartDeltaEvent(index=index, delta=delta),)
        if thinking_tags and content == thinking_tags[0]:
            return self.handle_thinking_delta(
                vendor_part_id=vendor_part_id, content="", provider_details=provider_details
            )
        if ignore_leading_whitespace and (not content or content.isspace()):
            return ()
        return (
            self._start(TextPart(content=content, id=id, provider_details=provider_details), vendor_part_id),
        )

    # -------------------------------------------------------------- thinking

    def handle_thinking_delta(
        self,
        *,
        vendor_part_id: VendorId | None,
        content: str | None = None,
        id: str | None = None,
        signature: str | None = None,
        provider_name: str | None = None,
        provider_details: DetailsDelta = None,
    ) -> Sequence[ModelResponseStreamEvent]:
        """A piece of thinking: text, a signature (replaces an earlier one), or both.

        Args:
            vendor_part_id: see the class.
            content: the text.
            id: the thinking part's id.
            signature: the provider's signature over the whole part.
            provider_name: who signed.
            provider_details: merged into the part's, or a function from the part's to new ones.

        Raises:
            UnexpectedModelBehavior: the part of that id is of another kind, or there is nothing in the piece.
        """
        index = self._find(vendor_part_id, ThinkingPart)
        if index is None:
            if content is None and signature is None and not provider_details:
                raise UnexpectedModelBehavior(
                    "Cannot create a ThinkingPart with no content, signature, or provider_details"
                )
            details = provider_details(None) if callable(provider_details) else provider_details
            part = ThinkingPart(
                content=content or "",
                id=id,
                signature=signature,
                provider_name=provider_name,
                provider_details=details,
            )
            return (self._start(part, vendor_part_id),)
        part = self._parts[index]
        if not isinstance(part, ThinkingPart):
            raise UnexpectedModelBehavior(f"Cannot apply a thinking delta to existing_part={part!r}")
        if content is None and signature is None and not provider_details:
            raise UnexpectedModelBehavior(
                "Cannot update a ThinkingPart with no content, signature, or provider_details"
            )
        if content:
            self._pending.setdefault(index, []).append(content)
        if signature is not None or (provider_name is not None and provider_name != part.provider_name):
            part = self._own(index, ThinkingPart)
            part.signature = part.signature if signature is None else signature
            part.provider_name = part.provider_name if provider_name is None else provider_name
        self._merge_details(index, provider_details)
        delta = ThinkingPartDelta(
            content_delta=content,
            signature_delta=signature,
            provider_name=provider_name,
            provider_details=provider_details,
        )
        return (PartDeltaEvent(index=index, delta=delta),)

    # ------------------------------------------------------------ tool calls

    def handle_tool_call_delta(
        self,
        *,
        vendor_part_id: VendorId | None,
        tool_name: str | None = None,
        args: str | dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        provider_details: Details | None = None,
    ) -> ModelResponseStreamEvent | None:
        """A piece of a tool call; None while the call has no name yet.

        Args:
            vendor_part_id: see the class; with None, a piece with a name starts a call.
            tool_name: the name, or a further piece of it.
            args: JSON text to append, or a dict to merge.
            tool_call_id: replaces an earlier id.
            provider_details: merged into the part's.

        Raises:
            UnexpectedModelBehavior: the part of that id is of another kind, or text and dict arguments are mixed.
        """
        if vendor_part_id is None and tool_name is not None:
            index = self._find(None, _Unnamed)
        else:
            index = self._find(vendor_part_id, (*_CALLS, _Unnamed))
        existing = None if index is None else self._parts[index]
        if isinstance(existing, _CALLS):
            return self._continue_call(cast("int", index), tool_name, args, tool_call_id, provider_details)
        if existing is None:
            existing = _Unnamed()
        elif not isinstance(existing, _Unnamed):
            raise UnexpectedModelBehavior(f"Cannot apply a tool call delta to existing_part={existing!r}")
        if args is not None:
            existing.args = _join_args(existing.args, args, existing)
        existing.tool_call_id = tool_call_id or existing.tool_call_id
        if provider_details:
            existing.details = {**(existing.details or {}), **provider_details}
        if tool_name is None:
            if index is None:
                self._append(existing, vendor_part_id)
            return None
        part = _call_part(tool_name, existing.args, existing.tool_call_id, None, existing.details)
        if index is None:
            return self._start(part, vendor_part_id)
        self._parts[index] = part
        return PartStartEvent(index=index, part=part)

    def _continue_call(
        self,
        index: int,
        tool_name: str | None,
        args: str | dict[str, Any] | None,
        tool_call_id: str | None,
        provider_details: Details | None,
    ) -> ModelResponseStreamEvent:
        part = self._parts[index]
        assert isinstance(part, _CALLS)
        if isinstance(args, str) and not isinstance(part.args, dict):
            self._pending.setdefault(index, []).append(args)
        elif args is not None:
            self._join(index)
            owned = self._own(index, _CALLS)
            owned.args = _join_args(owned.args, args, owned)
        if tool_name or (tool_call_id and tool_call_id != part.tool_call_id):
            owned = self._own(index, _CALLS)
            owned.tool_name += tool_name or ""
            owned.tool_call_id = tool_call_id or owned.tool_call_id
        if provider_details:
            self._merge_details(index, provider_details)
        delta = ToolCallPartDelta(
            tool_name_delta=tool_name,
            args_delta=args,
            tool_call_id=tool_call_id or part.tool_call_id,
            provider_details=provider_details,
        )
        return PartDeltaEvent(index=index, delta=delta)

    def handle_tool_call_part(
        self,
        *,
        vendor_part_id: VendorId | None,
        tool_name: str,
        args: str | dict[str, Any] | None,
        tool_call_id: str | None = None,
        id: str | None = None,
        provider_details: Details | None = None,
    ) -> ModelResponseStreamEvent:
        """A whole tool call; replaces the part of that ``vendor_part_id``, if there is one."""
        part = _call_part(tool_name, args, tool_call_id, id, provider_details)
        return self.handle_part(vendor_part_id=vendor_part_id, part=part)

    def handle_part(
        self, *, vendor_part_id: VendorId | None, part: ModelResponsePart
    ) -> ModelResponseStreamEvent:
        """A whole part; replaces the part of that ``vendor_part_id``, if there is one."""
        if vendor_part_id is not None and (index := self._by_vendor_id.get(vendor_part_id)) is not None:
            self._pending.pop(index, None)
            self._parts[index] = part
            return PartStartEvent(index=index, part=part)
        return self._start(part, vendor_part_id)

    # ---------------------------------------------------------------- insides

    def _find(self, vendor_part_id: VendorId | None, kind: type | tuple[type, ...]) -> int | None:
        if vendor_part_id is not None:
            return self._by_vendor_id.get(vendor_part_id)
        latest = len(self._parts) - 1
        return latest if latest >= 0 and isinstance(self._parts[latest], kind) else None

    def _append(self, part: ModelResponsePart | _Unnamed, vendor_part_id: VendorId | None) -> int:
        index = len(self._parts)
        self._parts.append(part)
        if vendor_part_id is not None:
            self._by_vendor_id[vendor_part_id] = index
        return index

    def _start(self, part: ModelResponsePart, vendor_part_id: VendorId | None) -> PartStartEvent:
        return PartStartEvent(index=self._append(part, vendor_part_id), part=part)

    def _own(self, index: int, kind: type[_P] | tuple[type[_P], ...]) -> _P:
        """A copy of the part, put in its place: parts already handed out must not change."""
        part = copy.copy(self._parts[index])
        assert isinstance(part, kind)
        self._parts[index] = cast("ModelResponsePart", part)
        return part

    def _join(self, index: int) -> None:
        pieces = self._pending.pop(index, None)
        if pieces is None:
            return
        part = self._own(index, _GROWING)
        if isinstance(part, _CALLS):
            part.args = (part.args if isinstance(part.args, str) else "") + "".join(pieces)
        else:
            part.content += "".join(pieces)

    def _merge_details(self, index: int, details: DetailsDelta) -> None:
        if not details:
            return
        part = self._own(index, _GROWING)
        part.provider_details = (
            details(part.provider_details)
            if callable(details)
            else {**(part.provider_details or {}), **details}
        )


def _call_part(
    tool_name: str,
    args: str | dict[str, Any] | None,
    tool_call_id: str | None,
    id: str | None,
    provider_details: Details | None,
) -> ToolCallPart:
    part = ToolCallPart(tool_name=tool_name, args=args, id=id, provider_details=provider_details)
    if tool_call_id:
        part.tool_call_id = tool_call_id
    return part


def _join_args(
    before: str | dict[str, Any] | None, args: str | dict[str, Any], owner: object
) -> str | dict[str, Any]:
    if before is None:
        return args
    if isinstance(before, str) and isinstance(args, str):
        return before + args
    if isinstance(before, dict) and isinstance(args, dict):
        return {**before, **args}
    raise UnexpectedModelBehavior(
        f"Cannot mix JSON text and dict arguments of one tool call: {args!r} came after {before!r} ({owner!r})"
    )
