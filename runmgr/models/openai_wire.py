"""OpenAI's chat completions as they come over the wire, read tolerantly.

Fields that nobody uses are skipped by the decoder, unknown ones too, and nearly everything may be missing or null: servers that
call themselves compatible leave out what their models do not have. https://platform.openai.com/docs/api-reference/chat/object and
``/chat/streaming`` are the reference.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct

__all__ = (
    "CHUNK",
    "Choice",
    "Chunk",
    "ChunkChoice",
    "Completion",
    "Delta",
    "Message",
    "WireFunction",
    "WireToolCall",
    "decode_chunk",
    "decode_completion",
    "text_of",
    "thoughts_of",
)


class WireFunction(Struct, gc=False):
    """A call's function: name and JSON text of the arguments, or pieces of both; some servers send an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class WireToolCall(Struct, gc=False):
    """A tool call, or a piece of one; ``index`` says of which."""

    id: str | None = None
    type: str | None = None
    index: int | None = None
    function: WireFunction | None = None


class Message(Struct, gc=False):
    """What the model says."""

    content: str | list[Any] | None = None
    tool_calls: list[WireToolCall] | None = None
    reasoning: Any = None
    """Thoughts, where it is text; what else servers put there is passed over. So with ``reasoning_content``."""
    reasoning_content: Any = None
    refusal: str | None = None
    thoughts: Any = msgspec.field(default=None, name="$thoughts")
    """Thoughts from a field of another name: a tuple of that name and the text, put here by whoever looks for it."""


Delta = Message


class Logprobs(Struct, gc=False):
    """Log probabilities of the tokens of the content."""

    content: list[dict[str, Any]] | None = None


class Choice(Struct, gc=False):
    """One of the answers; we ask for one."""

    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    index: int | None = None


class Completion(Struct, gc=False):
    """An answer. ``error`` is what some gateways send with status 200."""

    choices: list[Choice] | None = None
    id: str | int | None = None
    model: str | None = None
    created: Any = None
    usage: dict[str, Any] | None = None
    error: Any = None


class ChunkChoice(Struct, gc=False):
    """A piece of one of the answers."""

    delta: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    index: int | None = None


class Chunk(Struct, gc=False):
    """One event of a stream."""

    choices: list[ChunkChoice] | None = None
    id: str | int | None = None
    model: str | None = None
    created: Any = None
    usage: dict[str, Any] | None = None
    error: Any = None


decode_completion = msgspec.json.Decoder(Completion).decode
CHUNK = msgspec.json.Decoder(Chunk)
decode_chunk = CHUNK.decode


def thoughts_of(content: str | list[Any] | None) -> str | None:
    """The thoughts of a content that is a list of typed parts, as Mistral sends them
    (https://docs.mistral.ai/capabilities/reasoning), or None.
    """
    if not isinstance(content, list):
        return None
    texts = [
        text_of(cast("dict[str, Any]", part).get("thinking"))
        for part in content
        if isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "thinking"
    ]
    return "".join(text for text in texts if text) or None


def text_of(content: str | list[Any] | None) -> str | None:
    """The text of a content, which some servers send as a list of typed parts; thoughts among them are ``thoughts_of``'s."""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(text := part.get("text"), str):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            texts.append(text)
    return "".join(texts)
