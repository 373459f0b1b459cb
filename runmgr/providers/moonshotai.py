"""Moonshot AI: https://platform.moonshot.ai/docs."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("MoonshotAIProvider",)


class MoonshotAIProvider(CompatibleProvider):
    """Moonshot AI. Arguments as of ``CompatibleProvider``; ``MOONSHOTAI_API_KEY`` holds the key."""

    provider: ClassVar[str] = "moonshotai"
    title: ClassVar[str] = "Moonshot AI"
    url: ClassVar[str | None] = "https://api.moonshot.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("MOONSHOTAI_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        ignore_streamed_leading_whitespace=True,
        openai_chat_thinking_field="reasoning_content",
        openai_chat_send_back_thinking_parts="field",
        openai_supports_tool_choice_required=False,
    )
