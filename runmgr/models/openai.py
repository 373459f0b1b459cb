"""OpenAI's models, and whatever speaks its chat completions: ``OpenAIChatModel``."""

from __future__ import annotations

import random
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from typing_extensions import deprecated

from runmgr.builtin_tools import AbstractBuiltinTool, WebSearchTool
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.models.http import HttpClient, Reply, Timeouts
from runmgr.models.openai_request import map_messages, map_parameters, map_settings
from runmgr.models.openai_response import map_completion
from runmgr.models.openai_responses import OpenAIResponsesModel
from runmgr.models.openai_settings import (
    OpenAIChatModelSettings,
    OpenAIModelSettings,
    OpenAIResponsesModelSettings,
)
from runmgr.models.openai_stream import OpenAIStreamedResponse
from runmgr.models.remote import Call, RemoteModel, encode, with_extras
from runmgr.models.retry import RetryPolicy
from runmgr.profiles import ModelProfileSpec
from runmgr.profiles.openai import OpenAIModelProfile, OpenAISystemPromptRole
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings

if TYPE_CHECKING:
    from runmgr.providers import Provider

__all__ = (
    "OpenAIChatModel",
    "OpenAIChatModelSettings",
    "OpenAIModel",
    "OpenAIModelName",
    "OpenAIModelSettings",
    "OpenAIResponsesModel",
    "OpenAIResponsesModelSettings",
)

OpenAIModelName: TypeAlias = str
"""A model's name as OpenAI, or whoever is compatible, knows it."""


_PATH = "/chat/completions"


class OpenAIChatModel(RemoteModel):
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
        self._system_prompt_role = system_prompt_role
        super().__init__(
            model_name, provider=provider, profile=profile, settings=settings, retry=retry, rng=rng
        )
        self._path = self._provider.path_of(_PATH, model_name)

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

    async def _call(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        stream: bool,
    ) -> Call:
        profile = self.chat_profile
        fields: dict[str, Any] = {
            "model": self._model_name,
            "messages": await self._with_files(partial(map_messages, messages, params, profile)),
            "stream": stream,
        }
        if stream:
            fields["stream_options"] = {"include_usage": True}
        fields.update(self._constant(params, self._decided))
        headers: dict[str, str] | None = None
        timeouts: Timeouts | None = None
        if settings:
            given = cast("dict[str, Any]", settings)
            fields.update(map_settings(given, profile))
            if "tools" in fields and (parallel := given.get("parallel_tool_calls")) is not None:
                fields["parallel_tool_calls"] = parallel
            with_extras(fields, given)
            headers = given.get("extra_headers")
            timeouts = self._limits(given)
        return Call(self._path, encode(fields), headers, timeouts)

    def _decided(self, params: ModelRequestParameters) -> dict[str, Any]:
        return map_parameters(params, self.chat_profile, self._model_name)

    def _response(self, reply: Reply) -> ModelResponse:
        profile = self.chat_profile
        return map_completion(
            reply.body,
            **self._named,
            thinking_tags=profile.thinking_tags,
            thinking_field=profile.openai_chat_thinking_field,
        )

    def _stream(self, params: ModelRequestParameters) -> OpenAIStreamedResponse:
        return OpenAIStreamedResponse(
            params,
            profile=self.chat_profile,
            **self._named,
        )


@deprecated("`OpenAIModel` is the old name of `OpenAIChatModel`")
class OpenAIModel(OpenAIChatModel):
    """Old name of ``OpenAIChatModel``."""
