"""Cerebras: https://inference-docs.cerebras.ai/resources/openai."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("CerebrasProvider",)


class CerebrasProvider(CompatibleProvider):
    """Cerebras. Arguments as of ``CompatibleProvider``; ``CEREBRAS_API_KEY`` holds the key."""

    provider: ClassVar[str] = "cerebras"
    title: ClassVar[str] = "Cerebras"
    url: ClassVar[str | None] = "https://api.cerebras.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("CEREBRAS_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        openai_unsupported_model_settings=(
            "frequency_penalty",
            "logit_bias",
            "presence_penalty",
            "parallel_tool_calls",
            "openai_service_tier",
        ),
    )
