"""Assembles a response's parts from what a provider streams, and says what changed as events.

A provider names what it is streaming by ids of its own (an index, an item's id), or not at all; then a delta belongs
to the latest part if that is of its kind, and begins a new part if not. A tool call is not announced before its name
is known; the place in the list of parts is taken from its first delta on, so that indexes do not change.

Text and arguments are collected in pieces and joined when somebody looks: a long stream costs what its pieces cost, not their square.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages.deltas import (
    ProviderDetailsDelta,
    TextPartDelta,
    ThinkingPartDelta,
    ToolCallPartDelta,
)
from runmgr.messages.events import ModelResponseStreamEvent, PartDeltaEvent, PartStartEvent
from runmgr.messages.ids import generate_tool_call_id
from runmgr.messages.responses import (
    BuiltinToolCallPart,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.structs import replace

__all__ = ("ModelResponsePartsManager", "VendorId")

VendorId: TypeAlias = Hashable
"""What a provider calls a part while it streams."""

_Managed: TypeAlias = ModelResponsePart | ToolCallPartDelta
_Events: TypeAlias = tuple[ModelResponseStreamEvent, ...]


class _Slot:
    """A part that may still grow. ``pieces`` is text (or arguments) of it that has not been joined on yet."""

    __slots__ = ("index", "part", "pieces")

    def __init__(self, index: int, part: _Managed) -> None:
        self.index = index
        self.part = part
        self.pieces: list[str] = []

    def whole(self) -> _Managed:
        """The part with all its text. A part once given out is never changed: it is replaced."""
        if self.pieces:
            part = self.part
            text = "".join(self.pieces)
            self.pieces.clear()
            if isinstance(part, (TextPart, ThinkingPart)):
                self.part = replace(part, content=part.content + text)
            elif isinstance(part, _NAMED_CALLS):
                args = part.args
                assert not isinstance(args, dict)
                self.part = replace(part, args=(args or "") + text)
        return self.part


class ModelResponsePartsManager:
    """The parts of one streamed response; see the module.

    The ``handle_*`` methods take what came and return the events that say what it changed. They raise
    ``UnexpectedModelBehavior`` where something comes under the id of a part of another kind.
    """

    __slots__ = ("_by_id", "_slots")

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._by_id: dict[VendorId, _Slot] = {}

    def get_parts(self) -> list[ModelResponsePart]:
        """The parts so far; tool calls whose name is not known yet are left out."""
        return [part for slot in self._slots if not isinstance(part := slot.whole(), ToolCallPartDelta)]

    def get_part(self, index: int) -> ModelResponsePart | None:
        """The part that events with this index tell of, as it is now; None where there is none (yet)."""
        if not 0 <= index < len(self._slots):
            return None
        part = self._slots[index].whole()
        return None if isinstance(part, ToolCallPartDelta) else part

    def __len__(self) -> int:
        """How many indexes are taken; a tool call whose name is not known yet has one."""
        return len(self._slots)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_parts()!r})"

    def _add(self, part: _Managed, vendor_part_id: VendorId | None) -> _Slot:
        slot = _Slot(len(self._slots), part)
        self._slots.append(slot)
        if vendor_part_id is not None:
            self._by_id[vendor_part_id] = slot
        return slot

    def _start(self, part: ModelResponsePart, vendor_part_id: VendorId | None) -> PartStartEvent:
        return PartStartEvent(index=self._add(part, vendor_part_id).index, part=part)

    def _latest(self, kinds: type | tuple[type, ...]) -> _Slot | None:
        slots = self._slots
        return slots[-1] if slots and isinstance(slots[-1].part, kinds) else None

    # -------------------------------------------------------------- text

    def handle_text_delta(
        self,
        *,
        vendor_part_id: VendorId | None,
        content: str,
        id: str | None = None,
        provider_details: dict[str, Any] | None = None,
        thinking_tags: tuple[str, str] | None = None,
        ignore_leading_whitespace: bool = False,
    ) -> _Events:
        """More text.

        Args:
            vendor_part_id: the provider's id of the part.
            content: the text.
            id: becomes the ``id`` of a part that begins with this.
            provider_details: added to the part's.
            thinking_tags: texts that begin and end thoughts within the text; each must come as a delta of its own, and
                under an id.
            ignore_leading_whitespace: do not begin a part with white space only; some models send it before a tool call.

        Raises:
            UnexpectedModelBehavior: the part of that id is neither text nor thoughts.
        """
        slot = self._latest(TextPart) if vendor_part_id is None else self._by_id.get(vendor_part_id)
        opens = thinking_tags is not None and content == thinking_tags[0]
        if slot is not None:
            part = slot.part
            if isinstance(part, TextPart):
                if not opens:
                    return self._grow_text(slot, content, provider_details)
            elif thinking_tags and isinstance(part, ThinkingPart):
                if content == thinking_tags[1]:
                    # What comes next under this id is text again, in a part of its own.
                    del self._by_id[vendor_part_id]
                    return ()
                return self._grow_thinking(
                    slot, ThinkingPartDelta(content_delta=content, provider_details=provider_details)
                )
            else:
                raise UnexpectedModelBehavior(f"Cannot apply a text delta to existing_part={slot.whole()!r}")
        if opens:
            return (self._start(ThinkingPart("", provider_details=provider_details), vendor_part_id),)
        if ignore_leading_whitespace and (not content or content.isspace()):
            return ()
        return (self._start(TextPart(content, id=id, provider_details=provider_details), vendor_part_id),)

    @staticmethod
    def _grow_text(slot: _Slot, content: str, provider_details: dict[str, Any] | None) -> _Events:
        slot.pieces.append(content)
        if provider_details is None:
            return (PartDeltaEvent(index=slot.index, delta=TextPartDelta(content)),)
        part = slot.whole()
        assert isinstance(part, TextPart)
        slot.part = TextPartDelta("", provider_details=provider_details).apply(part)
        return (
            PartDeltaEvent(index=slot.index, delta=TextPartDelta(content, provider_details=provider_details)),
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
        provider_details: ProviderDetailsDelta = None,
    ) -> _Events:
        """More thoughts, or their signature.

        Args:
            vendor_part_id: the provider's id of the part.
            content: the thoughts.
            id: becomes the ``id`` of a part that begins with this.
            signature: their signature.
            provider_name: who signed.
            provider_details: added to the part's, or a function that makes the new ones from those so far.

        Raises:
            UnexpectedModelBehavior: the part of that id is no thoughts, or none has begun and this begins none.
        """
        empty = content is None and signature is None and provider_details is None
        slot = self._latest(ThinkingPart) if vendor_part_id is None else self._by_id.get(vendor_part_id)
        if slot is None:
            if empty:
                raise UnexpectedModelBehavior(
                    "Cannot create a ThinkingPart with no content, signature, or provider_details"
                )
            part = ThinkingPart(
                content or "",
                id=id,
                signature=signature,
                provider_name=provider_name,
                provider_details=provider_details(None) if callable(provider_details) else provider_details,
            )
            return (self._start(part, vendor_part_id),)
        if not isinstance(slot.part, ThinkingPart):
            raise UnexpectedModelBehavior(f"Cannot apply a thinking delta to existing_part={slot.whole()!r}")
        if empty and provider_name is None:
            return ()
        return self._grow_thinking(
            slot,
            ThinkingPartDelta(
                content_delta=content,
                signature_delta=signature,
                provider_name=provider_name,
                provider_details=provider_details,
            ),
        )

    @staticmethod
    def _grow_thinking(slot: _Slot, delta: ThinkingPartDelta) -> _Events:
        if delta.signature_delta is None and delta.provider_name is None and delta.provider_details is None:
            slot.pieces.append(delta.content_delta or "")
        else:
            part = slot.whole()
            assert isinstance(part, ThinkingPart)
            slot.part = delta.apply(part)
        return (PartDeltaEvent(index=slot.index, delta=delta),)

    # -------------------------------------------------------------- tool calls

    def handle_tool_call_delta(
        self,
        *,
        vendor_part_id: VendorId | None,
        tool_name: str | None = None,
        args: str | dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        provider_details: dict[str, Any] | None = None,
    ) -> ModelResponseStreamEvent | None:
        """More of a tool call; without an id, a delta with a tool's name begins a new call.

        Args:
            vendor_part_id: the provider's id of the part.
            tool_name: the tool's name, or more of it.
            args: more of the arguments: JSON text, or keys and values.
            tool_call_id: the id of the call.
            provider_details: added to the part's.

        Returns:
            The event, or None while the tool's name is not known.

        Raises:
            UnexpectedModelBehavior: the part of that id is no tool call.
        """
        if vendor_part_id is not None:
            slot = self._by_id.get(vendor_part_id)
        else:
            slot = self._latest(_CALLS) if tool_name is None else None
        if slot is not None and tool_name is None and provider_details is None and type(args) is str:
            # Nearly all deltas of a call are a piece of its arguments' text.
            part = slot.part
            if (
                isinstance(part, _NAMED_CALLS)
                and not isinstance(part.args, dict)
                and (tool_call_id is None or tool_call_id == part.tool_call_id)
            ):
                slot.pieces.append(args)
                delta = ToolCallPartDelta(args_delta=args, tool_call_id=part.tool_call_id)
                return PartDeltaEvent(index=slot.index, delta=delta)
        delta = ToolCallPartDelta(
            tool_name_delta=tool_name,
            args_delta=args,
            tool_call_id=tool_call_id,
            provider_details=provider_details,
        )
        if slot is None:
            part = delta.as_part()
            if part is None:
                self._add(delta, vendor_part_id)
                return None
            return self._start(part, vendor_part_id)
        before = slot.whole()
        if not isinstance(before, _CALLS):
            raise UnexpectedModelBehavior(f"Cannot apply a tool call delta to existing_part={before!r}")
        after = slot.part = delta.apply(before)
        if isinstance(after, ToolCallPartDelta):
            return None
        if isinstance(before, ToolCallPartDelta):
            return PartStartEvent(index=slot.index, part=after)
        if tool_call_id is None:
            # Whoever follows the deltas only can still tell which call they belong to.
            delta.tool_call_id = after.tool_call_id
        return PartDeltaEvent(index=slot.index, delta=delta)

    def handle_tool_call_part(
        self,
        *,
        vendor_part_id: VendorId | None,
        tool_name: str,
        args: str | dict[str, Any] | None,
        tool_call_id: str | None = None,
        id: str | None = None,
        provider_details: dict[str, Any] | None = None,
    ) -> ModelResponseStreamEvent:
        """A whole tool call; replaces one that came under the same id.

        Args:
            vendor_part_id: the provider's id of the part.
            tool_name: the tool's name.
            args: the arguments.
            tool_call_id: the id of the call; one is made if there is none.
            id: the provider's id of the part, where it differs from that of the call.
            provider_details: what the provider wants back.
        """
        part = ToolCallPart(
            tool_name,
            args,
            tool_call_id or generate_tool_call_id(),
            id=id,
            provider_details=provider_details,
        )
        return self.handle_part(vendor_part_id=vendor_part_id, part=part)

    def handle_part(
        self, *, vendor_part_id: VendorId | None, part: ModelResponsePart
    ) -> ModelResponseStreamEvent:
        """A whole part; replaces one of the same kind that came under the same id."""
        slot = None if vendor_part_id is None else self._by_id.get(vendor_part_id)
        if slot is None or type(slot.part) is not type(part):
            return self._start(part, vendor_part_id)
        slot.part = part
        slot.pieces.clear()
        return PartStartEvent(index=slot.index, part=part)


_NAMED_CALLS = (ToolCallPart, BuiltinToolCallPart)
_CALLS = (*_NAMED_CALLS, ToolCallPartDelta)
