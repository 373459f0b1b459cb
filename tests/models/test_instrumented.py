"""Spans and metrics of model requests, recorded by a provider that is nothing but OpenTelemetry's API."""

import contextlib
import json

import pytest
import trio
from opentelemetry import trace
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, Tracer, TracerProvider

from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    FilePart,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models import ModelRequestParameters, ToolDefinition
from runmgr.models.fallback import FallbackModel
from runmgr.models.function import FunctionModel
from runmgr.models.instrumented import (
    CostCalculationFailedWarning,
    InstrumentationSettings,
    InstrumentedModel,
    instrument_model,
)
from runmgr.models.test import TestModel
from runmgr.usage import RequestUsage


class RecordedSpan(Span):
    def __init__(self, name, kind, attributes, recording):
        self.name, self.kind, self.attributes = name, kind, dict(attributes or {})
        self.recording, self.ended, self.status, self.exceptions = recording, False, None, []

    def end(self, end_time=None):
        self.ended = True

    def get_span_context(self):
        return SpanContext(1, 2, False)

    def set_attributes(self, attributes):
        self.attributes.update(attributes)

    def set_attribute(self, key, value):
        self.attributes[key] = value

    def add_event(self, name, attributes=None, timestamp=None):
        raise NotImplementedError

    def update_name(self, name):
        self.name = name

    def is_recording(self):
        return self.recording

    def set_status(self, status, description=None):
        self.status = status

    def record_exception(self, exception, attributes=None, timestamp=None, escaped=False):
        self.exceptions.append(exception)


class RecordingTracer(Tracer):
    def __init__(self, provider):
        self.provider = provider

    def start_span(self, name, context=None, kind=SpanKind.INTERNAL, attributes=None, *args, **kwargs):
        span = RecordedSpan(name, kind, attributes, self.provider.recording)
        self.provider.spans.append(span)
        return span

    @contextlib.contextmanager
    def start_as_current_span(
        self,
        name,
        context=None,
        kind=SpanKind.INTERNAL,
        attributes=None,
        record_exception=True,
        set_status_on_exception=True,
        **kwargs,
    ):
        with trace.use_span(
            self.start_span(name, context, kind, attributes),
            end_on_exit=True,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ) as span:
            yield span


class Tracing(TracerProvider):
    def __init__(self, recording=True):
        self.spans, self.recording = [], recording

    def get_tracer(self, name, *args, **kwargs):
        self.name = name
        return RecordingTracer(self)


class RecordingHistogram:
    def __init__(self, provider, name):
        self.provider, self.name = provider, name

    def record(self, amount, attributes=None, context=None):
        self.provider.recorded.append((self.name, amount, attributes))


class RecordingMeter(Meter):
    def __init__(self, provider):
        super().__init__("runmgr")
        self.provider = provider

    def create_histogram(self, name, unit="", description="", **kwargs):
        self.provider.units[name] = unit
        return RecordingHistogram(self.provider, name)

    def refuse(self, *args, **kwargs):
        raise NotImplementedError

    create_counter = create_up_down_counter = create_observable_counter = refuse
    create_observable_gauge = create_observable_up_down_counter = refuse


class Metering(MeterProvider):
    def __init__(self):
        self.recorded, self.units = [], {}

    def get_meter(self, *args, **kwargs):
        return RecordingMeter(self)


IMAGE = BinaryContent(data=b"123", media_type="image/png")
HISTORY = [
    ModelRequest(
        [
            SystemPromptPart("be brief"),
            UserPromptPart(["question", IMAGE, ImageUrl("http://x/secret.png"), CachePoint()]),
        ],
        instructions="instructed",
    ),
    ModelResponse(
        [
            TextPart("uttered"),
            ThinkingPart("thought"),
            ToolCallPart("f", '{"secret": 1}', tool_call_id="c"),
            BuiltinToolCallPart("web_search", {"secret": 1}, tool_call_id="b"),
            BuiltinToolReturnPart("web_search", "secret", tool_call_id="b"),
            FilePart(IMAGE),
        ],
        finish_reason="tool_call",
    ),
    ModelRequest(
        [
            ToolReturnPart("f", {"secret": 1}, "c"),
            RetryPromptPart("secret", tool_name="f", tool_call_id="c"),
            RetryPromptPart("secret"),
        ],
        instructions="instructed",
    ),
]
PARAMS = ModelRequestParameters(
    function_tools=[ToolDefinition(name="f", description="does f")],
    output_mode="tool",
    output_tools=[ToolDefinition(name="o", kind="output")],
)
PLAIN = ModelRequestParameters()
USAGE = RequestUsage(input_tokens=1_000_000, output_tokens=7, cache_read_tokens=2, details={"x": 3})


def answer(messages, info):
    return ModelResponse(
        [TextPart("answered"), ToolCallPart("f", {"secret": 2}, tool_call_id="z")],
        usage=USAGE,
        provider_response_id="rid",
        finish_reason="stop",
    )


async def answer_stream(messages, info):
    yield "one "
    yield "two"


def failing(messages, info):
    raise ModelHTTPError(500, "failing")


class Served(FunctionModel):
    system = "openai"
    base_url = "https://api.example.com:8080/v1"


def instrumented(model, **options):
    tracing, metering = Tracing(), Metering()
    settings = InstrumentationSettings(tracer_provider=tracing, meter_provider=metering, **options)
    return InstrumentedModel(model, settings), tracing, metering


async def test_a_request_has_a_span_with_the_conventions_attributes():
    model, tracing, _ = instrumented(Served(answer, model_name="gpt-4o"), include_content=True)
    settings = {
        "temperature": 0.5,
        "max_tokens": 5,
        "stop_sequences": ["x"],
        "extra_headers": {"key": "secret"},
    }
    await model.request(HISTORY, settings, PARAMS)
    assert tracing.name == "runmgr"
    (span,) = tracing.spans
    assert (span.name, span.kind, span.ended, span.status) == ("chat gpt-4o", SpanKind.CLIENT, True, None)
    shown = dict(span.attributes)
    tools = json.loads(shown.pop("gen_ai.tool.definitions"))
    assert [(tool["name"], tool.get("description")) for tool in tools] == [("f", "does f"), ("o", None)]
    assert {tool["type"] for tool in tools} == {"function"}
    assert json.loads(shown.pop("model_request_parameters"))["output_mode"] == "tool"
    assert json.loads(shown.pop("gen_ai.system_instructions")) == [{"type": "text", "content": "instructed"}]
    assert set(json.loads(shown.pop("logfire.json_schema"))["properties"]) == {
        "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "model_request_parameters"
    }  # fmt: skip
    assert json.loads(shown.pop("gen_ai.output.messages")) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "answered"},
                {"type": "tool_call", "id": "z", "name": "f", "arguments": {"secret": 2}},
            ],
            "finish_reason": "stop",
        }
    ]
    assert [message["role"] for message in json.loads(shown.pop("gen_ai.input.messages"))] == [
        "system", "user", "assistant", "user"
    ]  # fmt: skip
    assert shown.pop("operation.cost") > 0
    assert shown == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.id": "rid",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1_000_000,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.details.x": 3,
        "gen_ai.usage.details.cache_read_tokens": 2,
        "server.address": "api.example.com",
        "server.port": 8080,
    }


async def test_messages_read_as_pydantic_ais_do(theirs):
    from pydantic_ai.models.instrumented import InstrumentationSettings as TheirSettings

    from runmgr.messages import ModelMessagesTypeAdapter

    their_history = theirs.ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(HISTORY))
    for options in ({"include_content": True}, {"include_content": True, "include_binary_content": False}):
        mine = InstrumentationSettings(**options).messages_to_otel_messages(HISTORY)
        other = TheirSettings(**options).messages_to_otel_messages(their_history)
        assert json.loads(json.dumps(mine)) == json.loads(json.dumps(other))


async def test_content_is_recorded_only_when_asked_for():
    model, tracing, _ = instrumented(FunctionModel(answer))
    await model.request(HISTORY, None, PARAMS)
    (span,) = tracing.spans
    recorded = json.dumps(span.attributes)
    for said in ("secret", "question", "be brief", "thought", "uttered", "answered", "instructed", "MTIz"):
        assert said not in recorded
    parts = [
        part for message in json.loads(span.attributes["gen_ai.input.messages"]) for part in message["parts"]
    ]
    # Who said what kind of thing, and which calls belong together, is there.
    assert {"type": "tool_call", "id": "c", "name": "f"} in parts
    assert {"type": "tool_call_response", "id": "c", "name": "f"} in parts
    assert {"type": "binary", "media_type": "image/png"} in parts
    assert "gen_ai.system_instructions" not in span.attributes


async def test_tokens_cost_and_duration_are_measured(autojump_clock):
    async def slow(messages, info):
        await trio.sleep(2)
        return answer(messages, info)

    model, _, metering = instrumented(Served(slow, model_name="gpt-4o"))
    await model.request(HISTORY, None, PARAMS)
    assert metering.units == {
        "gen_ai.client.token.usage": "{token}",
        "operation.cost": "{USD}",
        "gen_ai.client.operation.duration": "s",
    }
    by_kind = {(name, labels.get("gen_ai.token.type")): amount for name, amount, labels in metering.recorded}
    assert by_kind["gen_ai.client.token.usage", "input"] == 1_000_000
    assert by_kind["gen_ai.client.token.usage", "output"] == 7
    assert by_kind["operation.cost", "input"] > by_kind["operation.cost", "output"] > 0
    assert by_kind["gen_ai.client.operation.duration", None] == pytest.approx(2)
    assert {labels["gen_ai.response.model"] for _, _, labels in metering.recorded} == {"gpt-4o"}


async def test_a_failure_is_on_the_span():
    model, tracing, metering = instrumented(FunctionModel(failing))
    with pytest.raises(ModelHTTPError):
        await model.request(HISTORY, None, PARAMS)
    (span,) = tracing.spans
    assert span.ended
    assert span.status.status_code is StatusCode.ERROR
    assert [type(error) for error in span.exceptions] == [ModelHTTPError]
    assert span.attributes["error.type"] == "runmgr.exceptions.ModelHTTPError"
    ((name, _, labels),) = metering.recorded
    assert (name, labels["error.type"]) == ("gen_ai.client.operation.duration", "ModelHTTPError")


async def test_a_cancelled_request_ends_its_span(autojump_clock):
    async def slow(messages, info):
        await trio.sleep_forever()

    model, tracing, metering = instrumented(FunctionModel(slow))
    with trio.move_on_after(3):
        await model.request(HISTORY, None, PARAMS)
    (span,) = tracing.spans
    assert span.ended
    assert span.attributes["error.type"] == "trio.Cancelled"
    ((_, seconds, labels),) = metering.recorded
    assert (seconds, labels["error.type"]) == (pytest.approx(3), "Cancelled")


async def test_the_span_is_current_while_the_model_is_asked():
    seen = []

    def function(messages, info):
        seen.append(trace.get_current_span())
        return answer(messages, info)

    model, tracing, _ = instrumented(FunctionModel(function))
    outside = trace.get_current_span()
    await model.request(HISTORY, None, PARAMS)
    assert seen == tracing.spans
    assert trace.get_current_span() is outside


async def test_one_try_is_one_span():
    model, tracing, _ = instrumented(FunctionModel(failing))
    for _ in range(2):
        with pytest.raises(ModelHTTPError):
            await model.request_once(HISTORY, None, PARAMS)
    model.wrapped = FunctionModel(answer)
    await model.request_once(HISTORY, None, PARAMS)
    assert [span.attributes.get("error.type") for span in tracing.spans][2] is None
    assert len(tracing.spans) == 3


@pytest.mark.parametrize("once", [False, True])
async def test_a_stream_left_early_tells_what_has_come(once):
    model, tracing, metering = instrumented(
        FunctionModel(stream_function=answer_stream), include_content=True
    )
    opener = model.request_stream_once if once else model.request_stream
    async with opener(HISTORY[:1], None, PLAIN) as response:
        async for _ in response:
            break
        assert not tracing.spans[0].ended
    (span,) = tracing.spans
    assert span.ended
    (message,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": "one "}]
    assert span.attributes["gen_ai.usage.output_tokens"] == 1
    assert ("gen_ai.client.token.usage", 1) in [(name, amount) for name, amount, _ in metering.recorded]


async def test_a_fallback_tells_which_model_it_was():
    served = Served(answer, model_name="gpt-4o")
    model, tracing, metering = instrumented(FallbackModel(FunctionModel(failing), served))
    await model.request(HISTORY, None, PARAMS)
    (span,) = tracing.spans
    assert span.name == "chat gpt-4o"
    assert span.attributes["gen_ai.request.model"] == "gpt-4o"
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert {labels["gen_ai.request.model"] for _, _, labels in metering.recorded} == {"gpt-4o"}


async def test_where_nobody_listens_nothing_is_worked_out(monkeypatch):
    def refuse(self, *args):
        raise AssertionError

    monkeypatch.setattr(ModelResponse, "cost", refuse)
    monkeypatch.setattr(InstrumentationSettings, "messages_to_otel_messages", refuse)
    model = InstrumentedModel(FunctionModel(answer))
    assert (await model.request(HISTORY, None, PARAMS)).text == "answered"
    settings = InstrumentationSettings(tracer_provider=Tracing(recording=False))
    assert (
        await InstrumentedModel(FunctionModel(answer), settings).request(HISTORY, None, PARAMS)
    ).text == "answered"


async def test_a_price_that_cannot_be_worked_out_fails_nothing(monkeypatch):
    def broken(self):
        raise ValueError("no table")

    monkeypatch.setattr(ModelResponse, "cost", broken)
    model, tracing, _ = instrumented(FunctionModel(answer))
    with pytest.warns(CostCalculationFailedWarning, match="no table"):
        await model.request(HISTORY, None, PARAMS)
    assert "operation.cost" not in tracing.spans[0].attributes


def test_instrumenting():
    model = TestModel()
    assert instrument_model(model, False) is model
    once = instrument_model(model, True)
    assert isinstance(once, InstrumentedModel)
    assert once.wrapped is model
    assert once.instrumentation_settings.include_content is False
    assert instrument_model(once, InstrumentationSettings()) is once
    settings = InstrumentationSettings(include_content=True, version=2)
    assert instrument_model(model, settings).instrumentation_settings is settings
    assert (
        repr(settings)
        == "InstrumentationSettings(include_content=True, include_binary_content=True, version=2)"
    )
    assert isinstance(InstrumentedModel("test").wrapped, TestModel)
    with pytest.raises(UserError, match="versions 2 and 3"):
        InstrumentationSettings(version=1)
