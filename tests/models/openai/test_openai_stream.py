"""What a streamed answer becomes; the whole cases were compared with what Pydantic AI 1.46 makes of them."""

import json
from datetime import UTC, datetime

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import (
    AgentRunError,
    MalformedResponseError,
    ModelAPIError,
    ModelHTTPError,
    ModelTimeoutError,
)
from runmgr.messages import (
    FinalResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from runmgr.models import ModelRequestParameters, ToolDefinition
from runmgr.models.http import Reply
from runmgr.models.openai_stream import OpenAIStreamedResponse
from runmgr.models.retry import RetryPolicy
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.usage import RequestUsage

PARAMS = ModelRequestParameters()
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


class Pieces:
    """An answer whose bytes come in the given pieces."""

    head = Reply(200, [], b"")

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""


async def read(pieces, *, profile=None, params=PARAMS):
    """The response and the events of a stream."""
    stream = OpenAIStreamedResponse(
        params,
        model_name="asked",
        profile=profile or OpenAIModelProfile(),
        provider_name="openai",
        provider_url="u",
    )
    await stream.open(Pieces(pieces))
    seen = [event async for event in stream]
    return stream.get(), seen


async def test_text(chat):
    response, seen = await read(
        chat.events(
            chat.chunk({"role": "assistant", "content": "", "refusal": None}),
            chat.chunk({"content": "a"}),
            chat.chunk({"content": "b"}),
            chat.chunk({}, "stop"),
            chat.chunk(usage=USAGE),
        )
    )
    assert seen == [
        PartStartEvent(index=0, part=TextPart("a")),
        FinalResultEvent(tool_name=None, tool_call_id=None),
        PartDeltaEvent(index=0, delta=TextPartDelta(content_delta="b")),
        PartEndEvent(index=0, part=TextPart("ab")),
    ]
    assert response.parts == [TextPart("ab")]
    assert response.usage == RequestUsage(input_tokens=10, output_tokens=20)
    assert response.model_name == "gpt-4o-2024-08-06"
    assert response.provider_response_id == "chatcmpl-1"
    assert response.finish_reason == "stop"
    assert response.provider_details == {
        "finish_reason": "stop",
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    }


def call(index, id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


async def test_parallel_tool_calls(chat):
    params = ModelRequestParameters(output_tools=[ToolDefinition(name="bar", kind="output")])
    response, seen = await read(
        chat.events(
            chat.chunk({"role": "assistant", "content": None} | call(0, "c1", "foo", "")),
            chat.chunk(call(0, arguments='{"a"')),
            chat.chunk(call(1, "c2", "bar", "{}")),
            chat.chunk(call(0, arguments=":1}")),
            chat.chunk({}, "tool_calls"),
        ),
        params=params,
    )
    assert response.parts == [ToolCallPart("foo", '{"a":1}', "c1"), ToolCallPart("bar", "{}", "c2")]
    assert response.finish_reason == "tool_call"
    assert seen == [
        PartStartEvent(index=0, part=ToolCallPart("foo", "", "c1")),
        PartDeltaEvent(index=0, delta=ToolCallPartDelta(args_delta='{"a"', tool_call_id="c1")),
        PartEndEvent(index=0, part=ToolCallPart("foo", '{"a"', "c1"), next_part_kind="tool-call"),
        PartStartEvent(index=1, part=ToolCallPart("bar", "{}", "c2"), previous_part_kind="tool-call"),
        FinalResultEvent(tool_name="bar", tool_call_id="c2"),
        PartDeltaEvent(index=0, delta=ToolCallPartDelta(args_delta=":1}", tool_call_id="c1")),
        PartEndEvent(index=1, part=ToolCallPart("bar", "{}", "c2")),
    ]


@pytest.mark.parametrize("first", [0, None])
async def test_servers_that_do_not_count_their_calls(chat, first):
    response, _ = await read(
        chat.events(
            chat.chunk(call(first, "c1", "foo", '{"a":1}')),
            chat.chunk(call(first, "c2", "bar", "{")),
            chat.chunk(call(None, None, None, "}")),
            chat.chunk({}, "tool_calls"),
        )
    )
    assert response.parts == [ToolCallPart("foo", '{"a":1}', "c1"), ToolCallPart("bar", "{}", "c2")]


async def test_a_call_without_an_id(chat):
    response, _ = await read(
        chat.events(chat.chunk(call(0, None, "foo", "{}")), chat.chunk({}, "tool_calls"))
    )
    assert response.parts[0].tool_name == "foo"
    assert response.parts[0].tool_call_id


@pytest.mark.parametrize(
    ("field", "profile"),
    [
        ("reasoning_content", None),
        ("reasoning", None),
        ("thoughts", OpenAIModelProfile(openai_chat_thinking_field="thoughts")),
    ],
)
async def test_thoughts_in_a_field(chat, field, profile):
    response, seen = await read(
        chat.events(
            chat.chunk({"role": "assistant", field: "t1"}),
            chat.chunk({field: "t2", "content": ""}),
            chat.chunk({"content": "a", field: ""}),
            chat.chunk({field: None}, "stop"),
        ),
        profile=profile,
    )
    assert response.parts == [ThinkingPart("t1t2", id=field, provider_name="openai"), TextPart("a")]
    assert seen[1] == PartDeltaEvent(
        index=0, delta=ThinkingPartDelta(content_delta="t2", provider_name="openai")
    )


async def test_thoughts_inside_the_text(chat):
    pieces = [chat.chunk({"content": text}) for text in ("<think>", "t", "</think>", "a")]
    response, _ = await read(chat.events(*pieces, chat.chunk({}, "stop")))
    assert response.parts == [ThinkingPart("t", id="content", provider_name="openai"), TextPart("a")]


async def test_leading_whitespace(chat):
    pieces = chat.events(
        chat.chunk({"content": "\n\n"}), chat.chunk({"content": "a"}), chat.chunk({}, "stop")
    )
    assert (await read(pieces))[0].parts == [TextPart("\n\na")]
    profile = OpenAIModelProfile(ignore_streamed_leading_whitespace=True)
    assert (await read(pieces, profile=profile))[0].parts == [TextPart("a")]


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([None, USAGE], (10, 20)),
        ([USAGE], (10, 20)),
        (
            [{"prompt_tokens": 10, "completion_tokens": 1}, {"prompt_tokens": 10, "completion_tokens": 2}],
            (10, 2),
        ),
        ([], (0, 0)),
    ],
)
async def test_usage(chat, usages, expected):
    """The last one counts: servers that tell usage along the way tell what it is so far."""
    pieces = [chat.chunk({"content": "a"}, "stop"), *(chat.chunk({}, usage=usage) for usage in usages)]
    usage = (await read(chat.events(*pieces)))[0].usage
    assert (usage.input_tokens, usage.output_tokens) == expected


async def test_logprobs_and_refusals_add_up(chat):
    first, second = (
        chat.chunk({"content": "a", "refusal": "n"}),
        chat.chunk({"content": "b", "refusal": "o"}, "stop"),
    )
    first["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1}]}
    second["choices"][0]["logprobs"] = {"content": [{"token": "b", "logprob": -2}]}
    details = (await read(chat.events(first, second)))[0].provider_details
    assert details["logprobs"] == [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}]
    assert details["refusal"] == "no"


async def test_a_response_given_out_does_not_change(chat):
    pieces = chat.events(chat.chunk({"content": "a"}), chat.chunk({"content": "b"}, "stop"))
    stream = OpenAIStreamedResponse(
        PARAMS,
        model_name="m",
        profile=OpenAIModelProfile(),
        provider_name="p",
        provider_url="u",
    )
    await stream.open(Pieces(pieces))
    async for _ in stream:
        early = stream.get()
        break
    async for _ in stream:
        pass
    assert early.parts == [TextPart("a")]
    assert "finish_reason" not in early.provider_details
    assert stream.get().parts == [TextPart("ab")]


@pytest.mark.parametrize(
    "extra",
    [
        b": OPENROUTER PROCESSING\n\n",
        b'data: {"object": "x", "choices": []}\n\n',
        b'data: {"choices": [{"index": 0, "delta": null}]}\n\n',
        b'data: {"choices": [{"index": 0}], "new_field": [1]}\n\n',
        b"event: ping\n\n",
        b"data: \n\n",
        b"id: 7\nretry: 10\n\n",
        b"\n\n\n",
    ],
)
async def test_what_says_nothing_is_passed_over(chat, extra):
    pieces = chat.events(extra, chat.chunk({"content": "a"}), extra, chat.chunk({}, "stop"), extra)
    assert (await read(pieces))[0].parts == [TextPart("a")]


@pytest.mark.parametrize("how", ["done", "finish_reason"])
async def test_either_end_will_do(chat, how):
    pieces = [chat.chunk({"content": "a"}), chat.chunk({}, "stop" if how == "finish_reason" else None)]
    response, _ = await read(chat.events(*pieces, done=how == "done"))
    assert response.parts == [TextPart("a")]
    assert (await read([*chat.events(*pieces), b"data: nonsense behind the end\n\n"]))[0].parts == [
        TextPart("a")
    ]


async def test_no_end_is_an_error(chat):
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read(chat.events(chat.chunk({"content": "a"}), done=False))
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read([])


async def test_nothing_at_all_is_an_error(chat):
    with pytest.raises(MalformedResponseError, match="without content"):
        await read(chat.events())


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b'data: {"error": {"message": "boom", "code": 502}}\n\n', 502),
        (b'data: {"error": {"message": "boom", "type": "rate_limit_error"}, "choices": []}\n\n', 429),
        (b'event: error\ndata: {"message": "boom"}\n\n', 500),
        (b'data: {"error": "boom"}\n\n', 500),
    ],
)
async def test_errors_inside_a_stream(chat, event, status):
    for pieces in ([event], chat.events(chat.chunk({"content": "a"}), event)):
        with pytest.raises(ModelHTTPError, match="boom") as caught:
            await read(pieces)
        assert caught.value.status_code == status


@pytest.mark.parametrize(
    "event",
    [b"data: {\n\n", b"data: nonsense\n\n", b"data: []\n\n", b"data: \xff\n\n", b"event: error\ndata: x\n\n"],
)
async def test_events_that_are_no_chunks(chat, event):
    with pytest.raises(MalformedResponseError, match="no chunk"):
        await read(chat.events(chat.chunk({"content": "a"}), event))


# ---------------------------------------------------------------- cut anywhere


def recorded(chat):
    return b"".join(
        chat.events(
            b": hello\n\n",
            chat.chunk({"role": "assistant", "content": "", "reasoning_content": "hm"}),
            chat.chunk({"content": "\u00e4b\u20ac"}),
            b'data: {"id": "x",\r\ndata: "choices": [{"delta": {"content": "c"}}]}\r\n\r\n',
            chat.chunk(call(0, "c1", "foo", '{"a"')),
            chat.chunk(call(0, arguments=":1}")),
            chat.chunk({}, "tool_calls"),
            chat.chunk(usage=USAGE),
        )
    )


PARTS = [
    ThinkingPart("hm", id="reasoning_content", provider_name="openai"),
    TextPart("\u00e4b\u20acc"),
    ToolCallPart("foo", '{"a":1}', "c1"),
]


async def test_cut_in_two_at_every_byte(chat):
    whole = recorded(chat)
    expected = await read([whole])
    assert expected[0].parts == PARTS
    for cut in range(len(whole)):
        response, seen = await read([whole[:cut], whole[cut:]])
        assert response.parts == PARTS
        assert response.usage == expected[0].usage
        assert seen == expected[1]


async def test_ended_at_every_byte(chat):
    """The same parts or a typed error: never a hang, never a part of an answer that passes for a whole one."""
    whole = recorded(chat)
    outcomes = set()
    for cut in range(len(whole)):
        try:
            response, _ = await read([whole[:cut]])
        except MalformedResponseError:
            outcomes.add("error")
        else:
            outcomes.add("whole")
            assert response.parts == PARTS
    assert outcomes == {"error", "whole"}


@settings(max_examples=100, deadline=None)
@given(cuts=st.lists(st.integers(0, 1500), max_size=40))
def test_in_any_pieces(cuts):
    from types import SimpleNamespace

    chat = SimpleNamespace(events=_events, chunk=_chunk)
    whole = recorded(chat)
    cuts = sorted(min(cut, len(whole)) for cut in cuts)
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert trio.run(read, pieces)[0].parts == PARTS


def _chunk(delta=None, finish_reason=None, **fields):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {"id": "x", "model": "m", "choices": choices} | fields


def _events(*chunks):
    data = [
        item if isinstance(item, bytes) else b"data: %b\n\n" % json.dumps(item).encode() for item in chunks
    ]
    return [*data, b"data: [DONE]\n\n"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "index",
                    "id",
                    "error",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
EVENTS = st.one_of(
    st.binary(max_size=30),
    JSON.map(lambda value: b"data: %b\n\n" % json.dumps(value).encode()),
    JSON.map(
        lambda value: b"data: %b\n\n" % json.dumps(_chunk({"content": value, "tool_calls": value})).encode()
    ),
    JSON.map(lambda value: b"data: %b\n\n" % json.dumps(_chunk({"tool_calls": [value]}, "stop")).encode()),
    st.just(b"data: [DONE]\n\n"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=6))
def test_any_bytes_give_a_response_or_a_typed_error(pieces):
    try:
        response, _ = trio.run(read, pieces)
    except AgentRunError:
        return
    assert isinstance(response.parts, list)


# ---------------------------------------------------------------- over a connection


@pytest.fixture
def stream(server, chat):
    def stream(settings=None, params=PARAMS, once=True, **options):
        model = chat.model(server, **options)
        return (model.request_stream_once if once else model.request_stream)(chat.prompt(), settings, params)

    return stream


def hello(chat, tools):
    return tools.chunked(*chat.events(chat.chunk({"content": "a"}), chat.chunk({"content": "b"}, "stop")))


async def test_what_is_asked_for(server, tools, chat, stream):
    server.will(hello(chat, tools))
    async with stream() as answer:
        assert [event async for event in answer][-1] == PartEndEvent(index=0, part=TextPart("ab"))
    body = server.requests[0].json()
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


async def test_the_connection_is_used_again(server, tools, chat):
    server.will(hello(chat, tools))
    model = chat.model(server)
    for _ in range(3):
        async with model.request_stream(chat.prompt(), None, PARAMS) as answer:
            async for _event in answer:
                pass
    assert server.connections == 1


async def test_a_server_that_stays_on_the_line_behind_the_end_is_not_waited_for(server, tools, chat, stream):
    async def stays(request, channel):
        await channel.send_all(hello(chat, tools).removesuffix(b"0\r\n\r\n"))
        await trio.sleep(60)

    server.will(stays)
    with trio.fail_after(5):
        async with stream() as answer:
            async for _ in answer:
                pass
    assert answer.get().parts == [TextPart("ab")]


async def test_leaving_early_closes_the_connection(server, tools, chat, stream):
    async def slowly(request, channel):
        head, first, rest = hello(chat, tools).partition(b"\r\n\r\n")
        await channel.send_all(head + first + rest[: rest.index(b"\n\n") + 4])
        while True:
            await trio.sleep(0.01)
            await channel.send_all(b"9\r\n: ping..\n\r\n")

    server.will(slowly)
    async with stream() as answer:
        async for _ in answer:
            break
    with trio.fail_after(10):
        await server.eof.wait()
    assert answer.get().parts == [TextPart("a")]


async def test_cancelling_in_the_middle(server, tools, chat, stream):
    async def slowly(request, channel):
        head, first, rest = hello(chat, tools).partition(b"\r\n\r\n")
        await channel.send_all(head + first + rest[: rest.index(b"\n\n") + 4])
        await trio.sleep(60)

    server.will(slowly)
    with trio.CancelScope() as scope:
        async with stream() as answer:
            async for _ in answer:
                scope.deadline = trio.current_time() + 0.05
    assert scope.cancelled_caught
    assert answer.get().parts == [TextPart("a")]


async def test_broken_off_in_the_middle(server, tools, chat, stream):
    server.will(tools.chunked(*chat.events(chat.chunk({"content": "a"})), end=False)[:-10] + tools.CLOSE)
    async with stream() as answer:
        with pytest.raises(MalformedResponseError, match=f"{server.url}/chat/completions: .*cut short"):
            async for _ in answer:
                pass
        assert answer.get().parts == [TextPart("a")]


async def test_silence_in_the_middle(server, tools, chat, stream):
    async def silent(request, channel):
        await channel.send_all(
            tools.chunked(*chat.events(chat.chunk({"content": "a"}), done=False), end=False)
        )
        await trio.sleep(60)

    server.will(silent)
    async with stream({"timeout": 0.2}) as answer:
        with pytest.raises(ModelTimeoutError, match=r"no whole answer within 0\.2 s"):
            async for _ in answer:
                pass


async def test_opening_is_tried_again(server, tools, chat, stream):
    server.will(
        tools.answer({"error": {"message": "x"}}, status=503),
        tools.chunked(b"data: {\n\n"),
        tools.chunked(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'),
        tools.chunked(),
        None,
        hello(chat, tools),
    )
    async with stream(once=False, retry=RetryPolicy(max_retries=5, base=0.001)) as answer:
        async for _ in answer:
            pass
    assert answer.get().parts == [TextPart("ab")]
    assert len(server.requests) == 6


async def test_opening_fails(server, tools, stream):
    server.will(tools.answer({"error": {"message": "bad"}}, status=400, x_request_id="r"))
    with pytest.raises(ModelHTTPError, match="status_code: 400") as caught:
        async with stream(once=False):
            pass
    assert caught.value.request_id == "r"
    assert len(server.requests) == 1


async def test_a_server_that_does_not_stream(server, tools, chat, stream):
    message = {"content": "hi", "tool_calls": [{"id": "c", "function": {"name": "foo", "arguments": "{}"}}]}
    server.will(tools.answer(chat.completion(message, "tool_calls")))
    async with stream() as answer:
        seen = [event async for event in answer]
    response = answer.get()
    assert response.parts == [TextPart("hi"), ToolCallPart("foo", "{}", "c")]
    assert response.usage == RequestUsage(input_tokens=10, output_tokens=20)
    assert response.finish_reason == "tool_call"
    assert [type(event) for event in seen].count(PartStartEvent) == 2


async def test_errors_name_no_key(server, tools, chat, stream):
    server.will(None)
    with pytest.raises(ModelAPIError) as caught:
        async with stream(provider={"api_key": "hunter2"}):
            pass
    assert "hunter2" not in str(caught.value)
