"""Model servers that people run themselves, and that speak OpenAI's protocol the same way."""

from __future__ import annotations

from typing import ClassVar

from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = ("ServedProvider",)


class ServedProvider(CompatibleProvider):
    """A server that guides the decoding by JSON schemas, puts thoughts into ``reasoning_content``, and needs no key.

    Arguments as of ``CompatibleProvider``.
    """

    needs_key: ClassVar[bool] = False
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        supports_json_schema_output=True,
        openai_chat_thinking_field="reasoning_content",
        openai_supports_strict_tool_definition=False,
    )
