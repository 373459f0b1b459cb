"""From our messages, settings and parameters to a request of OpenAI's Responses API: pure.

https://platform.openai.com/docs/api-reference/responses/create is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from runmgr.builtin_tools import (
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    MCPServerTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    FilePart,
    ImageUrl,
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
    VideoUrl,
)
from runmgr.models.attached import Files
from runmgr.models.base import get_instructions
from runmgr.models.openai_responses_response import RAW
from runmgr.profiles.openai import SAMPLING_SETTINGS, OpenAIModelProfile
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition

__all__ = ("map_messages", "map_parameters", "map_settings", "since_previous")

DEFAULT_OUTPUT_NAME = "final_result"

_PASSED = (
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("parallel_tool_calls", "parallel_tool_calls"),
    ("max_tokens", "max_output_tokens"),
    ("openai_truncation", "truncation"),
    ("openai_service_tier", "service_tier"),
    ("openai_user", "user"),
    ("openai_top_logprobs", "top_logprobs"),
    ("openai_prompt_cache_key", "prompt_cache_key"),
    ("openai_prompt_cache_retention", "prompt_cache_retention"),
)
_INCLUDED = (
    ("openai_include_code_execution_outputs", "code_interpreter_call.outputs"),
    ("openai_include_web_search_sources", "web_search_call.action.sources"),
    ("openai_include_file_search_results", "file_search_call.results"),
    ("openai_logprobs", "message.output_text.logprobs"),
)


def map_settings(settings: dict[str, Any], profile: OpenAIModelProfile) -> dict[str, Any]:
    """The request's fields that settings decide, without those that the model refuses (by its profile)."""
    dropped = set(profile.openai_unsupported_model_settings)
    if not profile.openai_supports_sampling_settings:
        dropped.update(SAMPLING_SETTINGS)
    fields: dict[str, Any] = {
        field: value
        for name, field in _PASSED
        if (value := settings.get(name)) is not None and name not in dropped
    }
    reasoning = {
        "effort": settings.get("openai_reasoning_effort"),
        "summary": settings.get("openai_reasoning_summary")
        or settings.get("openai_reasoning_generate_summary"),
    }
    if known := {name: value for name, value in reasoning.items() if value is not None}:
        fields["reasoning"] = known
    include = [field for name, field in _INCLUDED if settings.get(name)]
    if profile.openai_supports_encrypted_reasoning_content:
        include.insert(0, "reasoning.encrypted_content")
    if include:
        fields["include"] = include
    return fields


def map_parameters(params: ModelRequestParameters, profile: OpenAIModelProfile) -> dict[str, Any]:
    """The request's fields that tools and output decide.

    Raises:
        UserError: a built-in tool that the API does not have, or not like this.
    """
    fields: dict[str, Any] = {}
    tools: list[dict[str, Any]] = [_builtin_tool(tool) for tool in params.builtin_tools]
    if params.allow_image_output and not any(
        isinstance(tool, ImageGenerationTool) for tool in params.builtin_tools
    ):
        tools.append({"type": "image_generation"})
    tools.extend(_tool(tool, profile) for tool in (*params.function_tools, *params.output_tools))
    if tools:
        fields["tools"] = tools
        forced = not params.allow_text_output and profile.openai_supports_tool_choice_required
        fields["tool_choice"] = "required" if forced else "auto"
    output = params.output_object
    if params.output_mode == "native" and output is not None:
        form: dict[str, Any] = {
            "type": "json_schema",
            "name": output.name or DEFAULT_OUTPUT_NAME,
            "schema": output.json_schema,
        }
        if output.description:
            form["description"] = output.description
        if profile.openai_supports_strict_tool_definition and output.strict is not None:
            form["strict"] = output.strict
        fields["text"] = {"format": form}
    elif params.output_mode == "prompted" and profile.supports_json_object_output:
        fields["text"] = {"format": {"type": "json_object"}}
    return fields


def _tool(tool: ToolDefinition, profile: OpenAIModelProfile) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters_json_schema,
        "strict": bool(tool.strict and profile.openai_supports_strict_tool_definition),
    }


_CONNECTOR = "x-openai-connector:"
_SIZES = {"1:1": "1024x1024", "2:3": "1024x1536", "3:2": "1536x1024"}


def _builtin_tool(tool: Any) -> dict[str, Any]:
    mapped: dict[str, Any]
    if isinstance(tool, WebSearchTool):
        mapped = {"type": "web_search", "search_context_size": tool.search_context_size}
        if tool.user_location:
            mapped["user_location"] = {"type": "approximate", **tool.user_location}
        if tool.allowed_domains:
            mapped["filters"] = {"allowed_domains": tool.allowed_domains}
    elif isinstance(tool, CodeExecutionTool):
        mapped = {"type": "code_interpreter", "container": {"type": "auto"}}
    elif isinstance(tool, FileSearchTool):
        mapped = {"type": "file_search", "vector_store_ids": list(tool.file_store_ids)}
    elif isinstance(tool, MCPServerTool):
        mapped = {"type": "mcp", "server_label": tool.id, "require_approval": "never"}
        if tool.url.startswith(_CONNECTOR):
            mapped["connector_id"] = tool.url.removeprefix(_CONNECTOR)
        else:
            mapped["server_url"] = tool.url
        for name, value in (
            ("authorization", tool.authorization_token),
            ("allowed_tools", tool.allowed_tools),
            ("server_description", tool.description),
            ("headers", tool.headers),
        ):
            if value is not None:
                mapped[name] = value
    elif isinstance(tool, ImageGenerationTool):
        mapped = {
            "type": "image_generation",
            "background": tool.background,
            "input_fidelity": tool.input_fidelity,
            "moderation": tool.moderation,
            "output_compression": 100 if tool.output_compression is None else tool.output_compression,
            "output_format": tool.output_format or "png",
            "partial_images": tool.partial_images,
            "quality": tool.quality,
            "size": _image_size(tool),
        }
    else:
        raise UserError(f"{type(tool).__name__} is not supported by OpenAI's Responses API")
    return mapped


def _image_size(tool: ImageGenerationTool) -> str:
    if tool.aspect_ratio is None:
        if tool.size in {"1K", "2K", "4K"}:
            raise UserError(
                f"OpenAI makes images of the sizes {', '.join(_SIZES.values())} and auto, not {tool.size}"
            )
        return tool.size or "auto"
    size = _SIZES.get(tool.aspect_ratio)
    if size is None:
        raise UserError(
            f"OpenAI image generation only supports `aspect_ratio` values: {', '.join(_SIZES)}. "
            "Specify one of those values or omit `aspect_ratio`."
        )
    if tool.size not in {None, "auto", size}:
        raise UserError(f"aspect_ratio {tool.aspect_ratio} is size {size} at OpenAI, not {tool.size}")
    return size


# ---------------------------------------------------------------- messages


def since_previous(messages: list[ModelMessage], provider_name: str) -> tuple[str | None, list[ModelMessage]]:
    """The id of the latest response that the provider has stored, and the messages after it; all of them where there is none."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if (
            isinstance(message, ModelResponse)
            and message.provider_name == provider_name
            and message.provider_response_id
        ):
            rest = messages[index + 1 :]
            return (message.provider_response_id, rest) if rest else (None, messages)
    return None, messages


def map_messages(
    messages: Sequence[ModelMessage],
    params: ModelRequestParameters,
    profile: OpenAIModelProfile,
    provider_name: str,
    files: Files,
    *,
    send_ids: bool,
) -> dict[str, Any]:
    """``input`` and ``instructions``. Incomplete where ``files`` has missing ones afterwards.

    Args:
        messages: the conversation.
        params: may add instructions for output.
        profile: says how thoughts of others are told.
        provider_name: whose ids are known there.
        files: files that were fetched.
        send_ids: send what the provider itself made under its ids.

    Raises:
        UserError: content that cannot be sent.
    """
    items: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            for part in message.parts:
                if isinstance(part, UserPromptPart):
                    content = part.content
                    if not isinstance(content, str):
                        content = [found for item in content if (found := _content(item, files)) is not None]
                    items.append({"role": "user", "content": content})
                elif isinstance(part, ToolReturnPart):
                    items.append(_output(part.tool_call_id, part.model_response_str()))
                elif isinstance(part, SystemPromptPart):
                    items.append({"role": "system", "content": part.content})
                else:
                    items.append(_retry(part))
        else:
            _Response(items, profile, provider_name, send_ids=send_ids).add(message)
    fields: dict[str, Any] = {"input": items}
    if instructions := get_instructions(messages, params):
        if params.prompted_output_instructions:
            # The word JSON has to be in the input.
            items.insert(0, {"role": "system", "content": instructions})
        else:
            fields["instructions"] = instructions
    if not items:
        items.append({"role": "user", "content": ""})
    return fields


def _output(call_id: str, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id.partition("|")[0], "output": text}


def _retry(part: RetryPromptPart) -> dict[str, Any]:
    if part.tool_name is None:
        return {"role": "user", "content": [{"type": "input_text", "text": part.model_response()}]}
    return _output(part.tool_call_id, part.model_response())


class _Response:
    """Puts an earlier response into the input; parts of one item of the provider's become that item again."""

    def __init__(
        self,
        items: list[dict[str, Any]],
        profile: OpenAIModelProfile,
        provider_name: str,
        *,
        send_ids: bool,
    ) -> None:
        self._items = items
        self._profile = profile
        self._provider_name = provider_name
        self._send_ids = send_ids
        self._latest: dict[str, Any] = {}
        self._builtin: dict[str, dict[str, Any]] = {}

    def add(self, message: ModelResponse) -> None:
        """Put a response into the input."""
        theirs = message.provider_name == self._provider_name
        own = self._send_ids and theirs
        for part in message.parts:
            if isinstance(part, TextPart):
                self._text(part, own=own)
            elif isinstance(part, ToolCallPart):
                call_id, _, combined = part.tool_call_id.partition("|")
                call: dict[str, Any] = {
                    "type": "function_call",
                    "call_id": call_id,
                    "name": part.tool_name,
                    "arguments": part.args_as_json_str(),
                }
                if own and (item_id := part.id or combined):
                    call["id"] = item_id
                if self._profile.openai_responses_requires_function_call_status_none:
                    call["status"] = None
                self._put(call)
            elif isinstance(part, ThinkingPart):
                # Thoughts that are not encrypted are of use whatever becomes of ids.
                self._thoughts(part, own=own or (theirs and RAW in (part.provider_details or {})))
            elif isinstance(part, FilePart):
                pass  # it is the provider's already, under its item's id
            elif isinstance(part, BuiltinToolCallPart):
                if own and part.provider_name == self._provider_name:
                    self._builtin_call(part)
            elif own and (item := self._builtin.get(part.tool_call_id)) is not None:
                _complete(item, part)

    def _put(self, item: dict[str, Any]) -> None:
        self._items.append(item)
        self._latest = item

    def _text(self, part: TextPart, *, own: bool) -> None:
        if not (own and part.id):
            if part.content:
                self._put({"role": "assistant", "content": part.content})
            return
        content: dict[str, Any] = {"type": "output_text", "text": part.content, "annotations": []}
        if self._latest.get("type") == "message" and self._latest.get("id") == part.id:
            self._latest["content"].append(content)
        else:
            self._put({
                "type": "message",
                "id": part.id,
                "role": "assistant",
                "status": "completed",
                "content": [content],
            })  # fmt: skip

    def _thoughts(self, part: ThinkingPart, *, own: bool) -> None:
        if not (own and part.id and part.provider_name in {self._provider_name, None}):
            if part.content:
                start, end = self._profile.thinking_tags
                self._put({"role": "assistant", "content": f"{start}\n{part.content}\n{end}"})
            return
        item = self._latest
        if item.get("type") != "reasoning" or item.get("id") != part.id:
            item: dict[str, Any] = {
                "type": "reasoning",
                "id": part.id,
                "summary": [],
                "encrypted_content": part.signature,
            }
            self._put(item)
        if part.content:
            item["summary"].append({"type": "summary_text", "text": part.content})
        if raw := (part.provider_details or {}).get(RAW):
            item["content"] = [{"type": "reasoning_text", "text": text} for text in raw]

    def _builtin_call(self, part: BuiltinToolCallPart) -> None:
        try:
            args = part.args_as_dict()
        except (ValueError, AssertionError):
            args = {}
        name = part.tool_name
        item: dict[str, Any]
        if name == "web_search":
            item = {"type": "web_search_call", "action": args, "status": "completed"}
        elif name == "code_execution":
            item = {
                "type": "code_interpreter_call",
                "code": args.get("code"),
                "container_id": args.get("container_id"),
                "outputs": None,
                "status": "completed",
            }
        elif name == "image_generation":
            item = {"type": "image_generation_call"}
        elif name == "file_search":
            item = {"type": "file_search_call", "queries": args.get("queries", []), "status": "completed"}
        elif name.startswith("mcp_server:"):
            label = name.partition(":")[2]
            if args.get("action") == "list_tools":
                item = {"type": "mcp_list_tools", "server_label": label, "tools": []}
            else:
                from runmgr.messages.codec import dump_any

                item = {
                    "type": "mcp_call",
                    "server_label": label,
                    "name": args.get("tool_name"),
                    "arguments": dump_any(args.get("tool_args")).decode(),
                    "error": None,
                    "output": None,
                }
        else:
            return
        item["id"] = part.tool_call_id
        self._builtin[part.tool_call_id] = item
        self._put(item)


def _complete(item: dict[str, Any], part: BuiltinToolReturnPart) -> None:
    """What a tool of OpenAI's returned, put into the item of its call."""
    if not isinstance(part.content, dict):
        return
    content = cast("dict[str, Any]", part.content)
    for name in ("status", "tools", "output", "error"):
        if name in item and content.get(name) is not None:
            item[name] = content[name]


# ---------------------------------------------------------------- content


def _content(item: UserContent, files: Files) -> dict[str, Any] | None:
    if isinstance(item, str):
        return {"type": "input_text", "text": item}
    if isinstance(item, CachePoint):
        return None
    if isinstance(item, BinaryContent):
        return _binary(item, item.vendor_metadata)
    if isinstance(item, VideoUrl):
        raise UserError("OpenAI takes no videos: send frames of it as images.")
    if item.force_download:
        found = files.get(item)
        return None if found is None else _binary(found, item.vendor_metadata)
    if isinstance(item, ImageUrl):
        return _image(item.url, item.vendor_metadata)
    return {"type": "input_file", "file_url": item.url}


def _image(url: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    detail = metadata.get("detail", "auto") if metadata else "auto"
    return {"type": "input_image", "image_url": url, "detail": detail}


def _binary(item: BinaryContent, metadata: dict[str, Any] | None) -> dict[str, Any]:
    if item.is_image:
        return _image(item.data_uri, metadata)
    if item.is_document:
        return {"type": "input_file", "file_data": item.data_uri, "filename": f"filename.{item.format}"}
    raise UserError(f"OpenAI's Responses API takes no {item.media_type}: send text, images or documents.")
