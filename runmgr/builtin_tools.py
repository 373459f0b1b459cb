"""Tools that a provider runs on its own side, as values that say which and how.

A model maps them to its provider's wire format; which ones it can map is in its profile's ``supported_builtin_tools``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from typing_extensions import TypedDict, deprecated

__all__ = (
    "BUILTIN_TOOL_TYPES",
    "DEPRECATED_BUILTIN_TOOLS",
    "SUPPORTED_BUILTIN_TOOLS",
    "AbstractBuiltinTool",
    "CodeExecutionTool",
    "FileSearchTool",
    "ImageAspectRatio",
    "ImageGenerationTool",
    "MCPServerTool",
    "MemoryTool",
    "UrlContextTool",
    "WebFetchTool",
    "WebSearchTool",
    "WebSearchUserLocation",
)

BUILTIN_TOOL_TYPES: dict[str, type[AbstractBuiltinTool]] = {}
"""Every kind of built-in tool by its ``kind``; a subclass registers itself."""

ImageAspectRatio: TypeAlias = Literal[
    "21:9", "16:9", "4:3", "3:2", "1:1", "9:16", "3:4", "2:3", "5:4", "4:5"
]  # fmt: skip


@dataclass(kw_only=True)
class AbstractBuiltinTool:
    """A tool that the provider runs.

    Args:
        kind: its name in records and on the wire between programs; fixed by each subclass.
    """

    kind: str = "unknown_builtin_tool"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = cls.__dict__.get("kind")
        if isinstance(kind, str):
            BUILTIN_TOOL_TYPES[kind] = cls

    @property
    def unique_id(self) -> str:
        """Two tools of the same id exclude each other: of several, the last one given is used."""
        return self.kind

    @property
    def label(self) -> str:
        """A name for people."""
        return self.kind.replace("_", " ").title()


class WebSearchUserLocation(TypedDict, total=False):
    """Where the user is, so that search results fit the place (Anthropic and OpenAI Responses).

    Attributes:
        city: name of the city.
        country: two-letter code for OpenAI; as the provider wants it elsewhere.
        region: region or state.
        timezone: IANA name.
    """

    city: str
    country: str
    region: str
    timezone: str


@dataclass(kw_only=True)
class WebSearchTool(AbstractBuiltinTool):
    """Searches the web.

    Args:
        search_context_size: how much context from the web goes into the model's prompt (OpenAI Responses).
        user_location: where the user is (Anthropic, OpenAI Responses).
        blocked_domains: never use these (Anthropic, Groq, OpenAI Responses as far as they allow it).
        allowed_domains: use only these; with Anthropic not together with ``blocked_domains``.
        max_uses: searches that one request may make (Anthropic).
    """

    search_context_size: Literal["low", "medium", "high"] = "medium"
    user_location: WebSearchUserLocation | None = None
    blocked_domains: list[str] | None = None
    allowed_domains: list[str] | None = None
    max_uses: int | None = None
    kind: str = "web_search"


@dataclass(kw_only=True)
class CodeExecutionTool(AbstractBuiltinTool):
    """Runs code in the provider's sandbox."""

    kind: str = "code_execution"


@dataclass(kw_only=True)
class WebFetchTool(AbstractBuiltinTool):
    """Reads the pages that a prompt names.

    Args:
        max_uses: pages that one request may read (Anthropic).
        allowed_domains: read only from these (Anthropic).
        blocked_domains: never read from these (Anthropic).
        enable_citations: have the model cite what it read (Anthropic).
        max_content_tokens: cut a page's text to so many tokens (Anthropic).
    """

    max_uses: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    enable_citations: bool = False
    max_content_tokens: int | None = None
    kind: str = "web_fetch"


@deprecated("Use `WebFetchTool` instead.")
@dataclass(kw_only=True)
class UrlContextTool(WebFetchTool):
    """The old name of `WebFetchTool`."""

    kind: str = "url_context"


@dataclass(kw_only=True)
class ImageGenerationTool(AbstractBuiltinTool):
    """Makes images.

    Args:
        background: of the image, where the format can be transparent (OpenAI Responses).
        input_fidelity: how closely features of input images are kept (OpenAI Responses).
        moderation: how strict the filter is (OpenAI Responses).
        output_compression: 0 to 100, for JPEG and WebP (OpenAI Responses).
        output_format: file format (OpenAI Responses).
        partial_images: previews to send while streaming, 0 to 3 (OpenAI Responses).
        quality: of the image (OpenAI Responses).
        size: in pixels (OpenAI Responses) or a class of sizes (Google).
        aspect_ratio: width to height (Google; OpenAI Responses maps some to sizes).
    """

    background: Literal["transparent", "opaque", "auto"] = "auto"
    input_fidelity: Literal["high", "low"] | None = None
    moderation: Literal["auto", "low"] = "auto"
    output_compression: int | None = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    partial_images: int = 0
    quality: Literal["low", "medium", "high", "auto"] = "auto"
    size: Literal["auto", "1024x1024", "1024x1536", "1536x1024", "1K", "2K", "4K"] | None = None
    aspect_ratio: ImageAspectRatio | None = None
    kind: str = "image_generation"


@dataclass(kw_only=True)
class MemoryTool(AbstractBuiltinTool):
    """Keeps notes between conversations (Anthropic)."""

    kind: str = "memory"


@dataclass(kw_only=True)
class MCPServerTool(AbstractBuiltinTool):
    """An MCP server that the provider itself calls.

    Args:
        id: names the server; several servers may be given, one an id.
        url: of the server; with OpenAI Responses also ``x-openai-connector:ID``.
        authorization_token: sent to the server.
        description: of the server, for the model.
        allowed_tools: only these of the server's tools.
        headers: sent to the server (OpenAI Responses).
    """

    kind: str = "mcp_server"
    id: str
    url: str
    authorization_token: str | None = None
    description: str | None = None
    allowed_tools: list[str] | None = None
    headers: dict[str, str] | None = None

    @property
    def unique_id(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def label(self) -> str:
        return f"MCP: {self.id}"


@dataclass(kw_only=True)
class FileSearchTool(AbstractBuiltinTool):
    """Searches files that were uploaded to the provider.

    Args:
        file_store_ids: the provider's ids of the stores to search.
    """

    kind: str = "file_search"
    file_store_ids: Sequence[str]


DEPRECATED_BUILTIN_TOOLS: frozenset[type[AbstractBuiltinTool]] = frozenset({UrlContextTool})  # pyright: ignore[reportDeprecated]
"""Old names, still accepted."""

SUPPORTED_BUILTIN_TOOLS: frozenset[type[AbstractBuiltinTool]] = frozenset(
    tool for tool in BUILTIN_TOOL_TYPES.values() if tool not in DEPRECATED_BUILTIN_TOOLS
)
"""Every kind of built-in tool that a model may support."""
