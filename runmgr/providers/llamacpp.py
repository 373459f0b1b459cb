"""llama.cpp: https://github.com/ggml-org/llama.cpp/tree/master/tools/server."""

from __future__ import annotations

from typing import ClassVar

from runmgr.providers.served import ServedProvider

__all__ = ("LlamaCppProvider",)


class LlamaCppProvider(ServedProvider):
    """llama.cpp. Arguments as of ``CompatibleProvider``; ``LLAMA_API_KEY`` holds the key, ``LLAMACPP_BASE_URL`` the URL."""

    provider: ClassVar[str] = "llamacpp"
    title: ClassVar[str] = "llama.cpp"
    url: ClassVar[str | None] = "http://localhost:8080/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("LLAMA_API_KEY",)
    url_variable: ClassVar[str | None] = "LLAMACPP_BASE_URL"
