"""Google's Gemini API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from runmgr.models.http import Timeouts, http_client_for
from runmgr.profiles import ModelProfile
from runmgr.profiles.google import google_model_profile
from runmgr.providers.base import HttpProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("GOOGLE_BASE_URL", "GoogleProvider")

GOOGLE_BASE_URL = "https://generativelanguage.googleapis.com/"


class GoogleProvider(HttpProvider):
    """Google's Gemini API (Generative Language), or a server that speaks it.

    Args:
        api_key: the key; else ``GOOGLE_API_KEY``, else ``GEMINI_API_KEY``. A server at a ``base_url`` of your own may need none.
        base_url: where the API is, without its ``/v1beta``; else ``GOOGLE_GEMINI_BASE_URL``, else Google's own.
        http_client: an ``httpx2.AsyncClient`` to send through instead of our own pool; who made it closes it.
        max_connections: how many connections to the API one ``trio.run`` may have open; 1,000 where not given.
        timeouts: limits of every request that sets no ``timeout``; see ``runmgr.models.http.Timeouts``.

    Raises:
        UserError: no key, or a base URL that is no URL.
    """

    title: ClassVar[str] = "Google"
    url: ClassVar[str | None] = GOOGLE_BASE_URL
    key_variables: ClassVar[tuple[str, ...]] = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    url_variable: ClassVar[str | None] = "GOOGLE_GEMINI_BASE_URL"

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
        self._base_url = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or GOOGLE_BASE_URL
        where, mark, query = self._base_url.partition("?")
        self._client = http_client_for(
            f"{where.rstrip('/')}/v1beta{mark}{query}",
            headers={"x-goog-api-key": key},
            http_client=http_client,
            max_connections=max_connections,
            timeouts=timeouts,
        )

    @property
    def name(self) -> str:
        """``google-gla``: Google's Generative Language API."""
        return "google-gla"

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """The profile by the model's name."""
        return google_model_profile(model_name)
