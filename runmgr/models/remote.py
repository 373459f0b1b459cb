"""What all models behind an HTTP API have in common: ``RemoteModel``, the thin half that sends.

What is sent and what an answer means is decided by pure functions in the modules beside each model (``*_request``, ``*_response``,
``*_stream``); a model class names the path, puts the body together and hands the answer over.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypedDict, TypeVar, cast

import msgspec

from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.models.allow import check_allow_model_requests
from runmgr.models.attached import Files
from runmgr.models.base import Model
from runmgr.models.files import fetch_file
from runmgr.models.http import HttpClient, HttpError, Reply, Timeouts, read_all, timeouts_of
from runmgr.models.http.failures import api_error, http_error, kept_headers
from runmgr.models.http.headers import without_secrets
from runmgr.models.http.origin import public_url
from runmgr.models.remote_stream import RemoteStream
from runmgr.models.retry import RetryPolicy, resend, resend_stream
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.providers import Provider
    from runmgr.tools import RunContext

__all__ = ("Call", "RemoteModel", "encode", "with_extras")

T = TypeVar("T")


class Named(TypedDict):
    """What the pure halves put into responses and errors."""

    model_name: str
    provider_name: str
    provider_url: str


class MapAnswer(Protocol):
    """From the JSON of a whole answer to a response."""

    def __call__(
        self, body: bytes, *, model_name: str, provider_name: str, provider_url: str
    ) -> ModelResponse: ...


class Call(NamedTuple):
    """A request that is ready to be sent."""

    path: str
    body: bytes
    headers: dict[str, str] | None
    timeouts: Timeouts | None


_REMEMBERED = 16


class RemoteModel(Model):
    """A model behind an HTTP API.

    A subclass gives ``_call``, ``_map_answer`` and ``_streamed``, or ``_response`` and ``_stream`` where those need more.

    Args:
        model_name: the model's name as the provider knows it.
        provider: a provider, or the name of one that finds its key and URL in the environment.
        profile: what the model can do; the provider's knowledge where None.
        settings: defaults for every request.
        retry: how ``request`` and ``request_stream`` resend; ``request_once`` and ``request_stream_once`` never do.
        rng: source of the jitter between resends.

    Raises:
        UserError: the provider is unknown, or its key is missing.
    """

    _map_answer: ClassVar[MapAnswer]
    """The pure half that reads a whole answer."""
    _streamed: ClassVar[type[RemoteStream[Any]]]
    """What reads a streamed answer."""
    _unwraps_errors: ClassVar[bool] = True
    """``ModelHTTPError.body`` is the ``error`` object of the answer; False keeps the whole answer."""

    def __init__(
        self,
        model_name: str,
        *,
        provider: Provider[HttpClient] | str,
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        if isinstance(provider, str):
            from runmgr.providers import infer_provider

            provider = infer_provider(provider)
        self._model_name = model_name
        self._provider = provider
        self._named = Named(
            model_name=model_name, provider_name=provider.name, provider_url=public_url(provider.base_url)
        )
        self._client = provider.client
        self._secrets: tuple[bytes, ...] = getattr(provider.client, "secrets", ())
        self._retry = retry
        self._random = rng or random.Random()
        self._known: dict[int, tuple[ModelRequestParameters, dict[str, Any]]] = {}
        self.header_listeners: list[Callable[[list[tuple[bytes, bytes]]], None]] = []
        """Called with the headers of each answer of status 200, as it comes: supervisors learn of rate limits so."""
        super().__init__(settings=settings, profile=profile or provider.model_profile)

    # ------------------------------------------------------------------ what a subclass gives

    @abstractmethod
    async def _call(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        stream: bool,
    ) -> Call:
        """The request, for settings and parameters that are prepared."""

    def _response(self, reply: Reply) -> ModelResponse:
        """What an answer with status 200 says."""
        return type(self)._map_answer(reply.body, **self._named)

    def _stream(self, params: ModelRequestParameters) -> RemoteStream[Any]:
        """What reads a streamed answer."""
        return self._streamed(params, **self._named)

    # ------------------------------------------------------------------ about

    @property
    def model_name(self) -> str:
        """The model's name as the provider knows it."""
        return self._model_name

    @property
    def system(self) -> str:
        """The provider's name."""
        return self._provider.name

    @property
    def base_url(self) -> str:
        """The provider's base URL."""
        return self._provider.base_url

    @property
    def provider(self) -> Provider[HttpClient]:
        """Who serves the model."""
        return self._provider

    @property
    def client(self) -> HttpClient:
        """What requests are sent through."""
        return self._client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model_name!r}, provider={self._provider!r})"

    # -------------------------------------------------------------- connections

    async def __aenter__(self) -> Self:
        """Be a user of the provider's connections; the last to leave closes them."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Close idle connections of the provider. The model stays usable. Idempotent."""
        await self._client.aclose()

    # ----------------------------------------------------------------- requests

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask, and wait for the whole answer; resends what failed as the model's ``retry`` policy says.

        Raises:
            ModelHTTPError: an error status.
            ModelConnectionError: no connection, or no answer on it; names the URL.
            ModelTimeoutError: slower than the limits.
            MalformedResponseError: the answer was cut short or is not what the API answers with.
            UserError: the request cannot be put into the API's form.
        """
        call = partial(self.request_once, messages, model_settings, model_request_parameters)
        return await resend(call, self._retry, self._random)

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """As ``request``, in one try."""
        check_allow_model_requests()
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        return self._read(await self._send(await self._call(messages, settings, params, stream=False)))

    def _read(self, reply: Reply) -> ModelResponse:
        try:
            return self._response(reply)
        except (
            ModelHTTPError
        ) as error:  # told with status 200; the request's id stands in the headers all the same
            error.headers = error.headers or kept_headers(reply)
            raise

    def _take_whole(self, response: RemoteStream[Any], reply: Reply) -> None:
        """An answer that calls itself JSON where a stream was asked for."""
        try:
            if not response.whole_events(reply.body):
                response.whole(self._response(reply))
        except ModelHTTPError as error:
            error.headers = error.headers or kept_headers(reply)
            raise

    async def _send(self, call: Call) -> Reply:
        """The answer to a call, of status 200."""
        try:
            reply = await self._client.post(*call)
        except HttpError as error:
            raise api_error(error, self._model_name) from error
        reply = self._hushed(reply)
        if reply.status != 200:
            raise self._error(reply)
        for listener in self.header_listeners:
            listener(reply.raw_headers)
        return reply

    def _error(self, reply: Reply) -> ModelHTTPError:
        return http_error(reply, self._model_name, unwrap=self._unwraps_errors)

    def _hushed(self, reply: Reply) -> Reply:
        """An answer without our own key, which some servers repeat when something is wrong."""
        for secret in self._secrets:
            if secret in reply.body:
                return Reply(reply.status, reply.raw_headers, without_secrets(reply.body, self._secrets))
        return reply

    def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Ask, and read the answer while it comes; resends as the ``retry`` policy says until the answer has begun.

        Leaving the block early closes the connection at once. Errors as of ``request``, raised at the start of the block, or by
        the iteration where the answer breaks off.
        """
        call = partial(
            self.request_stream_once, messages, model_settings, model_request_parameters, run_context
        )
        return resend_stream(call, self._retry, self._random)

    @asynccontextmanager
    async def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """As ``request_stream``, in one try."""
        del run_context
        check_allow_model_requests()
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        call = await self._call(messages, settings, params, stream=True)
        stream = self._client.stream(*call)
        try:
            answer = await stream.__aenter__()
        except HttpError as error:
            raise api_error(error, self._model_name) from error
        response = self._stream(params)
        try:
            head = answer.head
            if head.status == 200:
                for listener in self.header_listeners:
                    listener(head.raw_headers)
            if head.status == 200 and "application/json" not in head.headers.get("content-type", ""):
                await response.open(answer, self._secrets)
            else:
                try:
                    reply = self._hushed(Reply(head.status, head.raw_headers, await read_all(answer)))
                except HttpError as error:
                    raise api_error(error, self._model_name) from error
                if reply.status != 200:
                    raise self._error(reply)
                self._take_whole(response, reply)
            yield response
        finally:
            await response.aclose()
            await stream.__aexit__(None, None, None)

    # ------------------------------------------------------------------ what subclasses share

    async def _with_files(self, map_with: Callable[[Files], T]) -> T:
        """What ``map_with`` makes once the files that it misses are fetched."""
        files = Files()
        mapped = map_with(files)
        if files.missing:
            for item in list(files.missing.values()):
                files.put(item, await fetch_file(item, self._model_name))
            mapped = map_with(files)
        return mapped

    def _asked(
        self, model_settings: ModelSettings | None, params: ModelRequestParameters
    ) -> tuple[dict[str, Any], ModelRequestParameters]:
        """Settings and parameters of a request, prepared."""
        check_allow_model_requests()
        settings, params = self.prepare_request(model_settings, params)
        return cast("dict[str, Any]", settings or {}), params

    async def _counted(self, call: Call, read: Callable[[bytes, str], RequestUsage]) -> RequestUsage:
        """What a request for a count of tokens is answered with, as ``read`` reads it."""
        reply = await resend(partial(self._send, call), self._retry, self._random)
        return read(reply.body, self._model_name)

    def _constant(
        self, params: ModelRequestParameters, make: Callable[[ModelRequestParameters], dict[str, Any]]
    ) -> dict[str, Any]:
        """The request's fields that parameters decide, encoded once for as long as an agent uses the same ones."""
        known = self._known.get(id(params))
        if known is None:
            encoded = {name: msgspec.Raw(encode(value)) for name, value in make(params).items()}
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            # holding the parameters keeps their identity from coming again for other ones
            known = self._known[id(params)] = (params, encoded)
        return known[1]

    def _limits(self, settings: dict[str, Any]) -> Timeouts | None:
        timeout = settings.get("timeout")
        return None if timeout is None else timeouts_of(timeout, self._client.timeouts)


def with_extras(fields: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put the ``extra_body`` of settings on top of a request's fields.

    Raises:
        UserError: it is no dict.
    """
    extra = settings.get("extra_body")
    if extra is not None:
        if not isinstance(extra, dict):
            raise UserError(f"extra_body is added to the request's fields: a dict, not {extra!r}")
        fields.update(cast("dict[str, Any]", extra))


def _encode_hook(value: Any) -> Any:
    from runmgr.messages.codec import any_to_plain

    return any_to_plain(value)


encode = msgspec.json.Encoder(enc_hook=_encode_hook).encode
