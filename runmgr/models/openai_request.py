"""From our messages, settings and parameters to a chat completion request: pure.

https://platform.openai.com/docs/api-reference/chat/create is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runmgr.builtin_tools import WebSearchTool
from runmgr.exceptions import UserError
from runmgr.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    DocumentUrl,
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
from runmgr.models.attached import Files, is_text
from runmgr.models.base import get_instructions
from runmgr.profiles.openai import SAMPLING_SETTINGS, OpenAIModelProfile
from runmgr.records.definitions import ModelRequestParameters, OutputObjectDefinition, ToolDefinition

__all__ = ("Files", "map_messages", "map_parameters", "map_settings")

DEFAULT_OUTPUT_NAME = "final_result"

# Our settings and the API's names for them, where a value passes through as it is.
_PASSED = (
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("logit_bias", "logit_bias"),
    ("stop_sequences", "stop"),
    ("openai_reasoning_effort", "reasoning_effort"),
    ("openai_logprobs", "logprobs"),
    ("openai_top_logprobs", "top_logprobs"),
    ("openai_user", "user"),
    ("openai_service_tier", "service_tier"),
    ("openai_prediction", "prediction"),
    ("openai_prompt_cache_key", "prompt_cache_key"),
    ("openai_prompt_cache_retention", "prompt_cache_retention"),
)
_HEADED_BY_OPENAI = frozenset({"logprobs", "top_logprobs"})


def map_settings(settings: dict[str, Any], profile: OpenAIModelProfile) -> dict[str, Any]:
    """The request's fields that settings decide, without those that the model refuses (by its profile)."""
    dropped = set(profile.openai_unsupported_model_settings)
    if not profile.openai_supports_sampling_settings:
        dropped.update(SAMPLING_SETTINGS)
    fields: dict[str, Any] = {}
    for name, field in _PASSED:
        if (value := settings.get(name)) is not None and name not in dropped:
            if dropped and field in _HEADED_BY_OPENAI and field in dropped:
                continue
            fields[field] = value
    if (limit := settings.get("max_tokens")) is not None and "max_tokens" not in dropped:
        new = profile.openai_chat_supports_max_completion_tokens
        fields["max_completion_tokens" if new else "max_tokens"] = limit
    return fields


def map_parameters(
    params: ModelRequestParameters, profile: OpenAIModelProfile, model_name: str
) -> dict[str, Any]:
    """The request's fields that tools and output decide.

    Raises:
        UserError: a built-in tool that chat completions do not have for this model.
    """
    fields: dict[str, Any] = {}
    tools = [_tool(tool, profile) for tool in (*params.function_tools, *params.output_tools)]
    if tools:
        fields["tools"] = tools
        forced = not params.allow_text_output and profile.openai_supports_tool_choice_required
        fields["tool_choice"] = "required" if forced else "auto"
    if params.output_object is not None and params.output_mode == "native":
        fields["response_format"] = _response_format(params.output_object, profile)
    elif params.output_mode == "prompted" and profile.supports_json_object_output:
        fields["response_format"] = {"type": "json_object"}
    for tool in params.builtin_tools:
        if not isinstance(tool, WebSearchTool):
            raise UserError(f"{type(tool).__name__} is not supported by OpenAI's chat completions")
        if not profile.openai_chat_supports_web_search:
            raise UserError(
                f"WebSearchTool is not supported with `OpenAIChatModel` and model {model_name!r}. "
                "Please use `OpenAIResponsesModel` instead."
            )
        fields["web_search_options"] = _web_search(tool)
    return fields


def _tool(tool: ToolDefinition, profile: OpenAIModelProfile) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.parameters_json_schema,
    }
    if tool.strict and profile.openai_supports_strict_tool_definition:
        function["strict"] = True
    return {"type": "function", "function": function}


def _response_format(output: OutputObjectDefinition, profile: OpenAIModelProfile) -> dict[str, Any]:
    schema: dict[str, Any] = {"name": output.name or DEFAULT_OUTPUT_NAME, "schema": output.json_schema}
    if output.description:
        schema["description"] = output.description
    if profile.openai_supports_strict_tool_definition and output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}


def _web_search(tool: WebSearchTool) -> dict[str, Any]:
    options: dict[str, Any] = {"search_context_size": tool.search_context_size}
    if tool.user_location:
        options["user_location"] = {"type": "approximate", "approximate": dict(tool.user_location)}
    return options


def map_messages(
    messages: Sequence[ModelMessage],
    params: ModelRequestParameters,
    profile: OpenAIModelProfile,
    files: Files,
) -> list[dict[str, Any]]:
    """The conversation, with the instructions of its last request behind the leading system prompts.

    Incomplete where ``files`` has missing ones afterwards.

    Raises:
        UserError: content that chat completions cannot carry.
    """
    mapped: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            for part in message.parts:
                if isinstance(part, UserPromptPart):
                    content = part.content
                    mapped.append({
                        "role": "user",
                        "content": content if isinstance(content, str) else _contents(content, profile, files),
                    })  # fmt: skip
                elif isinstance(part, ToolReturnPart):
                    mapped.append({
                        "role": "tool",
                        "tool_call_id": part.tool_call_id,
                        "content": part.model_response_str(),
                    })  # fmt: skip
                elif isinstance(part, SystemPromptPart):
                    role = profile.openai_system_prompt_role or "system"
                    mapped.append({"role": role, "content": part.content})
                else:
                    mapped.append(_retry(part))
        else:
            mapped.append(_assistant(message, profile))
    if instructions := get_instructions(messages, params):
        index = 0
        while index < len(mapped) and mapped[index]["role"] == "system":
            index += 1
        mapped.insert(index, {"role": "system", "content": instructions})
    return mapped


def _retry(part: RetryPromptPart) -> dict[str, Any]:
    if part.tool_name is None:
        return {"role": "user", "content": part.model_response()}
    return {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.model_response()}


def _assistant(message: ModelResponse, profile: OpenAIModelProfile) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    send_back = profile.openai_chat_send_back_thinking_parts
    for part in message.parts:
        if isinstance(part, TextPart):
            texts.append(part.content)
        elif isinstance(part, ToolCallPart):
            calls.append({
                "id": part.tool_call_id,
                "type": "function",
                "function": {"name": part.tool_name, "arguments": part.args_as_json_str()},
            })  # fmt: skip
        elif isinstance(part, ThinkingPart) and part.content:
            if send_back == "tags":
                start, end = profile.thinking_tags
                texts.append(f"{start}\n{part.content}\n{end}")
            elif send_back == "field":
                thoughts.append(part.content)
        # What the provider's own tools did, and files that the model made, cannot be sent back to chat completions.
    mapped: dict[str, Any] = {"role": "assistant", "content": "\n\n".join(texts) if texts else None}
    if thoughts and profile.openai_chat_thinking_field:
        mapped[profile.openai_chat_thinking_field] = "\n\n".join(thoughts)
    if calls:
        mapped["tool_calls"] = calls
    return mapped


def _contents(
    contents: Sequence[UserContent], profile: OpenAIModelProfile, files: Files
) -> list[dict[str, Any]]:
    return [_content(item, profile, files) for item in contents if not isinstance(item, CachePoint)]


def _content(item: UserContent, profile: OpenAIModelProfile, files: Files) -> dict[str, Any]:
    if isinstance(item, str):
        return {"type": "text", "text": item}
    if isinstance(item, ImageUrl) and not item.force_download:
        return _image(item.url, item.vendor_metadata)
    if isinstance(item, BinaryContent):
        return _binary(item, profile)
    if (
        isinstance(item, DocumentUrl)
        and profile.openai_chat_supports_file_urls
        and not item.force_download
        and not is_text(item.media_type)
    ):
        return {"type": "file", "file": {"file_data": item.url, "filename": f"filename.{item.format}"}}
    if isinstance(item, VideoUrl):
        raise UserError("Chat completions take no videos: send frames of it as images.")
    if isinstance(item, ImageUrl | AudioUrl | DocumentUrl):
        found = files.get(item)
        return {} if found is None else _binary(found, profile)
    raise UserError(f"Chat completions take no {type(item).__name__}.")


def _image(url: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    image: dict[str, Any] = {"url": url}
    if metadata and (detail := metadata.get("detail")):
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def _binary(item: BinaryContent, profile: OpenAIModelProfile) -> dict[str, Any]:
    if is_text(item.media_type):
        # Chat completions take only PDF as a file; text can say so itself.
        identifier = item.identifier
        text = item.data.decode("utf-8", "replace")
        return {
            "type": "text",
            "text": f'-----BEGIN FILE id="{identifier}" type="{item.media_type}"-----\n{text}\n-----END FILE id="{identifier}"-----',
        }
    if item.is_image:
        return _image(item.data_uri, item.vendor_metadata)
    if item.is_audio:
        known = _AUDIO_FORMATS.get(item.media_type)
        if known is None:
            raise UserError(f"Chat completions take audio as wav or mp3, not {item.media_type}.")
        data = item.data_uri if profile.openai_chat_audio_input_encoding == "uri" else item.base64
        return {"type": "input_audio", "input_audio": {"data": data, "format": known}}
    if item.is_document:
        return {"type": "file", "file": {"file_data": item.data_uri, "filename": f"filename.{item.format}"}}
    raise UserError(
        f"Chat completions take no {item.media_type}: send text, images, audio (wav, mp3) or documents."
    )
