"""What every provider is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

from runmgr.exceptions import UserError
from runmgr.models.http import HttpClient
from runmgr.models.http.origin import public_url
from runmgr.profiles import ModelProfile

__all__ = ("HttpProvider", "Provider")

ClientT_co = TypeVar("ClientT_co", bound=HttpClient, covariant=True)


class Provider(ABC, Generic[ClientT_co]):
    """Somebody who serves models: a name, a base URL, and a client that requests are sent through.

    Connections belong to the running ``trio.run`` and are opened by the first request. They are closed when idle for some
    seconds and another request looks, at ``aclose``, when the last ``async with provider`` block (or ``async with model``) of
    the run ends, and when ``trio.run`` ends. A provider stays usable after each of these.
    """

    title: ClassVar[str] = ""
    """The provider's name for people."""
    url: ClassVar[str | None] = None
    """Where the API is; None where that is never the same."""
    key_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that may hold the key."""
    url_variable: ClassVar[str | None] = None
    """Environment variable that may hold the URL."""
    needs_key: ClassVar[bool] = True
    """False for servers of one's own, which need none."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The provider's name, as ``ModelResponse.provider_name`` has it."""
        raise NotImplementedError

    @property
    @abstractmethod
    def base_url(self) -> str:
        """Where its API is."""
        raise NotImplementedError

    @property
    @abstractmethod
    def client(self) -> ClientT_co:
        """What requests are sent through."""
        raise NotImplementedError

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """What a model of this provider can do, or None where the provider does not know."""
        del model_name
        return None

    def path_of(self, path: str, model_name: str) -> str:
        """Where an operation of the API is, below the base URL; providers that put more into it say so.

        Args:
            path: where it usually is.
            model_name: the model that is asked.
        """
        del model_name
        return path

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when their answers are read. Does not wait. Idempotent."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name}, base_url={public_url(self.base_url)})"


class HttpProvider(Provider[HttpClient]):
    """A provider that is reached through our own HTTP door, with a key from an argument or the environment."""

    key_hint: ClassVar[str] = ""
    """What else to say where the key is missing."""

    _base_url: str
    _client: HttpClient

    @property
    def base_url(self) -> str:
        """Where the API is."""
        return self._base_url

    @property
    def client(self) -> HttpClient:
        """What requests are sent through."""
        return self._client

    def _key(self, api_key: str | None, base_url: str | None) -> str:
        """The key to send; a word that stands for none where the server is one's own.

        Raises:
            UserError: there is none, and there has to be.
        """
        key = api_key or next((value for name in self.key_variables if (value := os.environ.get(name))), None)
        if key:
            return key
        if self.needs_key and base_url is None:
            raise UserError(
                f"No API key for {self.title}: set the {' or '.join(self.key_variables)} environment variable, or pass it as "
                f"{type(self).__name__}(api_key=...).{self.key_hint}"
            )
        return "api-key-not-set"
