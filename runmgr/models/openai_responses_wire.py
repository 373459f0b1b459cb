"""OpenAI's responses as they come over the wire, read tolerantly: whatever may be missing is, what is unknown is skipped.

https://platform.openai.com/docs/api-reference/responses/object and ``/responses-streaming`` are the reference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = ("EVENT", "RESPONSE", "Event", "Incomplete", "Item", "Response", "Text")


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
    action: dict[str, Any] | None = None
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


RESPONSE = msgspec.json.Decoder(Response)
EVENT = msgspec.json.Decoder(Event)
