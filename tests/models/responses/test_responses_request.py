"""What is sent to the Responses API: each case was compared with what Pydantic AI 1.46 sends for the same call."""

import pytest

from runmgr.builtin_tools import (
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    MCPServerTool,
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

SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "title": "X"}},
    "required": ["x"],
    "title": "T",
}
STRICT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
Q, R = {"role": "user", "content": "q"}, {"role": "user", "content": "r"}


def tool(name="foo", **fields):
    return ToolDefinition(name=name, description="d", parameters_json_schema=SCHEMA, **fields)


@pytest.fixture
def ask(server, api, tools):
    server.will(tools.answer(api.answer(api.text())))

    async def ask(messages=None, settings=None, params=None, **options):
        model = api.model(server, **options)
        await model.request(messages or api.prompt("q"), settings, params or ModelRequestParameters())
        return server.requests[-1].json()

    return ask


async def test_a_plain_request(server, ask):
    assert await ask(name="gpt-4o") == {"model": "gpt-4o", "input": [Q], "stream": False}
    assert server.requests[0].target == "/v1/responses"
    assert server.requests[0].headers["authorization"] == "Bearer hunter2"
    assert (await ask())["include"] == ["reasoning.encrypted_content"]


SETTINGS = {
    "max_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop_sequences": ["x"],
    "seed": 3,
    "parallel_tool_calls": False,
    "openai_user": "u",
    "openai_service_tier": "flex",
    "openai_reasoning_effort": "low",
    "openai_reasoning_summary": "auto",
    "openai_truncation": "auto",
    "openai_text_verbosity": "low",
    "openai_logprobs": True,
    "openai_top_logprobs": 3,
    "openai_prompt_cache_key": "k",
    "openai_prompt_cache_retention": "24h",
    "openai_prediction": {"type": "content", "content": "x"},
    "openai_include_web_search_sources": True,
    "openai_builtin_tools": [{"type": "web_search_preview"}],
    "extra_body": {"store": False},
    "timeout": 30,
}


async def test_settings(ask):
    body = await ask(settings=SETTINGS, name="gpt-4o")
    expected = {
        "model": "gpt-4o",
        "input": [Q],
        "stream": False,
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "user": "u",
        "service_tier": "flex",
        "reasoning": {"effort": "low", "summary": "auto"},
        "truncation": "auto",
        "text": {"verbosity": "low"},
        "top_logprobs": 3,
        "include": ["web_search_call.action.sources", "message.output_text.logprobs"],
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "tools": [{"type": "web_search_preview"}],
        "tool_choice": "auto",
        "store": False,
    }
    assert body == expected
    del expected["temperature"], expected["top_p"]
    expected["include"].insert(0, "reasoning.encrypted_content")
    assert await ask(settings=SETTINGS) == expected | {"model": "gpt-5"}
    assert (await ask(settings={"openai_reasoning_generate_summary": "concise"}))["reasoning"] == {
        "summary": "concise"
    }


async def test_system_prompts_and_instructions(ask):
    messages = [
        ModelRequest([SystemPromptPart("s1"), UserPromptPart("u")], instructions="old"),
        ModelResponse([TextPart("a")]),
        ModelRequest([SystemPromptPart("s2"), UserPromptPart("v")], instructions="new"),
    ]
    body = await ask(messages)
    assert body["instructions"] == "new"
    assert [(item["role"], item["content"]) for item in body["input"]] == [
        ("system", "s1"),
        ("user", "u"),
        ("assistant", "a"),
        ("system", "s2"),
        ("user", "v"),
    ]
    assert (await ask([ModelRequest([], instructions="i")]))["input"] == [{"role": "user", "content": ""}]


async def test_a_conversation_with_tools(ask, api):
    messages = [
        *api.prompt("q"),
        ModelResponse(
            [TextPart("t1"), ToolCallPart("foo", '{"a":1}', "c1"), ToolCallPart("bar", {"b": 2}, "c2", id="fc_2")],
            provider_name="openai",
        ),
        ModelRequest([
            ToolReturnPart("foo", {"r": 1}, "c1"),
            RetryPromptPart("bad", tool_name="bar", tool_call_id="c2"),
            RetryPromptPart("not so"),
            UserPromptPart("more"),
        ]),
        ModelResponse([ToolCallPart("foo", None, "c3|fc_3"), TextPart("")]),
        ModelRequest([ToolReturnPart("foo", "text", "c3|fc_3")]),
    ]  # fmt: skip
    retry = "Validation feedback:\nnot so\n\nFix the errors and try again."
    assert (await ask(messages))["input"] == [
        Q,
        {"role": "assistant", "content": "t1"},
        {"type": "function_call", "call_id": "c1", "name": "foo", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "c2", "name": "bar", "arguments": '{"b":2}', "id": "fc_2"},
        {"type": "function_call_output", "call_id": "c1", "output": '{"r":1}'},
        {"type": "function_call_output", "call_id": "c2", "output": "bad\n\nFix the errors and try again."},
        {"role": "user", "content": [{"type": "input_text", "text": retry}]},
        {"role": "user", "content": "more"},
        {"type": "function_call", "call_id": "c3", "name": "foo", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c3", "output": "text"},
    ]


def message(id, *texts):
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": id, "role": "assistant", "status": "completed", "content": content}


def said(text):
    return {"role": "assistant", "content": text}


def thought(id, *texts, enc=None, **more):
    summary = [{"type": "summary_text", "text": text} for text in texts]
    return {"type": "reasoning", "id": id, "summary": summary, "encrypted_content": enc} | more


@pytest.mark.parametrize(
    ("parts", "own", "foreign"),
    [
        (
            [TextPart("a", id="m1"), TextPart("b", id="m1"), TextPart("c", id="m2"), TextPart("d")],
            [message("m1", "a", "b"), message("m2", "c"), said("d")],
            [said("a"), said("b"), said("c"), said("d")],
        ),
        (
            [ThinkingPart("a", id="r", signature="enc", provider_name="openai"), ThinkingPart("b", id="r"), TextPart("x", id="m")],
            [thought("r", "a", "b", enc="enc"), message("m", "x")],
            [said("<think>\na\n</think>"), said("<think>\nb\n</think>"), said("x")],
        ),
        ([ThinkingPart("", id="r", signature="enc", provider_name="openai")], [thought("r", enc="enc")], []),
        (
            [ThinkingPart("a", id="r1"), ToolCallPart("foo", "{}", "c", id="f"), ThinkingPart("b", id="r2")],
            [
                thought("r1", "a"),
                {"type": "function_call", "call_id": "c", "name": "foo", "arguments": "{}", "id": "f"},
                thought("r2", "b"),
            ],
            [
                said("<think>\na\n</think>"),
                {"type": "function_call", "call_id": "c", "name": "foo", "arguments": "{}"},
                said("<think>\nb\n</think>"),
            ],
        ),
        (
            [ThinkingPart("", id="r", provider_details={"raw_content": ["x"]})],
            [thought("r", content=[{"type": "reasoning_text", "text": "x"}])],
            [],
        ),
        ([ThinkingPart("a")], [said("<think>\na\n</think>")], [said("<think>\na\n</think>")]),
    ],
)  # fmt: skip
async def test_what_the_model_made_goes_back_under_its_ids(ask, api, parts, own, foreign):
    assert (await ask(api.history(*parts)))["input"] == [Q, *own, R]
    assert (await ask(api.history(*parts, provider="x")))["input"] == [Q, *foreign, R]
    if "raw_content" not in str(parts):
        assert (await ask(api.history(*parts), {"openai_send_reasoning_ids": False}))["input"] == [
            Q,
            *foreign,
            R,
        ]
        assert (await ask(api.history(*parts), name="gpt-4o"))["input"] == [Q, *foreign, R]


@pytest.mark.parametrize(
    ("name", "args", "content", "item"),
    [
        (
            "web_search",
            {"type": "search", "query": "z"},
            {"status": "failed", "sources": []},
            {
                "type": "web_search_call",
                "id": "i",
                "action": {"type": "search", "query": "z"},
                "status": "failed",
            },
        ),
        (
            "code_execution",
            {"container_id": "ct", "code": "1"},
            {"status": "completed", "logs": ["1"]},
            {
                "type": "code_interpreter_call",
                "id": "i",
                "container_id": "ct",
                "code": "1",
                "outputs": None,
                "status": "completed",
            },
        ),
        ("image_generation", None, {"status": "completed"}, {"type": "image_generation_call", "id": "i"}),
        (
            "file_search",
            {"queries": ["z"]},
            {"status": "failed"},
            {"type": "file_search_call", "id": "i", "queries": ["z"], "status": "failed"},
        ),
        (
            "file_search",
            None,
            None,
            {"type": "file_search_call", "id": "i", "queries": [], "status": "completed"},
        ),
        (
            "mcp_server:dw",
            {"action": "list_tools"},
            {"tools": [{"name": "t"}], "error": None},
            {"type": "mcp_list_tools", "id": "i", "server_label": "dw", "tools": [{"name": "t"}]},
        ),
        (
            "mcp_server:dw",
            {"action": "call_tool", "tool_name": "t", "tool_args": {"a": 1}},
            {"output": "o", "error": None},
            {
                "type": "mcp_call",
                "id": "i",
                "server_label": "dw",
                "name": "t",
                "arguments": '{"a":1}',
                "error": None,
                "output": "o",
            },
        ),
    ],
)
async def test_what_openais_own_tools_did(ask, api, name, args, content, item):
    for provider in ("openai", "x"):
        call = BuiltinToolCallPart(name, args, "i", provider_name=provider)
        returned = BuiltinToolReturnPart(name, content, "i", provider_name=provider)
        body = await ask(api.history(call, returned, provider=provider))
        assert body["input"] == [Q, *([item] if provider == "openai" else []), R]


PDF = BinaryContent(b"abc", media_type="application/pdf")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            ImageUrl("https://e/x.png"),
            {"type": "input_image", "image_url": "https://e/x.png", "detail": "auto"},
        ),
        (
            BinaryContent(b"abc", media_type="image/png", vendor_metadata={"detail": "low"}),
            {"type": "input_image", "image_url": "data:image/png;base64,YWJj", "detail": "low"},
        ),
        (DocumentUrl("https://e/x.pdf"), {"type": "input_file", "file_url": "https://e/x.pdf"}),
        (AudioUrl("https://e/x.mp3"), {"type": "input_file", "file_url": "https://e/x.mp3"}),
        (
            PDF,
            {
                "type": "input_file",
                "file_data": "data:application/pdf;base64,YWJj",
                "filename": "filename.pdf",
            },
        ),
        (CachePoint(), None),
    ],
)
async def test_content(ask, api, content, expected):
    items = (await ask(api.prompt("t", content)))["input"][0]["content"]
    assert items == [{"type": "input_text", "text": "t"}, *([expected] if expected else [])]


async def test_content_that_cannot_be_sent(ask, api, tools):
    for content in (BinaryContent(b"x", media_type="audio/wav"), VideoUrl("https://e/x.mp4")):
        with pytest.raises(UserError, match="takes no"):
            await ask(api.prompt(content))
    async with tools.running_server() as files:
        files.will(tools.answer(b"abc"))
        image = ImageUrl(f"http://127.0.0.1:{files.port}/x.png", force_download="allow-local")
        (item,) = (await ask(api.prompt(image)))["input"][0]["content"]
    assert item["image_url"] == "data:image/png;base64,YWJj"


async def test_continuing_a_stored_response(ask, api):
    auto = {"openai_previous_response_id": "auto"}
    messages = api.history(TextPart("a"), provider_response_id="resp_0")
    body = await ask(messages, auto)
    assert (body["previous_response_id"], body["input"]) == ("resp_0", [R])
    body = await ask(messages, {"openai_previous_response_id": "resp_7"})
    assert (body["previous_response_id"], len(body["input"])) == ("resp_7", 3)
    for history in (
        api.history(TextPart("a"), provider="x", provider_response_id="resp_0"),
        messages[:2],
        api.history(TextPart("a")),
    ):
        body = await ask(history, auto)
        assert "previous_response_id" not in body
        assert len(body["input"]) == len(history)


# ---------------------------------------------------------------- tools and output


async def test_tools(ask):
    output = tool("final_result", kind="output")
    params = {
        "function_tools": [tool(), tool("loose", strict=False)],
        "output_tools": [output],
        "output_mode": "tool",
    }
    body = await ask(params=ModelRequestParameters(**params))
    assert body["tools"][0] == {
        "type": "function",
        "name": "foo",
        "description": "d",
        "parameters": STRICT,
        "strict": True,
    }
    assert [each["strict"] for each in body["tools"]] == [True, False, True]
    assert body["tool_choice"] == "auto"
    forced = await ask(params=ModelRequestParameters(**params, allow_text_output=False))
    assert forced["tool_choice"] == "required"


async def test_output(ask):
    described = OutputObjectDefinition(json_schema=SCHEMA, name="N", description="desc")
    body = await ask(
        settings={"openai_text_verbosity": "low"},
        params=ModelRequestParameters(output_mode="native", output_object=described),
    )
    assert body["text"] == {
        "format": {
            "type": "json_schema",
            "name": "N",
            "description": "desc",
            "schema": STRICT,
            "strict": True,
        },
        "verbosity": "low",
    }
    prompted = ModelRequestParameters(
        output_mode="prompted", output_object=described, prompted_output_template="JSON {schema}"
    )
    body = await ask([ModelRequest([UserPromptPart("u")], instructions="ins")], params=prompted)
    assert body["text"] == {"format": {"type": "json_object"}}
    assert body["input"][0]["role"] == "system"
    assert body["input"][0]["content"].startswith("ins\n\nJSON {")
    assert "instructions" not in body


IMAGE = {
    "type": "image_generation",
    "background": "auto",
    "input_fidelity": None,
    "moderation": "auto",
    "output_compression": 100,
    "output_format": "png",
    "partial_images": 0,
    "quality": "auto",
}


@pytest.mark.parametrize(
    ("builtin", "sent"),
    [
        (
            WebSearchTool(user_location={"city": "C"}, allowed_domains=["a"]),
            {
                "type": "web_search",
                "search_context_size": "medium",
                "user_location": {"type": "approximate", "city": "C"},
                "filters": {"allowed_domains": ["a"]},
            },
        ),
        (CodeExecutionTool(), {"type": "code_interpreter", "container": {"type": "auto"}}),
        (FileSearchTool(file_store_ids=["v"]), {"type": "file_search", "vector_store_ids": ["v"]}),
        (ImageGenerationTool(), IMAGE | {"size": "auto"}),
        (ImageGenerationTool(aspect_ratio="3:2"), IMAGE | {"size": "1536x1024"}),
        (
            MCPServerTool(
                id="dw", url="https://m", authorization_token="t", allowed_tools=["a"], headers={"h": "v"}
            ),
            {
                "type": "mcp",
                "server_label": "dw",
                "require_approval": "never",
                "server_url": "https://m",
                "authorization": "t",
                "allowed_tools": ["a"],
                "headers": {"h": "v"},
            },
        ),
        (
            MCPServerTool(id="g", url="x-openai-connector:connector_gmail", description="d"),
            {
                "type": "mcp",
                "server_label": "g",
                "require_approval": "never",
                "connector_id": "connector_gmail",
                "server_description": "d",
            },
        ),
    ],
)
async def test_openais_own_tools(ask, builtin, sent):
    assert (await ask(params=ModelRequestParameters(builtin_tools=[builtin])))["tools"] == [sent]


@pytest.mark.parametrize(
    ("builtin", "problem"),
    [
        (WebFetchTool(), "WebFetchTool"),
        (ImageGenerationTool(aspect_ratio="16:9"), "1:1, 2:3, 3:2"),
        (ImageGenerationTool(size="4K"), "not 4K"),
        (ImageGenerationTool(aspect_ratio="1:1", size="1536x1024"), "1024x1024"),
    ],
)
async def test_tools_that_openai_does_not_have(ask, builtin, problem):
    with pytest.raises(UserError, match=problem):
        await ask(params=ModelRequestParameters(builtin_tools=[builtin]))


async def test_images_out(ask):
    params = ModelRequestParameters(allow_image_output=True, output_mode="image", allow_text_output=False)
    body = await ask(params=params)
    assert (body["tools"], body["tool_choice"]) == ([{"type": "image_generation"}], "required")
