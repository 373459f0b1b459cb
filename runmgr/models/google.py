"""Google's models: ``GoogleModel``."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

from runmgr.builtin_tools import (
    AbstractBuiltinTool,
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelMessage
from runmgr.models.attached import Files
from runmgr.models.google_request import map_config, map_messages, map_parameters, map_settings
from runmgr.models.google_response import map_answer, map_tokens, retry_delay
from runmgr.models.google_stream import GeminiStreamedResponse
from runmgr.models.http import HttpClient, Reply
from runmgr.models.remote import Call, RemoteModel, encode
from runmgr.models.retry import RetryPolicy
from runmgr.profiles import ModelProfileSpec
from runmgr.profiles.google import GoogleModelProfile
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.providers import Provider

__all__ = ("GoogleModel", "GoogleModelName", "GoogleModelSettings")

GoogleModelName: TypeAlias = str
"""A model's name as Google knows it."""


class GoogleModelSettings(ModelSettings, total=False):
    """Settings of Google's models beyond those that every model knows."""

    google_safety_settings: list[dict[str, Any]]
    """What to block: ``[{"category": "HARM_CATEGORY_...", "threshold": "BLOCK_..."}]``."""

    google_thinking_config: dict[str, Any]
    """``include_thoughts``, ``thinking_budget``, ``thinking_level``."""

    google_labels: dict[str, str]
    """Labels for the bill; Vertex AI only."""

    google_video_resolution: str
    """``MEDIA_RESOLUTION_LOW``, ``_MEDIUM`` or ``_HIGH``."""

    google_cached_content: str
    """The name of content that was cached before."""


class GoogleModel(RemoteModel):
    """A model behind Google's Gemini API.

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

    _map_answer = staticmethod(map_answer)
    _streamed = GeminiStreamedResponse
    _unwraps_errors: ClassVar[bool] = False

    def __init__(
        self,
        model_name: GoogleModelName,
        *,
        provider: Provider[HttpClient] | str = "google-gla",
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            model_name, provider=provider, profile=profile, settings=settings, retry=retry, rng=rng
        )
        path = model_name if "/" in model_name else f"models/{model_name}"
        self._resource = path
        self._path = f"/{path}:generateContent"
        self._stream_path = f"/{path}:streamGenerateContent?alt=sse"
        self._count_path = f"/{path}:countTokens"

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """The tools that Google runs itself."""
        return frozenset(
            {WebSearchTool, CodeExecutionTool, FileSearchTool, WebFetchTool, ImageGenerationTool}
        )

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        """As of ``Model``; Google's own tools do not go together with ours, so output does without tools beside them.

        Raises:
            UserError: output tools together with Google's own tools; native output with function tools.
        """
        params = model_request_parameters
        if params.output_tools and params.builtin_tools:
            profile = GoogleModelProfile.from_profile(self.profile)
            native = profile.google_supports_native_output_with_builtin_tools
            if params.output_mode == "auto":
                params = replace(
                    params, output_mode="native" if native else "prompted", allow_text_output=True
                )
            elif params.output_mode == "tool":
                better = "NativeOutput" if native else "PromptedOutput"
                raise UserError(
                    "Google does not support output tools and built-in tools at the same time. "
                    f"Use `output_type={better}(...)` instead."
                )
        if params.output_mode == "native" and params.function_tools:
            raise UserError(
                "Google does not support `NativeOutput` and function tools at the same time. "
                "Use `output_type=ToolOutput(...)` instead."
            )
        return super().customize_request_parameters(params)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """The input tokens that a request would use, with its tools and instructions, as Google counts them. Errors as of
        ``request``.
        """
        given, params = self._asked(model_settings, model_request_parameters)
        asked = {"model": self._resource, **await self._fields(messages, given, params)}
        body = encode({"generateContentRequest": asked})
        call = Call(self._count_path, body, given.get("extra_headers"), self._limits(given))
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
        body = encode(await self._fields(messages, given, params))
        path = self._stream_path if stream else self._path
        return Call(path, body, given.get("extra_headers"), self._limits(given))

    async def _fields(
        self, messages: list[ModelMessage], settings: dict[str, Any], params: ModelRequestParameters
    ) -> dict[str, Any]:
        def mapped(files: Files) -> dict[str, Any]:
            return map_messages(messages, params, self._provider.name, files)

        fields = await self._with_files(mapped)
        fields.update(self._constant(params, self._decided))
        fields["generationConfig"] = map_config(params, self.profile)
        if settings:
            map_settings(settings, fields)
        return fields

    def _decided(self, params: ModelRequestParameters) -> dict[str, Any]:
        return map_parameters(params, self.profile)

    def _error(self, reply: Reply) -> ModelHTTPError:
        error = super()._error(reply)
        if "retry-after" not in error.headers and (seconds := retry_delay(error.body)) is not None:
            error.headers = {**error.headers, "retry-after": seconds}
        return error
