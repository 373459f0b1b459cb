"""From a chat completion to our parts: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from runmgr.exceptions import MalformedResponseError
from runmgr.messages import (
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.models.openai_usage import map_usage
from runmgr.models.openai_wire import Message, WireToolCall, decode_completion, text_of

__all__ = ("FINISH_REASONS", "created_at", "error_text", "map_completion", "split_thinking", "thinking_of")

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "content_filter": "content_filter",
    "error": "error",
}


def map_completion(
    body: bytes,
    *,
    model_name: str,
    provider_name: str,
    provider_url: str,
    thinking_tags: tuple[str, str],
    thinking_field: str | None = None,
) -> ModelResponse:
    """The response of a chat completion.

    Args:
        body: the answer's JSON.
        model_name: the model that was asked, for answers that do not name theirs and for errors.
        provider_name: goes into the response, and into thinking parts.
        provider_url: goes into the response.
        thinking_tags: what encloses thoughts within the text.
        thinking_field: a field of the message that holds thoughts, beside the usual ones.

    Raises:
        MalformedResponseError: not JSON, or JSON that is no chat completion.
    """
    try:
        completion = decode_completion(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedResponseError(
            model_name,
            f"{provider_name} answered with something that is no chat completion ({error}): {_shown(body)}",
        ) from None
    if not completion.choices or (message := completion.choices[0].message) is None:
        what = error_text(completion.error) if completion.error else f"no choices: {_shown(body)}"
        raise MalformedResponseError(model_name, f"{provider_name} answered without a message: {what}")
    choice = completion.choices[0]

    parts: list[ModelResponsePart] = []
    extra = None if thinking_field is None else _field(body, thinking_field)
    thought = (thinking_field, extra) if thinking_field and extra else thinking_of(message)
    if thought is not None:
        parts.append(ThinkingPart(thought[1], id=thought[0], provider_name=provider_name))
    if text := text_of(message.content):
        if thinking_tags[0] in text:
            parts.extend(split_thinking(text, thinking_tags, provider_name))
        else:
            parts.append(TextPart(text))
    if message.tool_calls:
        parts.extend(_call(model_name, call) for call in message.tool_calls)

    details: dict[str, Any] = {}
    if choice.logprobs is not None and choice.logprobs.content:
        details["logprobs"] = choice.logprobs.content
    if message.refusal:
        details["refusal"] = message.refusal
    # Some servers leave it out; a whole answer has come to its end one way or another.
    raw_reason = choice.finish_reason or ("tool_calls" if message.tool_calls else "stop")
    details["finish_reason"] = raw_reason
    if completion.created:
        details["timestamp"] = created_at(completion.created)
    return ModelResponse(
        parts,
        usage=map_usage(completion.usage),
        model_name=completion.model or model_name,
        provider_name=provider_name,
        provider_url=provider_url,
        provider_details=details,
        provider_response_id=completion.id,
        finish_reason=FINISH_REASONS.get(raw_reason),
    )


def thinking_of(message: Message) -> tuple[str, str] | None:
    """The thoughts of a message or a delta, with the name of the field that they were in."""
    if message.reasoning:
        return "reasoning", message.reasoning
    if message.reasoning_content:
        return "reasoning_content", message.reasoning_content
    return None


def split_thinking(
    text: str, tags: tuple[str, str], provider_name: str | None
) -> Sequence[TextPart | ThinkingPart]:
    """Text with thoughts between tags, taken apart. Thoughts without an end are text."""
    start_tag, end_tag = tags
    parts: list[TextPart | ThinkingPart] = []
    while (start := text.find(start_tag)) >= 0:
        if start:
            parts.append(TextPart(text[:start]))
        text = text[start + len(start_tag) :]
        end = text.find(end_tag)
        if end < 0:
            break
        parts.append(ThinkingPart(text[:end], id="content", provider_name=provider_name))
        text = text[end + len(end_tag) :]
    if text:
        parts.append(TextPart(text))
    return parts


def _call(model_name: str, call: WireToolCall) -> ToolCallPart:
    function = call.function
    if function is None or not function.name:
        raise MalformedResponseError(model_name, f"a tool call of type {call.type!r} names no function")
    if call.id:
        return ToolCallPart(function.name, function.arguments, call.id)
    return ToolCallPart(function.name, function.arguments)


def created_at(created: float) -> datetime | str:
    """The provider's clock, as it stands in ``provider_details['timestamp']``."""
    try:
        return datetime.fromtimestamp(created, UTC)
    except (OverflowError, ValueError, OSError):  # milliseconds, or nonsense
        return str(created)


def error_text(error: Any) -> str:
    """The message of an error object, whatever its form."""
    if isinstance(error, dict):
        known = cast("dict[str, Any]", error)
        message = known.get("message")
        if isinstance(message, str) and message:
            code = known.get("code") or known.get("type")
            return f"{message} ({code})" if code else message
    return str(cast("object", error))


def _field(body: bytes, name: str) -> str | None:
    value = msgspec.json.decode(body)["choices"][0]["message"].get(name)
    return value if isinstance(value, str) else None


def _shown(body: bytes) -> str:
    text = body[:500].decode("utf-8", "replace")
    return repr(text) + ("..." if len(body) > 500 else "")
