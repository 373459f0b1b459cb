"""OpenAI's responses as they come over the wire, read tolerantly: whatever may be missing is, what is unknown is skipped.

https://platform.openai.com/docs/api-reference/responses/object and ``/responses-streaming`` are the reference.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct

from runmgr.models.known import emptied

__all__ = (
    "EVENT",
    "RESPONSE",
    "TOKENS",
    "Event",
    "Incomplete",
    "Item",
    "Response",
    "Text",
    "Tokens",
    "prune_event",
    "prune_response",
)


class Text(Struct, gc=False):
    """A piece of a message, of a summary or of thoughts."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    logprobs: list[Any] | None = None


class Item(Struct, gc=False):
    """An item of the output of any type; which fields it has, ``type`` says."""

    type: str = ""
    id: str | None = None
    status: str | None = None
    content: list[Text] | None = None
    summary: list[Text] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    action: Any = None
    """What a search did; a word in images."""
    code: str | None = None
    container_id: str | None = None
    outputs: list[dict[str, Any]] | None = None
    result: str | None = None
    output_format: str | None = None
    background: str | None = None
    quality: str | None = None
    size: str | None = None
    revised_prompt: str | None = None
    queries: list[Any] | None = None
    results: list[Any] | None = None
    server_label: str | None = None
    tools: list[dict[str, Any]] | None = None
    output: Any = None
    error: Any = None


class Incomplete(Struct, gc=False):
    """Why a response is not whole."""

    reason: str | None = None


class Response(Struct, gc=False):
    """A response, or what there is of it."""

    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    incomplete_details: Incomplete | None = None
    output: list[Item] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    response: Response | None = None
    item: Item | None = None
    item_id: str = ""
    summary_index: int = 0
    content_index: int = 0
    delta: Any = None
    text: str | None = None
    code: str | None = None
    arguments: str | None = None
    logprobs: list[Any] | None = None
    partial_image_b64: str | None = None
    output_format: str | None = None
    error: Any = None


class Tokens(Struct, gc=False):
    """What a count of input tokens answers."""

    input_tokens: int


RESPONSE = msgspec.json.Decoder(Response)
EVENT = msgspec.json.Decoder(Event)
TOKENS = msgspec.json.Decoder(Tokens)

_ITEMS = frozenset({
    "message",
    "function_call",
    "reasoning",
    "web_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "file_search_call",
    "mcp_list_tools",
    "mcp_call",
})  # fmt: skip
_CONTENTS = frozenset({"output_text", "refusal", "reasoning_text", "summary_text"})
_EVENTS = frozenset({
    "error",
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.code_interpreter_call_code.delta",
    "response.code_interpreter_call_code.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.image_generation_call.partial_image",
})  # fmt: skip


def prune_response(raw: Any) -> None:
    """Empty items of unknown kinds, and contents of unknown kinds within known ones."""
    emptied(raw, "output", _ITEMS)
    output = cast("dict[str, Any]", raw).get("output") if isinstance(raw, dict) else None
    for item in cast("list[Any]", output) if isinstance(output, list) else ():
        emptied(item, "content", _CONTENTS)


def prune_event(raw: Any) -> None:
    """Empty an event of an unknown kind, and what is of an unknown kind within known ones."""
    if not isinstance(raw, dict):
        return
    event = cast("dict[str, Any]", raw)
    kind = event.get("type")
    if isinstance(kind, str) and kind not in _EVENTS:
        event.clear()
        event["type"] = kind
        return
    emptied(event, "item", _ITEMS)
    emptied(event.get("item"), "content", _CONTENTS)
    prune_response(event.get("response"))
