"""Fireworks AI: https://docs.fireworks.ai/tools-sdks/openai-compatibility."""

from __future__ import annotations

from typing import ClassVar

from runmgr.providers.compatible import CompatibleProvider

__all__ = ("FireworksProvider",)


class FireworksProvider(CompatibleProvider):
    """Fireworks AI. Arguments as of ``CompatibleProvider``; ``FIREWORKS_API_KEY`` holds the key."""

    provider: ClassVar[str] = "fireworks"
    title: ClassVar[str] = "Fireworks AI"
    url: ClassVar[str | None] = "https://api.fireworks.ai/inference/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("FIREWORKS_API_KEY",)
