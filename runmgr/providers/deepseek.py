"""DeepSeek: https://api-docs.deepseek.com."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from runmgr.profiles import ModelProfile
from runmgr.profiles.families import compatible_profile
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("DeepSeekProvider",)


class DeepSeekProvider(CompatibleProvider):
    """DeepSeek. Arguments as of ``CompatibleProvider``; ``DEEPSEEK_API_KEY`` holds the key."""

    provider: ClassVar[str] = "deepseek"
    title: ClassVar[str] = "DeepSeek"
    url: ClassVar[str | None] = "https://api.deepseek.com"
    key_variables: ClassVar[tuple[str, ...]] = ("DEEPSEEK_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        openai_chat_thinking_field="reasoning_content",
        openai_chat_send_back_thinking_parts="field",
    )

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """The profile by the model's name."""
        profile = compatible_profile(model_name, self.switches)
        # The reasoner refuses `tool_choice: required`: https://api-docs.deepseek.com/guides/reasoning_model
        return replace(profile, openai_supports_tool_choice_required=model_name != "deepseek-reasoner")
