"""OpenAI's models behind its Responses API: ``OpenAIResponsesModel``."""

from __future__ import annotations

import random
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from runmgr.builtin_tools import (
    AbstractBuiltinTool,
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    MCPServerTool,
    WebSearchTool,
)
from runmgr.messages import ModelMessage
from runmgr.models.attached import Files
from runmgr.models.http import HttpClient
from runmgr.models.openai_responses_request import map_messages, map_parameters, map_settings, since_previous
from runmgr.models.openai_responses_response import map_response, map_tokens
from runmgr.models.openai_responses_stream import OpenAIResponsesStreamedResponse
from runmgr.models.remote import Call, RemoteModel, encode, with_extras
from runmgr.models.retry import RetryPolicy
from runmgr.profiles import ModelProfileSpec
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.providers import Provider

__all__ = ("OpenAIResponsesModel",)

_PATH = "/responses"
_COUNT_PATH = "/responses/input_tokens"
# https://platform.openai.com/docs/api-reference/responses/input-tokens
_COUNTED = frozenset({
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "previous_response_id",
    "truncation",
    "parallel_tool_calls",
})  # fmt: skip


class OpenAIResponsesModel(RemoteModel):
    """A model behind OpenAI's Responses API, or a compatible server.

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

    _map_answer = staticmethod(map_response)
    _streamed = OpenAIResponsesStreamedResponse

    def __init__(
        self,
        model_name: str,
        *,
        provider: Provider[HttpClient] | str = "openai",
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            model_name, provider=provider, profile=profile, settings=settings, retry=retry, rng=rng
        )
        self._path = self._provider.path_of(_PATH, model_name)

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """The tools that OpenAI runs itself."""
        return frozenset(
            {WebSearchTool, CodeExecutionTool, FileSearchTool, MCPServerTool, ImageGenerationTool}
        )

    @cached_property
    def openai_profile(self) -> OpenAIModelProfile:
        """The profile with the switches of OpenAI's APIs."""
        return OpenAIModelProfile.from_profile(self.profile)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """The input tokens that a request would use, with its tools and instructions, as OpenAI counts them. Errors as of
        ``request``.
        """
        given, params = self._asked(model_settings, model_request_parameters)
        fields = await self._fields(messages, given, params)
        counted = {name: value for name, value in fields.items() if name in _COUNTED}
        path = self._provider.path_of(_COUNT_PATH, self._model_name)
        call = Call(path, encode(counted), given.get("extra_headers"), self._limits(given))
        return await self._counted(call, map_tokens)

    async def _call(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        stream: bool,
    ) -> Call:
        given = cast("dict[str, Any]", settings or {})
        fields = await self._fields(messages, given, params)
        fields["stream"] = stream
        with_extras(fields, given)
        return Call(self._path, encode(fields), given.get("extra_headers"), self._limits(given))

    async def _fields(
        self, messages: list[ModelMessage], given: dict[str, Any], params: ModelRequestParameters
    ) -> dict[str, Any]:
        profile = self.openai_profile
        previous = given.get("openai_previous_response_id")
        if previous == "auto":
            previous, messages = since_previous(messages, self._provider.name)
        send_ids = given.get("openai_send_reasoning_ids")
        if send_ids is None:
            send_ids = profile.openai_supports_encrypted_reasoning_content

        def mapped(files: Files) -> dict[str, Any]:
            return map_messages(messages, params, profile, self._provider.name, files, send_ids=send_ids)

        fields: dict[str, Any] = {"model": self._model_name, **await self._with_files(mapped)}
        if previous:
            fields["previous_response_id"] = previous
        fields.update(map_settings(given, profile))
        verbosity, tools = given.get("openai_text_verbosity"), given.get("openai_builtin_tools")
        if verbosity is not None or tools:
            # These are parts of what parameters decide otherwise, and are remembered for.
            decided = self._decided(params)
            if verbosity is not None:
                decided["text"] = {**decided.get("text", {}), "verbosity": verbosity}
            if tools:
                decided["tools"] = [*tools, *decided.get("tools", ())]
                decided.setdefault("tool_choice", "auto")
            fields.update(decided)
        else:
            fields.update(self._constant(params, self._decided))
        return fields

    def _decided(self, params: ModelRequestParameters) -> dict[str, Any]:
        return map_parameters(params, self.openai_profile)
