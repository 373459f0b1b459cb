"""From Anthropic's messages to our parts: pure."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from runmgr.exceptions import MalformedResponseError, ModelHTTPError
from runmgr.messages import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.models.anthropic_wire import MESSAGE, TOKENS, Block, prune_message
from runmgr.models.known import decode_known
from runmgr.models.reading import malformed
from runmgr.usage import RequestUsage

__all__ = (
    "FINISH_REASONS",
    "REDACTED",
    "STATUSES",
    "builtin_part",
    "embedded_error",
    "map_message",
    "map_tokens",
    "map_usage",
)

FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "stop",
    "tool_use": "tool_call",
    "pause_turn": "stop",
    "refusal": "content_filter",
}

REDACTED = "redacted_thinking"
"""The ``id`` of thinking parts whose thoughts are encrypted."""


def map_message(body: bytes, *, model_name: str, provider_name: str, provider_url: str) -> ModelResponse:
    """The response of a message.

    Args:
        body: the answer's JSON.
        model_name: the model that was asked, for answers that do not name theirs and for errors.
        provider_name: goes into the response and into parts.
        provider_url: goes into the response.

    Raises:
        MalformedResponseError: not JSON, or JSON that is no message.
        ModelHTTPError: the answer is an error.
    """
    try:
        message = decode_known(MESSAGE, body, prune_message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, model_name, f"answered with something that is no message ({error})") from None
    if message.content is None:
        if message.error:
            raise embedded_error(msgspec.json.decode(body), message.error, model_name)
        raise _malformed(body, model_name, "answered without content")
    parts: list[ModelResponsePart] = []
    calls: dict[str, str] = {}
    for block in message.content:
        kind = block.type
        if kind == "text":
            parts.append(TextPart(block.text or ""))
        elif kind == "tool_use":
            if not block.name:
                raise _malformed(body, model_name, "answered with a tool_use without a name")
            args = block.input
            parts.append(
                ToolCallPart(block.name, args, block.id) if block.id else ToolCallPart(block.name, args)
            )
        elif kind == "thinking":
            parts.append(
                ThinkingPart(block.thinking or "", signature=block.signature, provider_name=provider_name)
            )
        elif kind == REDACTED:
            parts.append(ThinkingPart("", id=REDACTED, signature=block.data, provider_name=provider_name))
        elif (part := builtin_part(block, provider_name, calls)) is not None:
            parts.append(part)
    details: dict[str, Any] = {}
    if message.stop_reason:
        details["finish_reason"] = message.stop_reason
    if message.container is not None and message.container.id:
        details["container_id"] = message.container.id
    return ModelResponse(
        parts,
        usage=map_usage(message.usage),
        model_name=message.model or model_name,
        provider_name=provider_name,
        provider_url=provider_url,
        provider_details=details or None,
        provider_response_id=message.id,
        finish_reason=FINISH_REASONS.get(message.stop_reason) if message.stop_reason else None,
    )


_MCP = "mcp_server"


def builtin_part(
    block: Block, provider_name: str, calls: dict[str, str], *, begun: bool = False
) -> BuiltinToolCallPart | BuiltinToolReturnPart | None:
    """The part of a tool that Anthropic ran, or of what it returned; None where the block is neither.

    ``web_search``, ``web_fetch``, ``code_execution`` and whatever comes to be named by the same rule: a ``server_tool_use`` has its
    name, and the result is of the type ``NAME_tool_result``.

    Args:
        block: the content block.
        provider_name: goes into the part.
        calls: names of the MCP servers that were called, by the call's id; kept up to date.
        begun: the block is the beginning of a streamed one, whose arguments are still to come.
    """
    kind = block.type
    if kind == "server_tool_use":
        args = block.input if block.input or not begun else None
        return BuiltinToolCallPart(block.name or "", args, block.id or "", provider_name=provider_name)
    if kind == "mcp_tool_use":
        name = f"{_MCP}:{block.server_name}"
        calls[block.id or ""] = name
        args = (
            {"action": "call_tool", "tool_name": block.name, "tool_args": block.input}
            if block.input or not begun
            else None
        )
        return BuiltinToolCallPart(name, args, block.id or "", provider_name=provider_name)
    if not kind.endswith("_tool_result"):
        return None
    call_id = block.tool_use_id or ""
    content: Any = block.content
    name = kind.removesuffix("_tool_result")
    if kind == "mcp_tool_result":
        content = {"content": _with_citations(content), "is_error": bool(block.is_error)}
        name = calls.get(call_id, _MCP)
    elif kind in {"web_search_tool_result", "web_fetch_tool_result"}:
        content = _with_optional(content)
    return BuiltinToolReturnPart(name, content, call_id, provider_name=provider_name)


# Fields that a result may lack; a program that reads results need not ask whether they are there.
_OPTIONAL = {
    "web_search_result": ("page_age",),
    "web_fetch_result": ("retrieved_at",),
    "document": ("citations", "title"),
}


def _with_optional(content: Any) -> Any:
    if isinstance(content, list):
        return [_with_optional(item) for item in cast("list[Any]", content)]
    if not isinstance(content, dict):
        return content
    found = cast("dict[str, Any]", content)
    kind = found.get("type")
    missing = [name for name in _OPTIONAL.get(str(kind), ()) if name not in found]
    whole = found | dict.fromkeys(missing)
    if kind == "web_fetch_result" and "content" in whole:
        whole["content"] = _with_optional(whole.get("content"))
    return whole


def _with_citations(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    blocks: list[Any] = []
    for item in cast("list[Any]", content):
        if isinstance(item, dict) and cast("dict[str, Any]", item).get("type") == "text":
            blocks.append({"citations": None, **cast("dict[str, Any]", item)})
        else:
            blocks.append(item)
    return blocks


def map_usage(usage: dict[str, Any] | None) -> RequestUsage:
    """Usage as Anthropic counts it: ``input_tokens`` there is without what went through the cache, ours is with it. ``details`` holds
    Anthropic's own counts.
    """
    if not usage:
        return RequestUsage()
    details = {name: value for name, value in usage.items() if type(value) is int}
    written = details.get("cache_creation_input_tokens", 0)
    read = details.get("cache_read_input_tokens", 0)
    return RequestUsage(
        input_tokens=details.get("input_tokens", 0) + written + read,
        output_tokens=details.get("output_tokens", 0),
        cache_write_tokens=written,
        cache_read_tokens=read,
        details=details,
    )


def map_tokens(body: bytes, model_name: str) -> RequestUsage:
    """What ``count_tokens`` answers.

    Raises:
        MalformedResponseError: it is something else.
    """
    try:
        return RequestUsage(input_tokens=TOKENS.decode(body).input_tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, model_name, f"answered without a count of tokens ({error})") from None


STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status of each type of error: https://docs.claude.com/en/api/errors."""


def embedded_error(body: Any, error: Any, model_name: str) -> ModelHTTPError:
    """The exception of an error that came inside an answer of status 200; its status is what its type says."""
    kind = cast("dict[str, Any]", error).get("type") if isinstance(error, dict) else None
    return ModelHTTPError(STATUSES.get(kind, 500) if isinstance(kind, str) else 500, model_name, body)


def _malformed(body: bytes, model_name: str, what: str) -> MalformedResponseError:
    return malformed("Anthropic", what, body, model_name)
