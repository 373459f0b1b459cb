"""Anthropic, and whoever speaks its protocol at another base URL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from runmgr.models.http import Timeouts, http_client_for
from runmgr.profiles import ModelProfile
from runmgr.profiles.anthropic import AnthropicJsonSchemaTransformer, anthropic_model_profile
from runmgr.providers.base import HttpProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("ANTHROPIC_BASE_URL", "AnthropicJsonSchemaTransformer", "AnthropicProvider")

ANTHROPIC_BASE_URL = "https://api.anthropic.com"


class AnthropicProvider(HttpProvider):
    """Anthropic's API, or one that is compatible with it.

    Args:
        api_key: the key; else ``ANTHROPIC_API_KEY``. A server at a ``base_url`` of your own may need none.
        base_url: where the API is, without its ``/v1``; else ``ANTHROPIC_BASE_URL``, else Anthropic's own.
        http_client: an ``httpx2.AsyncClient`` to send through instead of our own pool; who made it closes it.
        max_connections: how many connections to the API one ``trio.run`` may have open; 1,000 where not given.
        timeouts: limits of every request that sets no ``timeout``; see ``runmgr.models.http.Timeouts``.

    Raises:
        UserError: no key, or a base URL that is no URL.
    """

    title: ClassVar[str] = "Anthropic"
    url: ClassVar[str | None] = ANTHROPIC_BASE_URL
    key_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_API_KEY",)
    url_variable: ClassVar[str | None] = "ANTHROPIC_BASE_URL"

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = self._key(api_key, base_url)
        self._base_url = (base_url or os.environ.get("ANTHROPIC_BASE_URL") or ANTHROPIC_BASE_URL).rstrip("/")
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        self._client = http_client_for(
            self._base_url,
            headers=headers,
            http_client=http_client,
            max_connections=max_connections,
            timeouts=timeouts,
        )

    @property
    def name(self) -> str:
        """``anthropic``."""
        return "anthropic"

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """The profile by the model's name."""
        return anthropic_model_profile(model_name)
