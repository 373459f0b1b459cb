"""OpenAI, and whoever speaks its protocol at another base URL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from runmgr.models.http import Timeouts, http_client_for
from runmgr.profiles import ModelProfile
from runmgr.profiles.openai import openai_model_profile
from runmgr.providers.base import HttpProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("OPENAI_BASE_URL", "OpenAIProvider")

OPENAI_BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider(HttpProvider):
    """OpenAI's API, or one that is compatible with it.

    Args:
        base_url: where the API is, with its ``/v1``; else ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: the key; else ``OPENAI_API_KEY``. A server at a ``base_url`` of your own may need none.
        http_client: an ``httpx2.AsyncClient`` to send through instead of our own pool: for HTTP/2, unusual proxies or TLS. Who
            made it closes it.
        organization: OpenAI's organization; else ``OPENAI_ORG_ID``.
        project: OpenAI's project; else ``OPENAI_PROJECT_ID``.
        max_connections: how many connections to the API one ``trio.run`` may have open; 1,000 where not given.
        timeouts: limits of every request that sets no ``timeout``; see ``runmgr.models.http.Timeouts``.

    Raises:
        UserError: no key, or a base URL that is no URL.
    """

    title: ClassVar[str] = "OpenAI"
    url: ClassVar[str | None] = OPENAI_BASE_URL
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    url_variable: ClassVar[str | None] = "OPENAI_BASE_URL"
    key_hint: ClassVar[str] = " A local server takes any word."

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        *,
        organization: str | None = None,
        project: str | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = self._key(api_key, base_url)
        url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_BASE_URL
        self._base_url = url.rstrip("/") + "/"
        headers = {"authorization": f"Bearer {key}"}
        if organization := organization or os.environ.get("OPENAI_ORG_ID"):
            headers["openai-organization"] = organization
        if project := project or os.environ.get("OPENAI_PROJECT_ID"):
            headers["openai-project"] = project
        self._client = http_client_for(
            url, headers=headers, http_client=http_client, max_connections=max_connections, timeouts=timeouts
        )

    @property
    def name(self) -> str:
        """``openai``."""
        return "openai"

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """The profile by the model's name."""
        return openai_model_profile(model_name)
