"""Ollama: https://docs.ollama.com/api/openai-compatibility."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("OllamaProvider",)


class OllamaProvider(CompatibleProvider):
    """Ollama. Arguments as of ``CompatibleProvider``; ``OLLAMA_API_KEY`` holds the key, ``OLLAMA_BASE_URL`` the URL."""

    provider: ClassVar[str] = "ollama"
    title: ClassVar[str] = "Ollama"
    key_variables: ClassVar[tuple[str, ...]] = ("OLLAMA_API_KEY",)
    url_variable: ClassVar[str | None] = "OLLAMA_BASE_URL"
    needs_key: ClassVar[bool] = False
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        openai_chat_thinking_field="reasoning",
    )
