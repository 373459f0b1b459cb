"""What an answer becomes: each case was compared with what Pydantic AI 1.46 makes of it, where that takes it at all."""

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
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)
from runmgr.messages import TextPart, ThinkingPart, ToolCallPart
from runmgr.models import ModelRequestParameters, override_allow_model_requests
from runmgr.models.openai_response import map_completion
from runmgr.models.retry import RetryPolicy
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.usage import RequestUsage

PARAMS = ModelRequestParameters()


@pytest.fixture
def get(server, chat, tools):
    async def get(answer, **options):
        server.answers.clear()
        server.will(tools.answer(answer))
        return (await chat.ask(server, **options))[1]

    return get


async def test_a_plain_answer(server, get, chat):
    before = datetime.now(UTC)
    response = await get(chat.completion())
    assert response.parts == [TextPart("hi")]
    assert response.usage == RequestUsage(input_tokens=10, output_tokens=20)
    assert response.model_name == "gpt-4o-2024-08-06"
    assert response.provider_name == "openai"
    assert response.provider_url == server.url + "/"
    assert response.provider_response_id == "chatcmpl-1"
    assert response.finish_reason == "stop"
    assert response.provider_details == {
        "finish_reason": "stop",
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    }
    assert before <= response.timestamp <= datetime.now(UTC)


CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "foo", "arguments": '{"a":1}'}},
    {"id": "call_2", "type": "function", "function": {"name": "bar", "arguments": ""}},
]


async def test_parallel_tool_calls(get, chat):
    response = await get(chat.completion({"content": None, "tool_calls": CALLS}, "tool_calls"))
    assert response.parts == [ToolCallPart("foo", '{"a":1}', "call_1"), ToolCallPart("bar", "", "call_2")]
    assert response.finish_reason == "tool_call"
    assert response.provider_details["finish_reason"] == "tool_calls"


async def test_calls_without_an_id_or_with_an_object(get, chat):
    calls = [{"function": {"name": "foo", "arguments": {"a": 1}}}]
    response = await get(chat.completion({"content": None, "tool_calls": calls}, None))
    (call,) = response.parts
    assert (call.tool_name, call.args) == ("foo", {"a": 1})
    assert call.tool_call_id
    assert response.finish_reason == "tool_call"


async def test_a_call_of_no_function(get, chat):
    calls = [{"id": "c", "type": "custom", "custom": {"name": "x", "input": "y"}}]
    with pytest.raises(UnexpectedModelBehavior, match="custom"):
        await get(chat.completion({"content": None, "tool_calls": calls}, "tool_calls"))


@pytest.mark.parametrize(
    ("told", "reason", "raw"),
    [
        ("stop", "stop", "stop"),
        ("length", "length", "length"),
        ("content_filter", "content_filter", "content_filter"),
        ("tool_calls", "tool_call", "tool_calls"),
        ("function_call", "tool_call", "function_call"),
        ("error", "error", "error"),
        ("eos_token", None, "eos_token"),
        (None, "stop", "stop"),
        ("", "stop", "stop"),
        (..., "stop", "stop"),
    ],
)
async def test_finish_reasons(get, chat, told, reason, raw):
    answer = chat.completion(finish_reason=told if told is not ... else None)
    if told is ...:
        del answer["choices"][0]["finish_reason"]
    response = await get(answer)
    assert response.finish_reason == reason
    assert response.provider_details["finish_reason"] == raw


@pytest.mark.parametrize("content", [None, "", []])
async def test_nothing_said(get, chat, content):
    assert (await get(chat.completion({"content": content}, "content_filter"))).parts == []


async def test_a_refusal(get, chat):
    response = await get(chat.completion({"content": None, "refusal": "I will not"}))
    assert response.parts == []
    assert response.provider_details["refusal"] == "I will not"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reasoning_content": "th"}, "reasoning_content"),
        ({"reasoning": "th"}, "reasoning"),
        ({"reasoning": "th", "reasoning_content": "other"}, "reasoning"),
        ({"reasoning": "", "reasoning_content": "th"}, "reasoning_content"),
    ],
)
async def test_thoughts_in_a_field(get, chat, fields, field):
    response = await get(chat.completion(fields))
    assert response.parts == [ThinkingPart("th", id=field, provider_name="openai"), TextPart("hi")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"thoughts": "th", "reasoning": "x"}, "thoughts"), ({"reasoning": "th"}, "reasoning")],
)
async def test_thoughts_in_a_field_of_the_profile(get, chat, fields, field):
    profile = OpenAIModelProfile(openai_chat_thinking_field="thoughts")
    response = await get(chat.completion(fields), profile=profile)
    assert response.parts == [ThinkingPart("th", id=field, provider_name="openai"), TextPart("hi")]


def thought(text):
    return ThinkingPart(text, id="content", provider_name="openai")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>abc</think>def", [thought("abc"), TextPart("def")]),
        ("a <think>b</think> c <think>d", [TextPart("a "), thought("b"), TextPart(" c "), TextPart("d")]),
        ("<think>\nb\n</think>\n\nc", [thought("\nb\n"), TextPart("\n\nc")]),
        ("<think></think>c", [thought(""), TextPart("c")]),
        ("<think>b</think>", [thought("b")]),
        ("</think>b", [TextPart("</think>b")]),
    ],
)
async def test_thoughts_inside_the_text(get, chat, text, parts):
    assert (await get(chat.completion({"content": text}))).parts == parts


async def test_other_tags(get, chat):
    profile = OpenAIModelProfile(thinking_tags=("[T]", "[/T]"))
    response = await get(chat.completion({"content": "[T]a[/T]<think>b"}), profile=profile)
    assert response.parts == [thought("a"), TextPart("<think>b")]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "total_tokens": 30,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 2},
                "completion_tokens_details": {
                    "reasoning_tokens": 7,
                    "audio_tokens": 3,
                    "accepted_prediction_tokens": 1,
                    "rejected_prediction_tokens": 0,
                },
            },
            RequestUsage(
                input_tokens=10,
                output_tokens=20,
                cache_read_tokens=4,
                input_audio_tokens=2,
                output_audio_tokens=3,
                details={
                    "reasoning_tokens": 7,
                    "audio_tokens": 3,
                    "accepted_prediction_tokens": 1,
                    "rejected_prediction_tokens": 0,
                },
            ),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "total_tokens": 30,
                "prompt_cache_hit_tokens": 5,
                "cost": 0.1,
                "queue_time": 1.5,
                "is_byok": False,
                "other": {"x": 1},
                "prompt_tokens_details": None,
                "completion_tokens_details": {"bar": 3},
            },
            RequestUsage(input_tokens=10, output_tokens=20, details={"prompt_cache_hit_tokens": 5, "bar": 3}),
        ),
        ({"total_tokens": 3}, RequestUsage()),
        ({"prompt_tokens": None, "completion_tokens": 2}, RequestUsage(output_tokens=2)),
        ({}, RequestUsage()),
        (None, RequestUsage()),
        (..., RequestUsage()),
    ],
)
async def test_usage(get, chat, usage, expected):
    assert (await get(chat.completion(usage=usage))).usage == expected


async def test_logprobs(get, chat):
    logprobs = [{"token": "hi", "bytes": [104], "logprob": -0.1, "top_logprobs": []}]
    answer = chat.completion()
    answer["choices"][0]["logprobs"] = {"content": logprobs, "refusal": None}
    assert (await get(answer)).provider_details["logprobs"] == logprobs


async def test_several_answers_give_the_first(get, chat):
    answer = chat.completion()
    answer["choices"].append({"index": 1, "message": {"content": "other"}, "finish_reason": "stop"})
    assert (await get(answer)).parts == [TextPart("hi")]


async def test_servers_that_leave_things_out(get, chat):
    response = await get(
        {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}, "b"]}}]}
    )
    assert response.parts == [TextPart("ab")]
    assert response.model_name == "gpt-4o"
    assert response.provider_response_id is None
    assert response.provider_details == {"finish_reason": "stop"}


async def test_a_timestamp_that_is_none(get, chat):
    assert "timestamp" not in (await get(chat.completion(created=0))).provider_details
    assert (await get(chat.completion(created=1e30))).provider_details["timestamp"] == "1e+30"


# ---------------------------------------------------------------- errors


@pytest.fixture
def once(server, chat):
    async def once(settings=None, **options):
        return await chat.model(server, **options).request_once(chat.prompt(), settings, PARAMS)

    return once


ERROR = {"message": "bad", "type": "invalid_request_error", "param": None, "code": "x"}


@pytest.mark.parametrize(
    ("body", "decoded"),
    [
        ({"error": ERROR}, ERROR),
        ({"x": 1}, {"x": 1}),
        ({"error": "text"}, "text"),
        (b"<html>", "<html>"),
        (b"\xff", "\ufffd"),
        (b"", ""),
        ([1], [1]),
    ],
)
async def test_an_error_status(server, tools, once, body, decoded):
    limits = {
        "retry_after": "3",
        "x_ratelimit_remaining_requests": "0",
        "x_request_id": "r",
        "set_cookie": "secret",
    }
    server.will(tools.answer(body, status=429, **limits))
    with pytest.raises(ModelHTTPError) as caught:
        await once()
    error = caught.value
    assert (error.status_code, error.model_name, error.body) == (429, "gpt-4o", decoded)
    assert error.headers["retry-after"] == "3"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.request_id == "r"
    assert "set-cookie" not in error.headers
    assert str(error) == f"status_code: 429, model_name: gpt-4o, body: {decoded}"


@pytest.mark.parametrize("status", [201, 204, 302, 400, 404, 500])
async def test_any_other_status(server, tools, once, status):
    server.will(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
    with pytest.raises(ModelHTTPError, match=f"status_code: {status}"):
        await once()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "boom"}, 500),
        ({"message": "boom", "code": 429}, 429),
        ({"message": "boom", "code": "502"}, 502),
        ({"message": "boom", "type": "rate_limit_error"}, 429),
        ({"message": "boom", "type": "invalid_request_error", "code": None}, 400),
        ({"message": "boom", "code": "context_length_exceeded", "type": "x"}, 400),
        ({"message": "boom", "type": "server_error"}, 500),
        ("boom", 500),
    ],
)
async def test_an_error_with_status_200(server, tools, once, error, status):
    server.will(tools.answer({"error": error}))
    with pytest.raises(ModelHTTPError) as caught:
        await once()
    assert (caught.value.status_code, caught.value.body) == (status, error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"id": "chatcmpl-x", "choices": [{"mess',
        b"\xff\xfe",
        b'{"choices": [{"message": {"content": "\xff"}}]}',
    ],
)
async def test_something_that_is_no_completion(server, tools, once, body):
    server.will(tools.answer(body))
    with pytest.raises(MalformedResponseError) as caught:
        await once()
    assert caught.value.model_name == "gpt-4o"


async def test_errors_of_the_transport(server, tools, once, chat):
    async def silent(request, stream):
        await trio.sleep(60)

    server.will(None, tools.answer(b"abc")[:-1] + tools.CLOSE, silent)
    with pytest.raises(ModelConnectionError, match=f"{server.url}/chat/completions"):
        await once()
    with pytest.raises(MalformedResponseError, match=f"{server.url}/chat/completions"):
        await once()
    with pytest.raises(
        ModelTimeoutError, match=f"{server.url}/chat/completions: no whole answer within 0.05 s"
    ):
        await once({"timeout": 0.05})


async def test_a_port_that_nobody_listens_on_fails_after_its_retries(chat):
    class Nobody:
        url = "http://127.0.0.1:1/v1"

    model = chat.model(Nobody, retry=RetryPolicy(max_retries=2, base=0.001))
    with pytest.raises(ModelConnectionError) as caught:
        await model.request(chat.prompt(), None, PARAMS)
    assert str(caught.value) == "http://127.0.0.1:1/v1/chat/completions: cannot connect: Connection refused"
    assert caught.value.__notes__ == ["after 3 tries"]


async def test_failures_are_sent_again(server, tools, chat):
    server.will(
        tools.answer({}, status=503),
        tools.answer(b"abc")[:-1] + tools.CLOSE,
        tools.answer(b'{"choices": [{"mess'),
        None,
        tools.answer({}, status=429, retry_after_ms="1"),
        tools.answer(chat.completion()),
    )
    model = chat.model(server, retry=RetryPolicy(max_retries=5, base=0.001))
    response = await model.request(chat.prompt(), None, PARAMS)
    assert response.parts == [TextPart("hi")]
    assert len({request.body for request in server.requests}) == 1


async def test_a_bad_request_is_not_sent_again(server, tools, chat):
    server.will(tools.answer({"error": ERROR}, status=400))
    with pytest.raises(ModelHTTPError):
        await chat.model(server).request(chat.prompt(), None, PARAMS)
    assert len(server.requests) == 1


async def test_no_key_in_any_error(server, tools, chat):
    server.will(tools.answer({}, status=401), None, tools.answer(b"x"))
    for _ in range(3):
        with pytest.raises(ModelAPIError) as caught:
            await chat.model(server, provider={"api_key": "hunter2"}).request_once(
                chat.prompt(), None, PARAMS
            )
        assert "hunter2" not in repr(caught.value) + str(caught.value)
    assert server.requests[0].headers["authorization"] == "Bearer hunter2"


async def test_model_requests_can_be_forbidden(server, chat):
    with override_allow_model_requests(False), pytest.raises(RuntimeError, match="ALLOW_MODEL_REQUESTS"):
        await chat.model(server).request(chat.prompt(), None, PARAMS)
    assert not server.requests


# ---------------------------------------------------------------- anything

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "choices", "message", "content", "tool_calls", "function", "name", "arguments", "usage", "id", "model",
            "created", "finish_reason", "error", "delta", "reasoning", "prompt_tokens", "prompt_tokens_details", "index",
        ]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


def decode(body):
    return map_completion(
        body, model_name="m", provider_name="p", provider_url="u", thinking_tags=("<think>", "</think>")
    )


@settings(max_examples=500, deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_gives_a_response_or_a_typed_error(body):
    try:
        response = decode(body)
    except AgentRunError:
        return
    assert isinstance(response.parts, list)


@settings(max_examples=300, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_nearly_right_bodies_too(message, call, usage, created):
    answer = {
        "choices": [{"message": {"content": message, "tool_calls": [{"id": "x", "function": call}]}}],
        "usage": usage,
        "created": created,
    }
    try:
        decode(json.dumps(answer).encode())
    except AgentRunError:
        return
