"""SGLang: https://docs.sglang.ai/basic_usage/openai_api.html."""

from __future__ import annotations

from typing import ClassVar

from runmgr.providers.served import ServedProvider

__all__ = ("SGLangProvider",)


class SGLangProvider(ServedProvider):
    """SGLang. Arguments as of ``CompatibleProvider``; ``SGLANG_API_KEY`` holds the key, ``SGLANG_BASE_URL`` the URL."""

    provider: ClassVar[str] = "sglang"
    title: ClassVar[str] = "SGLang"
    url: ClassVar[str | None] = "http://localhost:30000/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("SGLANG_API_KEY",)
    url_variable: ClassVar[str | None] = "SGLANG_BASE_URL"
