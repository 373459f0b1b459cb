"""Anthropic's models: ``AnthropicModel``."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

from runmgr.builtin_tools import (
    AbstractBuiltinTool,
    CodeExecutionTool,
    MCPServerTool,
    MemoryTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage
from runmgr.models.anthropic_request import (
    Conversation,
    betas_of,
    limit_cache_points,
    map_messages,
    map_parameters,
    map_settings,
)
from runmgr.models.anthropic_response import map_message, map_tokens
from runmgr.models.anthropic_stream import AnthropicStreamedResponse
from runmgr.models.http import HttpClient
from runmgr.models.remote import Call, RemoteModel, encode, with_extras
from runmgr.models.retry import RetryPolicy
from runmgr.profiles import ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings, merge_model_settings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.providers import Provider

__all__ = ("AnthropicModel", "AnthropicModelName", "AnthropicModelSettings")

AnthropicModelName: TypeAlias = str
"""A model's name as Anthropic knows it."""


class AnthropicModelSettings(ModelSettings, total=False):
    """Settings of Anthropic's models beyond those that every model knows."""

    anthropic_metadata: dict[str, Any]
    """About the request: ``{"user_id": ...}``."""

    anthropic_thinking: dict[str, Any]
    """Extended thinking: ``{"type": "enabled", "budget_tokens": 1024}``, or ``{"type": "disabled"}``."""

    anthropic_cache_tool_definitions: bool | Literal["5m", "1h"]
    """Cache the tools: a cache point behind the last one; True is five minutes."""

    anthropic_cache_instructions: bool | Literal["5m", "1h"]
    """Cache the system prompt and instructions: a cache point behind them."""

    anthropic_cache_messages: bool | Literal["5m", "1h"]
    """Cache the conversation: a cache point behind its last content."""

    anthropic_container: dict[str, Any] | Literal[False]
    """Where code runs: ``{"id": ...}``, with ``skills``; False for a new one. Without it, that of the conversation so far."""


_PATH = "/v1/messages?beta=true"
_COUNT_PATH = "/v1/messages/count_tokens?beta=true"
_COUNTED = frozenset({"model", "messages", "system", "tools", "tool_choice", "mcp_servers", "output_format"})
_PARAMS_SETTINGS = ("anthropic_cache_tool_definitions", "parallel_tool_calls")


class AnthropicModel(RemoteModel):
    """A model behind Anthropic's messages API.

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

    _map_answer = staticmethod(map_message)
    _streamed = AnthropicStreamedResponse
    # The request's id stands beside the error in Anthropic's answers.
    _unwraps_errors: ClassVar[bool] = False

    def __init__(
        self,
        model_name: AnthropicModelName,
        *,
        provider: Provider[HttpClient] | str = "anthropic",
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            model_name, provider=provider, profile=profile, settings=settings, retry=retry, rng=rng
        )
        self._without_output_tools: dict[int, tuple[ModelRequestParameters, ModelRequestParameters]] = {}

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """The tools that Anthropic runs itself."""
        return frozenset({WebSearchTool, CodeExecutionTool, WebFetchTool, MemoryTool, MCPServerTool})

    # ------------------------------------------------------------------ preparation

    def prepare_request(
        self, model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        """As of ``Model``; a model that thinks cannot be made to call a tool, so output does without one there.

        Raises:
            UserError: output tools together with thinking; ``strict=False`` with native output.
        """
        params = model_request_parameters
        settings = cast("dict[str, Any]", merge_model_settings(self.settings, model_settings) or {})
        if params.output_tools and _thinks(settings):
            if params.output_mode == "auto":
                params = self._output_without_tools(params)
            elif params.output_mode == "tool" and not params.allow_text_output:
                better = "NativeOutput" if self.profile.supports_json_schema_output else "PromptedOutput"
                raise UserError(
                    "Anthropic does not support thinking and output tools at the same time. "
                    f"Use `output_type={better}(...)` instead."
                )
        return super().prepare_request(model_settings, params)

    def _output_without_tools(self, params: ModelRequestParameters) -> ModelRequestParameters:
        known = self._without_output_tools.get(id(params))
        if known is None:
            mode = "native" if self.profile.supports_json_schema_output else "prompted"
            if len(self._without_output_tools) >= 16:
                del self._without_output_tools[next(iter(self._without_output_tools))]
            # what `auto` would do, in the mode that can be had
            other = replace(params, output_mode=mode, allow_text_output=True)
            known = self._without_output_tools[id(params)] = (params, other)
        return known[1]

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        """As of ``Model``; a schema of native output is always strict."""
        params = model_request_parameters
        output = params.output_object
        native = params.output_mode == "native" or (
            params.output_mode == "auto" and self.profile.default_structured_output_mode == "native"
        )
        if native and output is not None:
            if output.strict is False:
                raise UserError(
                    "Setting `strict=False` on `output_type=NativeOutput(...)` is not allowed for Anthropic models."
                )
            params = replace(params, output_object=replace(output, strict=True))
        return super().customize_request_parameters(params)

    # ------------------------------------------------------------------ requests

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """The input tokens that a request would use, as Anthropic counts them. Errors as of ``request``."""
        given, params = self._asked(model_settings, model_request_parameters)
        fields = await self._fields(messages, given, params)
        counted = {name: value for name, value in fields.items() if name in _COUNTED}
        if (thinking := given.get("anthropic_thinking")) is not None:
            counted["thinking"] = thinking
        with_extras(counted, given)
        headers = self._headers(given, params, {"token-counting-2024-11-01"})
        call = Call(_COUNT_PATH, encode(counted), headers, self._limits(given))
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
        fields.update(map_settings(given))
        with_extras(fields, given)
        return Call(_PATH, encode(fields), self._headers(given, params, set()), self._limits(given))

    async def _fields(
        self, messages: list[ModelMessage], settings: dict[str, Any], params: ModelRequestParameters
    ) -> dict[str, Any]:
        def mapped(files: Any) -> Conversation:
            return map_messages(messages, params, self.profile, self._provider.name, settings, files)

        conversation = await self._with_files(mapped)
        fields: dict[str, Any] = {"model": self._model_name}
        if any(settings.get(name) is not None for name in _PARAMS_SETTINGS):
            decided = map_parameters(params, self.profile, settings)
            limit_cache_points(conversation, decided.get("tools", ()))
        else:
            decided = self._constant(params, self._decided)
            limit_cache_points(conversation, ())
        fields.update(conversation.fields())
        fields.update(decided)
        return fields

    def _decided(self, params: ModelRequestParameters) -> dict[str, Any]:
        return map_parameters(params, self.profile, {})

    def _headers(
        self, settings: dict[str, Any], params: ModelRequestParameters, betas: set[str]
    ) -> dict[str, str] | None:
        betas |= betas_of(params, self.profile)
        extra = cast("dict[str, str] | None", settings.get("extra_headers"))
        if not betas:
            if not extra:
                return None
            betas = set()
        headers: dict[str, str] = {}
        for name, value in (extra or {}).items():
            if name.lower() == "anthropic-beta":
                betas.update(each.strip() for each in value.split(",") if each.strip())
            else:
                headers[name] = value
        if betas:
            headers["anthropic-beta"] = ",".join(sorted(betas))
        return headers


def _thinks(settings: dict[str, Any]) -> bool:
    thinking = settings.get("anthropic_thinking")
    return bool(thinking) and thinking.get("type") in {"enabled", "adaptive"}
