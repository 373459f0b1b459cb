"""What Anthropic's streams become; the whole cases were compared with what Pydantic AI 1.46 makes of them.

Events as of https://docs.claude.com/en/docs/build-with-claude/streaming.
"""

import json

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import AgentRunError, MalformedResponseError, ModelAPIError, ModelHTTPError
from runmgr.messages import (
    BuiltinToolCallPart,
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
from runmgr.models.anthropic_stream import AnthropicStreamedResponse
from runmgr.models.http import Reply
from runmgr.models.retry import RetryPolicy
from runmgr.usage import RequestUsage

PARAMS = ModelRequestParameters()


class Pieces:
    head = Reply(200, [], b"")

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""


async def read(pieces, params=PARAMS):
    """The response and the events of a stream."""
    stream = AnthropicStreamedResponse(
        params, model_name="asked", provider_name="anthropic", provider_url="u"
    )
    await stream.open(Pieces(pieces))
    seen = [event async for event in stream]
    return stream.get(), seen


def text(claude, *texts, index=0):
    return [
        claude.block(index, type="text", text=""),
        *(claude.delta(index, type="text_delta", text=each) for each in texts),
        claude.stop(index),
    ]


async def test_text(claude):
    response, seen = await read(
        claude.sse(claude.start(), {"type": "ping"}, *text(claude, "a", "b"), *claude.end())
    )
    assert seen == [
        PartStartEvent(index=0, part=TextPart("a")),
        FinalResultEvent(tool_name=None, tool_call_id=None),
        PartDeltaEvent(index=0, delta=TextPartDelta(content_delta="b")),
        PartEndEvent(index=0, part=TextPart("ab")),
    ]
    assert response.parts == [TextPart("ab")]
    assert (response.model_name, response.provider_response_id) == ("claude-sonnet-4-5-20250929", "msg_1")
    assert (response.finish_reason, response.provider_details) == ("stop", {"finish_reason": "end_turn"})
    assert response.usage == RequestUsage(
        input_tokens=17,
        output_tokens=7,
        cache_write_tokens=3,
        cache_read_tokens=4,
        details={
            "input_tokens": 10,
            "output_tokens": 7,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 4,
        },
    )


async def test_thoughts(claude):
    response, seen = await read(
        claude.sse(
            claude.start(),
            claude.block(0, type="thinking", thinking="", signature=""),
            claude.delta(0, type="thinking_delta", thinking="h"),
            claude.delta(0, type="thinking_delta", thinking="m"),
            claude.delta(0, type="signature_delta", signature="sig"),
            claude.stop(0),
            claude.block(1, type="redacted_thinking", data="dd"),
            claude.stop(1),
            *text(claude, "a", index=2),
            *claude.end(),
        )
    )
    assert response.parts == [
        ThinkingPart("hm", signature="sig", provider_name="anthropic"),
        ThinkingPart("", id="redacted_thinking", signature="dd", provider_name="anthropic"),
        TextPart("a"),
    ]
    assert seen[3] == PartDeltaEvent(
        index=0, delta=ThinkingPartDelta(signature_delta="sig", provider_name="anthropic")
    )


async def test_parallel_calls(claude):
    params = ModelRequestParameters(output_tools=[ToolDefinition(name="foo", kind="output")])
    response, seen = await read(
        claude.sse(
            claude.start(),
            claude.block(0, type="tool_use", id="t1", name="foo", input={}),
            claude.delta(0, type="input_json_delta", partial_json=""),
            claude.delta(0, type="input_json_delta", partial_json='{"x"'),
            claude.delta(0, type="input_json_delta", partial_json=":1}"),
            claude.stop(0),
            claude.block(1, type="tool_use", id="t2", name="bar", input={}),
            claude.stop(1),
            claude.block(2, type="tool_use", id="t3", name="baz", input={"y": 2}),
            claude.stop(2),
            *claude.end("tool_use"),
        ),
        params,
    )
    assert response.parts == [
        ToolCallPart("foo", '{"x":1}', "t1"),
        ToolCallPart("bar", None, "t2"),
        ToolCallPart("baz", {"y": 2}, "t3"),
    ]
    assert response.finish_reason == "tool_call"
    assert seen[:3] == [
        PartStartEvent(index=0, part=ToolCallPart("foo", None, "t1")),
        FinalResultEvent(tool_name="foo", tool_call_id="t1"),
        PartDeltaEvent(index=0, delta=ToolCallPartDelta(args_delta="", tool_call_id="t1")),
    ]


async def test_anthropics_own_tools(claude):
    response, _ = await read(
        claude.sse(
            claude.start(container={"id": "c_1"}),
            claude.block(0, type="server_tool_use", id="s", name="web_search", input={}),
            claude.delta(0, type="input_json_delta", partial_json='{"query": "z"}'),
            claude.stop(0),
            claude.block(1, type="web_search_tool_result", tool_use_id="s", content=[{"url": "u"}]),
            claude.stop(1),
            *text(claude, "a", index=2),
            *claude.end(
                input_tokens=20, cache_read_input_tokens=5, server_tool_use={"web_search_requests": 1}
            ),
        )
    )
    call, returned, _text = response.parts
    assert (call.tool_name, call.args, returned.content) == ("web_search", '{"query": "z"}', [{"url": "u"}])
    assert (returned.tool_name, returned.tool_call_id) == ("web_search", "s")
    assert response.usage.input_tokens == 28
    assert response.provider_details == {"container_id": "c_1", "finish_reason": "end_turn"}


@pytest.mark.parametrize(
    ("deltas", "args"),
    [(['{"a"', ": 1}"], '{"a": 1}'), (["", "{}"], "{}"), ([], "{}"), ([""], "{}")],
)
async def test_mcp_servers(claude, deltas, args):
    response, _ = await read(
        claude.sse(
            claude.start(),
            claude.block(0, type="mcp_tool_use", id="s", name="ask", server_name="dw", input={}),
            *(claude.delta(0, type="input_json_delta", partial_json=each) for each in deltas),
            claude.stop(0),
            claude.block(1, type="mcp_tool_result", tool_use_id="s", is_error=False, content=[{"type": "text", "text": "ok"}]),
            claude.stop(1),
            *claude.end(),
        )
    )  # fmt: skip
    call, returned = response.parts
    wrapped = f'{{"action":"call_tool","tool_name":"ask","tool_args":{args}}}'
    assert call == BuiltinToolCallPart("mcp_server:dw", wrapped, "s", provider_name="anthropic")
    assert returned.tool_name == "mcp_server:dw"
    assert returned.content == {
        "content": [{"citations": None, "type": "text", "text": "ok"}],
        "is_error": False,
    }


async def test_a_refusal_says_nothing(claude):
    response, seen = await read(claude.sse(claude.start(), *claude.end("refusal")))
    assert (response.parts, seen, response.finish_reason) == ([], [], "content_filter")


async def test_what_is_unknown_is_passed_over(claude):
    response, _ = await read(
        claude.sse(
            claude.start(),
            {"type": "future_event", "x": 1},
            claude.block(0, type="hologram", rays=1),
            claude.delta(0, type="ray_delta", z=1),
            claude.stop(0),
            claude.block(1, type="text", text="S", citations=[]),
            claude.delta(1, type="citations_delta", citation={"type": "char_location"}),
            claude.delta(1, type="text_delta", text="b", mood="good"),
            claude.stop(1),
            *claude.end(),
        )
    )
    assert response.parts == [TextPart("Sb")]


@pytest.mark.parametrize(
    ("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("x", 500)]
)
async def test_errors_inside_a_stream(claude, kind, status):
    error = {"type": "error", "error": {"type": kind, "message": "boom"}}
    for before in ([], [claude.start(), *text(claude, "a")]):
        with pytest.raises(ModelHTTPError, match="boom") as caught:
            await read(claude.sse(*before, error))
        assert caught.value.status_code == status
        assert caught.value.body == error


async def test_no_end_is_an_error(claude):
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read(claude.sse(claude.start(), *text(claude, "a")))
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read([])
    # the reason to stop is an end, though not the last event
    response, _ = await read(claude.sse(claude.start(), *text(claude, "a"), claude.end()[0]))
    assert response.parts == [TextPart("a")]


@pytest.mark.parametrize(
    "data", [b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n", b'data: {"index": "x"}\n\n']
)
async def test_what_is_no_event(claude, data):
    with pytest.raises(MalformedResponseError, match="no event of a message"):
        await read([*claude.sse(claude.start()), data])


# ---------------------------------------------------------------- cut anywhere


def recorded(claude):
    return b"".join(
        claude.sse(
            claude.start(),
            claude.block(0, type="thinking", thinking="", signature=""),
            claude.delta(0, type="thinking_delta", thinking="h\u00e4"),
            claude.delta(0, type="signature_delta", signature="s"),
            claude.stop(0),
            {"type": "ping"},
            *text(claude, "\u20aca", "b", index=1),
            claude.block(2, type="tool_use", id="t", name="foo", input={}),
            claude.delta(2, type="input_json_delta", partial_json='{"x"'),
            claude.delta(2, type="input_json_delta", partial_json=":1}"),
            claude.stop(2),
            *claude.end("tool_use"),
        )
    )


@pytest.fixture(scope="module")
def claude_whole(claude_class):
    return recorded(claude_class)


PARTS = [
    ThinkingPart("h\u00e4", signature="s", provider_name="anthropic"),
    TextPart("\u20acab"),
    ToolCallPart("foo", '{"x":1}', "t"),
]


async def test_cut_in_two_at_every_byte(claude):
    whole = recorded(claude)
    expected = (await read([whole]))[1]
    for cut in range(len(whole)):
        response, seen = await read([whole[:cut], whole[cut:]])
        assert response.parts == PARTS
        assert seen == expected


async def test_ended_at_every_byte(claude):
    """The same parts or a typed error: never a part of an answer that passes for a whole one."""
    whole = recorded(claude)
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


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 2500), max_size=40))
def test_in_any_pieces(claude_whole, cuts):
    whole = claude_whole
    cuts = sorted(min(cut, len(whole)) for cut in cuts)
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert trio.run(read, pieces)[0].parts == PARTS


JSON = st.recursive(
    st.none() | st.integers(-1, 2) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "index", "text", "id", "name", "input", "thinking", "content"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
KIND = st.sampled_from(["text", "tool_use", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "x_tool_result"])  # fmt: skip
DELTA = st.sampled_from(["text_delta", "input_json_delta", "thinking_delta", "signature_delta"])


def _event(value):
    return b"data: %b\n\n" % json.dumps(value).encode()


EVENTS = st.one_of(
    st.binary(max_size=20),
    JSON.map(_event),
    st.builds(
        lambda index, kind, more: _event(
            {"type": "content_block_start", "index": index, "content_block": {"name": "n", "id": "i"} | (more if isinstance(more, dict) else {}) | {"type": kind}}
        ),
        st.integers(0, 2), KIND, JSON,
    ),
    st.builds(
        lambda index, kind, word: _event(
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, "text": word, "partial_json": word, "thinking": word, "signature": word}}
        ),
        st.integers(0, 2), DELTA, st.text(max_size=3),
    ),
    st.integers(0, 2).map(lambda index: _event({"type": "content_block_stop", "index": index})),
    st.just(_event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}})),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=7))
def test_any_bytes_give_a_response_or_a_typed_error(pieces):
    try:
        response, _ = trio.run(read, pieces)
    except AgentRunError:
        return
    assert isinstance(response.parts, list)


# ---------------------------------------------------------------- over a connection


async def test_over_a_connection(server, tools, claude):
    server.will(tools.chunked(*claude.sse(claude.start(), *text(claude, "a"), *claude.end())))
    model = claude.model(server)
    for _ in range(2):
        async with model.request_stream(claude.prompt("q"), {"temperature": 0.1}, PARAMS) as answer:
            async for _event in answer:
                pass
        assert answer.get().parts == [TextPart("a")]
    assert server.requests[0].json()["stream"] is True
    assert server.connections == 1


async def test_opening_is_tried_again(server, tools, claude):
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    server.will(
        tools.answer(overloaded, status=529),
        tools.chunked(*claude.sse(overloaded)),
        tools.chunked(),
        tools.chunked(*claude.sse(claude.start(), *text(claude, "a"), *claude.end())),
    )
    model = claude.model(server, retry=RetryPolicy(max_retries=4, base=0.001))
    async with model.request_stream(claude.prompt("q"), None, PARAMS) as answer:
        async for _ in answer:
            pass
    assert answer.get().parts == [TextPart("a")]
    assert len(server.requests) == 4


async def test_a_server_that_does_not_stream(server, tools, claude):
    server.will(tools.answer(claude.message({"type": "text", "text": "hi"})))
    async with claude.model(server).request_stream_once(claude.prompt("q"), None, PARAMS) as answer:
        seen = [event async for event in answer]
    assert answer.get().parts == [TextPart("hi")]
    assert isinstance(seen[0], PartStartEvent)
    assert answer.get().usage.output_tokens == 5


async def test_errors_name_no_key(server, tools, claude):
    server.will(None)
    with pytest.raises(ModelAPIError) as caught:
        async with claude.model(server).request_stream_once(claude.prompt("q"), None, PARAMS):
            pass
    assert "hunter2" not in str(caught.value)
