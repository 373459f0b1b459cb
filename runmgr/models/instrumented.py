"""`InstrumentedModel`: a model whose requests leave OpenTelemetry spans and metrics behind."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import trio

from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelResponse
from runmgr.messages.codec import dump_any
from runmgr.messages.otel import otel_messages
from runmgr.models.base import Model, get_instructions
from runmgr.models.otel import Meters, client_span, is_heard, make_meters, make_tracer
from runmgr.models.stream import StreamedResponse
from runmgr.models.wrapper import WrapperModel
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from runmgr.tools import RunContext

__all__ = (
    "CostCalculationFailedWarning",
    "InstrumentationSettings",
    "InstrumentedModel",
    "instrument_model",
    "model_attributes",
)


class CostCalculationFailedWarning(Warning):
    """A response's cost could not be worked out, for another reason than that its model's price is unknown."""


class InstrumentationSettings:
    """Where telemetry goes and what it may tell.

    Nothing of what people and models say is recorded unless ``include_content`` says so. (Pydantic AI records it
    unless told not to.)

    Args:
        tracer_provider: makes the spans; by default the global one.
        meter_provider: makes the metrics; by default the global one.
        include_content: record prompts, answers, tool arguments and results.
        include_binary_content: with ``include_content``, record the bytes of files as well.
        version: 3 names agent and tool spans as the conventions do (``invoke_agent NAME``, ``execute_tool NAME``),
            2 as earlier versions did (``agent run``, ``running tool``). Requests look the same in both.

    Raises:
        UserError: an unknown version.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        include_content: bool = False,
        include_binary_content: bool = True,
        version: Literal[2, 3] = 3,
    ) -> None:
        if version not in {2, 3}:
            raise UserError(f"Instrumentation has the versions 2 and 3, not {version!r}")
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.include_content = include_content
        self.include_binary_content = include_binary_content
        self.version: Literal[2, 3] = version

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(include_content={self.include_content}, "
            f"include_binary_content={self.include_binary_content}, version={self.version})"
        )

    @cached_property
    def tracer(self) -> Tracer:
        """Makes the spans of agents, requests and tools."""
        return make_tracer(self.tracer_provider)

    @cached_property
    def meters(self) -> Meters:
        """What requests are measured with."""
        return make_meters(self.meter_provider)

    @property
    def is_heard(self) -> bool:
        """Whether any of it reaches anybody now; where only OpenTelemetry's API is installed, runs leave it out."""
        return is_heard(self.tracer_provider, self.meter_provider)

    def messages_to_otel_messages(self, messages: list[ModelMessage]) -> list[dict[str, Any]]:
        """Messages in the conventions' form, with as much content as these settings allow."""
        return otel_messages(messages, self)

    def system_instructions_attributes(self, instructions: str | None) -> dict[str, str]:
        """The attribute that holds the instructions; none without content."""
        if not instructions or not self.include_content:
            return {}
        return {"gen_ai.system_instructions": _json([{"type": "text", "content": instructions}])}


def instrument_model(model: Model, instrument: InstrumentationSettings | bool) -> Model:
    """A model that leaves telemetry behind.

    Args:
        model: wrapped, unless it is instrumented already.
        instrument: how; True for the defaults, False to leave the model as it is.
    """
    if instrument is False or isinstance(model, InstrumentedModel):
        return model
    return InstrumentedModel(model, InstrumentationSettings() if instrument is True else instrument)


class InstrumentedModel(WrapperModel):
    """Every request of the wrapped model gets a span ``chat MODEL``, and its tokens, cost and duration are measured.

    With `request` a span holds all resends of a request; with `request_once`, one try.

    Args:
        wrapped: the model, or its string.
        options: where telemetry goes; by default to the global providers, without content.
    """

    def __init__(self, wrapped: Model | str, options: InstrumentationSettings | None = None) -> None:
        super().__init__(wrapped)
        self.instrumentation_settings = options or InstrumentationSettings()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(wrapped={self.wrapped!r}, "
            f"instrumentation_settings={self.instrumentation_settings!r})"
        )

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        with self._span(messages, model_settings, model_request_parameters) as request:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
            request.finish(response)
            return response

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        with self._span(messages, model_settings, model_request_parameters) as request:
            response = await self.wrapped.request_once(messages, model_settings, model_request_parameters)
            request.finish(response)
            return response

    def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        return self._traced_stream(False, messages, model_settings, model_request_parameters, run_context)

    def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        return self._traced_stream(True, messages, model_settings, model_request_parameters, run_context)

    @asynccontextmanager
    async def _traced_stream(
        self,
        once: bool,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        params: ModelRequestParameters,
        run_context: RunContext[Any] | None,
    ) -> AsyncGenerator[StreamedResponse]:
        opener = self.wrapped.request_stream_once if once else self.wrapped.request_stream
        with self._span(messages, model_settings, params) as request:
            async with opener(messages, model_settings, params, run_context) as response:
                try:
                    yield response
                finally:
                    # A stream left early has used what has come so far.
                    request.finish(response.get())

    @contextmanager
    def _span(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        params: ModelRequestParameters,
    ) -> Generator[_Request]:
        settings, prepared = self.wrapped.prepare_request(model_settings, params)
        options = self.instrumentation_settings
        about = model_attributes(self.wrapped)
        # Samplers see these; what takes longer to write down comes when somebody records.
        attributes = {"gen_ai.operation.name": "chat", **about}
        with client_span(
            options.tracer,
            f"chat {self.model_name}",
            attributes,
            include_content=options.include_content,
        ) as span:
            if span.is_recording():
                span.set_attributes(_parameters(prepared))
                span.set_attributes(_settings(settings))
            started = trio.current_time()
            request = _Request(span, options, messages, prepared, about)
            try:
                yield request
            except (Exception, trio.Cancelled) as failure:
                request.measure(trio.current_time() - started, type(failure).__qualname__)
                raise
            request.measure(trio.current_time() - started, None)


_SETTINGS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "stop_sequences": "gen_ai.request.stop_sequences",
}


def _settings(settings: ModelSettings | None) -> dict[str, Any]:
    given: dict[str, Any] = dict(settings or {})
    return {
        attribute: value for name, attribute in _SETTINGS.items() if (value := given.get(name)) is not None
    }


def model_attributes(model: Model) -> dict[str, Any]:
    """What the conventions say of a model: its provider, its name, its server."""
    attributes: dict[str, Any] = {
        "gen_ai.provider.name": model.system,
        # The provider's old attribute, which dashboards still look for.
        "gen_ai.system": model.system,
        "gen_ai.request.model": model.model_name,
    }
    if url := model.base_url:
        try:
            parsed = urlsplit(url)
            host, port = parsed.hostname, parsed.port
        except ValueError:
            host = port = None
        if host:
            attributes["server.address"] = host
        if port:
            attributes["server.port"] = port
    return attributes


def _parameters(params: ModelRequestParameters) -> dict[str, Any]:
    attributes: dict[str, Any] = {"model_request_parameters": _json(params)}
    tools: list[dict[str, Any]] = []
    for tool in params.tool_defs.values():
        shown: dict[str, Any] = {"type": "function", "name": tool.name}
        if tool.description:
            shown["description"] = tool.description
        shown["parameters"] = tool.parameters_json_schema
        tools.append(shown)
    if tools:
        attributes["gen_ai.tool.definitions"] = _json(tools)
    return attributes


class _Request:
    """One request's span, until it has an answer."""

    __slots__ = ("_about", "_messages", "_options", "_params", "_response", "_span")

    def __init__(
        self,
        span: Span,
        options: InstrumentationSettings,
        messages: list[ModelMessage],
        params: ModelRequestParameters,
        about: dict[str, Any],
    ) -> None:
        self._span = span
        self._options = options
        self._messages = messages
        self._params = params
        self._about = about
        self._response: ModelResponse | None = None

    def finish(self, response: ModelResponse) -> None:
        """Put the answer on the span, and its tokens and cost into the metrics."""
        self._response = response
        span, options = self._span, self._options
        recording = span.is_recording()
        listening = options.meters.listening()
        if not (recording or listening):
            return
        if recording:
            # A fallback may have written the model that answered over the one that was asked.
            told: dict[str, Any] = getattr(span, "attributes", None) or {}
            self._about = {key: told.get(key, value) for key, value in self._about.items()}
        price = _price(response)
        if recording:
            span.set_attributes(self._answer(response))
            if price is not None:
                span.set_attribute("operation.cost", float(price.total_price))
            span.update_name(f"chat {self._about['gen_ai.request.model']}")
        if listening:
            usage = response.usage
            shown = self._measured()
            for kind, tokens, cost in (
                ("input", usage.input_tokens, price and price.input_price),
                ("output", usage.output_tokens, price and price.output_price),
            ):
                if tokens:
                    labels = {**shown, "gen_ai.token.type": kind}
                    options.meters.tokens.record(tokens, labels)
                    if cost:
                        options.meters.cost.record(float(cost), labels)

    def measure(self, seconds: float, error: str | None) -> None:
        """How long it took, by trio's clock."""
        if self._options.meters.listening():
            labels = self._measured()
            if error is not None:
                labels["error.type"] = error
            self._options.meters.duration.record(seconds, labels)

    def _measured(self) -> dict[str, Any]:
        labels = {"gen_ai.operation.name": "chat", **self._about}
        if self._response is not None:
            labels["gen_ai.response.model"] = self._response_model()
        return labels

    def _response_model(self) -> str:
        assert self._response is not None
        return self._response.model_name or self._about["gen_ai.request.model"]

    def _answer(self, response: ModelResponse) -> dict[str, Any]:
        options = self._options
        instructions = options.system_instructions_attributes(get_instructions(self._messages, self._params))
        attributes: dict[str, Any] = {
            "gen_ai.input.messages": _json(options.messages_to_otel_messages(self._messages)),
            "gen_ai.output.messages": _json(options.messages_to_otel_messages([response])),
            **instructions,
            **response.usage.opentelemetry_attributes(),
            "gen_ai.response.model": self._response_model(),
            # Tells viewers which attributes are JSON.
            "logfire.json_schema": _json(
                {
                    "type": "object",
                    "properties": {
                        "gen_ai.input.messages": {"type": "array"},
                        "gen_ai.output.messages": {"type": "array"},
                        **({"gen_ai.system_instructions": {"type": "array"}} if instructions else {}),
                        "model_request_parameters": {"type": "object"},
                    },
                }
            ),
        }
        if response.provider_response_id is not None:
            attributes["gen_ai.response.id"] = response.provider_response_id
        if response.finish_reason is not None:
            attributes["gen_ai.response.finish_reasons"] = [response.finish_reason]
        return attributes


def _price(response: ModelResponse) -> Any:
    if not response.model_name:
        return None
    try:
        return response.cost()
    except LookupError:
        # Nobody knows what it costs: in-process models, private ones, new ones.
        return None
    except Exception as failure:  # noqa: BLE001 (telemetry must not fail a request)
        warnings.warn(
            f"Failed to get cost from response: {type(failure).__name__}: {failure}",
            CostCalculationFailedWarning,
            stacklevel=2,
        )
        return None


def _json(value: Any) -> str:
    return dump_any(value).decode()
