"""What OpenAI's responses become, whole and streamed: compared with what Pydantic AI 1.46 makes of them.

Items as of https://platform.openai.com/docs/api-reference/responses/object, events as of .../responses-streaming.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import AgentRunError, MalformedResponseError, ModelHTTPError
from runmgr.messages import (
    BinaryImage,
    FilePart,
    FinalResultEvent,
    ModelResponse,
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
from runmgr.models import ModelRequestParameters, ToolDefinition, infer_model
from runmgr.models.http import Reply
from runmgr.models.openai import OpenAIResponsesModel
from runmgr.models.openai_responses_response import map_response
from runmgr.models.openai_responses_stream import OpenAIResponsesStreamedResponse
from runmgr.models.retry import RetryPolicy
from runmgr.usage import RequestUsage

PARAMS = ModelRequestParameters()


def mapped(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return map_response(body, model_name="asked", provider_name="openai", provider_url="u")


class Pieces:
    head = Reply(200, [], b"")

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""


async def read(pieces, params=PARAMS):
    stream = OpenAIResponsesStreamedResponse(
        params, model_name="asked", provider_name="openai", provider_url="u"
    )
    await stream.open(Pieces(pieces))
    seen = [event async for event in stream]
    return stream.get(), seen


def test_text(api):
    response = mapped(api.answer(api.text("a"), api.text("b", "msg_2", logprobs=[{"token": "b"}])))
    assert response == ModelResponse(
        [
            TextPart("a", id="msg_1"),
            TextPart("b", id="msg_2", provider_details={"logprobs": [{"token": "b"}]}),
        ],
        usage=RequestUsage(
            input_tokens=10, output_tokens=5, cache_read_tokens=4, details={"reasoning_tokens": 2}
        ),
        model_name="gpt-5-2025-08-07",
        timestamp=response.timestamp,
        provider_name="openai",
        provider_url="u",
        provider_details={
            "finish_reason": "completed",
            "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        },
        provider_response_id="resp_1",
        finish_reason="stop",
    )


RAW = [{"type": "reasoning_text", "text": "r1"}, {"type": "reasoning_text", "text": "r2"}]


@pytest.mark.parametrize(
    ("summary", "more", "expected"),
    [
        (["a", "b"], {}, [ThinkingPart("a", id="rs_1"), ThinkingPart("b", id="rs_1")]),
        (
            [],
            {"encrypted_content": "e"},
            [ThinkingPart("", id="rs_1", signature="e", provider_name="openai")],
        ),
        (
            ["a", "b"],
            {"encrypted_content": "e"},
            [
                ThinkingPart("a", id="rs_1", signature="e", provider_name="openai"),
                ThinkingPart("b", id="rs_1"),
            ],
        ),
        (
            [],
            {"content": RAW},
            [
                ThinkingPart(
                    "", id="rs_1", provider_name="openai", provider_details={"raw_content": ["r1", "r2"]}
                )
            ],
        ),
        ([], {}, []),
    ],
)
def test_thoughts(api, summary, more, expected):
    assert mapped(api.answer(api.reasoning(*summary, **more))).parts == expected


def test_parallel_calls(api):
    response = mapped(api.answer(api.call(), api.call("c2", "bar", "{}", "fc_2")))
    assert response.parts == [
        ToolCallPart("foo", '{"x":1}', "c1", id="fc_1"),
        ToolCallPart("bar", "{}", "c2", id="fc_2"),
    ]


PNG = FilePart(BinaryImage(b"abc", media_type="image/png"), id="i")
OUTPUTS = [
    {"type": "logs", "logs": "1\n"},
    {"type": "image", "url": "data:image/png;base64,YWJj"},
    {"type": "image", "url": "https://e"},
]
OWN = {
    "web_search": (
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "z", "url": None, "sources": [1]}},
        {"type": "search", "query": "z"},
        [],
        {"status": "completed", "sources": [1]},
    ),
    "code_execution": (
        {"type": "code_interpreter_call", "status": "completed", "code": '1"', "container_id": "ct", "outputs": OUTPUTS},
        {"container_id": "ct", "code": '1"'},
        [PNG],
        {"status": "completed", "logs": ["1\n"]},
    ),
    "image_generation": (
        {"type": "image_generation_call", "status": "completed", "result": "YWJj", "quality": "high", "output_format": "png"},
        None,
        [PNG],
        {"status": "completed", "quality": "high"},
    ),
    "file_search": (
        {"type": "file_search_call", "status": "completed", "queries": ["z"], "results": [{"file_id": "f"}]},
        {"queries": ["z"]},
        [],
        {"status": "completed", "results": [{"file_id": "f"}]},
    ),
    "mcp_server:dw": (
        {"type": "mcp_call", "server_label": "dw", "name": "t", "arguments": '{"a":1}', "output": "o"},
        {"action": "call_tool", "tool_name": "t", "tool_args": {"a": 1}},
        [],
        {"output": "o", "error": None},
    ),
    "mcp_server:l": (
        {"type": "mcp_list_tools", "server_label": "l", "tools": [{"name": "t"}]},
        {"action": "list_tools"},
        [],
        {"tools": [{"name": "t", "annotations": None, "description": None}], "error": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
async def test_openais_own_tools(api, name):
    item, args, files, content = OWN[name]
    item = {"id": "i"} | item
    begun = {
        key: value
        for key, value in item.items()
        if key in {"id", "type", "server_label", "name", "container_id"}
    }
    for response in (
        mapped(api.answer(item)),
        (await read(api.sse(api.started(), api.added(begun), api.ended(item), api.done())))[0],
    ):
        call, *between, returned = response.parts
        assert (call.tool_name, call.tool_call_id, call.provider_name) == (name, "i", "openai")
        assert (call.args if args is None else call.args_as_dict()) == args
        assert between == files
        assert (returned.tool_name, returned.content, returned.tool_call_id) == (name, content, "i")


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("completed", None, "stop"),
        ("incomplete", "max_output_tokens", "length"),
        ("incomplete", "content_filter", "content_filter"),
        ("incomplete", "new", None),
        ("failed", None, "error"),
        ("cancelled", None, "error"),
        ("in_progress", None, None),
    ],
)
async def test_how_it_ended(api, status, reason, expected):
    fields = {"status": status, "incomplete_details": {"reason": reason} if reason else None}
    responses = [mapped(api.answer(api.text(), **fields))]
    if status != "in_progress":
        responses.append((await read(api.sse(*api.streamed_text("hi"), api.done(status, **fields))))[0])
    for response in responses:
        assert response.finish_reason == expected
        assert response.provider_details["finish_reason"] == (reason or status)


async def test_a_refusal(api):
    item = {"id": "m", "type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    events = [
        api.added(item | {"content": []}),
        api.event("refusal.delta", "m", delta="n"),
        api.event("refusal.delta", "m", delta="o"),
    ]
    for response in (mapped(api.answer(item)), (await read(api.sse(api.started(), *events, api.done())))[0]):
        assert (response.parts, response.provider_details["refusal"]) == ([], "no")


def test_usage(api):
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "total_tokens": 3,
        "extra": 4,
        "input_tokens_details": None,
    }
    assert mapped(api.answer(usage=usage)).usage == RequestUsage(
        input_tokens=1, output_tokens=2, details={"extra": 4, "reasoning_tokens": 0}
    )
    assert mapped(api.answer(usage=None)).usage == RequestUsage()


async def test_what_is_unknown_breaks_nothing(api):
    new = {"id": "x", "type": "hologram", "rays": 1}
    assert mapped(api.answer(new, {"type": "computer_call"}, api.text("a"), mood=1)).parts == [
        TextPart("a", id="msg_1")
    ]
    events = [
        {"type": "response.future", "x": 1},
        api.added(new),
        api.ended(new),
        *api.streamed_text("a"),
        api.done(),
    ]
    assert (await read(api.sse(api.started(), *events)))[0].parts == [TextPart("a", id="msg_1")]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"output": 1}'])
def test_what_is_no_response(body):
    with pytest.raises(MalformedResponseError, match="OpenAI answered"):
        mapped(body)


@pytest.mark.parametrize(("code", "status"), [("server_error", 500), ("rate_limit_exceeded", 429)])
async def test_a_failure(api, code, status):
    error = {"code": code, "message": "boom"}
    with pytest.raises(ModelHTTPError, match="boom") as caught:
        mapped(api.answer(status="failed", error=error))
    assert (caught.value.status_code, caught.value.body) == (status, error)
    for last in (
        api.done("failed", status="failed", error=error),
        {"type": "error", **error},
        {"type": "error", "error": error},
    ):
        with pytest.raises(ModelHTTPError, match="boom") as caught:
            await read(api.sse(api.started(), *api.streamed_text("a"), last))
        assert caught.value.status_code == status


# ---------------------------------------------------------------- streams


async def test_streamed_text(api):
    response, seen = await read(api.sse(api.started(), *api.streamed_text("a", "b"), api.done()))
    assert seen == [
        PartStartEvent(index=0, part=TextPart("a", id="msg_1")),
        FinalResultEvent(tool_name=None, tool_call_id=None),
        PartDeltaEvent(index=0, delta=TextPartDelta("b")),
        PartEndEvent(index=0, part=TextPart("ab", id="msg_1")),
    ]
    assert response.usage.output_tokens == 5
    assert (response.model_name, response.provider_response_id) == ("gpt-5-2025-08-07", "resp_1")
    assert response.provider_details == {
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "finish_reason": "completed",
    }


async def test_streamed_logprobs(api):
    events = api.streamed_text("a")
    events[3]["logprobs"] = [{"token": "a"}]
    (part,) = (await read(api.sse(*events, api.done())))[0].parts
    assert part == TextPart("a", id="msg_1", provider_details={"logprobs": [{"token": "a"}]})


async def test_streamed_calls(api):
    first, second, third = (
        api.call(),
        api.call("c2", "bar", "{}", "fc_2"),
        api.call("c3", "baz", "{}", "fc_3"),
    )
    params = ModelRequestParameters(output_tools=[ToolDefinition(name="bar", kind="output")])
    response, seen = await read(
        api.sse(
            api.added(first | {"arguments": ""}),
            api.event("function_call_arguments.delta", "fc_1", delta='{"x"'),
            api.event("function_call_arguments.delta", "fc_1", delta=":1}"),
            api.event("function_call_arguments.done", "fc_1", arguments='{"x":1}'),
            api.ended(first),
            api.added(second),
            api.ended(second),
            api.added(third | {"arguments": ""}),
            api.ended(third),
            api.done(),
        ),
        params,
    )
    assert response.parts == [
        ToolCallPart("foo", '{"x":1}', "c1", id="fc_1"),
        ToolCallPart("bar", "{}", "c2", id="fc_2"),
        ToolCallPart("baz", "{}", "c3", id="fc_3"),
    ]
    assert seen[1] == PartDeltaEvent(index=0, delta=ToolCallPartDelta(args_delta='{"x"', tool_call_id="c1"))
    assert FinalResultEvent(tool_name="bar", tool_call_id="c2") in seen


async def test_streamed_thoughts(api):
    def part(index, text):
        summary = {"summary_index": index}
        return [
            api.event(
                "reasoning_summary_part.added", "rs_1", **summary, part={"type": "summary_text", "text": ""}
            ),
            *(api.event("reasoning_summary_text.delta", "rs_1", **summary, delta=letter) for letter in text),
            api.event("reasoning_summary_text.done", "rs_1", **summary, text=text),
            api.event(
                "reasoning_summary_part.done", "rs_1", **summary, part={"type": "summary_text", "text": text}
            ),
        ]

    response, seen = await read(
        api.sse(
            api.added(api.reasoning()),
            *part(0, "ab"),
            *part(1, "c"),
            api.ended(api.reasoning("ab", "c", encrypted_content="enc")),
            *api.streamed_text("x"),
            api.done(),
        )
    )
    assert response.parts == [
        ThinkingPart("ab", id="rs_1", signature="enc", provider_name="openai"),
        ThinkingPart("c", id="rs_1"),
        TextPart("x", id="msg_1"),
    ]
    assert seen[:2] == [
        PartStartEvent(index=0, part=ThinkingPart("", id="rs_1")),
        PartDeltaEvent(index=0, delta=ThinkingPartDelta(content_delta="a")),
    ]


async def test_streamed_thoughts_themselves(api):
    deltas = [(0, "r1"), (0, "r2"), (1, "q")]
    events = [
        api.event("reasoning_text.delta", "rs_1", content_index=index, delta=text) for index, text in deltas
    ]
    response, _ = await read(
        api.sse(api.added(api.reasoning()), *events, api.ended(api.reasoning()), api.done())
    )
    assert response.parts == [ThinkingPart("", id="rs_1", provider_details={"raw_content": ["r1r2", "q"]})]


async def test_streamed_code_servers_and_images(api):
    code, files, content = OWN["code_execution"][0] | {"id": "i"}, [PNG], OWN["code_execution"][3]
    mcp = OWN["mcp_server:dw"][0] | {"id": "m"}
    image = OWN["image_generation"][0] | {"id": "g"}
    response, seen = await read(
        api.sse(
            api.added(code | {"code": "", "outputs": None}),
            api.event("code_interpreter_call_code.delta", "i", delta="1"),
            api.event("code_interpreter_call_code.delta", "i", delta='"'),
            api.event("code_interpreter_call_code.done", "i", code='1"'),
            api.ended(code),
            api.added(mcp | {"arguments": ""}),
            api.event("mcp_call_arguments.delta", "m", delta='{"a"'),
            api.event("mcp_call_arguments.delta", "m", delta=":1}"),
            api.event("mcp_call_arguments.done", "m", arguments='{"a":1}'),
            api.ended(mcp),
            api.added(image | {"result": None}),
            api.event(
                "image_generation_call.partial_image", "g", partial_image_b64="YWI=", output_format="png"
            ),
            api.event("image_generation_call.partial_image", "g", partial_image_b64="!", output_format="png"),
            api.ended(image),
            api.done(),
        )
    )
    call, made, returned, asked, _, _, picture, _ = response.parts
    assert call.args == '{"container_id":"ct","code":"1\\""}'
    assert ([made], returned.content) == (files, content)
    assert asked.args == '{"action":"call_tool","tool_name":"t","tool_args":{"a":1}}'
    assert picture.content.data == b"abc"
    starts = [
        event.part.content.data
        for event in seen
        if isinstance(event, PartStartEvent) and isinstance(event.part, FilePart)
    ]
    assert starts == [b"abc", b"ab", b"abc"]


async def test_no_end_is_an_error(api):
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read(api.sse(api.started(), *api.streamed_text("a")))
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read([])
    with pytest.raises(MalformedResponseError, match="no event of a response"):
        await read([b"data: {\n\n"])


PARTS = [TextPart("\u20aca\u00e4", id="msg_1"), ToolCallPart("foo", '{"x":1}', "c1", id="fc_1")]


def recorded(api):
    return b"".join(
        api.sse(
            api.started(),
            api.event("output_text.delta", "msg_1", delta="\u20aca"),
            api.event("output_text.delta", "msg_1", delta="\u00e4"),
            api.added(api.call(arguments="")),
            api.event("function_call_arguments.delta", "fc_1", delta='{"x"'),
            api.event("function_call_arguments.delta", "fc_1", delta=":1}"),
            api.ended(api.call()),
            api.done(),
        )
    )


async def test_cut_and_ended_at_every_byte(api):
    whole = recorded(api)
    expected = (await read([whole]))[1]
    outcomes = set()
    for cut in range(len(whole)):
        response, seen = await read([whole[:cut], whole[cut:]])
        assert response.parts == PARTS
        assert seen == expected
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
def test_in_any_pieces(api, cuts):
    whole = recorded(api)
    cuts = sorted(min(cut, len(whole)) for cut in cuts)
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert trio.run(read, pieces)[0].parts == PARTS


KINDS = ["message", "reasoning", "function_call", "mcp_call", "mcp_list_tools", "web_search_call", "code_interpreter_call", "image_generation_call", "file_search_call"]  # fmt: skip
EVENTS = ["output_text.delta", "output_text.done", "function_call_arguments.delta", "mcp_call_arguments.done", "code_interpreter_call_code.delta", "reasoning_summary_text.delta", "reasoning_text.delta", "image_generation_call.partial_image", "output_item.added", "output_item.done", "completed"]  # fmt: skip
WORDS = st.none() | st.text(max_size=3)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "id": WORDS,
        "arguments": WORDS,
        "call_id": WORDS,
        "name": WORDS,
        "code": WORDS,
        "result": WORDS,
        "encrypted_content": WORDS,
        "action": st.none() | st.just({"query": "z"}) | st.integers(),
        "content": st.none() | st.lists(st.just({"type": "output_text", "text": "a"}), max_size=2),
        "outputs": st.none()
        | st.lists(st.sampled_from([{"type": "image", "url": "data:x"}, {"type": "logs"}]), max_size=2),
    },
)
STREAMED = st.fixed_dictionaries(
    {"type": st.sampled_from(EVENTS).map("response.{}".format)},
    optional={
        "item": ITEMS,
        "item_id": st.sampled_from(["", "a", "b"]),
        "delta": WORDS | st.integers(),
        "text": WORDS,
        "content_index": st.integers(-1, 3),
        "logprobs": st.just([1]),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ITEMS, max_size=3), st.lists(STREAMED, max_size=7), st.binary(max_size=30))
def test_anything_gives_a_response_or_a_typed_error(items, events, noise):
    for body in (noise, json.dumps({"output": items}).encode()):
        with suppress(AgentRunError):
            assert isinstance(mapped(body), ModelResponse)
    pieces = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
    for stream in (pieces, [*pieces, b"data: " + noise + b"\n\n"]):
        with suppress(AgentRunError):
            assert isinstance(trio.run(read, stream)[0], ModelResponse)


# ---------------------------------------------------------------- over a connection


async def test_over_a_connection(server, tools, api):
    server.will(tools.chunked(*api.sse(api.started(), *api.streamed_text("a"), api.done())))
    model = api.model(server)
    for _ in range(2):
        async with model.request_stream(api.prompt("q"), None, PARAMS) as answer:
            async for _event in answer:
                pass
        assert answer.get().parts == [TextPart("a", id="msg_1")]
    assert server.requests[0].json()["stream"] is True
    assert server.connections == 1


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (429, 3), (500, 3)])
async def test_errors(server, tools, api, status, tries):
    server.will(tools.answer({"error": {"message": "m", "code": "c"}}, status=status, x_request_id="r"))
    model = api.model(server, retry=RetryPolicy(base=0.001))
    with pytest.raises(ModelHTTPError) as caught:
        await model.request(api.prompt("q"), None, PARAMS)
    assert (caught.value.status_code, caught.value.request_id) == (status, "r")
    assert caught.value.body == {"message": "m", "code": "c"}
    assert len(server.requests) == tries
    assert "hunter2" not in str(caught.value) + repr(model)


def test_by_its_string(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    model = infer_model("openai-responses:gpt-5")
    assert isinstance(model, OpenAIResponsesModel)
    assert (model.model_name, model.system) == ("gpt-5", "openai")


async def test_tokens_are_counted_by_openai(server, tools, api):
    """https://platform.openai.com/docs/api-reference/responses/input-tokens."""
    counted = {"object": "response.input_tokens", "input_tokens": 42}
    server.will(tools.answer(counted), tools.answer({"nothing": 1}))
    tool = ToolDefinition(name="t", parameters_json_schema={"type": "object"})
    params = ModelRequestParameters(function_tools=[tool])
    asked = {"max_tokens": 3, "temperature": 1.0, "openai_reasoning_effort": "low"}
    usage = await api.model(server).count_tokens(api.prompt("q", instructions="i"), asked, params)
    assert usage == RequestUsage(input_tokens=42)
    (request,) = server.requests
    assert request.target == "/v1/responses/input_tokens"
    body = request.json()
    assert set(body) == {"model", "input", "instructions", "tools", "tool_choice", "reasoning"}
    with pytest.raises(MalformedResponseError, match="without a count"):
        await api.model(server, retry=RetryPolicy(max_retries=0)).count_tokens(
            api.prompt("q"), None, ModelRequestParameters()
        )
