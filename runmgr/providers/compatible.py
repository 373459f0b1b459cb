"""Providers that speak OpenAI's protocol: each is a name, a URL, the variables that its key and URL come from, and a profile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from runmgr.exceptions import UserError
from runmgr.models.http import Timeouts, http_client_for
from runmgr.profiles import ModelProfile
from runmgr.profiles.families import compatible_profile
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.base import HttpProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("CompatibleProvider",)


class CompatibleProvider(HttpProvider):
    """A provider that speaks OpenAI's protocol.

    Args:
        api_key: the key; else from the provider's environment variable. A server at a ``base_url`` of your own may need none.
        base_url: where the API is; else from the environment, else the provider's own.
        http_client: an ``httpx2.AsyncClient`` to send through instead of our own pool; who made it closes it.
        headers: sent with every request, besides the key.
        max_connections: how many connections to the API one ``trio.run`` may have open; 1,000 where not given.
        timeouts: limits of every request that sets no ``timeout``; see ``runmgr.models.http.Timeouts``.

    Raises:
        UserError: no key or URL where one is needed, or a base URL that is no URL; names the variable.
    """

    provider: ClassVar[str]
    """The provider's name."""
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile()
    """What holds for all of its models."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        headers: dict[str, str] | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        url = base_url or (os.environ.get(self.url_variable) if self.url_variable else None) or self.url
        if url is None:
            raise UserError(
                f"No URL for {self.title}: set the {self.url_variable} environment variable, or pass it as "
                f"{type(self).__name__}(base_url=...)."
            )
        key = self._key(api_key, base_url)
        self._base_url = url
        self._client = http_client_for(
            url.rstrip("/"),
            headers=self._key_header(key) | (headers or {}),
            http_client=http_client,
            max_connections=max_connections,
            timeouts=timeouts,
        )

    def _key_header(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """The profile by the model's name: its family's, with what holds for all models of this provider."""
        return compatible_profile(model_name, self.switches)
