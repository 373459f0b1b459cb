"""What is sent to Gemini: each case was compared with what Pydantic AI 1.46 sends for the same call."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.builtin_tools import (
    CodeExecutionTool,
    FileSearchTool,
    ImageGenerationTool,
    MemoryTool,
    WebFetchTool,
    WebSearchTool,
)
from runmgr.exceptions import UserError
from runmgr.messages import (
    BinaryContent,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
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
from runmgr.models.attached import Files
from runmgr.models.google_request import map_messages

SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "title": "X"}},
    "required": ["x"],
    "title": "T",
}
PLAIN = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
SKIP = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="


def tool(name="foo", **fields):
    return ToolDefinition(name=name, description="d", parameters_json_schema=SCHEMA, **fields)


@pytest.fixture
def ask(server, gemini, tools):
    server.will(tools.answer(gemini.answer({"text": "hi"})))

    async def ask(messages=None, settings=None, params=None, **options):
        model = gemini.model(server, **options)
        await model.request(messages or gemini.prompt("q"), settings, params or ModelRequestParameters())
        return server.requests[-1].json()

    return ask


async def test_a_plain_request(server, ask):
    assert await ask() == {
        "contents": [{"role": "user", "parts": [{"text": "q"}]}],
        "generationConfig": {"responseModalities": ["TEXT"]},
    }
    request = server.requests[0]
    assert request.target == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert request.headers["x-goog-api-key"] == "hunter2"
    await ask(name="tunedModels/mine")
    assert server.requests[1].target == "/v1beta/tunedModels/mine:generateContent"


async def test_settings(server, ask):
    body = await ask(
        settings={
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["x"],
            "seed": 3,
            "presence_penalty": 1.0,
            "frequency_penalty": 0.1,
            "logit_bias": {"1": 2},
            "parallel_tool_calls": False,
            "google_safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            "google_thinking_config": {"include_thoughts": True, "thinking_level": "high"},
            "google_video_resolution": "MEDIA_RESOLUTION_LOW",
            "google_cached_content": "cc",
            "google_labels": {"a": "b"},
            "extra_headers": {"x-a": "b"},
            "extra_body": {"generationConfig": {"topK": 5}, "store": True},
            "timeout": 30,
        }
    )
    del body["contents"]
    assert body == {
        "generationConfig": {
            "responseModalities": ["TEXT"],
            "maxOutputTokens": 100,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["x"],
            "seed": 3,
            "presencePenalty": 1.0,
            "frequencyPenalty": 0.1,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "thinkingConfig": {"include_thoughts": True, "thinking_level": "HIGH"},
            "topK": 5,
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/cc",
        "labels": {"a": "b"},
        "store": True,
    }
    assert server.requests[0].headers["x-a"] == "b"
    with pytest.raises(UserError, match="extra_body"):
        await ask(settings={"extra_body": 1})


async def test_system_prompts_and_instructions_go_to_one_place(ask):
    messages = [
        ModelRequest(
            [SystemPromptPart("s1"), SystemPromptPart("s2"), UserPromptPart("u")], instructions="old"
        ),
        ModelResponse([TextPart("a")]),
        ModelRequest([SystemPromptPart("s3"), UserPromptPart("u2")], instructions="new"),
    ]
    body = await ask(messages)
    assert body["systemInstruction"] == {
        "role": "user",
        "parts": [{"text": "s1"}, {"text": "s2"}, {"text": "s3"}, {"text": "new"}],
    }
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "u"}]},
        {"role": "model", "parts": [{"text": "a"}]},
        {"role": "user", "parts": [{"text": "u2"}]},
    ]
    assert (await ask([ModelRequest([], instructions="i")]))["contents"] == [
        {"role": "user", "parts": [{"text": ""}]}
    ]


def response(name, call_id, value):
    return {"functionResponse": {"name": name, "id": call_id, "response": value}}


async def test_a_conversation_with_tools(ask, gemini):
    messages = [
        *gemini.prompt("q"),
        ModelResponse([TextPart("t1"), ToolCallPart("foo", '{"a":1}', "c1"), ToolCallPart("bar", {"b": 2}, "c2")]),
        ModelRequest([
            ToolReturnPart("foo", {"r": 1}, "c1"),
            RetryPromptPart("not so"),
            RetryPromptPart("bad", tool_name="bar", tool_call_id="c2"),
            UserPromptPart("more"),
        ]),
        ModelResponse([ToolCallPart("foo", '{"a":', "c3")]),
        ModelRequest([ToolReturnPart("foo", "text", "c3")]),
        ModelResponse([]),
    ]  # fmt: skip
    assert (await ask(messages))["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "t1"},
                {"functionCall": {"name": "foo", "args": {"a": 1}, "id": "c1"}, "thoughtSignature": SKIP},
                {"functionCall": {"name": "bar", "args": {"b": 2}, "id": "c2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                response("foo", "c1", {"r": 1}),
                response("bar", "c2", {"error": "bad\n\nFix the errors and try again."}),
            ],
        },
        {
            "role": "user",
            "parts": [
                {"text": "Validation feedback:\nnot so\n\nFix the errors and try again."},
                {"text": "more"},
            ],
        },
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"name": "foo", "args": {"INVALID_JSON": '{"a":'}, "id": "c3"},
                    "thoughtSignature": SKIP,
                }
            ],
        },
        {"role": "user", "parts": [response("foo", "c3", {"return_value": "text"})]},
    ]


SIGNED = {"thought_signature": "c2ln"}
CALL = {"functionCall": {"name": "foo", "args": {}, "id": "c"}}


@pytest.mark.parametrize(
    ("parts", "own", "foreign"),
    [
        ([ThinkingPart("th"), TextPart("x")], [{"text": "th", "thought": True}, {"text": "x"}], ...),
        (
            [TextPart("x", provider_details=SIGNED)],
            [{"text": "x", "thoughtSignature": "c2ln"}],
            [{"text": "x"}],
        ),
        (
            [ThinkingPart("th", signature="c2ln", provider_name="google-gla"), TextPart("x")],
            [{"text": "th", "thought": True}, {"text": "x", "thoughtSignature": "c2ln"}],
            ...,
        ),
        (
            [ToolCallPart("foo", {}, "c", provider_details=SIGNED)],
            [CALL | {"thoughtSignature": "c2ln"}],
            [CALL | {"thoughtSignature": SKIP}],
        ),
        (
            [TextPart("", provider_details=SIGNED), TextPart("")],
            [{"text": "", "thoughtSignature": "c2ln"}],
            None,
        ),
        (
            [FilePart(BinaryContent(b"x", media_type="image/png"), provider_details=SIGNED)],
            [{"inlineData": {"mimeType": "image/png", "data": "eA=="}, "thoughtSignature": "c2ln"}],
            [{"inlineData": {"mimeType": "image/png", "data": "eA=="}}],
        ),
        (
            [
                BuiltinToolCallPart("code_execution", {"code": "1", "language": "PYTHON"}, "s", provider_name="google-gla"),
                BuiltinToolReturnPart("code_execution", {"outcome": "OUTCOME_OK", "output": "1"}, "s", provider_name="google-gla"),
                BuiltinToolCallPart("web_search", {"queries": ["z"]}, "t", provider_name="google-gla"),
            ],
            [
                {"executableCode": {"code": "1", "language": "PYTHON"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            ],
            ...,
        ),
    ],
)  # fmt: skip
async def test_signatures_go_back_to_whom_they_came_from(ask, gemini, parts, own, foreign):
    for name, expected in (("google-gla", own), ("openai", own if foreign is ... else foreign)):
        body = await ask([*gemini.prompt("q"), ModelResponse(parts, provider_name=name), *gemini.prompt("r")])
        sent = [content["parts"] for content in body["contents"] if content["role"] == "model"]
        assert sent == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BinaryContent(b"abc", media_type="image/png"), {"inlineData": {"mimeType": "image/png", "data": "YWJj"}}),
        (
            BinaryContent(b"abc", media_type="video/mp4", vendor_metadata={"fps": 2}),
            {"inlineData": {"mimeType": "video/mp4", "data": "YWJj"}, "videoMetadata": {"fps": 2}},
        ),
        (
            VideoUrl("https://youtu.be/abc", vendor_metadata={"fps": 1}),
            {"fileData": {"fileUri": "https://youtu.be/abc", "mimeType": "video/mp4"}, "videoMetadata": {"fps": 1}},
        ),
        (
            ImageUrl("https://generativelanguage.googleapis.com/v1beta/files/x", media_type="image/png"),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x", "mimeType": "image/png"}},
        ),
        (CachePoint(), None),
    ],
)  # fmt: skip
async def test_content(ask, gemini, content, expected):
    body = await ask(gemini.prompt("t", content, "u"))
    assert body["contents"][0]["parts"] == [{"text": "t"}, *([expected] if expected else []), {"text": "u"}]


async def test_files_are_fetched(ask, gemini, tools):
    async with tools.running_server() as files:
        files.will(tools.answer(b"abc"))
        image = ImageUrl(f"http://127.0.0.1:{files.port}/x.png", force_download="allow-local")
        body = await ask(gemini.prompt(image))
    assert body["contents"][0]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "YWJj"}}]
    with pytest.raises(UserError, match="not a public address"):
        await ask(gemini.prompt(ImageUrl("http://127.0.0.1:1/x.png")))


# ---------------------------------------------------------------- tools and output


async def test_tools(ask):
    output = tool("final_result", kind="output")
    params = ModelRequestParameters(function_tools=[tool()], output_tools=[output], output_mode="tool")
    body = await ask(params=params)
    declared = [
        {"name": name, "description": "d", "parametersJsonSchema": PLAIN} for name in ("foo", "final_result")
    ]
    assert body["tools"] == [{"functionDeclarations": declared}]
    assert "toolConfig" not in body
    forced = ModelRequestParameters(
        function_tools=[tool()], output_tools=[output], output_mode="tool", allow_text_output=False
    )
    assert (await ask(params=forced))["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["foo", "final_result"]}
    }


OBJECT = OutputObjectDefinition(json_schema=SCHEMA, name="N", description="desc")


async def test_native_output(ask):
    body = await ask(params=ModelRequestParameters(output_mode="native", output_object=OBJECT))
    assert body["generationConfig"] == {
        "responseModalities": ["TEXT"],
        "responseMimeType": "application/json",
        "responseJsonSchema": PLAIN | {"title": "N", "description": "desc"},
    }
    with pytest.raises(UserError, match="function tools"):
        await ask(
            params=ModelRequestParameters(output_mode="native", output_object=OBJECT, function_tools=[tool()])
        )


async def test_prompted_output(ask):
    def params(**fields):
        return ModelRequestParameters(output_mode="prompted", output_object=OBJECT, **fields)

    body = await ask(params=params())
    assert body["generationConfig"]["responseMimeType"] == "application/json"
    assert '"type": "object"' in body["systemInstruction"]["parts"][0]["text"]
    assert "responseMimeType" not in (await ask(params=params(function_tools=[tool()])))["generationConfig"]


@pytest.mark.parametrize(
    ("builtin", "sent"),
    [
        (WebSearchTool(), {"googleSearch": {}}),
        (CodeExecutionTool(), {"codeExecution": {}}),
        (WebFetchTool(), {"urlContext": {}}),
        (FileSearchTool(file_store_ids=["f"]), {"fileSearch": {"fileSearchStoreNames": ["f"]}}),
    ],
)
async def test_googles_own_tools(ask, builtin, sent):
    assert (await ask(params=ModelRequestParameters(builtin_tools=[builtin])))["tools"] == [sent]


async def test_googles_own_tools_do_not_go_with_ours(ask):
    search = [WebSearchTool()]
    with pytest.raises(UserError, match="at the same time"):
        await ask(params=ModelRequestParameters(builtin_tools=search, function_tools=[tool()]))
    output = {
        "builtin_tools": search,
        "output_tools": [tool("final_result", kind="output")],
        "output_object": OBJECT,
    }
    with pytest.raises(UserError, match="PromptedOutput"):
        await ask(params=ModelRequestParameters(output_mode="tool", allow_text_output=False, **output))
    auto = ModelRequestParameters(output_mode="auto", allow_text_output=False, **output)
    body = await ask(params=auto)
    assert body["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in body
    assert "systemInstruction" in body
    body = await ask(params=auto, name="gemini-3-pro-preview")
    assert "responseJsonSchema" in body["generationConfig"]
    with pytest.raises(UserError, match="MemoryTool"):
        await ask(params=ModelRequestParameters(builtin_tools=[MemoryTool()]))


async def test_images_out(ask):
    image = ImageGenerationTool(aspect_ratio="16:9", size="2K")
    params = ModelRequestParameters(builtin_tools=[image], allow_image_output=True)
    body = await ask(params=params, name="gemini-2.5-flash-image")
    assert body["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    }
    with pytest.raises(UserError, match="'image' in the name"):
        await ask(params=ModelRequestParameters(builtin_tools=[image]))
    with pytest.raises(UserError, match="1024x1024"):
        small = ModelRequestParameters(builtin_tools=[ImageGenerationTool(size="1024x1024")])
        await ask(params=small, name="gemini-2.5-flash-image")


PARTS = st.one_of(
    st.builds(TextPart, st.text(max_size=5), provider_details=st.none() | st.just(SIGNED)),
    st.builds(ToolCallPart, st.just("foo"), st.text(max_size=5) | st.none(), st.just("c")),
    st.builds(
        ThinkingPart,
        st.text(max_size=5),
        signature=st.none() | st.just("s"),
        provider_name=st.just("google-gla"),
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            ModelResponse, st.lists(PARTS, max_size=4), provider_name=st.sampled_from(["google-gla", "x"])
        ),
        max_size=4,
    )
)
def test_any_history_keeps_its_text_and_its_calls(messages):
    contents = map_messages(messages, ModelRequestParameters(), "google-gla", Files())["contents"]
    sent = [part for content in contents if content["role"] == "model" for part in content["parts"]]
    assert all(content["parts"] for content in contents)
    assert [part["text"] for part in sent if part.get("text")] == [
        part.content for message in messages for part in message.parts if getattr(part, "content", None)
    ]
    calls = [part for message in messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert len([part for part in sent if "functionCall" in part]) == len(calls)
