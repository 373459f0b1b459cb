"""Together AI: https://docs.together.ai/docs/openai-api-compatibility."""

from __future__ import annotations

from typing import ClassVar

from runmgr.providers.compatible import CompatibleProvider

__all__ = ("TogetherProvider",)


class TogetherProvider(CompatibleProvider):
    """Together AI. Arguments as of ``CompatibleProvider``; ``TOGETHER_API_KEY`` holds the key."""

    provider: ClassVar[str] = "together"
    title: ClassVar[str] = "Together AI"
    url: ClassVar[str | None] = "https://api.together.xyz/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("TOGETHER_API_KEY",)
