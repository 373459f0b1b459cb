"""Ordinary calls on messages, usage and settings that must type-check; run by the type checker, not by pytest."""

from __future__ import annotations

import dataclasses
from typing import assert_type

from runmgr.messages import (
    BinaryContent,
    BinaryImage,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    UserPromptPart,
    decode_messages,
    encode_messages,
    merge_consecutive,
    replace,
)
from runmgr.settings import ModelSettings, merge_model_settings
from runmgr.usage import RequestUsage, RunUsage, UsageLimits


def build() -> list[ModelMessage]:
    image = ImageUrl("https://example.com/a.png", media_type="image/png")
    assert_type(image.media_type, str)
    request = ModelRequest([UserPromptPart(["look", image, BinaryContent(b"", media_type="image/png")])])
    request.parts.append(ToolReturnPart("tool", {"any": object()}, "id"))
    response = ModelResponse(
        parts=[TextPart(content="hi"), ToolCallPart("tool", args={"a": 1})], model_name="m"
    )
    assert_type(response.text, str | None)
    assert_type(response.images, list[BinaryImage])
    assert_type(response.tool_calls, list[ToolCallPart])
    assert_type(replace(request, parts=[]), ModelRequest)
    assert_type(dataclasses.replace(response, parts=[]), ModelResponse)
    return [request, response]


def walk(messages: list[ModelMessage]) -> str:
    for message in messages:
        if message.kind == "request":
            assert_type(message, ModelRequest)
        else:
            assert_type(message, ModelResponse)
            for part in message.parts:
                match part:
                    case TextPart(content=content) | ThinkingPart(content=content):
                        return content
                    case _:
                        pass
    return ""


def serialise(messages: list[ModelMessage]) -> list[ModelMessage]:
    assert_type(encode_messages(merge_consecutive(messages)), bytes)
    assert_type(ModelMessagesTypeAdapter.validate_json("[]"), list[ModelMessage])
    return decode_messages(ModelMessagesTypeAdapter.dump_json(messages, indent=2))


def follow(event: PartStartEvent | PartDeltaEvent, part: ModelResponsePart) -> ModelResponsePart:
    if isinstance(event, PartStartEvent):
        return event.part
    if isinstance(event.delta, TextPartDelta):
        assert_type(event.delta.content_delta, str)
    if isinstance(event.delta, ToolCallPartDelta):
        assert_type(event.delta.as_part(), ToolCallPart | None)
    return event.delta.apply(part)


def add(usage: RunUsage, request: RequestUsage) -> RunUsage:
    usage.incr(request)
    UsageLimits(request_limit=None, total_tokens_limit=1_000).check_tokens(usage)
    return usage + request


def merge(settings: ModelSettings) -> ModelSettings | None:
    return merge_model_settings(settings, ModelSettings(temperature=0, max_tokens=400, timeout=2.5))
