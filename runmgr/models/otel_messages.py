"""Messages in the form that OpenTelemetry's GenAI conventions give them on spans: JSON of roles and parts.

Pure functions over messages. Without content, roles, kinds, names and ids remain.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    FilePart,
    FileUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from runmgr.messages.codec import any_to_plain

__all__ = ("Recording", "otel_messages")

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """What of the messages may be recorded.

    Args:
        content: texts, arguments, results, URLs.
        binary: the bytes of files (with ``content``).
    """

    content: bool
    binary: bool


def otel_messages(messages: Iterable[ModelMessage], recording: Recording) -> list[Json]:
    """Messages with their roles: neighbours of one request that have the same role are one message."""
    result: list[Json] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            result.append(_response(message, recording))
        else:
            result.extend(_request(message, recording))
    return result


def _request(message: ModelRequest, recording: Recording) -> list[Json]:
    result: list[Json] = []
    for part in message.parts:
        role = "system" if isinstance(part, SystemPromptPart) else "user"
        if not result or result[-1]["role"] != role:
            result.append({"role": role, "parts": []})
        result[-1]["parts"].extend(_PARTS[type(part)](part, recording))
    return result


def _response(message: ModelResponse, recording: Recording) -> Json:
    parts: list[Json] = []
    for part in message.parts:
        parts.extend(_PARTS[type(part)](part, recording))
    result: Json = {"role": "assistant", "parts": parts}
    if message.finish_reason is not None:
        result["finish_reason"] = message.finish_reason
    return result


def _text(kind: str, text: str, recording: Recording) -> Json:
    return {"type": kind, "content": text} if recording.content else {"type": kind}


def _prompt(part: UserPromptPart, recording: Recording) -> list[Json]:
    content = part.content
    if isinstance(content, str):
        return [_text("text", content, recording)]
    return [shown for item in content if (shown := _item(item, recording)) is not None]


def _item(item: UserContent, recording: Recording) -> Json | None:
    if isinstance(item, str):
        return _text("text", item, recording)
    if isinstance(item, FileUrl):
        return {"type": item.kind, "url": item.url} if recording.content else {"type": item.kind}
    if isinstance(item, BinaryContent):
        return _binary(item, recording)
    if isinstance(item, CachePoint):
        # A hint to the provider, and nothing that anybody said.
        return None
    return {"type": type(item).__name__}


def _binary(content: BinaryContent, recording: Recording) -> Json:
    result: Json = {"type": "binary", "media_type": content.media_type}
    if recording.content and recording.binary:
        result["content"] = base64.b64encode(content.data).decode()
    return result


def _call(part: ToolCallPart | BuiltinToolCallPart, recording: Recording) -> list[Json]:
    result: Json = {"type": "tool_call", "id": part.tool_call_id, "name": part.tool_name}
    if isinstance(part, BuiltinToolCallPart):
        result["builtin"] = True
    if recording.content and part.args is not None:
        result["arguments"] = part.args if isinstance(part.args, str) else any_to_plain(part.args)
    return [result]


def _return(part: ToolReturnPart | BuiltinToolReturnPart, recording: Recording) -> list[Json]:
    result: Json = {"type": "tool_call_response", "id": part.tool_call_id, "name": part.tool_name}
    if isinstance(part, BuiltinToolReturnPart):
        result["builtin"] = True
    if recording.content and part.content is not None:
        result["result"] = any_to_plain(part.content)
    return [result]


def _retry(part: RetryPromptPart, recording: Recording) -> list[Json]:
    if part.tool_name is None:
        return [_text("text", part.model_response(), recording)]
    result: Json = {"type": "tool_call_response", "id": part.tool_call_id, "name": part.tool_name}
    if recording.content:
        result["result"] = part.model_response()
    return [result]


_PARTS: dict[type, Callable[[Any, Recording], list[Json]]] = {
    SystemPromptPart: lambda part, recording: [_text("text", part.content, recording)],
    UserPromptPart: _prompt,
    ToolReturnPart: _return,
    RetryPromptPart: _retry,
    TextPart: lambda part, recording: [_text("text", part.content, recording)],
    ThinkingPart: lambda part, recording: [_text("thinking", part.content, recording)],
    ToolCallPart: _call,
    BuiltinToolCallPart: _call,
    BuiltinToolReturnPart: _return,
    FilePart: lambda part, recording: [_binary(part.content, recording)],
}
