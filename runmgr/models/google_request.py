"""From our messages, settings and parameters to a request of Gemini's ``generateContent``: pure.

https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching#Content are the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from runmgr.builtin_tools import (
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    FilePart,
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
from runmgr.models.google_response import SIGNATURE
from runmgr.profiles import ModelProfile
from runmgr.records.definitions import ModelRequestParameters

__all__ = ("map_config", "map_messages", "map_parameters", "map_settings")

_CONFIG = (
    ("max_tokens", "maxOutputTokens"),
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("stop_sequences", "stopSequences"),
    ("google_video_resolution", "mediaResolution"),
)


def map_settings(settings: dict[str, Any], fields: dict[str, Any]) -> None:
    """Put what settings decide into a request's fields.

    Raises:
        UserError: ``extra_body`` is no dict.
    """
    config: dict[str, Any] = dict(fields["generationConfig"])
    for name, field in _CONFIG:
        if (value := settings.get(name)) is not None:
            config[field] = value
    if (thinking := settings.get("google_thinking_config")) is not None:
        thinking = dict(thinking)
        if isinstance(level := thinking.get("thinking_level"), str):
            thinking["thinking_level"] = level.upper()
        config["thinkingConfig"] = thinking
    fields["generationConfig"] = config
    if (safety := settings.get("google_safety_settings")) is not None:
        fields["safetySettings"] = safety
    if (cached := settings.get("google_cached_content")) is not None:
        fields["cachedContent"] = cached if "/" in cached else f"cachedContents/{cached}"
    if (labels := settings.get("google_labels")) is not None:
        fields["labels"] = labels
    extra = settings.get("extra_body")
    if extra is not None:
        if not isinstance(extra, dict):
            raise UserError(f"extra_body is added to the request's fields: a dict, not {extra!r}")
        extra = dict(cast("dict[str, Any]", extra))
        more = extra.pop("generationConfig", None)
        if isinstance(more, dict):
            config.update(cast("dict[str, Any]", more))
        fields.update(extra)


def map_config(params: ModelRequestParameters, profile: ModelProfile) -> dict[str, Any]:
    """The ``generationConfig`` that parameters decide."""
    modalities = ["TEXT", "IMAGE"] if profile.supports_image_output else ["TEXT"]
    config: dict[str, Any] = {"responseModalities": modalities}
    output = params.output_object
    tools = bool(params.function_tools or params.output_tools or params.builtin_tools)
    if params.output_mode == "native" and output is not None:
        schema = dict(output.json_schema)
        if output.name:
            schema["title"] = output.name
        if output.description:
            schema["description"] = output.description
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = schema
    elif params.output_mode == "prompted" and not tools and profile.supports_json_object_output:
        config["responseMimeType"] = "application/json"
    for tool in params.builtin_tools:
        if isinstance(tool, ImageGenerationTool):
            image = {"aspectRatio": tool.aspect_ratio, "imageSize": _image_size(tool)}
            config["imageConfig"] = {name: value for name, value in image.items() if value is not None}
    return config


def _image_size(tool: ImageGenerationTool) -> str | None:
    if tool.size is not None and tool.size not in {"1K", "2K", "4K"}:
        raise UserError(f"Google makes images of the sizes '1K', '2K' and '4K', not {tool.size!r}")
    return tool.size


def map_parameters(params: ModelRequestParameters, profile: ModelProfile) -> dict[str, Any]:
    """The request's other fields that tools decide.

    Raises:
        UserError: tools that Google does not take, or not together.
    """
    fields: dict[str, Any] = {}
    functions = (*params.function_tools, *params.output_tools)
    tools: list[dict[str, Any]] = []
    if functions:
        declared = [
            {
                "name": tool.name,
                "description": tool.description or "",
                "parametersJsonSchema": tool.parameters_json_schema,
            }
            for tool in functions
        ]
        tools.append({"functionDeclarations": declared})
    if params.builtin_tools and params.function_tools:
        raise UserError("Google does not support function tools and built-in tools at the same time.")
    tools.extend(mapped for tool in params.builtin_tools if (mapped := _builtin_tool(tool, profile)))
    if tools:
        fields["tools"] = tools
    if functions and not params.allow_text_output:
        names = [tool.name for tool in functions]
        fields["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": names}}
    return fields


def _builtin_tool(tool: Any, profile: ModelProfile) -> dict[str, Any] | None:
    if isinstance(tool, WebSearchTool):
        return {"googleSearch": {}}
    if isinstance(tool, CodeExecutionTool):
        return {"codeExecution": {}}
    if isinstance(tool, WebFetchTool):
        return {"urlContext": {}}
    if isinstance(tool, FileSearchTool):
        return {"fileSearch": {"fileSearchStoreNames": list(tool.file_store_ids)}}
    if isinstance(tool, ImageGenerationTool):
        if not profile.supports_image_output:
            raise UserError(
                "`ImageGenerationTool` is not supported by this model. Use a model with 'image' in the name instead."
            )
        return None
    raise UserError(f"{type(tool).__name__} is not supported by Google")


# ---------------------------------------------------------------- messages


def map_messages(
    messages: Sequence[ModelMessage], params: ModelRequestParameters, provider_name: str, files: Files
) -> dict[str, Any]:
    """``contents`` and ``systemInstruction``. Incomplete where ``files`` has missing ones afterwards.

    Raises:
        UserError: content that cannot be sent.
    """
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            _request(message, system, contents, files)
        else:
            parts = _response(message, provider_name)
            if parts:
                contents.append({"role": "model", "parts": parts})
    if instructions := get_instructions(messages, params):
        system.append({"text": instructions})
    fields: dict[str, Any] = {
        # the API insists on some content
        "contents": contents or [{"role": "user", "parts": [{"text": ""}]}]
    }
    if system:
        fields["systemInstruction"] = {"role": "user", "parts": system}
    return fields


def _request(
    message: ModelRequest, system: list[dict[str, Any]], contents: list[dict[str, Any]], files: Files
) -> None:
    """What functions returned and what the user says go into contents of their own: the API wants the answers to its calls whole
    and by themselves.
    """
    responses: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            content = part.content
            if isinstance(content, str):
                said.append({"text": content})
            else:
                said.extend(mapped for item in content if (mapped := _content(item, files)) is not None)
        elif isinstance(part, ToolReturnPart):
            responses.append(
                _function_response(part.tool_name, part.tool_call_id, part.model_response_object())
            )
        elif isinstance(part, SystemPromptPart):
            system.append({"text": part.content})
        elif isinstance(part, RetryPromptPart):
            if part.tool_name is None:
                said.append({"text": part.model_response()})
            else:
                error = {"error": part.model_response()}
                responses.append(_function_response(part.tool_name, part.tool_call_id, error))
    contents.extend({"role": "user", "parts": parts} for parts in (responses, said) if parts)


def _function_response(name: str, call_id: str, response: dict[str, Any]) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "id": call_id, "response": response}}


_NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""What Google takes instead of the signature of a call that its model did not make:
https://ai.google.dev/gemini-api/docs/thought-signatures#faqs (``skip_thought_signature_validator``).
"""


def _response(message: ModelResponse, provider_name: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    own = message.provider_name == provider_name
    called = False
    pending: str | None = None
    for part in message.parts:
        mapped: dict[str, Any] | None = None
        signature = pending
        pending = None
        if own and not isinstance(part, BuiltinToolReturnPart) and part.provider_details:
            signature = part.provider_details.get(SIGNATURE) or signature
        if isinstance(part, TextPart):
            if part.content or signature:
                mapped = {"text": part.content}
        elif isinstance(part, ToolCallPart):
            mapped = {"functionCall": {"name": part.tool_name, "args": _args(part), "id": part.tool_call_id}}
            if not called and signature is None:
                signature = _NO_SIGNATURE
            called = True
        elif isinstance(part, ThinkingPart):
            # Signatures once stood beside the thoughts; they belong to the part behind them.
            if part.provider_name == provider_name and part.signature:
                pending = part.signature
            if part.content:
                mapped = {"text": part.content, "thought": True}
        elif isinstance(part, FilePart):
            mapped = {"inlineData": {"mimeType": part.content.media_type, "data": part.content.base64}}
        elif part.tool_name == "code_execution" and part.provider_name == provider_name:
            mapped = _code(part)
        if mapped is not None:
            if signature:
                mapped["thoughtSignature"] = signature
            parts.append(mapped)
    return parts


def _args(part: ToolCallPart | BuiltinToolCallPart) -> dict[str, Any]:
    try:
        return part.args_as_dict()
    except (ValueError, AssertionError):
        # The model was told that these are no arguments; the API still wants an object here.
        return {"INVALID_JSON": part.args}


def _code(part: BuiltinToolCallPart | BuiltinToolReturnPart) -> dict[str, Any]:
    if isinstance(part, BuiltinToolCallPart):
        return {"executableCode": _args(part)}
    return {"codeExecutionResult": part.content}


# ---------------------------------------------------------------- content

_FILES = "https://generativelanguage.googleapis.com/v1beta/files"


def _content(item: UserContent, files: Files) -> dict[str, Any] | None:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, CachePoint):
        return None
    if isinstance(item, BinaryContent):
        return _inline(item, item.vendor_metadata)
    youtube = isinstance(item, VideoUrl) and item.is_youtube
    if youtube or (item.url.startswith(_FILES) and not item.force_download):
        mapped: dict[str, Any] = {"fileData": {"fileUri": item.url, "mimeType": item.media_type}}
        if isinstance(item, VideoUrl) and item.vendor_metadata:
            mapped["videoMetadata"] = item.vendor_metadata
        return mapped
    found = files.get(item)
    if found is None:
        return None
    return _inline(found, item.vendor_metadata if isinstance(item, VideoUrl) else None)


def _inline(item: BinaryContent, metadata: dict[str, Any] | None) -> dict[str, Any]:
    mapped: dict[str, Any] = {"inlineData": {"mimeType": item.media_type, "data": item.base64}}
    if metadata:
        mapped["videoMetadata"] = metadata
    return mapped
