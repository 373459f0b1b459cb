"""FunctionModel: what the function is told, what comes back, streaming; token estimates beside Pydantic AI's."""

import re
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runmgr import Agent
from runmgr.exceptions import UnexpectedModelBehavior
from runmgr.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.models.wrapper import WrapperModel
from runmgr.usage import RequestUsage

HELLO = [ModelRequest([UserPromptPart("hello world")])]
PLAIN = ModelRequestParameters()


def answer(messages, info):
    return ModelResponse([TextPart("one, two")])


async def test_the_function_sees_messages_settings_and_tools():
    seen = []

    def function(messages, info):
        seen.append((messages, info))
        return ModelResponse([TextPart("ok")])

    model = FunctionModel(function, settings={"temperature": 1.0, "max_tokens": 5})
    messages = [ModelRequest([UserPromptPart("q")], instructions="be brief")]
    response = await model.request(messages, {"max_tokens": 7}, PLAIN)
    assert response.text == "ok"
    assert response.model_name == "function:function:"
    ((given, info),) = seen
    assert given == messages
    assert given is not messages  # a list of its own, to keep
    assert isinstance(info, AgentInfo)
    assert info.model_settings == {"temperature": 1.0, "max_tokens": 7}
    assert info.instructions == "be brief"
    assert info.model_request_parameters is PLAIN
    assert info.allow_text_output is True


async def test_an_async_function_may_wait_and_be_cancelled(autojump_clock):
    async def function(messages, info):
        await trio.sleep(10)
        return ModelResponse([TextPart("late")])

    model = FunctionModel(function)
    assert (await model.request(HELLO, None, PLAIN)).text == "late"
    assert trio.current_time() == pytest.approx(10)
    with trio.move_on_after(1) as scope:
        await model.request(HELLO, None, PLAIN)
    assert scope.cancelled_caught


async def test_a_sync_function_is_no_way_around_cancellation():
    with trio.CancelScope() as scope:
        scope.cancel()
        await FunctionModel(answer).request(HELLO, None, PLAIN)
    assert scope.cancelled_caught


async def test_usage_that_the_function_gives_is_kept():
    def function(messages, info):
        return ModelResponse([TextPart("x")], usage=RequestUsage(input_tokens=3))

    response = await FunctionModel(function).request(HELLO, None, PLAIN)
    assert response.usage == RequestUsage(input_tokens=3)


async def test_what_is_not_a_response_is_named():
    with pytest.raises(AssertionError, match="must return a ModelResponse, it returned 'text'"):
        await FunctionModel(lambda messages, info: "text").request(HELLO, None, PLAIN)


async def test_each_form_needs_its_function():
    async def stream(messages, info):
        yield "x"

    with pytest.raises(TypeError, match="Either `function` or `stream_function` must be provided"):
        FunctionModel()
    with pytest.raises(AssertionError, match="must receive a `function` to support non-streamed"):
        await FunctionModel(stream_function=stream).request(HELLO, None, PLAIN)
    with pytest.raises(AssertionError, match="must receive a `stream_function` to support streamed"):
        async with FunctionModel(answer).request_stream(HELLO, None, PLAIN):
            pass


def test_names():
    class Callable:
        def __call__(self, messages, info): ...

    async def stream(messages, info):
        yield "x"

    assert FunctionModel(answer, stream_function=stream).model_name == "function:answer:stream"
    assert FunctionModel(partial(answer)).model_name == "function:answer:"
    assert FunctionModel(Callable()).model_name == "function:Callable:"
    assert FunctionModel(answer, model_name="mine").model_name == "mine"
    assert FunctionModel(answer).system == "function"


@given(st.text(st.sampled_from('ab ",.:\n\t\xa0-é'), max_size=12) | st.text(max_size=30))
def test_words_are_counted_as_a_split_counts_them(text):
    async def count():
        response = await FunctionModel(lambda m, i: ModelResponse([])).request(
            [ModelRequest([UserPromptPart(text)])], None, PLAIN
        )
        return response.usage.input_tokens - 50

    expected = len(re.split(r'[\s",.:]+', text.strip())) if text else 0
    assert trio.run(count) == expected


NAMES = st.text(st.sampled_from('ab_1 ",.:\n\xa0é'), max_size=4)
PLAIN_VALUES = (
    st.integers() | st.booleans() | st.none() | st.text(st.sampled_from('a ",.:\n'), max_size=4) | st.floats()
)


@given(st.dictionaries(NAMES, PLAIN_VALUES, max_size=4))
def test_arguments_of_calls_are_counted_as_their_json_is(args):
    call = ToolCallPart("f", args)

    async def count():
        model = FunctionModel(lambda m, i: ModelResponse([call]))
        return (await model.request(HELLO, None, PLAIN)).usage.output_tokens

    assert trio.run(count) == 1 + len(re.split(r'[\s",.:]+', call.args_as_json_str().strip()))


def test_halves_are_of_the_class_itself_only(monkeypatch):
    """Whoever puts something of his own in the place of `request` or `request_once` is asked there, by everybody."""

    class Counting(FunctionModel):
        async def request(self, messages, model_settings, model_request_parameters):
            return await super().request(messages, model_settings, model_request_parameters)

    class Once(FunctionModel):
        async def request_once(self, messages, model_settings, model_request_parameters):
            return await super().request_once(messages, model_settings, model_request_parameters)

    class Named(FunctionModel):
        @property
        def system(self):
            return "mine"

    patched = FunctionModel(answer)
    patched.request = Counting(answer).request
    assert [
        m.in_halves() for m in (Counting(answer), Once(answer), patched, WrapperModel(Named(answer)))
    ] == [None] * 4
    assert Named(answer).in_halves() is not None
    monkeypatch.setattr(FunctionModel, "request", Counting.request)
    assert FunctionModel(answer).in_halves() is None


def conversation(lib):
    image = lib.BinaryContent(data=b"12345678", media_type="image/png")
    return [
        lib.ModelRequest(
            parts=[
                lib.SystemPromptPart("be: brief."),
                lib.UserPromptPart(["a, b", image, lib.ImageUrl("http://x.y/z.png"), lib.CachePoint()]),
            ],
            instructions="not counted",
        ),
        lib.ModelResponse(
            parts=[
                lib.ThinkingPart("hm hm"),
                lib.TextPart("calling"),
                lib.ToolCallPart("f", {"a": 1, "b": "x y"}, tool_call_id="1"),
                lib.ToolCallPart("g", '{"a": 1}', tool_call_id="2"),
                lib.ToolCallPart("h", tool_call_id="3"),
                lib.BuiltinToolCallPart("web_search", {"q": "w"}, tool_call_id="4"),
                lib.BuiltinToolReturnPart("web_search", {"r": "one two"}, tool_call_id="4"),
                lib.FilePart(content=image),
            ]
        ),
        lib.ModelRequest(
            parts=[
                lib.ToolReturnPart("f", {"a": [1, "two"]}, "1"),
                lib.ToolReturnPart("h", None, "3"),
                lib.RetryPromptPart("wrong, again", tool_name="g", tool_call_id="2"),
                lib.RetryPromptPart("no tool"),
            ]
        ),
    ]


def test_usage_of_every_kind_of_part_is_pydantic_ais(same):
    async def scenario(lib):
        model = lib.FunctionModel(lambda m, i: lib.ModelResponse(parts=[lib.TextPart("one, two")]))
        return await model.request(conversation(lib), None, lib.ModelRequestParameters())

    assert "input_tokens=89, output_tokens=37" in same(scenario)


INSTRUCTIONS = {
    "none": [["user", None]],
    "own": [["user", "a"]],
    "before": [["user", "a"], "response", ["user", None]],
    "tool return": [["user", "a"], "response", ["return", None]],
    "tool return with its own": [["user", "a"], "response", ["return", "b"]],
    "retry": [["user", "a"], "response", ["retry", None]],
    "one back only": [["user", "a"], "response", ["return", None], "response", ["return", None]],
    "return and prompt": [["user", "a"], "response", ["both", None]],
    "nothing": [["user", "a"], "response", ["empty", None]],
}


@pytest.mark.parametrize("case", INSTRUCTIONS)
@pytest.mark.parametrize("prompted", [False, True])
def test_instructions_that_hold_are_pydantic_ais(same, case, prompted):
    def build(lib, item):
        if item == "response":
            return lib.ModelResponse(parts=[lib.TextPart("x")])
        kind, instructions = item
        user = lib.UserPromptPart("q")
        back = lib.ToolReturnPart("f", "1", "1")
        parts = {
            "user": [user],
            "return": [back],
            "retry": [lib.RetryPromptPart("x")],
            "both": [back, user],
            "empty": [],
        }[kind]
        return lib.ModelRequest(parts=parts, instructions=instructions)

    async def scenario(lib):
        seen = []

        def function(messages, info):
            seen.append((info.instructions, info.allow_text_output, info.model_settings))
            return lib.ModelResponse(parts=[lib.TextPart("x")])

        params = lib.ModelRequestParameters()
        if prompted:
            output = lib.OutputObjectDefinition(json_schema={"type": "object"}, name="N", description="D")
            params = lib.ModelRequestParameters(output_mode="prompted", output_object=output)
        await lib.FunctionModel(function).request(
            [build(lib, item) for item in INSTRUCTIONS[case]], None, params
        )
        return seen

    same(scenario)


# ---------------------------------------------------------------- streaming


def pieces(lib, name):
    call, think = lib.DeltaToolCall, lib.DeltaThinkingPart
    code = lib.BuiltinToolCallPart(tool_name="code_execution", args={"a": "x y"}, tool_call_id="q")
    result = lib.BuiltinToolReturnPart(tool_name="code_execution", content="x y", tool_call_id="q")
    return {
        "text": ["one two", " three", ""],
        "empty text": [""],
        "nothing": [],
        "empty dict": [{}],
        "tags are text": ["<think>", "hm", "</think>", "out"],
        "calls, mixed": [
            {0: call(name="f", json_args='{"a'), 1: call(name="final_result")},
            {0: call(json_args='": 1}')},
            {1: call(json_args="{}", tool_call_id="given")},
        ],
        "name in two": [{0: call(name="fi", tool_call_id="i")}, {0: call(name="nal", json_args="{}")}],
        "arguments before the name": [{0: call(json_args="{")}, {0: call(name="f", json_args="}")}],
        "never a name": [{0: call(json_args="{")}],
        "thinking": [{0: think(content="th")}, {0: think(content="ink", signature="s")}, "answer"],
        "signature only": [{0: think(signature="s")}],
        "empty thinking": [{0: think()}],
        "thinking, then a call of its number": [{0: think(content="x")}, {0: call(name="f")}],
        "text around a call": ["a", {0: call(name="f", json_args="{}", tool_call_id="i")}, "b"],
        "text, then output": ["a", {0: call(name="final_result", json_args="{}", tool_call_id="i")}],
        "external": [{0: call(name="ext", json_args="{}")}],
        "unapproved": [{0: call(name="un", json_args="{}")}],
        "unknown tool": [{0: call(name="nobody", json_args="{}")}],
        "built-in": [{0: code}, {1: result}, "text"],
        "built-in, replaced": [{0: code}, {0: code}],
    }[name]


NAMES = [
    "text", "empty text", "nothing", "empty dict", "tags are text", "calls, mixed", "name in two",
    "arguments before the name", "never a name", "thinking", "signature only", "empty thinking",
    "thinking, then a call of its number", "text around a call", "text, then output", "external", "unapproved",
    "unknown tool", "built-in", "built-in, replaced",
]  # fmt: skip


@pytest.mark.parametrize("mode", ["text", "tool", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_streams_are_pydantic_ais(same, name, mode):
    async def scenario(lib):
        async def stream(messages, info):
            for piece in pieces(lib, name):
                yield piece

        tools = [
            lib.ToolDefinition(name="f"),
            lib.ToolDefinition(name="ext", kind="external"),
            lib.ToolDefinition(name="un", kind="unapproved"),
        ]
        output = [lib.ToolDefinition(name="final_result", kind="output")]
        params = lib.ModelRequestParameters(
            function_tools=tools,
            output_mode="text" if mode == "text" else "tool",
            output_tools=[] if mode == "text" else output,
            allow_text_output=mode != "tool",
        )
        messages = [lib.ModelRequest(parts=[lib.UserPromptPart("hello world")])]
        model = lib.FunctionModel(stream_function=stream)
        events = []
        try:
            async with model.request_stream(messages, None, params) as response:
                events.append((response.get(), response.usage(), response.final_result_event))
                async for event in response:
                    events.append(event)
                    events.append(response.usage())
                events.append((response.get(), response.usage(), response.final_result_event))
                events.append((response.model_name, response.provider_name, response.provider_url))
                events.extend([event async for event in response])
        except Exception as error:
            events.append((type(error).__name__, str(error)))
        return events

    same(scenario)


async def test_an_event_shows_the_part_as_it_was_then():
    async def stream(messages, info):
        yield "one "
        yield "two"

    async with FunctionModel(stream_function=stream).request_stream(HELLO, None, PLAIN) as response:
        events = []
        halfway = None
        async for event in response:
            events.append(event)
            halfway = halfway or response.get()
        assert events[0].part.content == "one "
        assert halfway.parts[0].content == "one "
        assert response.get().parts[0].content == "one two"


async def test_leaving_a_stream_early_closes_the_function():
    closed = []

    async def stream(messages, info):
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    model = FunctionModel(stream_function=stream)
    async with model.request_stream(HELLO, None, PLAIN) as response:
        async for _ in response:
            break
        assert not closed
    assert closed == [True]
    # What came before stays; the stream says no more.
    assert response.get().text == "x"
    assert [event async for event in response] == []
    async with model.request_stream(HELLO, None, PLAIN):
        pass
    assert closed == [True, True]


async def test_a_cancelled_stream_closes_the_function(autojump_clock):
    closed = []

    async def stream(messages, info):
        try:
            yield "x"
            await trio.sleep_forever()
        finally:
            closed.append(True)

    with trio.move_on_after(1) as scope:
        async with FunctionModel(stream_function=stream).request_stream(HELLO, None, PLAIN) as response:
            async for _ in response:
                pass
    assert scope.cancelled_caught
    assert closed == [True]
    assert response.get().text == "x"


@pytest.mark.parametrize("piece", [5, {0: "x"}])
async def test_pieces_of_another_kind_are_named(piece):
    async def stream(messages, info):
        yield piece

    async with FunctionModel(stream_function=stream).request_stream(HELLO, None, PLAIN) as response:
        with pytest.raises(UnexpectedModelBehavior, match="function::stream must yield"):
            async for _ in response:
                pass


async def test_what_the_function_keeps_does_not_grow_with_the_run():
    kept = []

    def answer(messages, info):
        kept.append(messages)
        if len(kept) < 3:
            return ModelResponse(parts=[ToolCallPart("look", {}, f"call_{len(kept)}")])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(answer))
    agent.tool_plain(lambda: "seen", name="look")
    result = await agent.run("go")
    assert [len(messages) for messages in kept] == [1, 3, 5]
    assert len(result.all_messages()) == 6
