"""From our messages, settings and parameters to a request of Anthropic's messages API: pure.

https://docs.claude.com/en/api/messages is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from runmgr.builtin_tools import (
    AbstractBuiltinTool,
    CodeExecutionTool,
    MCPServerTool,
    MemoryTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
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
)
from runmgr.models.anthropic_response import REDACTED
from runmgr.models.attached import Files, is_text
from runmgr.models.base import get_instructions
from runmgr.profiles import ModelProfile
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition

__all__ = ("Conversation", "betas_of", "limit_cache_points", "map_messages", "map_parameters", "map_settings")

DEFAULT_MAX_TOKENS = 4096
"""The API insists on a limit."""

_MAX_CACHE_POINTS = 4
_PASSED = (
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("stop_sequences", "stop_sequences"),
    ("anthropic_metadata", "metadata"),
    ("anthropic_thinking", "thinking"),
)


def map_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The request's fields that settings decide."""
    fields: dict[str, Any] = {"max_tokens": settings.get("max_tokens") or DEFAULT_MAX_TOKENS}
    for name, field in _PASSED:
        if (value := settings.get(name)) is not None:
            fields[field] = value
    return fields


def cache_control(ttl: Any) -> dict[str, Any]:
    """A cache point; True is five minutes."""
    return {"type": "ephemeral", "ttl": "5m" if ttl is True else ttl}


# ---------------------------------------------------------------- tools and output


def map_parameters(
    params: ModelRequestParameters, profile: ModelProfile, settings: dict[str, Any]
) -> dict[str, Any]:
    """The request's fields that tools and output decide.

    Raises:
        UserError: a built-in tool that lacks something.
    """
    fields: dict[str, Any] = {}
    functions = (*params.function_tools, *params.output_tools)
    memory = any(isinstance(tool, MemoryTool) for tool in params.builtin_tools)
    tools = [_tool(tool, profile) for tool in functions if not (memory and tool.name == "memory")]
    if tools and (ttl := settings.get("anthropic_cache_tool_definitions")):
        tools[-1]["cache_control"] = cache_control(ttl)
    servers: list[dict[str, Any]] = []
    for tool in params.builtin_tools:
        if isinstance(tool, MCPServerTool):
            servers.append(_mcp_server(tool))
        else:
            tools.append(_builtin_tool(tool, params))
    if tools:
        fields["tools"] = tools
        choice: dict[str, Any] = {"type": "auto" if params.allow_text_output else "any"}
        if (parallel := settings.get("parallel_tool_calls")) is not None:
            choice["disable_parallel_tool_use"] = not parallel
        fields["tool_choice"] = choice
    if servers:
        fields["mcp_servers"] = servers
    if params.output_mode == "native" and params.output_object is not None:
        fields["output_format"] = {"type": "json_schema", "schema": params.output_object.json_schema}
    return fields


def betas_of(params: ModelRequestParameters, profile: ModelProfile) -> set[str]:
    """The ``anthropic-beta`` features that tools and output need."""
    betas = {_BETAS[type(tool)] for tool in params.builtin_tools if type(tool) in _BETAS}
    strict = profile.supports_json_schema_output and any(
        tool.strict for tool in (*params.function_tools, *params.output_tools)
    )
    if strict or params.output_mode == "native":
        betas.add("structured-outputs-2025-11-13")
    return betas


_BETAS: dict[type[AbstractBuiltinTool], str] = {
    CodeExecutionTool: "code-execution-2025-05-22",
    WebFetchTool: "web-fetch-2025-09-10",
    MemoryTool: "context-management-2025-06-27",
    MCPServerTool: "mcp-client-2025-04-04",
}


def _tool(tool: ToolDefinition, profile: ModelProfile) -> dict[str, Any]:
    mapped: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description or "",
        "input_schema": tool.parameters_json_schema,
    }
    if tool.strict and profile.supports_json_schema_output:
        mapped["strict"] = True
    return mapped


def _builtin_tool(tool: Any, params: ModelRequestParameters) -> dict[str, Any]:
    mapped: dict[str, Any]
    if isinstance(tool, WebSearchTool):
        location = tool.user_location
        mapped = {
            "name": "web_search",
            "type": "web_search_20250305",
            "max_uses": tool.max_uses,
            "allowed_domains": tool.allowed_domains,
            "blocked_domains": tool.blocked_domains,
            "user_location": {"type": "approximate", **location} if location else None,
        }
    elif isinstance(tool, WebFetchTool):
        mapped = {
            "name": "web_fetch",
            "type": "web_fetch_20250910",
            "max_uses": tool.max_uses,
            "allowed_domains": tool.allowed_domains,
            "blocked_domains": tool.blocked_domains,
            "citations": {"enabled": True} if tool.enable_citations else None,
            "max_content_tokens": tool.max_content_tokens,
        }
    elif isinstance(tool, CodeExecutionTool):
        mapped = {"name": "code_execution", "type": "code_execution_20250522"}
    elif isinstance(tool, MemoryTool):
        if "memory" not in params.tool_defs:
            raise UserError("Built-in `MemoryTool` requires a 'memory' tool to be defined.")
        mapped = {"name": "memory", "type": "memory_20250818"}
    else:
        raise UserError(f"{type(tool).__name__} is not supported by Anthropic")
    return mapped


def _mcp_server(tool: MCPServerTool) -> dict[str, Any]:
    mapped: dict[str, Any] = {"type": "url", "name": tool.id, "url": tool.url}
    if tool.authorization_token is not None:
        mapped["authorization_token"] = tool.authorization_token
    if tool.allowed_tools is not None:
        mapped["tool_configuration"] = {
            "enabled": bool(tool.allowed_tools),
            "allowed_tools": tool.allowed_tools,
        }
    return mapped


# ---------------------------------------------------------------- messages


class Conversation:
    """What messages become: ``system``, ``messages`` and the ``container`` that earlier code ran in."""

    __slots__ = ("container", "messages", "system")

    def __init__(
        self, system: str | list[dict[str, Any]], messages: list[dict[str, Any]], container: Any
    ) -> None:
        self.system = system
        self.messages = messages
        self.container = container

    def fields(self) -> dict[str, Any]:
        """The request's fields."""
        fields: dict[str, Any] = {"messages": self.messages}
        if self.system:
            fields["system"] = self.system
        if self.container:
            fields["container"] = self.container
        return fields


def map_messages(
    messages: Sequence[ModelMessage],
    params: ModelRequestParameters,
    profile: ModelProfile,
    provider_name: str,
    settings: dict[str, Any],
    files: Files,
) -> Conversation:
    """The conversation. Incomplete where ``files`` has missing ones afterwards.

    Raises:
        UserError: content that the API cannot carry, or a cache point with nothing before it.
    """
    system: list[str] = []
    mapped: list[dict[str, Any]] = []
    container: Any = settings.get("anthropic_container")
    look_for_container = container is None
    for message in messages:
        blocks: list[dict[str, Any]] = []
        if isinstance(message, ModelRequest):
            _request(message, system, blocks, files)
            role = "user"
        else:
            _response(message, blocks, profile, provider_name)
            role = "assistant"
            if look_for_container and message.provider_name == provider_name and message.provider_details:
                known = message.provider_details.get("container_id")
                container = {"id": known} if known else container
        if blocks:
            mapped.append({"role": role, "content": blocks})
    if instructions := get_instructions(messages, params):
        system.append(instructions)
    text = "\n\n".join(system)
    if mapped and (ttl := settings.get("anthropic_cache_messages")):
        last = mapped[-1]["content"][-1]
        if last["type"] in _CACHED:
            last["cache_control"] = cache_control(ttl)
    if text and (ttl := settings.get("anthropic_cache_instructions")):
        cached = [{"type": "text", "text": text, "cache_control": cache_control(ttl)}]
        return Conversation(cached, mapped, container)
    return Conversation(text, mapped, container)


_CACHED = frozenset({"text", "tool_use", "tool_result", "image", "document"})


def limit_cache_points(conversation: Conversation, tools: Sequence[dict[str, Any]]) -> None:
    """Leave as many cache points as the API takes: those of tools and instructions, and the latest of the messages."""
    room = _MAX_CACHE_POINTS - sum("cache_control" in tool for tool in tools)
    if isinstance(conversation.system, list):
        room -= sum("cache_control" in block for block in conversation.system)
    for message in reversed(conversation.messages):
        for block in reversed(cast("list[dict[str, Any]]", message["content"])):
            if "cache_control" in block:
                if room > 0:
                    room -= 1
                else:
                    del block["cache_control"]


def _request(message: ModelRequest, system: list[str], blocks: list[dict[str, Any]], files: Files) -> None:
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            content = part.content
            if isinstance(content, str):
                if content:
                    blocks.append({"type": "text", "text": content})
            else:
                for item in content:
                    _content(item, blocks, files)
        elif isinstance(part, ToolReturnPart):
            blocks.append({
                "type": "tool_result",
                "tool_use_id": part.tool_call_id,
                "content": part.model_response_str(),
                "is_error": False,
            })  # fmt: skip
        elif isinstance(part, SystemPromptPart):
            system.append(part.content)
        else:
            blocks.append(_retry(part))


def _retry(part: RetryPromptPart) -> dict[str, Any]:
    if part.tool_name is None:
        return {"type": "text", "text": part.model_response()}
    return {
        "type": "tool_result",
        "tool_use_id": part.tool_call_id,
        "content": part.model_response(),
        "is_error": True,
    }


def _response(
    message: ModelResponse, blocks: list[dict[str, Any]], profile: ModelProfile, provider_name: str
) -> None:
    for part in message.parts:
        if isinstance(part, TextPart):
            if part.content:
                blocks.append({"type": "text", "text": part.content})
        elif isinstance(part, ToolCallPart):
            blocks.append({
                "type": "tool_use",
                "id": part.tool_call_id,
                "name": part.tool_name,
                "input": _input(part),
            })  # fmt: skip
        elif isinstance(part, ThinkingPart):
            _thoughts(part, blocks, profile, provider_name)
        elif isinstance(part, BuiltinToolCallPart):
            if part.provider_name == provider_name:
                blocks.append(_builtin_call(part))
        elif isinstance(part, BuiltinToolReturnPart) and part.provider_name == provider_name:
            blocks.append(_builtin_return(part))
        # Files that a model made cannot be sent back, nor can what another provider's tools did.


def _input(part: ToolCallPart | BuiltinToolCallPart) -> dict[str, Any]:
    try:
        return part.args_as_dict()
    except (ValueError, AssertionError):
        # The model was told that these are no arguments; the API still wants an object here.
        return {"INVALID_JSON": part.args}


def _thoughts(
    part: ThinkingPart, blocks: list[dict[str, Any]], profile: ModelProfile, provider_name: str
) -> None:
    if part.provider_name == provider_name and part.signature is not None:
        if part.id == REDACTED:
            blocks.append({"type": REDACTED, "data": part.signature})
        else:
            blocks.append({"type": "thinking", "thinking": part.content, "signature": part.signature})
    elif part.content:
        start, end = profile.thinking_tags
        blocks.append({"type": "text", "text": f"{start}\n{part.content}\n{end}"})


_MCP = "mcp_server"


def _builtin_call(part: BuiltinToolCallPart) -> dict[str, Any]:
    args = _input(part)
    if part.tool_name.startswith(_MCP):
        return {
            "type": "mcp_tool_use",
            "id": part.tool_call_id,
            "name": args.get("tool_name"),
            "server_name": part.tool_name.partition(":")[2],
            "input": args.get("tool_args"),
        }
    return {"type": "server_tool_use", "id": part.tool_call_id, "name": part.tool_name, "input": args}


def _builtin_return(part: BuiltinToolReturnPart) -> dict[str, Any]:
    if part.tool_name.startswith(_MCP):
        content = cast("dict[str, Any]", part.content) if isinstance(part.content, dict) else {}
        return {
            "type": "mcp_tool_result",
            "tool_use_id": part.tool_call_id,
            "is_error": content.get("is_error", False),
            "content": content.get("content"),
        }
    return {
        "type": f"{part.tool_name}_tool_result",
        "tool_use_id": part.tool_call_id,
        "content": part.content,
    }


# ---------------------------------------------------------------- content


def _content(item: UserContent, blocks: list[dict[str, Any]], files: Files) -> None:
    if isinstance(item, str):
        if item:  # the API refuses empty text
            blocks.append({"type": "text", "text": item})
    elif isinstance(item, CachePoint):
        if not blocks:
            raise UserError(
                "CachePoint cannot be the first content in a user message - there must be previous content to attach the "
                "CachePoint to. To cache system instructions or tool definitions, use the `anthropic_cache_instructions` or "
                "`anthropic_cache_tool_definitions` settings instead."
            )
        blocks[-1]["cache_control"] = cache_control(item.ttl)
    elif isinstance(item, BinaryContent):
        blocks.append(_binary(item))
    elif isinstance(item, ImageUrl | DocumentUrl):
        if not item.force_download:
            if isinstance(item, ImageUrl):
                blocks.append({"type": "image", "source": {"type": "url", "url": item.url}})
                return
            if item.media_type == "application/pdf":
                blocks.append({"type": "document", "source": {"type": "url", "url": item.url}})
                return
        found = files.get(item)
        if found is not None:
            blocks.append(_binary(found))
    else:
        raise UserError(f"Anthropic takes no {type(item).__name__}: send images, PDF or text.")


def _binary(item: BinaryContent) -> dict[str, Any]:
    if item.is_image or item.media_type == "application/pdf":
        source = {"type": "base64", "media_type": item.media_type, "data": item.base64}
        return {"type": "image" if item.is_image else "document", "source": source}
    if is_text(item.media_type):
        text = item.data.decode("utf-8", "replace")
        return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}
    raise UserError(f"Anthropic takes no {item.media_type}: send images, PDF or text.")
