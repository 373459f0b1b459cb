"""What Anthropic's answers become: compared with what Pydantic AI 1.46 makes of them.

Blocks as of https://docs.claude.com/en/api/messages, errors as of https://docs.claude.com/en/api/errors.
"""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import AgentRunError, MalformedResponseError, ModelHTTPError, UserError
from runmgr.messages import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from runmgr.models import ModelRequestParameters, ToolDefinition, infer_model
from runmgr.models.anthropic_response import map_message
from runmgr.models.retry import RetryPolicy, classify
from runmgr.usage import RequestUsage


def mapped(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return map_message(body, model_name="asked", provider_name="anthropic", provider_url="u")


def test_text(claude):
    response = mapped(
        claude.message({"type": "text", "text": "hi", "citations": [{"type": "char_location"}]})
    )
    assert response == ModelResponse(
        [TextPart("hi")],
        usage=RequestUsage(
            input_tokens=17,
            output_tokens=5,
            cache_write_tokens=3,
            cache_read_tokens=4,
            details={
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 4,
            },
        ),
        model_name="claude-sonnet-4-5-20250929",
        timestamp=response.timestamp,
        provider_name="anthropic",
        provider_url="u",
        provider_details={"finish_reason": "end_turn"},
        provider_response_id="msg_1",
        finish_reason="stop",
    )


def test_thoughts_and_parallel_calls(claude):
    response = mapped(
        claude.message(
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "dd"},
            {"type": "tool_use", "id": "t1", "name": "foo", "input": {"x": 1}},
            {"type": "tool_use", "id": "t2", "name": "bar", "input": {}},
            stop_reason="tool_use",
        )
    )
    assert response.parts == [
        ThinkingPart("hm", signature="sig", provider_name="anthropic"),
        ThinkingPart("", id="redacted_thinking", signature="dd", provider_name="anthropic"),
        ToolCallPart("foo", {"x": 1}, "t1"),
        ToolCallPart("bar", {}, "t2"),
    ]
    assert response.finish_reason == "tool_call"


CODE = {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []}
ANTHROPICS = {
    "web_search": (
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "z"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]},
        {"query": "z"},
        [{"type": "web_search_result", "url": "u", "page_age": None}],
    ),
    "web_fetch": (
        {"type": "server_tool_use", "id": "s", "name": "web_fetch", "input": {"url": "u"}},
        {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {"type": "web_fetch_result", "url": "u"}},
        {"url": "u"},
        {"type": "web_fetch_result", "url": "u", "retrieved_at": None},
    ),
    "code_execution": (
        {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": "1"}},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": CODE},
        {"code": "1"},
        CODE,
    ),
    "bash_code_execution": (
        {"type": "server_tool_use", "id": "s", "name": "bash_code_execution", "input": {"command": "ls"}},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": CODE},
        {"command": "ls"},
        CODE,
    ),
    "mcp_server:dw": (
        {"type": "mcp_tool_use", "id": "s", "name": "ask", "server_name": "dw", "input": {"a": 1}},
        {"type": "mcp_tool_result", "tool_use_id": "s", "is_error": False, "content": [{"type": "text", "text": "ok"}]},
        {"action": "call_tool", "tool_name": "ask", "tool_args": {"a": 1}},
        {"content": [{"type": "text", "text": "ok", "citations": None}], "is_error": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANTHROPICS)
def test_anthropics_own_tools(claude, name):
    call, result, args, content = ANTHROPICS[name]
    parts = mapped(claude.message(call, result)).parts
    assert parts == [
        BuiltinToolCallPart(name, args, "s", provider_name="anthropic"),
        BuiltinToolReturnPart(name, content, "s", provider_name="anthropic", timestamp=parts[1].timestamp),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_call"),
        ("pause_turn", "stop"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("something_new", None),
        (None, None),
    ],
)
def test_stop_reasons(claude, reason, expected):
    response = mapped(claude.message(stop_reason=reason))
    assert response.finish_reason == expected
    assert response.provider_details == ({"finish_reason": reason} if reason else None)


def test_usage_without_a_cache(claude):
    usage = mapped(
        claude.message(usage={"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None})
    ).usage
    assert usage == RequestUsage(
        input_tokens=1, output_tokens=2, details={"input_tokens": 1, "output_tokens": 2}
    )
    assert mapped(claude.message(usage=None)).usage == RequestUsage()


def test_a_container(claude):
    assert (
        mapped(claude.message(container={"id": "c", "expires_at": "x"})).provider_details["container_id"]
        == "c"
    )


def test_what_is_unknown_breaks_nothing(claude):
    new = {"type": "hologram", "rays": [1]}
    response = mapped(claude.message(new, {"type": "text", "text": "a", "colour": {}}, mood=1))
    assert response.parts == [TextPart("a")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"nonsense",
        b"\xff",
        b"{}",
        b'{"content": null}',
        b'{"content": [{"type": "tool_use"}]}',
    ],
)
def test_what_is_no_message(body):
    with pytest.raises(MalformedResponseError, match="Anthropic answered with"):
        mapped(body)


def test_an_error_with_status_200():
    with pytest.raises(ModelHTTPError, match="busy") as caught:
        mapped({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    assert caught.value.status_code == 529


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_response_or_a_typed_error(body):
    with contextlib.suppress(AgentRunError):
        assert isinstance(mapped(body), ModelResponse)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
    | st.just({})
)
BLOCKS = st.dictionaries(
    st.sampled_from(["text", "id", "name", "input", "thinking", "data", "content", "tool_use_id"]),
    VALUES,
    max_size=4,
)
KINDS = st.sampled_from(["text", "tool_use", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result", "x_tool_result"])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(lambda block, kind: block | {"type": kind}, BLOCKS, KINDS), max_size=3), VALUES)
def test_any_blocks_give_a_response_or_a_typed_error(blocks, usage):
    with contextlib.suppress(AgentRunError):
        assert isinstance(mapped({"content": blocks, "usage": usage}), ModelResponse)


# ---------------------------------------------------------------- over a connection


@pytest.mark.parametrize(
    ("status", "kind", "retried"),
    [
        (400, "invalid_request_error", False),
        (401, "authentication_error", False),
        (404, "not_found_error", False),
        (429, "rate_limit_error", True),
        (500, "api_error", True),
        (529, "overloaded_error", True),
    ],
)
async def test_errors(server, tools, claude, status, kind, retried):
    body = {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "req_1"}
    server.will(tools.answer(body, status=status, request_id="req_1"))
    model = claude.model(server, retry=RetryPolicy(base=0.001))
    with pytest.raises(ModelHTTPError) as caught:
        await model.request(claude.prompt("q"), None, ModelRequestParameters())
    error = caught.value
    assert (error.status_code, error.body, error.request_id) == (status, body, "req_1")
    assert (classify(error) is not None) is retried
    assert len(server.requests) == (3 if retried else 1)
    assert "hunter2" not in str(error) + repr(model) + repr(model.client)


async def test_counting_tokens(server, tools, claude):
    server.will(tools.answer({"input_tokens": 42}))
    model = claude.model(server)
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="foo")])
    asked = {
        "max_tokens": 9,
        "temperature": 1,
        "anthropic_thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    assert await model.count_tokens(claude.prompt("q"), asked, params) == RequestUsage(input_tokens=42)
    request = server.requests[0]
    assert request.target == "/v1/messages/count_tokens?beta=true"
    assert request.headers["anthropic-beta"] == "token-counting-2024-11-01"
    assert set(request.json()) == {"model", "messages", "tools", "tool_choice", "thinking"}


async def test_counting_tokens_fails(server, tools, claude):
    server.will(tools.answer({"type": "error", "error": {"type": "invalid_request_error"}}, status=400))
    with pytest.raises(ModelHTTPError):
        await claude.model(server).count_tokens(claude.prompt("q"), None, ModelRequestParameters())
    server.answers.clear()
    server.will(tools.answer({"tokens": 1}))
    with pytest.raises(MalformedResponseError, match="count of tokens"):
        await claude.model(server, retry=RetryPolicy(max_retries=0)).count_tokens(
            claude.prompt("q"), None, ModelRequestParameters()
        )


def test_by_its_string(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    with pytest.raises(UserError, match="ANTHROPIC_API_KEY"):
        infer_model("anthropic:claude-haiku-4-5")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    model = infer_model("anthropic:claude-haiku-4-5")
    assert (model.model_name, model.system, model.base_url) == (
        "claude-haiku-4-5",
        "anthropic",
        "https://api.anthropic.com",
    )
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://h/x/")
    assert infer_model("anthropic:claude-haiku-4-5").base_url == "http://h/x"
