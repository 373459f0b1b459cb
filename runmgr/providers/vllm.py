"""vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html."""

from __future__ import annotations

from typing import ClassVar

from runmgr.providers.served import ServedProvider

__all__ = ("VLLMProvider",)


class VLLMProvider(ServedProvider):
    """vLLM. Arguments as of ``CompatibleProvider``; ``VLLM_API_KEY`` holds the key, ``VLLM_BASE_URL`` the URL."""

    provider: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    url: ClassVar[str | None] = "http://localhost:8000/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("VLLM_API_KEY",)
    url_variable: ClassVar[str | None] = "VLLM_BASE_URL"
