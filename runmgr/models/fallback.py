"""`FallbackModel`: several models, each asked when those before it failed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from runmgr.exceptions import FallbackExceptionGroup, ModelAPIError, UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.models.base import Model
from runmgr.models.infer import infer_model
from runmgr.models.otel import current_span
from runmgr.models.parts import asker
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfile
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.tools import RunContext

__all__ = ("FallbackModel",)

FallbackOn: TypeAlias = Callable[[Exception], bool] | type[Exception] | tuple[type[Exception], ...]


class FallbackModel(Model):
    """Asks the first model, and the next where that fails in a way that ``fallback_on`` names.

    Each model brings its own settings and profile: what is asked for is prepared by the model that is asked. With
    `request` each model resends by its own policy before the next one is asked; with `request_once`, and in a supervisor, each is
    tried once. A stream falls back only until it is open.

    Args:
        default_model: asked first: a model or its string.
        fallback_models: asked after that, in this order.
        fallback_on: exception types, or a function that says whether an exception is a reason to go on.

    Attributes:
        models: all of them, in order.

    Raises:
        UserError: ``fallback_on`` is something else, or a model string is unknown.
    """

    def __init__(
        self,
        default_model: Model | str,
        *fallback_models: Model | str,
        fallback_on: FallbackOn = (ModelAPIError,),
    ) -> None:
        super().__init__()
        self.models: list[Model] = [infer_model(default_model), *map(infer_model, fallback_models)]
        self._fallback_on = _condition(fallback_on)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(models={self.models!r})"

    @property
    def model_name(self) -> str:
        """``fallback:A,B``."""
        return f"fallback:{','.join(model.model_name for model in self.models)}"

    @property
    def system(self) -> str:
        """``fallback:A,B``."""
        return f"fallback:{','.join(model.system for model in self.models)}"

    @property
    def base_url(self) -> str | None:
        """The first model's."""
        return self.models[0].base_url

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask one model after the other.

        Raises:
            FallbackExceptionGroup: all failed; holds each one's exception, in order.
            Exception: one failed in a way that ``fallback_on`` doesn't name.
        """
        return await self._ask(False, messages, model_settings, model_request_parameters)

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask one model after the other, each once; raises as `request` does."""
        return await self._ask(True, messages, model_settings, model_request_parameters)

    async def _ask(
        self,
        once: bool,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        params: ModelRequestParameters,
    ) -> ModelResponse:
        failures: list[Exception] = []
        through = asker.get()
        for model in self.models:
            try:
                if through is not None:
                    last = model is self.models[-1]
                    response = await through.request(model, messages, model_settings, params, last=last)
                else:
                    ask = model.request_once if once else model.request
                    response = await ask(messages, model_settings, params)
            except Exception as failure:
                if not self._fallback_on(failure):
                    raise
                failures.append(failure)
            else:
                self._tell_span(model)
                return response
        raise FallbackExceptionGroup("All models from FallbackModel failed", failures)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """As the first model counts."""
        return await self.models[0].count_tokens(messages, model_settings, model_request_parameters)

    def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open a stream of the first model that can open one; raises as `request` does."""
        return self._open(False, messages, model_settings, model_request_parameters, run_context)

    def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open a stream of the first model that can open one, each tried once."""
        return self._open(True, messages, model_settings, model_request_parameters, run_context)

    @asynccontextmanager
    async def _open(
        self,
        once: bool,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        params: ModelRequestParameters,
        run_context: RunContext[Any] | None,
    ) -> AsyncGenerator[StreamedResponse]:
        failures: list[Exception] = []
        through = asker.get()
        for model in self.models:
            if through is not None:
                opener = partial(through.request_stream, model, last=model is self.models[-1])
            else:
                opener = model.request_stream_once if once else model.request_stream
            async with AsyncExitStack() as stack:
                try:
                    response = await stack.enter_async_context(
                        opener(messages, model_settings, params, run_context)
                    )
                except Exception as failure:
                    if not self._fallback_on(failure):
                        raise
                    failures.append(failure)
                    continue
                self._tell_span(model)
                yield response
                return
        raise FallbackExceptionGroup("All models from FallbackModel failed", failures)

    async def aclose(self) -> None:
        """Close all models, also where closing one of them fails."""
        async with AsyncExitStack() as stack:
            for model in self.models:
                stack.push_async_callback(model.aclose)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for model in self.models:
                await stack.enter_async_context(model)
            stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        async with AsyncExitStack() as stack:
            for model in self.models:
                stack.push_async_exit(model)

    @property
    def profile(self) -> ModelProfile:  # pyright: ignore[reportIncompatibleVariableOverride]
        """There is none: each model has its own. Raises ``NotImplementedError``."""
        raise NotImplementedError("FallbackModel does not have its own model profile.")

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        """Nothing: the model that is asked does it."""
        return model_request_parameters

    def prepare_request(
        self, model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        """Nothing: the model that is asked does it."""
        return model_settings, model_request_parameters

    def _tell_span(self, model: Model) -> None:
        """On the span of an `InstrumentedModel` around this one: which model it was."""
        span = current_span()
        if span is not None and span.is_recording():
            attributes: dict[str, Any] = getattr(span, "attributes", None) or {}
            if attributes.get("gen_ai.request.model") == self.model_name:
                from runmgr.models.instrumented import model_attributes

                span.set_attributes(model_attributes(model))


def _condition(fallback_on: FallbackOn) -> Callable[[Exception], bool]:
    if isinstance(fallback_on, type):
        fallback_on = (fallback_on,)
    if isinstance(fallback_on, tuple):
        kinds = cast("tuple[type[Exception], ...]", fallback_on)
        if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            return lambda failure: isinstance(failure, kinds)
    elif callable(fallback_on):
        return fallback_on
    raise UserError(f"fallback_on takes exception types or a function, not {fallback_on!r}")
