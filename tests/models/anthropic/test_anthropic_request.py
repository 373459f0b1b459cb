"""What is sent to Anthropic: each case was compared with what Pydantic AI 1.46 sends for the same call."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.builtin_tools import (
    CodeExecutionTool,
    ImageGenerationTool,
    MCPServerTool,
    MemoryTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import (
    AudioUrl,
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    DocumentUrl,
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
    VideoUrl,
)
from runmgr.models import ModelRequestParameters, OutputObjectDefinition, ToolDefinition
from runmgr.models.anthropic_request import limit_cache_points, map_messages
from runmgr.models.attached import Files
from runmgr.profiles.anthropic import anthropic_model_profile

PROFILE = anthropic_model_profile("claude-sonnet-4-5")
FIVE = {"type": "ephemeral", "ttl": "5m"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "title": "X"}},
    "required": ["x"],
    "title": "T",
}
PLAIN = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def tool(name="foo", **fields):
    return ToolDefinition(name=name, description="d", parameters_json_schema=SCHEMA, **fields)


@pytest.fixture
def ask(server, claude, tools):
    server.will(tools.answer(claude.message({"type": "text", "text": "hi"})))

    async def ask(messages=None, settings=None, params=None, **options):
        model = claude.model(server, **options)
        await model.request(messages or claude.prompt("q"), settings, params or ModelRequestParameters())
        return server.requests[-1].json()

    return ask


def text(value, **more):
    return {"type": "text", "text": value} | more


async def test_a_plain_request(server, ask):
    body = await ask()
    assert body == {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": [text("q")]}],
        "max_tokens": 4096,
        "stream": False,
    }
    request = server.requests[0]
    assert request.target == "/v1/messages?beta=true"
    assert request.headers["x-api-key"] == "hunter2"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in request.headers


async def test_settings(server, ask):
    body = await ask(
        settings={
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["x"],
            "seed": 3,
            "presence_penalty": 1.0,
            "logit_bias": {"1": 2},
            "anthropic_metadata": {"user_id": "u"},
            "anthropic_thinking": {"type": "enabled", "budget_tokens": 1024},
            "anthropic_container": {"id": "z"},
            "extra_headers": {"anthropic-beta": "b2, b1", "x-a": "b"},
            "extra_body": {"top_k": 5},
            "timeout": 30,
        }
    )
    assert {name: value for name, value in body.items() if name not in {"model", "messages", "stream"}} == {
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "container": {"id": "z"},
        "top_k": 5,
    }
    assert server.requests[0].headers["anthropic-beta"] == "b1,b2"
    assert server.requests[0].headers["x-a"] == "b"


async def test_an_extra_body_that_is_no_dict(ask):
    with pytest.raises(UserError, match="extra_body"):
        await ask(settings={"extra_body": [1]})


async def test_system_prompts_and_instructions_go_to_one_place(ask):
    messages = [
        ModelRequest(
            [SystemPromptPart("s1"), SystemPromptPart("s2"), UserPromptPart("u")], instructions="old"
        ),
        ModelResponse([TextPart("a")]),
        ModelRequest([SystemPromptPart("s3"), UserPromptPart("u2")], instructions="new"),
    ]
    body = await ask(messages)
    assert body["system"] == "s1\n\ns2\n\ns3\n\nnew"
    assert [message["content"][0]["text"] for message in body["messages"]] == ["u", "a", "u2"]
    body = await ask(messages, {"anthropic_cache_instructions": "1h"})
    assert body["system"] == [text("s1\n\ns2\n\ns3\n\nnew", cache_control=HOUR)]
    assert "system" not in await ask(settings={"anthropic_cache_instructions": True})


async def test_a_conversation_with_tools(ask, claude):
    messages = [
        *claude.prompt("q"),
        ModelResponse([TextPart("t1"), ToolCallPart("foo", '{"a":1}', "c1"), ToolCallPart("bar", {"b": 2}, "c2", id="i")]),
        ModelRequest([
            ToolReturnPart("foo", {"r": 1}, "c1"),
            RetryPromptPart("bad", tool_name="bar", tool_call_id="c2"),
            RetryPromptPart("not so"),
            UserPromptPart("more"),
        ]),
        ModelResponse([ToolCallPart("foo", None, "c3")]),
        ModelRequest([ToolReturnPart("foo", "text", "c3")]),
        ModelResponse([]),
        ModelResponse([TextPart("")]),
    ]  # fmt: skip
    assert (await ask(messages))["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                text("t1"),
                {"type": "tool_use", "id": "c1", "name": "foo", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "bar", "input": {"b": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"r":1}', "is_error": False},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": "bad\n\nFix the errors and try again.",
                    "is_error": True,
                },
                text("Validation feedback:\nnot so\n\nFix the errors and try again."),
                text("more"),
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c3", "name": "foo", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c3", "content": "text", "is_error": False}],
        },
    ]


@pytest.mark.parametrize("args", ['{"a":', "[1]", "nonsense"])
async def test_arguments_that_are_none_are_shown_to_the_model_again(ask, claude, args):
    messages = [*claude.prompt("q"), ModelResponse([ToolCallPart("foo", args, "c")])]
    assert (await ask(messages))["messages"][1]["content"][0]["input"] == {"INVALID_JSON": args}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (ThinkingPart("th", signature="s", provider_name="anthropic"), {"type": "thinking", "thinking": "th", "signature": "s"}),
        (ThinkingPart("", signature="s", provider_name="anthropic"), {"type": "thinking", "thinking": "", "signature": "s"}),
        (ThinkingPart("th", signature="s", provider_name="openai"), text("<thinking>\nth\n</thinking>")),
        (ThinkingPart("th", signature="s"), text("<thinking>\nth\n</thinking>")),
        (ThinkingPart("th", provider_name="anthropic"), text("<thinking>\nth\n</thinking>")),
        (
            ThinkingPart("", id="redacted_thinking", signature="d", provider_name="anthropic"),
            {"type": "redacted_thinking", "data": "d"},
        ),
        (ThinkingPart("", id="redacted_thinking", signature="d", provider_name="x"), None),
        (FilePart(BinaryContent(b"x", media_type="image/png")), None),
    ],
)  # fmt: skip
async def test_thoughts_of_earlier_turns(ask, claude, part, expected):
    messages = [*claude.prompt("q"), ModelResponse([part, TextPart("x")])]
    assert (await ask(messages))["messages"][1]["content"] == [*([expected] if expected else []), text("x")]


RESULT = {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []}


@pytest.mark.parametrize(
    ("call", "returned", "sent"),
    [
        (
            BuiltinToolCallPart("web_search", '{"query":"z"}', "s"),
            BuiltinToolReturnPart("web_search", [{"url": "u"}], "s"),
            [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "z"}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]},
            ],
        ),
        (
            BuiltinToolCallPart("bash_code_execution", {"command": "ls"}, "s"),
            BuiltinToolReturnPart("bash_code_execution", RESULT, "s"),
            [
                {"type": "server_tool_use", "id": "s", "name": "bash_code_execution", "input": {"command": "ls"}},
                {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": RESULT},
            ],
        ),
        (
            BuiltinToolCallPart("mcp_server:dw", {"action": "call_tool", "tool_name": "ask", "tool_args": {"a": 1}}, "s"),
            BuiltinToolReturnPart("mcp_server:dw", {"content": [text("ok")], "is_error": False}, "s"),
            [
                {"type": "mcp_tool_use", "id": "s", "name": "ask", "server_name": "dw", "input": {"a": 1}},
                {"type": "mcp_tool_result", "tool_use_id": "s", "is_error": False, "content": [text("ok")]},
            ],
        ),
    ],
)  # fmt: skip
async def test_what_anthropics_own_tools_did(ask, claude, call, returned, sent):
    for name in ("anthropic", "openai"):
        call.provider_name = returned.provider_name = name
        body = await ask([*claude.prompt("q"), ModelResponse([call, returned, TextPart("x")])])
        assert body["messages"][1]["content"] == [*(sent if name == "anthropic" else []), text("x")]


PNG = BinaryContent(b"abc", media_type="image/png")
PDF = BinaryContent(b"abc", media_type="application/pdf")


def base64(kind, media_type):
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": "YWJj"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (ImageUrl("https://e/x.png"), {"type": "image", "source": {"type": "url", "url": "https://e/x.png"}}),
        (PNG, base64("image", "image/png")),
        (DocumentUrl("https://e/x.pdf"), {"type": "document", "source": {"type": "url", "url": "https://e/x.pdf"}}),
        (PDF, base64("document", "application/pdf")),
        (
            BinaryContent(b"a,b", media_type="text/csv"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,b"}},
        ),
        ("", None),
    ],
)  # fmt: skip
async def test_content(ask, claude, content, expected):
    body = await ask(claude.prompt("t", content, "u"))
    assert body["messages"][0]["content"] == [text("t"), *([expected] if expected else []), text("u")]


@pytest.mark.parametrize(
    "content",
    [
        BinaryContent(b"x", media_type="audio/wav"),
        BinaryContent(b"x", media_type="application/msword"),
        AudioUrl("https://e/x.mp3"),
        VideoUrl("https://e/x.mp4"),
    ],
)
async def test_content_that_cannot_be_sent(ask, claude, content):
    with pytest.raises(UserError, match="Anthropic takes no"):
        await ask(claude.prompt("t", content))


async def test_files_are_fetched_where_anthropic_does_not(ask, claude, server, tools):
    async with tools.running_server() as files:
        files.will(tools.answer(b"abc"))
        image = ImageUrl(f"http://127.0.0.1:{files.port}/x.png", force_download="allow-local")
        document = DocumentUrl(f"http://127.0.0.1:{files.port}/x.txt", force_download="allow-local")
        body = await ask(claude.prompt(image, document))
    assert body["messages"][0]["content"] == [
        base64("image", "image/png"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}},
    ]
    with pytest.raises(UserError, match="not a public address"):
        await ask(claude.prompt(DocumentUrl("http://127.0.0.1:1/x.txt")))


async def test_nothing_is_no_message(ask, claude):
    assert (await ask(claude.prompt("")))["messages"] == []
    assert (await ask([*claude.prompt("a"), *claude.prompt("b")]))["messages"] == [
        {"role": "user", "content": [text("a")]},
        {"role": "user", "content": [text("b")]},
    ]


# ---------------------------------------------------------------- cache points


async def test_cache_points(ask, claude):
    body = await ask(claude.prompt("a", CachePoint(), "b", CachePoint(ttl="1h"), "c"))
    assert body["messages"][0]["content"] == [
        text("a", cache_control=FIVE),
        text("b", cache_control=HOUR),
        text("c"),
    ]
    with pytest.raises(UserError, match="anthropic_cache_instructions"):
        await ask(claude.prompt(CachePoint(), "b"))


async def test_a_cache_point_behind_a_tools_result(ask, claude):
    body = await ask([
        *claude.prompt("a"),
        ModelResponse([ToolCallPart("foo", {}, "c")]),
        ModelRequest([ToolReturnPart("foo", "r", "c"), UserPromptPart([CachePoint(), "x"])]),
    ])  # fmt: skip
    assert body["messages"][2]["content"][0]["cache_control"] == FIVE


@pytest.mark.parametrize("content", ["c", PNG])
async def test_caching_the_messages(ask, claude, content):
    messages = [*claude.prompt("a"), ModelResponse([TextPart("b")]), *claude.prompt("x", content)]
    body = await ask(messages, {"anthropic_cache_messages": True})
    points = [block.get("cache_control") for message in body["messages"] for block in message["content"]]
    assert points == [None, None, None, FIVE]


async def test_four_points_at_most_and_the_latest_stay(ask, claude):
    contents = [item for letter in "abcde" for item in (letter, CachePoint())]
    params = ModelRequestParameters(function_tools=[tool()])
    everything = {
        "anthropic_cache_messages": True,
        "anthropic_cache_instructions": True,
        "anthropic_cache_tool_definitions": True,
    }

    def kept(body):
        return [block["text"] for block in body["messages"][0]["content"] if "cache_control" in block]

    assert kept(await ask(claude.prompt(*contents))) == ["b", "c", "d", "e"]
    body = await ask(claude.prompt(*contents, instructions="i"), everything, params)
    assert kept(body) == ["d", "e"]
    assert body["tools"][-1]["cache_control"] == body["system"][0]["cache_control"] == FIVE


# ---------------------------------------------------------------- tools and output


async def test_tools(server, ask):
    params = ModelRequestParameters(function_tools=[tool(), tool("bar", strict=True)])
    body = await ask(params=params)
    strict = PLAIN | {"additionalProperties": False}
    assert body["tools"] == [
        {"name": "foo", "description": "d", "input_schema": PLAIN},
        {"name": "bar", "description": "d", "input_schema": strict, "strict": True},
    ]
    assert body["tool_choice"] == {"type": "auto"}
    assert server.requests[-1].headers["anthropic-beta"] == "structured-outputs-2025-11-13"
    body = await ask(params=params, name="claude-sonnet-4-0")
    assert "strict" not in body["tools"][1]
    assert "anthropic-beta" not in server.requests[-1].headers


@pytest.mark.parametrize(
    ("settings", "free", "choice"),
    [
        (None, True, {"type": "auto"}),
        (None, False, {"type": "any"}),
        ({"parallel_tool_calls": False}, True, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, False, {"type": "any", "disable_parallel_tool_use": False}),
    ],
)
async def test_tool_choice(ask, settings, free, choice):
    output = tool("final_result", kind="output")
    params = ModelRequestParameters(
        function_tools=[tool()], output_tools=[output], output_mode="tool", allow_text_output=free
    )
    body = await ask(settings=settings, params=params)
    assert body["tool_choice"] == choice
    assert [each["name"] for each in body["tools"]] == ["foo", "final_result"]


async def test_caching_the_tools(ask):
    params = ModelRequestParameters(function_tools=[tool(), tool("bar")], builtin_tools=[CodeExecutionTool()])
    body = await ask(settings={"anthropic_cache_tool_definitions": "1h"}, params=params)
    assert [each.get("cache_control") for each in body["tools"]] == [None, HOUR, None]
    assert "cache_control" not in (await ask(params=params))["tools"][1]


OBJECT = OutputObjectDefinition(json_schema=SCHEMA, name="N", description="desc")


async def test_native_output(server, ask):
    params = ModelRequestParameters(output_mode="native", output_object=OBJECT)
    body = await ask(params=params)
    assert body["output_format"] == {"type": "json_schema", "schema": PLAIN | {"additionalProperties": False}}
    assert server.requests[-1].headers["anthropic-beta"] == "structured-outputs-2025-11-13"
    with pytest.raises(UserError, match="not supported by this model"):
        await ask(
            params=ModelRequestParameters(output_mode="native", output_object=OBJECT), name="claude-3-haiku"
        )
    loose = OutputObjectDefinition(json_schema=SCHEMA, strict=False)
    with pytest.raises(UserError, match="strict=False"):
        await ask(params=ModelRequestParameters(output_mode="native", output_object=loose))


async def test_prompted_output(ask):
    params = ModelRequestParameters(
        output_mode="prompted", output_object=OBJECT, prompted_output_template="T {schema}"
    )
    assert (await ask(params=params))["system"].startswith('T {"type": "object"')


async def test_output_while_thinking(ask):
    thinking = {"anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}}
    output = [tool("final_result", kind="output")]

    def params(mode):
        return ModelRequestParameters(
            output_tools=output, output_object=OBJECT, output_mode=mode, allow_text_output=False
        )

    auto = params("auto")
    for _ in range(2):
        body = await ask(settings=thinking, params=auto)
        assert "output_format" in body
        assert "tools" not in body
    assert "system" in await ask(settings=thinking, params=params("auto"), name="claude-3-7-sonnet-latest")
    with pytest.raises(UserError, match="NativeOutput"):
        await ask(settings=thinking, params=params("tool"))
    off = {"anthropic_thinking": {"type": "disabled"}}
    assert (await ask(settings=off, params=auto))["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("builtin", "sent", "beta"),
    [
        (
            WebSearchTool(max_uses=3, allowed_domains=["a"], user_location={"city": "C"}),
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 3,
                "allowed_domains": ["a"],
                "blocked_domains": None,
                "user_location": {"type": "approximate", "city": "C"},
            },
            None,
        ),
        (
            WebFetchTool(enable_citations=True, max_content_tokens=9),
            {
                "type": "web_fetch_20250910",
                "name": "web_fetch",
                "max_uses": None,
                "allowed_domains": None,
                "blocked_domains": None,
                "citations": {"enabled": True},
                "max_content_tokens": 9,
            },
            "web-fetch-2025-09-10",
        ),
        (
            CodeExecutionTool(),
            {"type": "code_execution_20250522", "name": "code_execution"},
            "code-execution-2025-05-22",
        ),
    ],
)
async def test_anthropics_own_tools(server, ask, builtin, sent, beta):
    body = await ask(params=ModelRequestParameters(builtin_tools=[builtin]))
    assert body["tools"] == [sent]
    assert server.requests[-1].headers.get("anthropic-beta") == beta


async def test_the_memory_tool_takes_the_place_of_ours(server, ask):
    memory = ToolDefinition(name="memory")
    body = await ask(params=ModelRequestParameters(builtin_tools=[MemoryTool()], function_tools=[memory]))
    assert body["tools"] == [{"type": "memory_20250818", "name": "memory"}]
    assert server.requests[-1].headers["anthropic-beta"] == "context-management-2025-06-27"
    with pytest.raises(UserError, match="'memory' tool"):
        await ask(params=ModelRequestParameters(builtin_tools=[MemoryTool()]))
    with pytest.raises(UserError, match="ImageGenerationTool"):
        await ask(params=ModelRequestParameters(builtin_tools=[ImageGenerationTool()]))


async def test_mcp_servers(server, ask):
    mcp = MCPServerTool(id="dw", url="https://m", authorization_token="t", allowed_tools=["a"])
    body = await ask(
        params=ModelRequestParameters(builtin_tools=[mcp, MCPServerTool(id="b", url="https://n")])
    )
    assert body["mcp_servers"] == [
        {
            "type": "url",
            "name": "dw",
            "url": "https://m",
            "authorization_token": "t",
            "tool_configuration": {"enabled": True, "allowed_tools": ["a"]},
        },
        {"type": "url", "name": "b", "url": "https://n"},
    ]
    assert "tools" not in body
    assert server.requests[-1].headers["anthropic-beta"] == "mcp-client-2025-04-04"


async def test_the_container_of_earlier_turns(ask, claude):
    def turn(number):
        details = {"container_id": f"c{number}"}
        return ModelResponse([TextPart("x")], provider_name="anthropic", provider_details=details)

    messages = [*claude.prompt("q"), turn(1), *claude.prompt("r"), turn(2), *claude.prompt("s")]
    assert (await ask(messages))["container"] == {"id": "c2"}
    assert "container" not in await ask(messages, {"anthropic_container": False})
    messages[1].provider_name = messages[3].provider_name = "other"
    assert "container" not in await ask(messages)


# ---------------------------------------------------------------- whatever it is

PARTS = st.one_of(
    st.builds(TextPart, st.text(max_size=5)),
    st.builds(ToolCallPart, st.just("foo"), st.text(max_size=5) | st.none(), st.just("c")),
    st.builds(ThinkingPart, st.text(max_size=5), signature=st.none() | st.text(max_size=3), provider_name=st.just("anthropic")),
)  # fmt: skip
CONTENTS = st.lists(st.sampled_from(["a", "", PNG, PDF, CachePoint()]), max_size=6).map(
    lambda items: ["x", *items]
)
MESSAGES = st.lists(
    st.builds(ModelResponse, st.lists(PARTS, max_size=3))
    | st.builds(ModelRequest, st.lists(st.builds(UserPromptPart, CONTENTS), min_size=1, max_size=2)),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(MESSAGES)
def test_any_history_keeps_its_text_and_never_more_than_four_cache_points(messages):
    mapped = map_messages(messages, ModelRequestParameters(), PROFILE, "anthropic", {}, Files())
    limit_cache_points(mapped, ())
    blocks = [block for message in mapped.messages for block in message["content"]]
    assert all(message["content"] for message in mapped.messages)
    assert sum("cache_control" in block for block in blocks) <= 4
    sent = [block["text"] for block in blocks if block["type"] == "text" and block["text"] != "x"]
    said = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, TextPart):
                said.append(part.content)
            elif isinstance(part, ThinkingPart) and part.signature is None and part.content:
                said.append(f"<thinking>\n{part.content}\n</thinking>")
            elif isinstance(part, UserPromptPart):
                said.extend(item for item in part.content if isinstance(item, str))
    assert [item for item in sent if item != "x"] == [item for item in said if item and item != "x"]
