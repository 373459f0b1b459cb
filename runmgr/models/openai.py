"""OpenAI's models, and whatever speaks its chat completions: ``OpenAIChatModel``."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

import msgspec
from typing_extensions import deprecated

from runmgr.builtin_tools import AbstractBuiltinTool, WebSearchTool
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.models.allow import check_allow_model_requests
from runmgr.models.base import Model
from runmgr.models.files import fetch_file
from runmgr.models.http import HttpClient, HttpError, Reply, ReplyStream, Timeouts, read_all, timeouts_of
from runmgr.models.http.failures import api_error, http_error
from runmgr.models.openai_request import Files, map_messages, map_parameters, map_settings
from runmgr.models.openai_response import map_completion
from runmgr.models.openai_stream import OpenAIStreamedResponse
from runmgr.models.retry import RetryPolicy, resend, resend_stream
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfileSpec
from runmgr.profiles.openai import OpenAIModelProfile, OpenAISystemPromptRole
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings

if TYPE_CHECKING:
    from runmgr.providers import Provider
    from runmgr.tools import RunContext

__all__ = (
    "OpenAIChatModel",
    "OpenAIChatModelSettings",
    "OpenAIModel",
    "OpenAIModelName",
    "OpenAIModelSettings",
)

OpenAIModelName: TypeAlias = str
"""A model's name as OpenAI, or whoever is compatible, knows it."""


class OpenAIChatModelSettings(ModelSettings, total=False):
    """Settings of chat completions beyond those that every model knows."""

    openai_reasoning_effort: str
    """How much a reasoning model thinks before it answers: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh``,
    as the model has them."""

    openai_logprobs: bool
    """Log probabilities of the answer's tokens, in ``provider_details['logprobs']``."""

    openai_top_logprobs: int
    """How many of the likeliest tokens at each place to tell."""

    openai_user: str
    """The end user, for OpenAI's abuse detection."""

    openai_service_tier: Literal["auto", "default", "flex", "priority"]
    """How fast, and at what price, the request is served."""

    openai_prediction: dict[str, Any]
    """What the answer will mostly be: ``{"type": "content", "content": ...}``."""

    openai_prompt_cache_key: str
    """Requests with the same key are cached together."""

    openai_prompt_cache_retention: Literal["in-memory", "24h"]
    """How long the prompt is cached."""


class OpenAIModelSettings(OpenAIChatModelSettings, total=False):
    """Old name of ``OpenAIChatModelSettings``."""


_PATH = "/chat/completions"
_NO_SETTINGS: dict[str, Any] = {}


class OpenAIChatModel(Model):
    """A model behind OpenAI's chat completions API, or a compatible server.

    Args:
        model_name: the model's name as the provider knows it.
        provider: a provider, or the name of one that finds its key and URL in the environment.
        profile: what the model can do; the provider's knowledge where None.
        system_prompt_role: the role of system prompts; the profile's where None.
        settings: defaults for every request.
        retry: how ``request`` and ``request_stream`` resend; ``request_once`` and ``request_stream_once`` never do.
        rng: source of the jitter between resends.

    Raises:
        UserError: the provider is unknown, or its key is missing.
    """

    def __init__(
        self,
        model_name: OpenAIModelName,
        *,
        provider: Provider[HttpClient] | str = "openai",
        profile: ModelProfileSpec | None = None,
        system_prompt_role: OpenAISystemPromptRole | None = None,
        settings: ModelSettings | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        if isinstance(provider, str):
            from runmgr.providers import infer_provider

            provider = infer_provider(provider)
        self._model_name = model_name
        self._provider = provider
        self._client = provider.client
        self._retry = retry
        self._random = rng or random.Random()
        self._system_prompt_role = system_prompt_role
        self._constant: dict[int, tuple[ModelRequestParameters, dict[str, Any]]] = {}
        super().__init__(settings=settings, profile=profile or provider.model_profile)

    # ------------------------------------------------------------------ about

    @property
    def model_name(self) -> OpenAIModelName:
        """The model's name as the provider knows it."""
        return self._model_name

    @property
    def system(self) -> str:
        """The provider's name."""
        return self._provider.name

    @property
    def base_url(self) -> str:
        """The provider's base URL, with a slash at the end."""
        return self._provider.base_url

    @property
    def provider(self) -> Provider[HttpClient]:
        """Who serves the model."""
        return self._provider

    @property
    def client(self) -> HttpClient:
        """What requests are sent through."""
        return self._client

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """Web search, of the models that have it in chat completions."""
        return frozenset({WebSearchTool})

    @cached_property
    def chat_profile(self) -> OpenAIModelProfile:
        """The profile with the switches of chat completions."""
        profile = OpenAIModelProfile.from_profile(self.profile)
        if self._system_prompt_role is not None:
            from dataclasses import replace

            profile = replace(profile, openai_system_prompt_role=self._system_prompt_role)
        return profile

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
            MalformedResponseError: the answer was cut short or is no chat completion.
            UserError: the request cannot be put into chat completions.
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
        body, headers, timeouts = await self._request(messages, settings, params, stream=False)
        try:
            reply = await self._client.post(_PATH, body, headers, timeouts)
        except HttpError as error:
            raise api_error(error, self._model_name) from error
        if reply.status != 200:
            raise http_error(reply, self._model_name)
        return self._response(reply)

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
        body, headers, timeouts = await self._request(messages, settings, params, stream=True)
        stream = self._client.stream(_PATH, body, headers, timeouts)
        try:
            answer = await stream.__aenter__()
        except HttpError as error:
            raise api_error(error, self._model_name) from error
        response = OpenAIStreamedResponse(
            params,
            answer,
            model_name=self._model_name,
            profile=self.chat_profile,
            provider_name=self._provider.name,
            provider_url=self._provider.base_url,
        )
        try:
            await self._open(response, answer)
            yield response
        finally:
            await response.aclose()
            await stream.__aexit__(None, None, None)

    async def _open(self, response: OpenAIStreamedResponse, answer: ReplyStream) -> None:
        head = answer.head
        streamed = head.status == 200 and "application/json" not in head.headers.get("content-type", "")
        if streamed:
            await response.open()
            return
        try:
            reply = Reply(head.status, head.raw_headers, await read_all(answer))
        except HttpError as error:
            raise api_error(error, self._model_name) from error
        if reply.status != 200:
            raise http_error(reply, self._model_name)
        response.whole(self._response(reply))

    def _response(self, reply: Reply) -> ModelResponse:
        profile = self.chat_profile
        return map_completion(
            reply.body,
            model_name=self._model_name,
            provider_name=self._provider.name,
            provider_url=self._provider.base_url,
            thinking_tags=profile.thinking_tags,
            thinking_field=profile.openai_chat_thinking_field,
        )

    async def _request(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        stream: bool,
    ) -> tuple[bytes, dict[str, str] | None, Timeouts | None]:
        """Body, headers and limits of a request."""
        profile = self.chat_profile
        fields: dict[str, Any] = {
            "model": self._model_name,
            "messages": await self._messages(messages, params),
            "stream": stream,
        }
        if stream:
            fields["stream_options"] = {"include_usage": True}
        known = self._constant.get(id(params))
        if known is None:
            known = self._remember(params)
        fields.update(known[1])
        headers: dict[str, str] | None = None
        timeouts: Timeouts | None = None
        if settings:
            given = cast("dict[str, Any]", settings)
            fields.update(map_settings(given, profile))
            if "tools" in fields and (parallel := given.get("parallel_tool_calls")) is not None:
                fields["parallel_tool_calls"] = parallel
            if (extra := given.get("extra_body")) is not None:
                if not isinstance(extra, dict):
                    raise UserError(f"extra_body is added to the request's fields: a dict, not {extra!r}")
                fields.update(cast("dict[str, Any]", extra))
            headers = given.get("extra_headers")
            if (timeout := given.get("timeout")) is not None:
                timeouts = timeouts_of(timeout, self._client.timeouts)
        return _encode(fields), headers, timeouts

    async def _messages(
        self, messages: list[ModelMessage], params: ModelRequestParameters
    ) -> list[dict[str, Any]]:
        files = Files()
        mapped = map_messages(messages, params, self.chat_profile, files)
        if files.missing:
            for item in list(files.missing.values()):
                files.put(item, await fetch_file(item, self._model_name))
            mapped = map_messages(messages, params, self.chat_profile, files)
        return mapped

    def _remember(self, params: ModelRequestParameters) -> tuple[ModelRequestParameters, dict[str, Any]]:
        """The request's fields that parameters decide, encoded once for as long as an agent uses the same ones."""
        fields = map_parameters(params, self.chat_profile, self._model_name)
        encoded = {name: msgspec.Raw(_encode(value)) for name, value in fields.items()}
        if len(self._constant) >= _REMEMBERED:
            del self._constant[next(iter(self._constant))]
        entry = self._constant[id(params)] = (params, encoded)
        return entry


_REMEMBERED = 16


def _encode_hook(value: Any) -> Any:
    from runmgr.messages.codec import any_to_plain

    return any_to_plain(value)


_encode = msgspec.json.Encoder(enc_hook=_encode_hook).encode


@deprecated("`OpenAIModel` is the old name of `OpenAIChatModel`")
class OpenAIModel(OpenAIChatModel):
    """Old name of ``OpenAIChatModel``."""
