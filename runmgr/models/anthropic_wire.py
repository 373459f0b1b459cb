"""Anthropic's messages as they come over the wire, read tolerantly: whatever may be missing is, what is unknown is skipped.

https://docs.claude.com/en/api/messages and https://docs.claude.com/en/docs/build-with-claude/streaming are the reference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = ("EVENT", "MESSAGE", "TOKENS", "Block", "Container", "Delta", "Event", "Message", "Tokens")


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
    input: Any = None
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
