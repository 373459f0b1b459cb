"""Spans of runs and tools, recorded by a provider that is nothing but OpenTelemetry's API."""

import json
import traceback
from functools import partial

import pytest
import trio
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, StatusCode, Tracer, TracerProvider
from opentelemetry.util._once import Once

import runmgr.models.otel
from runmgr.agent import Agent, InstrumentationSettings
from runmgr.exceptions import (
    CallDeferred,
    FallbackExceptionGroup,
    MalformedResponseError,
    ModelAPIError,
    ModelHTTPError,
    ModelRetry,
    UnexpectedModelBehavior,
)
from runmgr.models.fallback import FallbackModel
from runmgr.models.function import FunctionModel
from runmgr.models.instrumented import InstrumentedModel
from runmgr.models.test import TestModel
from runmgr.tools import DeferredToolRequests, RunContext


class Recorded(Span):
    def __init__(self, name, number, parent, attributes):
        self.name, self.number, self.parent = name, number, parent
        self.attributes = dict(attributes or {})
        self.ended, self.status, self.exceptions = False, None, []

    def end(self, end_time=None):
        self.ended = True

    def get_span_context(self):
        return SpanContext(0xABC, self.number, False, trace.TraceFlags(1))

    def set_attributes(self, attributes):
        self.attributes.update(attributes)

    def set_attribute(self, key, value):
        self.attributes[key] = value

    def add_event(self, name, attributes=None, timestamp=None):
        raise NotImplementedError

    def update_name(self, name):
        self.name = name

    def is_recording(self):
        return True

    def set_status(self, status, description=None):
        self.status = status

    @property
    def told(self):
        """Everything of it that leaves the program, as text."""
        tracebacks = ["".join(traceback.format_exception(e)) for e in self.exceptions]
        return str((self.name, self.attributes, self.status and self.status.description, tracebacks))

    def record_exception(self, exception, attributes=None, timestamp=None, escaped=False):
        self.exceptions.append(exception)


class Recording(TracerProvider, Tracer):
    def __init__(self):
        self.spans = []

    def get_tracer(self, *args, **kwargs):
        return self

    def start_span(self, name, context=None, kind=None, attributes=None, *args, **kwargs):
        parent = trace.get_current_span(context)
        span = Recorded(name, len(self.spans) + 1, getattr(parent, "name", None), attributes)
        self.spans.append(span)
        return span

    @trace._agnosticcontextmanager
    def start_as_current_span(self, name, context=None, kind=None, attributes=None, *args, **kwargs):
        span = self.start_span(name, context, kind, attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield span


@pytest.fixture
def recording():
    return Recording()


def agent_with_tool(model, settings):
    agent = Agent(model, name="clerk", instrument=settings)

    @agent.tool_plain
    async def look(fail: bool = False) -> str:
        if fail:
            raise ModelRetry("not there")
        return "seen"

    return agent


async def test_spans_of_a_run(recording, says, call):
    agent = agent_with_tool(says([call("look")], "done"), InstrumentationSettings(tracer_provider=recording))
    async with agent.iter("secret", metadata={"a": 1}) as run:
        assert trace.get_current_span().name == "invoke_agent clerk"
        async for _ in run:
            pass
    assert [(s.name.split(":")[0], s.parent) for s in recording.spans] == [
        ("invoke_agent clerk", None),
        ("chat function", "invoke_agent clerk"),
        ("execute_tool look", "invoke_agent clerk"),
        ("chat function", "invoke_agent clerk"),
    ]
    assert all(s.ended for s in recording.spans)
    root, _, tool, _ = recording.spans
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["gen_ai.agent.name"] == "clerk"
    assert root.attributes["gen_ai.provider.name"] == "function"
    assert root.attributes["gen_ai.usage.input_tokens"] == 20
    assert json.loads(root.attributes["metadata"]) == {"a": 1}
    assert tool.attributes["gen_ai.tool.name"] == "look"
    assert tool.attributes["gen_ai.tool.call.id"] == "c1"
    assert "secret" not in str([s.attributes for s in recording.spans]), (
        "content is recorded only when asked for"
    )
    assert run._traceparent() == run.result._traceparent() == f"00-{0xABC:032x}-{1:016x}-01"
    assert otel_context.get_current() == {}


async def test_content_when_asked_for(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording, include_content=True)
    agent = agent_with_tool(says([call("look", {"fail": True})], [call("look")], "done"), settings)
    await agent.run("secret", instructions="be brief")
    root = recording.spans[0]
    assert "secret" in root.attributes["pydantic_ai.all_messages"]
    assert root.attributes["final_result"] == "done"
    assert "be brief" in root.attributes["gen_ai.system_instructions"]
    failed, worked = [s for s in recording.spans if s.name == "execute_tool look"]
    assert failed.attributes["gen_ai.tool.call.arguments"] == '{"fail":true}'
    assert "not there" in failed.attributes["gen_ai.tool.call.result"]
    assert failed.status.status_code is StatusCode.ERROR
    assert worked.attributes["gen_ai.tool.call.result"] == "seen"
    assert worked.status is None


async def test_the_older_names(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording, include_content=True, version=2)
    await agent_with_tool(says([call("look")], "done"), settings).run("?")
    assert [s.name for s in recording.spans if not s.name.startswith("chat")] == ["agent run", "running tool"]
    assert recording.spans[2].attributes["tool_response"] == "seen"


async def test_errors_are_noted(recording, says, call):
    agent = Agent(says([call("boom")]), instrument=InstrumentationSettings(tracer_provider=recording))

    @agent.tool_plain
    async def boom() -> str:
        raise LookupError("boom")

    with pytest.raises(LookupError):
        await agent.run("?")
    root, _, tool = recording.spans
    assert (root.status.status_code, tool.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert [type(e) for e in root.exceptions] == [LookupError]
    assert all(s.ended for s in recording.spans)


@pytest.mark.parametrize("include_content", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        ModelHTTPError(400, "m", {"error": "bad prompt: 'the secret'"}),
        MalformedResponseError("m", "not JSON: the secret"),
    ],
    ids=["status", "body"],
)
@pytest.mark.parametrize("several", [False, True])
async def test_a_provider_that_echoes_the_prompt_is_content(recording, failure, several, include_content):
    settings = InstrumentationSettings(tracer_provider=recording, include_content=include_content)

    def refuses(messages, info):
        raise failure

    model = FunctionModel(refuses)
    agent = Agent(FallbackModel(model, model) if several else model, instrument=settings)
    with pytest.raises((ModelAPIError, FallbackExceptionGroup)):
        await agent.run("?")
    assert any("the secret" in span.told for span in recording.spans) == include_content
    if isinstance(failure, ModelHTTPError) and not several:
        assert all("status_code: 400" in span.status.description for span in recording.spans)


@pytest.mark.parametrize("include_content", [False, True])
async def test_arguments_that_a_failure_quotes_are_content(recording, says, call, include_content):
    settings = InstrumentationSettings(tracer_provider=recording, include_content=include_content)
    agent = Agent(says(*[[call("double", {"x": "the secret"})]] * 2), instrument=settings)

    @agent.tool_plain
    async def double(x: int) -> int:
        return 2 * x

    with pytest.raises(UnexpectedModelBehavior):
        await agent.run("?")
    assert ["the secret" in span.told for span in recording.spans] == [include_content] * 5
    retried, gave_up = [s for s in recording.spans if s.name == "execute_tool double"]
    assert retried.attributes["error.type"] == "runmgr.exceptions.ToolRetryError"
    assert retried.attributes["gen_ai.tool.type"] == "function"
    assert "exceeded max retries count of 1" in gave_up.status.description


async def test_cancelled_runs_end_their_spans(recording, says, call):
    agent = Agent(says([call("hang")]), instrument=InstrumentationSettings(tracer_provider=recording))

    @agent.tool_plain
    async def hang() -> str:
        await trio.sleep_forever()
        return "never"

    with trio.move_on_after(0.05):
        await agent.run("?")
    assert all(s.ended for s in recording.spans)
    assert recording.spans[0].attributes["error.type"] == "trio.Cancelled"
    assert otel_context.get_current() == {}


async def test_deferral_is_no_error(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording)
    agent = Agent(says([call("later")]), output_type=[str, DeferredToolRequests], instrument=settings)

    @agent.tool_plain
    async def later() -> str:
        raise CallDeferred

    await agent.run("?")
    assert [s.status for s in recording.spans] == [None, None, None]


async def test_parallel_tools_are_children_of_the_run(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording)
    agent = agent_with_tool(says([call("look", {}, f"c{n}") for n in range(3)], "done"), settings)
    await agent.run("?")
    assert {s.parent for s in recording.spans if s.name == "execute_tool look"} == {"invoke_agent clerk"}


async def test_a_sub_agents_run_is_within_the_tools_span(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording)
    inner = Agent(says("x"), name="inner", instrument=settings)
    outer = Agent(says([call("ask")], "done"), name="outer", instrument=settings)

    @outer.tool_plain
    async def ask() -> str:
        return (await inner.run("?")).output

    await outer.run("?")
    parents = {s.name: s.parent for s in recording.spans}
    assert parents["invoke_agent inner"] == "execute_tool ask"


async def test_streams(recording):
    agent = Agent(TestModel(), name="clerk", instrument=InstrumentationSettings(tracer_provider=recording))
    async with agent.run_stream("?") as result:
        await result.get_output()
    async for _ in agent.run_stream_events("?"):
        pass
    assert [s.name for s in recording.spans] == ["invoke_agent clerk", "chat test"] * 2
    assert all(s.ended for s in recording.spans)


async def test_ways_to_ask_for_it(recording):
    settings = InstrumentationSettings(tracer_provider=recording)
    await Agent(InstrumentedModel(TestModel(), settings), name="by model").run("?")
    assert recording.spans[0].name == "invoke_agent by model"
    recording.spans.clear()
    agent = Agent(TestModel(), name="by class")
    Agent.instrument_all(settings)
    try:
        await agent.run("?")
        agent.instrument = False
        await agent.run("?")
    finally:
        Agent.instrument_all(False)
    await agent.run("?")
    assert [s.name for s in recording.spans] == ["invoke_agent by class", "chat test"]


async def test_tools_see_the_tracer(recording, says, call):
    settings = InstrumentationSettings(tracer_provider=recording, include_content=True)
    agent = Agent(says([call("look")], "done"), instrument=settings)
    seen = []

    @agent.tool
    async def look(ctx: RunContext) -> None:
        seen.append((ctx.tracer, ctx.trace_include_content, ctx.instrumentation_version))

    await agent.run("?")
    assert seen == [(recording, True, 3)]


async def test_a_provider_that_is_set_between_two_runs_is_told_of_the_second(monkeypatch, recording):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())  # the global one is set once a process
    agents = [
        Agent(TestModel(), name="by default", instrument=True),
        Agent(TestModel(), name="by settings", instrument=InstrumentationSettings()),
    ]
    for agent in agents:
        await agent.run("?")
    trace.set_tracer_provider(recording)
    for agent in agents:
        await agent.run("?")
    assert [span.name for span in recording.spans] == [
        "invoke_agent by default",
        "chat test",
        "invoke_agent by settings",
        "chat test",
    ]


async def test_where_the_api_keeps_its_providers_elsewhere_it_is_asked_each_time(monkeypatch, recording):
    kept = trace.get_tracer_provider()
    monkeypatch.setattr(
        trace, "get_tracer_provider", partial(lambda: kept)
    )  # has no globals that could be looked into
    runmgr.models.otel._global_providers.cache_clear()
    try:
        agent = Agent(TestModel(), name="late", instrument=True)
        await agent.run("?")
        kept = recording
        await agent.run("?")
    finally:
        runmgr.models.otel._global_providers.cache_clear()
    assert [span.name for span in recording.spans] == ["invoke_agent late", "chat test"]
