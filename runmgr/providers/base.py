"""What every provider is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

from runmgr.models.http import HttpClient
from runmgr.models.http.origin import public_url
from runmgr.profiles import ModelProfile

__all__ = ("Provider",)

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
