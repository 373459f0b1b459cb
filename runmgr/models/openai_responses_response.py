"""From OpenAI's responses to our parts: pure."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec

from runmgr.exceptions import MalformedResponseError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FilePart,
    FinishReason,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.models.known import decode_known
from runmgr.models.openai_response import created_at, embedded_error
from runmgr.models.openai_responses_wire import RESPONSE, TOKENS, Item, Response, prune_response
from runmgr.models.reading import count_of, malformed, object_of
from runmgr.usage import RequestUsage

__all__ = (
    "FINISH_REASONS",
    "RAW",
    "args_of",
    "call_of",
    "files_of",
    "finish_of",
    "function_call",
    "image_part",
    "map_response",
    "map_tokens",
    "map_usage",
    "returned_of",
)

FINISH_REASONS: dict[str, FinishReason] = {
    "completed": "stop",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "failed": "error",
    "cancelled": "error",
}

RAW = "raw_content"
"""Where in ``provider_details`` of a thinking part the thoughts themselves are; its content is their summary."""


def map_response(body: bytes, *, model_name: str, provider_name: str, provider_url: str) -> ModelResponse:
    """The response of a response.

    Args:
        body: the answer's JSON.
        model_name: the model that was asked, for answers that do not name theirs and for errors.
        provider_name: goes into the response and into parts.
        provider_url: goes into the response.

    Raises:
        MalformedResponseError: not JSON, or JSON that is no response.
        ModelHTTPError: the response failed, and says why.
    """
    try:
        response = decode_known(RESPONSE, body, prune_response)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, model_name, f"answered with something that is no response ({error})") from None
    if response.error:
        raise embedded_error(response.error, model_name)
    if response.output is None:
        raise _malformed(body, model_name, "answered without an output")
    parts: list[ModelResponsePart] = []
    details: dict[str, Any] = {}
    for item in response.output:
        _map_item(item, parts, details, provider_name)
    reason = finish_of(response, details)
    if response.created_at:
        details["timestamp"] = created_at(response.created_at)
    return ModelResponse(
        parts,
        usage=map_usage(response.usage),
        model_name=response.model or model_name,
        provider_name=provider_name,
        provider_url=provider_url,
        provider_details=details or None,
        provider_response_id=response.id,
        finish_reason=reason,
    )


def finish_of(response: Response, details: dict[str, Any]) -> FinishReason | None:
    """Why the response ended; puts the provider's own word into ``details``."""
    incomplete = response.incomplete_details
    told = (incomplete.reason if incomplete is not None else None) or response.status
    if not told:
        return None
    details["finish_reason"] = told
    return FINISH_REASONS.get(told)


def _map_item(
    item: Item, parts: list[ModelResponsePart], details: dict[str, Any], provider_name: str
) -> None:
    kind = item.type
    if kind == "message":
        for content in item.content or ():
            if content.type == "output_text":
                logprobs = {"logprobs": content.logprobs} if content.logprobs else None
                parts.append(TextPart(content.text or "", id=item.id, provider_details=logprobs))
            elif content.type == "refusal":
                details["refusal"] = details.get("refusal", "") + (content.refusal or "")
    elif kind == "function_call":
        parts.append(function_call(item))
    elif kind == "reasoning":
        parts.extend(_thoughts(item, provider_name))
    elif (call := call_of(item, provider_name)) is not None:
        parts.append(call)
        parts.extend(files_of(item))
        parts.append(returned_of(item, provider_name))


def function_call(item: Item) -> ToolCallPart:
    """The call of one of our functions."""
    args = item.arguments
    if item.call_id:
        return ToolCallPart(item.name or "", args, item.call_id, id=item.id)
    return ToolCallPart(item.name or "", args, id=item.id)


def _thoughts(item: Item, provider_name: str) -> list[ThinkingPart]:
    summaries = [text.text or "" for text in item.summary or ()]
    raw = [text.text or "" for text in item.content or ()]
    details = {RAW: raw} if raw else None
    signature = item.encrypted_content
    if not summaries:
        if not (signature or raw):
            return []
        summaries = [""]
    first, *others = summaries
    named = provider_name if signature or raw else None
    return [
        ThinkingPart(first, id=item.id, signature=signature, provider_name=named, provider_details=details),
        *(ThinkingPart(text, id=item.id) for text in others),
    ]


# ---------------------------------------------------------------- what OpenAI's own tools did

_NAMES = {
    "web_search_call": "web_search",
    "code_interpreter_call": "code_execution",
    "image_generation_call": "image_generation",
    "file_search_call": "file_search",
}


def call_of(item: Item, provider_name: str, *, begun: bool = False) -> BuiltinToolCallPart | None:
    """The call of one of OpenAI's tools, or None where the item is none that we know.

    Args:
        item: the item.
        provider_name: goes into the part.
        begun: the item is the beginning of a streamed one, whose arguments are still to come.
    """
    kind = item.type
    args: dict[str, Any] | None = None
    if kind == "mcp_list_tools":
        name, args = f"mcp_server:{item.server_label}", {"action": "list_tools"}
    elif kind == "mcp_call":
        name = f"mcp_server:{item.server_label}"
        if not begun:
            args = {"action": "call_tool", "tool_name": item.name, "tool_args": _decoded(item.arguments)}
    elif kind in _NAMES:
        name = _NAMES[kind]
        args = None if begun else args_of(item)
    else:
        return None
    return BuiltinToolCallPart(name, args, item.id or "", provider_name=provider_name)


def args_of(item: Item) -> dict[str, Any] | None:
    """The arguments of a tool of OpenAI's that are known when its item is whole."""
    kind = item.type
    if kind == "web_search_call":
        action = _action(item)
        if not action:
            return None
        return {name: value for name, value in action.items() if name != "sources" and value is not None}
    if kind == "code_interpreter_call":
        return {"container_id": item.container_id, "code": item.code}
    if kind == "file_search_call":
        return {"queries": item.queries or []}
    return None


def _action(item: Item) -> dict[str, Any]:
    return cast("dict[str, Any]", item.action) if isinstance(item.action, dict) else {}


def _decoded(arguments: str | None) -> Any:
    if not arguments:
        return {}
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def returned_of(item: Item, provider_name: str) -> BuiltinToolReturnPart:
    """What one of OpenAI's tools returned."""
    kind = item.type
    content: dict[str, Any]
    if kind == "mcp_list_tools":
        name = f"mcp_server:{item.server_label}"
        known = {"annotations": None, "description": None}
        content = {"tools": [known | tool for tool in item.tools or ()], "error": item.error}
    elif kind == "mcp_call":
        name = f"mcp_server:{item.server_label}"
        content = {"output": item.output, "error": item.error}
    else:
        name = _NAMES[kind]
        content = {"status": item.status}
        if kind == "web_search_call" and (sources := _action(item).get("sources")):
            content["sources"] = sources
        elif kind == "file_search_call" and item.results is not None:
            content["results"] = item.results
        elif kind == "code_interpreter_call":
            logs = [out.get("logs") for out in item.outputs or () if out.get("type") == "logs"]
            if logs:
                content["logs"] = logs
        elif kind == "image_generation_call":
            if item.result:
                # OpenAI leaves "generating" in whole items; the image is there.
                content["status"] = "completed"
            for field in ("background", "quality", "size", "revised_prompt"):
                if (value := getattr(item, field)) is not None:
                    content[field] = value
    return BuiltinToolReturnPart(name, content, item.id or "", provider_name=provider_name)


def files_of(item: Item) -> list[FilePart]:
    """The images that one of OpenAI's tools made."""
    if item.result:
        image = image_part(item.result, item.output_format, item.id)
        return [] if image is None else [image]
    files: list[FilePart] = []
    for out in item.outputs or ():
        url = out.get("url")
        if out.get("type") == "image" and isinstance(url, str):
            try:
                files.append(FilePart(BinaryContent.from_data_uri(url), id=item.id))
            except ValueError:
                continue  # named by URL, or not base64: there is nothing to keep
    return files


def image_part(data: str, form: str | None, item_id: str | None) -> FilePart | None:
    """An image in base64; None where it is not."""
    try:
        decoded = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    if not decoded:
        return None
    return FilePart(BinaryContent(decoded, media_type=f"image/{form or 'png'}"), id=item_id)


# ---------------------------------------------------------------- usage

_TOTALS = frozenset({"input_tokens", "output_tokens", "total_tokens"})


def map_usage(usage: dict[str, Any] | None) -> RequestUsage:
    """Usage as the Responses API counts it; ``details`` has ``reasoning_tokens`` and further whole numbers."""
    if not usage:
        return RequestUsage()
    details = {name: value for name, value in usage.items() if type(value) is int and name not in _TOTALS}
    given = object_of(usage, "input_tokens_details") or {}
    made = object_of(usage, "output_tokens_details") or {}
    details["reasoning_tokens"] = count_of(made, "reasoning_tokens")
    return RequestUsage(
        input_tokens=count_of(usage, "input_tokens"),
        output_tokens=count_of(usage, "output_tokens"),
        cache_read_tokens=count_of(given, "cached_tokens"),
        input_audio_tokens=count_of(given, "audio_tokens"),
        output_audio_tokens=count_of(made, "audio_tokens"),
        details=details,
    )


def map_tokens(body: bytes, model_name: str) -> RequestUsage:
    """What a count of input tokens answers.

    Raises:
        MalformedResponseError: it is something else.
    """
    try:
        return RequestUsage(input_tokens=TOKENS.decode(body).input_tokens)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, model_name, f"answered without a count of tokens ({error})") from None


def _malformed(body: bytes, model_name: str, what: str) -> MalformedResponseError:
    return malformed("OpenAI", what, body, model_name)
