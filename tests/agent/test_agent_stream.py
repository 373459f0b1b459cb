"""Streaming: texts, outputs, responses, events; leaving early."""

# ruff: noqa: PERF401  (loops that collect events read better as loops)

import gc
from contextlib import asynccontextmanager

import pytest
import trio
from pydantic import BaseModel, ValidationError

from runmgr.agent import Agent, AgentRunResultEvent, FinalResult
from runmgr.exceptions import AgentRunError, ModelRetry, UsageLimitExceeded, UserError
from runmgr.graph import End
from runmgr.messages import (
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from runmgr.models.function import DeltaToolCall, FunctionModel
from runmgr.models.test import TestModel
from runmgr.tools import RunContext
from runmgr.usage import UsageLimits


class City(BaseModel):
    name: str
    people: int = 0


def streams(*responses, delay=0.0):
    """A model that streams these in turn, each a list of texts and deltas."""
    left = iter(responses)

    async def stream(messages, info):
        for item in next(left):
            if delay:
                await trio.sleep(delay)
            yield item

    return FunctionModel(stream_function=stream)


def tool(name, *args, index=0, call_id="c1"):
    first, *rest = args
    return [
        {index: DeltaToolCall(name=name, json_args=first, tool_call_id=call_id)},
        *({index: DeltaToolCall(json_args=more)} for more in rest),
    ]


def with_tool(model, **options):
    agent = Agent(model, **options)

    @agent.tool_plain
    async def double(x: int) -> int:
        if x < 0:
            raise ModelRetry("negative")
        return 2 * x

    return agent


HELLO = ["hel", "lo ", "wor", "ld"]


class Watched(FunctionModel):
    """Notes when its streams are closed."""

    def __init__(self, stream):
        super().__init__(stream_function=stream)
        self.open = 0

    @asynccontextmanager
    async def request_stream(self, *args, **kwargs):
        self.open += 1
        try:
            async with super().request_stream(*args, **kwargs) as response:
                yield response
        finally:
            self.open -= 1


def endless():
    async def stream(messages, info):
        for n in range(10**9):
            yield f"{n} "
            await trio.lowlevel.checkpoint()

    return Watched(stream)


async def test_text():
    async with Agent(streams(HELLO)).run_stream("?") as result:
        assert not result.is_complete
        assert [t async for t in result.stream_text(debounce_by=None)] == [
            "hel",
            "hello ",
            "hello wor",
            "hello world",
        ]
        assert result.is_complete
        assert await result.get_output() == "hello world"
        assert result.all_messages()[-1].parts == [TextPart("hello world")]
        assert result.new_messages() == result.all_messages()
    assert result.usage().requests == 1
    assert result.all_messages()[-1].run_id == result.run_id
    assert b"hello world" in result.new_messages_json()


async def test_text_deltas():
    async with Agent(streams(HELLO)).run_stream("?") as result:
        assert [t async for t in result.stream_text(delta=True, debounce_by=None)] == HELLO


async def test_debounce_groups_by_trios_clock(autojump_clock):
    async def stream(messages, info):
        for group in ("ab", "cd", "e"):
            for letter in group:
                yield letter
            await trio.sleep(1)

    agent = Agent(FunctionModel(stream_function=stream))
    async with agent.run_stream("?") as result:
        seen = [(t, trio.current_time()) async for t in result.stream_text(debounce_by=0.2)]
    assert [t for t, _ in seen] == ["ab", "abcd", "abcde"]
    assert [round(at, 1) for _, at in seen] == [0.2, 1.2, 2.2], (
        "shown while the model is silent, not when it goes on"
    )
    async with agent.run_stream("?") as result:
        assert [t async for t in result.stream_text(delta=True, debounce_by=0.2)] == ["ab", "cd", "e"]
    async with agent.run_stream("?") as result:
        assert [t async for t in result.stream_text(debounce_by=100)] == ["abcde"]


async def test_structured_output_comes_piece_by_piece():
    model = streams(tool("final_result", '{"name": "Par', 'is"', ', "people": 2', "5}"))
    async with Agent(model, output_type=City).run_stream("?") as result:
        seen = [o async for o in result.stream_output(debounce_by=None)]
    assert seen == [
        City(name="Par"),
        City(name="Paris"),
        City(name="Paris", people=2),
        City(name="Paris", people=25),
        City(name="Paris", people=25),
    ]
    assert result.all_messages()[-1].parts[0].content == "Final result processed."
    told = result.all_messages(output_tool_return_content="booked")
    assert told[-1].parts[0].content == "booked"


async def test_responses():
    async with Agent(streams(HELLO)).run_stream("?") as result:
        seen = [(r.text, last) async for r, last in result.stream_responses(debounce_by=None)]
    assert seen[0] == ("hel", False)
    assert seen[-1] == ("hello world", True)
    assert [last for _, last in seen].count(True) == 1


async def test_partial_outputs_are_marked_for_validators():
    seen = []
    agent = Agent(streams(HELLO))

    @agent.output_validator
    async def check(ctx: RunContext, text: str) -> str:
        seen.append((text, ctx.partial_output))
        return text.upper()

    async with agent.run_stream("?") as result:
        assert [o async for o in result.stream_output(debounce_by=None)][-1] == "HELLO WORLD"
    assert seen[-1] == ("hello world", False)
    assert all(partial for _, partial in seen[:-1])
    assert len(seen) == 5


async def test_an_invalid_output_is_raised():
    model = streams(tool("final_result", '{"name": 3}'))
    async with Agent(model, output_type=City).run_stream("?") as result:
        with pytest.raises(ValidationError):
            await result.get_output()
    assert result.all_messages()[-1].parts[0].tool_name == "final_result"


async def test_text_of_a_structured_output_is_refused():
    async with Agent(streams(tool("final_result", '{"name": "x"}')), output_type=City).run_stream(
        "?"
    ) as result:
        with pytest.raises(UserError, match="can only be used with text responses"):
            async for _ in result.stream_text():
                pass


async def test_tools_before_the_output():
    agent = with_tool(streams(tool("double", '{"x": ', "2}"), ["it is ", "4"]))
    async with agent.run_stream("?") as result:
        assert await result.get_output() == "it is 4"
    assert [m.kind for m in result.all_messages()] == ["request", "response", "request", "response"]
    assert (result.usage().requests, result.usage().tool_calls) == (2, 1)


@pytest.mark.parametrize(
    ("strategy", "answer"),
    [("early", "Tool not executed - a final result was already processed."), ("exhaustive", 4)],
)
async def test_other_calls_beside_the_output(strategy, answer):
    said = [
        *tool("final_result", '{"name": "x"}', call_id="f"),
        *tool("double", '{"x": 2}', index=1, call_id="d"),
    ]
    agent = with_tool(streams(said), output_type=City, end_strategy=strategy)
    async with agent.run_stream("?") as result:
        await result.get_output()
    answers = {p.tool_call_id: p.content for p in result.all_messages()[-1].parts}
    assert answers == {"f": "Final result processed.", "d": answer}


async def test_a_retry_before_the_output():
    agent = with_tool(streams(tool("double", '{"x": -1}'), tool("nope", "{}"), ["done"]))
    async with agent.run_stream("?") as result:
        assert await result.get_output() == "done"
    assert len(result.all_messages()) == 6


async def test_a_run_that_ends_without_a_stream(says):
    history = [ModelRequest([UserPromptPart("a")]), ModelResponse([TextPart("b")])]
    async with Agent(TestModel()).run_stream(message_history=history) as result:
        assert [t async for t in result.stream_text()] == ["b"]
        assert [o async for o in result.stream_output()] == ["b"]
        assert [r async for r in result.stream_responses()] == [(history[1], True)]
        assert await result.get_output() == "b"
        assert (result.usage().requests, result.response, result.timestamp()) == (
            0,
            history[1],
            history[1].timestamp,
        )


# ------------------------------------------------------------------ leaving early


async def test_a_stream_left_early_is_closed_and_kept():
    model = endless()
    async with Agent(model).run_stream("?") as result:
        async for text in result.stream_text(debounce_by=None):
            if text.endswith("3 "):
                break
        assert model.open == 1
    assert model.open == 0
    assert not result.is_complete
    request, response = result.all_messages()
    assert response.parts == [TextPart("0 1 2 3 ")]
    assert response.usage.output_tokens == result.usage().output_tokens > 0
    follow_up = await Agent(TestModel(custom_output_text="ok")).run(
        "go on", message_history=result.all_messages()
    )
    assert follow_up.output == "ok"


async def test_a_debounced_stream_left_early():
    model = endless()
    async with Agent(model).run_stream("?") as result:
        async for _ in result.stream_text(debounce_by=0.01):
            break
    assert model.open == 0
    assert result.all_messages()[-1].parts[0].content.startswith("0 1 ")


async def test_a_cut_off_tool_call_is_not_kept():
    async def stream(messages, info):
        yield {0: DeltaToolCall(name="final_result", json_args='{"name": "Pa', tool_call_id="c1")}
        await trio.sleep_forever()

    with trio.move_on_after(0.05):
        async with Agent(Watched(stream), output_type=City).run_stream("?") as result:
            async for _ in result.stream_output(debounce_by=None):
                pass
    assert result.all_messages()[-1].parts == []


async def test_errors_in_the_block_come_out_bare_and_close():
    model = endless()
    with pytest.raises(LookupError, match="mine"):
        async with Agent(model).run_stream("?") as result:
            async for _ in result.stream_text(debounce_by=0.01):
                raise LookupError("mine")
    assert model.open == 0
    assert result.all_messages()[-1].parts


async def test_cancelling_around_a_stream():
    model = endless()
    with trio.move_on_after(0.05) as scope:
        async with Agent(model).run_stream("?") as result:
            async for _ in result.stream_text(debounce_by=None):
                pass
    assert scope.cancelled_caught
    assert model.open == 0
    assert result.all_messages()[-1].parts[0].content.startswith("0 1 ")


async def test_a_model_that_breaks_off():
    async def stream(messages, info):
        yield "so far "
        yield "so good"
        raise ConnectionError("gone")

    model = Watched(stream)
    with pytest.raises(ConnectionError, match="gone"):
        async with Agent(model).run_stream("?") as result:
            async for _ in result.stream_text(debounce_by=0.01):
                pass
    assert model.open == 0
    assert result.all_messages()[-1].parts == [TextPart("so far so good")]


async def test_a_limit_within_a_stream():
    model = endless()
    with pytest.raises(UsageLimitExceeded, match="output_tokens_limit of 10"):
        async with Agent(model).run_stream("?", usage_limits=UsageLimits(output_tokens_limit=10)) as result:
            async for _ in result.stream_text(debounce_by=None):
                pass
    assert model.open == 0
    assert result.usage().output_tokens == 11


# ------------------------------------------------------------------ nodes


async def test_a_node_is_streamed_once():
    async with Agent(streams(HELLO)).iter("?") as run:
        node = await run.next(run.next_node)
        async with node.stream(run.ctx) as stream:
            assert [o async for o in stream.stream_output(debounce_by=None)][-1] == "hello world"
            with pytest.raises(AgentRunError, match="finish streaming"):
                await node.run(run.ctx)
        with pytest.raises(AgentRunError, match="only be called once"):
            async with node.stream(run.ctx):
                pass
        respond = await run.next(node)
        assert isinstance(await run.next(respond), End)
    assert run.usage().requests == 1


async def test_leaving_a_node_normally_reads_the_rest():
    agent = with_tool(streams(tool("double", '{"x": ', "2}"), HELLO))
    events = []
    async with agent.iter("?") as run:
        async for node in run:
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                async with node.stream(run.ctx) as stream:
                    async for event in stream:
                        events.append(type(event))
                        break
    assert run.result.output == "hello world"
    assert events == [PartStartEvent, FunctionToolCallEvent, PartStartEvent]


async def test_leaving_a_node_by_an_error_keeps_the_text_and_can_be_tried_again():
    model = streams(HELLO)
    model.function = lambda messages, info: ModelResponse([TextPart("hello world")])
    agent = Agent(model)
    async with agent.iter("?") as run:
        node = await run.next(run.next_node)
        with pytest.raises(LookupError):
            async with node.stream(run.ctx) as stream:
                async for _ in stream:
                    raise LookupError
        assert run.all_messages()[-1].parts == [TextPart("hel")]
        assert run.snapshot().messages == []
        await run.next(await run.next(node))
    assert [m.kind for m in run.all_messages()] == ["request", "response"]
    assert run.result.output == "hello world"
    assert run.usage().requests == 2


async def test_tool_errors_come_out_of_the_events(says, call):
    agent = Agent(says([call("boom")]))

    @agent.tool_plain
    async def boom() -> str:
        raise LookupError("boom")

    async with agent.iter("?") as run:
        node = await run.next(await run.next(run.next_node))
        with pytest.raises(LookupError, match="boom"):
            async with node.stream(run.ctx) as events:
                async for _ in events:
                    pass
    async with Agent(says([call("boom")]), tools=[boom]).iter("?") as run:
        node = await run.next(await run.next(run.next_node))
        with pytest.raises(LookupError, match="boom"):
            async with node.stream(run.ctx):
                pass


# ------------------------------------------------------------------ events


EXPECTED = [
    PartStartEvent,
    PartDeltaEvent,
    PartEndEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartStartEvent,
    FinalResultEvent,
    PartDeltaEvent,
    PartDeltaEvent,
    PartDeltaEvent,
    PartEndEvent,
    AgentRunResultEvent,
]


async def test_run_stream_events():
    agent = with_tool(streams(tool("double", '{"x": ', "2}"), HELLO))
    events = [event async for event in agent.run_stream_events("?")]
    assert [type(e) for e in events] == EXPECTED
    assert events[-1].result.output == "hello world"
    assert events[-1].event_kind == "agent_run_result"


async def test_run_stream_events_as_a_block():
    agent = with_tool(streams(tool("double", '{"x": ', "2}"), HELLO))
    async with agent.run_stream_events("?") as stream:
        events = [event async for event in stream]
    assert [type(e) for e in events] == EXPECTED


def two_at_once():
    agent = Agent(
        streams(
            [
                *tool("wait", '{"seconds": 2}', call_id="a"),
                *tool("wait", '{"seconds": 1}', index=1, call_id="b"),
            ],
            ["done"],
        )
    )

    @agent.tool_plain
    async def wait(seconds: int) -> int:
        await trio.sleep(seconds)
        return seconds

    return agent


async def test_events_of_parallel_tools(autojump_clock):
    seen = []
    async with two_at_once().run_stream_events("?") as events:
        async for event in events:
            if isinstance(event, (FunctionToolCallEvent, FunctionToolResultEvent)):
                seen.append((event.tool_call_id, trio.current_time()))
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 2)]
    seen.clear()
    start = trio.current_time()
    async for event in two_at_once().run_stream_events("?"):
        if isinstance(event, (FunctionToolCallEvent, FunctionToolResultEvent)):
            seen.append((event.tool_call_id, trio.current_time() - start))
    assert seen == [("a", 0), ("b", 0), ("b", 2), ("a", 2)], "told in order, when the last has ended"


async def test_the_readers_scopes_are_its_own(autojump_clock):
    """Between two events the run leaves no scope open in the reader's task."""
    seen = 0
    events = two_at_once().run_stream_events("?")
    while True:
        with trio.move_on_after(60):
            try:
                await anext(events)
            except StopAsyncIteration:
                break
        seen += 1
    assert seen == 12


async def test_events_stopped_early():
    model = endless()
    events = Agent(model).run_stream_events("?")
    async for _ in events:
        break
    await events.aclose()
    assert model.open == 0
    async with Agent(model).run_stream_events("?") as events:
        async for _ in events:
            break
    assert model.open == 0


async def test_events_forgotten_are_closed_at_once_and_in_order():
    model = endless()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning) as warned:  # noqa: PT031 (leaving the loop is what warns)
            async for _ in Agent(model).run_stream_events("?"):
                break
        await trio.testing.wait_all_tasks_blocked()
        assert model.open == 0
    finally:
        gc.enable()
    assert len(warned) == 1, "one warning, for the iterator, and not one for each thing in it"


@pytest.mark.parametrize("block", [False, True])
async def test_errors_among_events(block):
    agent = Agent(streams(tool("boom", "{}")))

    @agent.tool_plain
    async def boom() -> str:
        raise LookupError("boom")

    seen = []
    with pytest.raises(LookupError, match="boom"):
        if block:
            async with agent.run_stream_events("?") as events:
                async for event in events:
                    seen.append(event)
        else:
            async for event in agent.run_stream_events("?"):
                seen.append(event)
    assert isinstance(seen[-1], FunctionToolCallEvent)


@pytest.mark.parametrize("form", ["nodes", "streamed nodes", "events", "block"])
@pytest.mark.parametrize("where", ["tool", "instructions"])
async def test_a_stop_iteration_of_users_code_ends_no_loop(form, where):
    async def stops() -> str:
        return await anext(aiter(Nothing()))

    model = streams(tool("stops", "{}"), HELLO)
    model.function = lambda messages, info: ModelResponse([ToolCallPart("stops", {})])
    agent = Agent(model, tools=[stops], instructions=stops if where == "instructions" else None)
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        if form == "events":
            async for _ in agent.run_stream_events("?"):
                pass
        elif form == "block":
            async with agent.run_stream_events("?") as events:
                async for _ in events:
                    pass
        else:
            async with agent.iter("?") as run:
                async for node in run:
                    if form == "streamed nodes" and Agent.is_call_tools_node(node):
                        async with node.stream(run.ctx) as events:
                            async for _ in events:
                                pass


class Nothing:
    """An async iterator that is at its end."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise StopAsyncIteration


async def test_event_stream_handler():
    seen = []

    async def handler(ctx, events):
        async for event in events:
            seen.append((ctx.run_step, type(event)))

    agent = with_tool(streams(tool("double", '{"x": ', "2}"), HELLO), event_stream_handler=handler)
    assert (await agent.run("?")).output == "hello world"
    assert [kind for _, kind in seen] == EXPECTED[:-1]
    assert {step for step, _ in seen} == {1, 2}


async def test_a_handler_that_reads_nothing():
    async def handler(ctx, events):
        pass

    agent = with_tool(streams(tool("double", '{"x": ', "2}"), HELLO, tool("double", '{"x": 1}'), HELLO))
    assert (await agent.run("?", event_stream_handler=handler)).output == "hello world"
    async with agent.run_stream("?", event_stream_handler=handler) as result:
        assert await result.get_output() == "hello world"


# ------------------------------------------------------------------ sync


def test_run_stream_sync():
    result = Agent(streams(HELLO)).run_stream_sync("?")
    assert list(result.stream_text(debounce_by=None)) == ["hel", "hello ", "hello wor", "hello world"]
    assert result.is_complete
    assert result.get_output() == "hello world"
    assert result.all_messages()[-1].parts == [TextPart("hello world")]
    result.close()
    result.close()


def test_run_stream_sync_left_early():
    model = endless()
    with Agent(model).run_stream_sync("?") as result:
        for _ in result.stream_text(delta=True, debounce_by=None):
            break
    assert model.open == 0
    with pytest.raises(RuntimeError, match="closed"):
        result.get_output()


def test_run_stream_sync_errors():
    async def stream(messages, info):
        raise LookupError("no")
        yield

    with pytest.raises(LookupError, match="no"):
        Agent(FunctionModel(stream_function=stream)).run_stream_sync("?")


async def test_run_stream_sync_within_trio():
    with pytest.raises(UserError, match="async with agent.run_stream"):
        Agent(streams(HELLO)).run_stream_sync("?")


async def test_an_end_holds_the_final_result_of_a_stream():
    agent = Agent(streams(HELLO))
    async with agent.iter("?") as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    assert stream.final_result_event is None
                    async for _ in stream:
                        pass
                    assert stream.final_result_event == FinalResultEvent(tool_name=None, tool_call_id=None)
    assert node == End(FinalResult("hello world"))
    assert not [p for m in run.all_messages() for p in m.parts if isinstance(p, ToolCallPart)]
