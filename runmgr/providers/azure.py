"""OpenAI's models on Azure: https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from runmgr.exceptions import UserError
from runmgr.models.http import Timeouts
from runmgr.providers.compatible import CompatibleProvider

if TYPE_CHECKING:
    import httpx2

__all__ = ("AzureProvider",)


class AzureProvider(CompatibleProvider):
    """Azure OpenAI. A model's name is that of its deployment.

    Args:
        azure_endpoint: ``https://NAME.openai.azure.com``, with ``/openai/v1`` for the API without versions; else
            ``AZURE_OPENAI_ENDPOINT``.
        api_version: the API's version; else ``OPENAI_API_VERSION``. None is needed with ``/openai/v1``.
        api_key: the key; else ``AZURE_OPENAI_API_KEY``.
        http_client: as of ``CompatibleProvider``.
        headers: as of ``CompatibleProvider``.
        max_connections: as of ``CompatibleProvider``.
        timeouts: as of ``CompatibleProvider``.
        base_url: another name of ``azure_endpoint``.

    Raises:
        UserError: no endpoint, version or key; names the variable.
    """

    provider: ClassVar[str] = "azure"
    title: ClassVar[str] = "Azure"
    key_variables: ClassVar[tuple[str, ...]] = ("AZURE_OPENAI_API_KEY",)
    url_variable: ClassVar[str | None] = "AZURE_OPENAI_ENDPOINT"

    def __init__(
        self,
        *,
        azure_endpoint: str | None = None,
        api_version: str | None = None,
        api_key: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        headers: dict[str, str] | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts | None = None,
        base_url: str | None = None,
    ) -> None:
        endpoint = azure_endpoint or base_url or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not endpoint:
            raise UserError(
                "No endpoint for Azure: set the AZURE_OPENAI_ENDPOINT environment variable, or pass it as "
                "AzureProvider(azure_endpoint=...)."
            )
        if not (api_key or os.environ.get("AZURE_OPENAI_API_KEY")):
            raise UserError(
                "No API key for Azure: set the AZURE_OPENAI_API_KEY environment variable, or pass it as "
                "AzureProvider(api_key=...)."
            )
        endpoint = endpoint.rstrip("/")
        self._api_version: str | None = None
        if not endpoint.endswith("/v1"):
            self._api_version = api_version or os.environ.get("OPENAI_API_VERSION")
            if not self._api_version:
                raise UserError(
                    "No API version for Azure: set the OPENAI_API_VERSION environment variable, or pass it as "
                    "AzureProvider(api_version=...); an endpoint that ends with /openai/v1 needs none."
                )
            if not endpoint.endswith("/openai"):
                endpoint += "/openai"
        super().__init__(
            api_key=api_key,
            base_url=endpoint + "/",
            http_client=http_client,
            headers=headers,
            max_connections=max_connections,
            timeouts=timeouts,
        )

    def _key_header(self, key: str) -> dict[str, str]:
        return {"api-key": key}

    def path_of(self, path: str, model_name: str) -> str:
        """Chat completions are a deployment's; everything has the version in its query."""
        if self._api_version is None:
            return path
        if path == "/chat/completions":
            path = f"/deployments/{quote(model_name, safe='')}{path}"
        return f"{path}?api-version={quote(self._api_version)}"
