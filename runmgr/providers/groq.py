"""Groq: https://console.groq.com/docs/openai."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("GroqProvider",)


class GroqProvider(CompatibleProvider):
    """Groq. Arguments as of ``CompatibleProvider``; ``GROQ_API_KEY`` holds the key, ``GROQ_BASE_URL`` the URL."""

    provider: ClassVar[str] = "groq"
    title: ClassVar[str] = "Groq"
    url: ClassVar[str | None] = "https://api.groq.com/openai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("GROQ_API_KEY",)
    url_variable: ClassVar[str | None] = "GROQ_BASE_URL"
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        openai_unsupported_model_settings=("logit_bias", "openai_logprobs", "openai_top_logprobs"),
    )
