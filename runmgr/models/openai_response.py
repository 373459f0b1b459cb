"""From a chat completion to our parts: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from runmgr.exceptions import MalformedResponseError, ModelHTTPError, UnexpectedModelBehavior
from runmgr.messages import (
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.models.openai_usage import map_usage
from runmgr.models.openai_wire import Message, WireToolCall, decode_completion, text_of, thoughts_of
from runmgr.models.reading import shown

__all__ = (
    "FINISH_REASONS",
    "created_at",
    "embedded_error",
    "map_completion",
    "split_thinking",
    "thinking_of",
)

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
            f"{provider_name} answered with something that is no chat completion ({error}): {shown(body)}",
        ) from None
    if not completion.choices or (message := completion.choices[0].message) is None:
        if completion.error:
            raise embedded_error(completion.error, model_name)
        raise MalformedResponseError(model_name, f"{provider_name} answered without a message: {shown(body)}")
    choice = completion.choices[0]

    parts: list[ModelResponsePart] = []
    if thinking_field is not None and (extra := _field(body, thinking_field)):
        message.thoughts = (thinking_field, extra)
    if (thought := thinking_of(message)) is not None:
        parts.append(ThinkingPart(thought[1], id=thought[0], provider_name=provider_name))
    if text := text_of(message.content):
        if thinking_tags[0] in text:
            parts.extend(split_thinking(text, thinking_tags, provider_name))
        else:
            parts.append(TextPart(text))
    if message.tool_calls:
        parts.extend(_call(call) for call in message.tool_calls)

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
        provider_response_id=completion.id if isinstance(completion.id, str | None) else str(completion.id),
        finish_reason=FINISH_REASONS.get(raw_reason),
    )


def thinking_of(message: Message) -> tuple[str, str] | None:
    """The thoughts of a message or a delta, with the name of the field that they were in."""
    if type(message.thoughts) is tuple:
        return cast("tuple[str, str]", message.thoughts)
    if message.reasoning and isinstance(message.reasoning, str):
        return "reasoning", message.reasoning
    if message.reasoning_content and isinstance(message.reasoning_content, str):
        return "reasoning_content", message.reasoning_content
    if isinstance(message.content, list) and (thoughts := thoughts_of(message.content)):
        return "thinking", thoughts
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


def _call(call: WireToolCall) -> ToolCallPart:
    function = call.function
    if function is None or not function.name:
        raise UnexpectedModelBehavior(
            f"The model called a tool of type {call.type!r}, which names no function"
        )
    if call.id:
        return ToolCallPart(function.name, function.arguments, call.id)
    return ToolCallPart(function.name, function.arguments)


def created_at(created: Any) -> datetime | str:
    """The provider's clock, as it stands in ``provider_details['timestamp']``."""
    try:
        return datetime.fromtimestamp(created / 1000 if created > _MILLISECONDS else created, UTC)
    except (OverflowError, ValueError, OSError, TypeError):  # text, or nonsense
        return str(created)


_MILLISECONDS = 2e10
"""Above this, a time is in milliseconds, as some servers have it: in seconds it would be the year 2603."""


_STATUSES = {
    "invalid_request_error": 400,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
}


def embedded_error(error: Any, model_name: str) -> ModelHTTPError:
    """The exception of an error that came inside an answer of status 200, as gateways and streams do.

    Its status is what its code or type says, else 500: sending again may help.
    """
    status = 500
    if isinstance(error, dict):
        known = cast("dict[str, Any]", error)
        for name in ("code", "status", "type"):
            told = known.get(name)
            if isinstance(told, str) and told.isdecimal():
                told = int(told)
            if isinstance(told, int) and 400 <= told < 600:
                status = told
                break
            if isinstance(told, str) and told in _STATUSES:
                status = _STATUSES[told]
                break
    return ModelHTTPError(status, model_name, cast("object", error))


def _field(body: bytes, name: str) -> str | None:
    value = msgspec.json.decode(body)["choices"][0]["message"].get(name)
    return value if isinstance(value, str) else None
