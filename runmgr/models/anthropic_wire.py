"""Anthropic's messages as they come over the wire, read tolerantly: whatever may be missing is, what is unknown is skipped.

https://docs.claude.com/en/api/messages and https://docs.claude.com/en/docs/build-with-claude/streaming are the reference.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct

from runmgr.models.known import emptied

__all__ = (
    "EVENT",
    "MESSAGE",
    "TOKENS",
    "Block",
    "Container",
    "Delta",
    "Event",
    "Message",
    "Tokens",
    "prune_event",
    "prune_message",
)


class Block(Struct, gc=False):
    """A content block of any type; which fields it has, ``type`` says."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    server_name: str | None = None
    input: dict[str, Any] | str | None = None
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


class Container(Struct, gc=False):
    """Where code ran."""

    id: str | None = None


class Message(Struct, gc=False):
    """An answer, or its beginning in a stream. ``error`` is what a gateway may send with status 200."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    container: Container | None = None
    error: Any = None


class Delta(Struct, gc=False):
    """What is new: of a block (``text_delta``, ``input_json_delta``, ``thinking_delta``, ``signature_delta``) or of the message."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    container: Container | None = None


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Tokens(Struct, gc=False):
    """What ``count_tokens`` answers."""

    input_tokens: int


MESSAGE = msgspec.json.Decoder(Message)
EVENT = msgspec.json.Decoder(Event)
TOKENS = msgspec.json.Decoder(Tokens)

_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use"})
_DELTAS = frozenset({"text_delta", "input_json_delta", "thinking_delta", "signature_delta"})
_EVENTS = frozenset({
    "message_start",
    "message_delta",
    "message_stop",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "error",
})  # fmt: skip


def prune_message(raw: Any) -> None:
    """Empty blocks of unknown kinds; those of results stay, whose kinds are named after tools."""
    emptied(raw, "content", _BLOCKS | _results(raw))


def _results(raw: Any) -> frozenset[str]:
    content = cast("dict[str, Any]", raw).get("content") if isinstance(raw, dict) else None
    kinds = (
        cast("dict[str, Any]", block).get("type")
        for block in (cast("list[Any]", content) if isinstance(content, list) else ())
        if isinstance(block, dict)
    )
    return frozenset(kind for kind in kinds if isinstance(kind, str) and kind.endswith("_tool_result"))


def prune_event(raw: Any) -> None:
    """Empty an event of an unknown kind, and blocks and deltas of unknown kinds within known ones."""
    if not isinstance(raw, dict):
        return
    event = cast("dict[str, Any]", raw)
    kind = event.get("type")
    if isinstance(kind, str) and kind not in _EVENTS:
        event.clear()
        event["type"] = kind
        return
    block = event.get("content_block")
    if isinstance(block, dict):
        holder: dict[str, list[Any]] = {"content": [block]}
        prune_message(holder)
        event["content_block"] = holder["content"][0]
    if kind == "content_block_delta":
        emptied(event, "delta", _DELTAS)
    prune_message(event.get("message"))
