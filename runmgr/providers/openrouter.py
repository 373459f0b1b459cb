"""OpenRouter: https://openrouter.ai/docs/api-reference/overview."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from runmgr.models.http import Timeouts
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("OpenRouterProvider",)


class OpenRouterProvider(CompatibleProvider):
    """OpenRouter. Arguments as of ``CompatibleProvider``; ``OPENROUTER_API_KEY`` holds the key. ``app_url`` and ``app_title`` (else
    ``OPENROUTER_APP_URL`` and ``OPENROUTER_APP_TITLE``) say which program asks.
    """

    provider: ClassVar[str] = "openrouter"
    title: ClassVar[str] = "OpenRouter"
    url: ClassVar[str | None] = "https://openrouter.ai/api/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENROUTER_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        openai_chat_thinking_field="reasoning",
        openai_chat_send_back_thinking_parts="field",
        openai_chat_supports_file_urls=True,
    )

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        app_url: str | None = None,
        app_title: str | None = None,
        headers: dict[str, str] | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        told = {
            "http-referer": app_url or os.environ.get("OPENROUTER_APP_URL"),
            "x-title": app_title or os.environ.get("OPENROUTER_APP_TITLE"),
        }
        super().__init__(
            api_key=api_key,
            base_url=base_url,
            http_client=http_client,
            headers={name: value for name, value in told.items() if value} | (headers or {}),
            max_connections=max_connections,
            timeouts=timeouts,
        )
