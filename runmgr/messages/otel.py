"""Messages in the shape of OpenTelemetry's GenAI semantic conventions, for span attributes; plain dicts, no SDK.

The shape is that of the conventions' JSON schemas for ``gen_ai.input.messages`` and ``gen_ai.output.messages``, with
the fields that Pydantic AI adds (``builtin``, URL and binary parts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from runmgr.messages.codec import ModelMessage, any_to_plain
from runmgr.messages.content import BinaryContent, FileUrl
from runmgr.messages.requests import (
    ModelRequest,
    RetryPromptPart,
    SystemPromptPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.messages.responses import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FilePart,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)

__all__ = ("ContentSettings", "otel_message_parts", "otel_messages")


class ContentSettings(Protocol):
    """What of the contents may leave the program."""

    @property
    def include_content(self) -> bool:
        """Texts, arguments, results, URLs."""
        ...

    @property
    def include_binary_content(self) -> bool:
        """Bytes of files; only with ``include_content``."""
        ...


def otel_messages(messages: Iterable[ModelMessage], settings: ContentSettings) -> list[dict[str, Any]]:
    """A history as chat messages with roles; system prompts get messages of their own."""
    result: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            chat: dict[str, Any] = {"role": "assistant", "parts": otel_message_parts(message, settings)}
            if message.finish_reason is not None:
                chat["finish_reason"] = message.finish_reason
            result.append(chat)
            continue
        role = None
        for part in message.parts:
            part_role = "system" if isinstance(part, SystemPromptPart) else "user"
            if part_role != role:
                role = part_role
                result.append({"role": role, "parts": []})
            result[-1]["parts"].extend(otel_message_parts(part, settings))
    return result


def otel_message_parts(value: object, settings: ContentSettings) -> list[dict[str, Any]]:
    """The parts that stand for a part or for a whole message; what has no shape there (cache points) is left out."""
    if isinstance(value, (ModelRequest, ModelResponse)):
        return [item for part in value.parts for item in otel_message_parts(part, settings)]
    convert = _PARTS.get(type(value))
    return [] if convert is None else convert(value, settings)


def _text(kind: str) -> Callable[[Any, ContentSettings], list[dict[str, Any]]]:
    def convert(part: Any, settings: ContentSettings) -> list[dict[str, Any]]:
        return [{"type": kind, "content": part.content} if settings.include_content else {"type": kind}]

    return convert


def _prompt(part: UserPromptPart, settings: ContentSettings) -> list[dict[str, Any]]:
    content = [part.content] if isinstance(part.content, str) else part.content
    result: list[dict[str, Any]] = []
    for item in content:
        if isinstance(item, str):
            result.append({"type": "text", "content": item} if settings.include_content else {"type": "text"})
        elif isinstance(item, FileUrl):
            result.append(
                {"type": item.kind, "url": item.url} if settings.include_content else {"type": item.kind}
            )
        elif isinstance(item, BinaryContent):
            result.append(_binary(item, settings))
    return result


def _binary(file: BinaryContent, settings: ContentSettings) -> dict[str, Any]:
    result = {"type": "binary", "media_type": file.media_type}
    if settings.include_content and settings.include_binary_content:
        result["content"] = file.base64
    return result


def _call(part: ToolCallPart | BuiltinToolCallPart, settings: ContentSettings) -> list[dict[str, Any]]:
    result: dict[str, Any] = {"type": "tool_call", "id": part.tool_call_id, "name": part.tool_name}
    if isinstance(part, BuiltinToolCallPart):
        result["builtin"] = True
    if settings.include_content and part.args is not None:
        result["arguments"] = any_to_plain(part.args)
    return [result]


def _return(part: ToolReturnPart | BuiltinToolReturnPart, settings: ContentSettings) -> list[dict[str, Any]]:
    result: dict[str, Any] = {"type": "tool_call_response", "id": part.tool_call_id, "name": part.tool_name}
    if isinstance(part, BuiltinToolReturnPart):
        result["builtin"] = True
    if settings.include_content and part.content is not None:
        result["result"] = any_to_plain(part.content)
    return [result]


def _retry(part: RetryPromptPart, settings: ContentSettings) -> list[dict[str, Any]]:
    if part.tool_name is None:
        # The feedback quotes what the model wrote: it is content like any other.
        return [
            {"type": "text", "content": part.model_response()}
            if settings.include_content
            else {"type": "text"}
        ]
    result = {"type": "tool_call_response", "id": part.tool_call_id, "name": part.tool_name}
    if settings.include_content:
        result["result"] = part.model_response()
    return [result]


_PARTS: dict[type, Callable[[Any, ContentSettings], list[dict[str, Any]]]] = {
    SystemPromptPart: _text("text"),
    TextPart: _text("text"),
    ThinkingPart: _text("thinking"),
    UserPromptPart: _prompt,
    ToolReturnPart: _return,
    BuiltinToolReturnPart: _return,
    RetryPromptPart: _retry,
    ToolCallPart: _call,
    BuiltinToolCallPart: _call,
    FilePart: lambda part, settings: [_binary(part.content, settings)],
}
