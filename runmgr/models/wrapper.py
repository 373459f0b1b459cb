"""`WrapperModel`: a model around a model, to be made into one that does more."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self

from runmgr.messages import ModelMessage, ModelResponse
from runmgr.models.base import Model
from runmgr.models.infer import infer_model
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfile
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.tools import RunContext

__all__ = ("WrapperModel",)


class WrapperModel(Model):
    """Hands everything on to the model it wraps; subclasses override what they change.

    A subclass that overrides `request` or `request_stream` is asked through them by everybody: `request_once` and
    `request_stream_once` go through the override too. To keep the difference, it overrides those as well.

    Args:
        wrapped: the model, or its string.
    """

    wrapped: Model

    def __init__(self, wrapped: Model | str) -> None:
        super().__init__()
        self.wrapped = infer_model(wrapped)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(wrapped={self.wrapped!r})"

    def __getattr__(self, item: str) -> Any:
        # Only for what this class does not have. `wrapped` itself is missing while a copy or a pickle is being built.
        if item == "wrapped":
            raise AttributeError(item)
        return getattr(self.wrapped, item)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self.wrapped.request(messages, model_settings, model_request_parameters)

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        if type(self).request is not WrapperModel.request:
            return await self.request(messages, model_settings, model_request_parameters)
        return await self.wrapped.request_once(messages, model_settings, model_request_parameters)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        return await self.wrapped.count_tokens(messages, model_settings, model_request_parameters)

    def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        return self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context)

    def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        if type(self).request_stream is not WrapperModel.request_stream:
            return self.request_stream(messages, model_settings, model_request_parameters, run_context)
        return self.wrapped.request_stream_once(
            messages, model_settings, model_request_parameters, run_context
        )

    async def aclose(self) -> None:
        await self.wrapped.aclose()

    async def __aenter__(self) -> Self:
        await self.wrapped.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.wrapped.__aexit__(*exc_info)

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        return self.wrapped.customize_request_parameters(model_request_parameters)

    def prepare_request(
        self, model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        return self.wrapped.prepare_request(model_settings, model_request_parameters)

    @property
    def model_name(self) -> str:
        return self.wrapped.model_name

    @property
    def system(self) -> str:
        return self.wrapped.system

    @property
    def label(self) -> str:
        return self.wrapped.label

    @property
    def base_url(self) -> str | None:
        return self.wrapped.base_url

    @property
    def profile(self) -> ModelProfile:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.wrapped.profile

    @property
    def settings(self) -> ModelSettings | None:
        """The wrapped model's; it merges them itself."""
        return self.wrapped.settings
