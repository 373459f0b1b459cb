"""Mistral: https://docs.mistral.ai/api/."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("MistralProvider",)


class MistralProvider(CompatibleProvider):
    """Mistral. Arguments as of ``CompatibleProvider``; ``MISTRAL_API_KEY`` holds the key."""

    provider: ClassVar[str] = "mistral"
    title: ClassVar[str] = "Mistral"
    url: ClassVar[str | None] = "https://api.mistral.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("MISTRAL_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        supports_json_schema_output=True,
        openai_supports_tool_choice_required=True,
        openai_chat_supports_max_completion_tokens=False,
        openai_unsupported_model_settings=("logit_bias", "seed", "openai_user"),
    )
