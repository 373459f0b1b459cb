"""What is sent: each case was compared with what Pydantic AI 1.46 sends for the same call."""

import base64

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.builtin_tools import CodeExecutionTool, WebSearchTool
from runmgr.exceptions import ModelConnectionError, UserError
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
from runmgr.models.openai_request import Files, map_messages
from runmgr.profiles.openai import OpenAIModelProfile


@pytest.fixture
def ask(server, chat, tools):
    server.will(tools.answer(chat.completion()))

    async def ask(messages=None, settings=None, params=None, **options):
        return (await chat.ask(server, messages, settings, params, **options))[0]

    return ask


def user(*contents):
    return [ModelRequest([UserPromptPart(contents[0] if len(contents) == 1 else list(contents))])]


async def test_a_plain_request(server, ask):
    body = await ask()
    assert body == {"model": "gpt-4o", "messages": [{"role": "user", "content": "q"}], "stream": False}
    request = server.requests[0]
    assert request.target == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer key"
    assert request.headers["content-type"] == "application/json"


async def test_system_prompts_and_instructions(ask):
    messages = [
        ModelRequest(
            [SystemPromptPart("s1"), SystemPromptPart("s2"), UserPromptPart("u")], instructions="old"
        ),
        ModelResponse([TextPart("a")]),
        ModelRequest([SystemPromptPart("s3"), UserPromptPart("u2")], instructions="new"),
    ]
    body = await ask(messages)
    assert body["messages"] == [
        {"role": "system", "content": "s1"},
        {"role": "system", "content": "s2"},
        {"role": "system", "content": "new"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
        {"role": "system", "content": "s3"},
        {"role": "user", "content": "u2"},
    ]


@pytest.mark.parametrize(
    ("options", "role"),
    [
        ({}, "system"),
        ({"system_prompt_role": "developer"}, "developer"),
        ({"name": "o1-mini"}, "user"),
        ({"name": "o1"}, "system"),
    ],
)
async def test_the_role_of_system_prompts(ask, options, role):
    body = await ask([ModelRequest([SystemPromptPart("s"), UserPromptPart("u")])], **options)
    assert [message["role"] for message in body["messages"]] == [role, "user"]


async def test_a_conversation_with_tools(ask):
    messages = [
        *user("q"),
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
    ]  # fmt: skip
    assert (await ask(messages))["messages"][1:] == [
        {
            "role": "assistant",
            "content": "t1",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "foo", "arguments": '{"a":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "bar", "arguments": '{"b":2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"r":1}'},
        {"role": "tool", "tool_call_id": "c2", "content": "bad\n\nFix the errors and try again."},
        {"role": "user", "content": "Validation feedback:\nnot so\n\nFix the errors and try again."},
        {"role": "user", "content": "more"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c3", "type": "function", "function": {"name": "foo", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c3", "content": "text"},
        {"role": "assistant", "content": None},
    ]


FIELD = OpenAIModelProfile(
    openai_chat_thinking_field="reasoning_content", openai_chat_send_back_thinking_parts="field"
)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (None, {"content": "<think>\nth\n</think>\n\nx"}),
        (FIELD, {"content": "x", "reasoning_content": "th"}),
        (OpenAIModelProfile(openai_chat_send_back_thinking_parts=False), {"content": "x"}),
        (OpenAIModelProfile(thinking_tags=("[T]", "[/T]")), {"content": "[T]\nth\n[/T]\n\nx"}),
    ],
)
async def test_thoughts_of_earlier_turns(ask, profile, expected):
    parts = [ThinkingPart("th", id="reasoning", provider_name="openai"), TextPart("x")]
    body = await ask([*user("q"), ModelResponse(parts)], profile=profile)
    assert body["messages"][1] == {"role": "assistant"} | expected


def test_a_field_for_thoughts_needs_a_name():
    with pytest.raises(UserError, match="openai_chat_thinking_field"):
        OpenAIModelProfile(openai_chat_send_back_thinking_parts="field")


async def test_what_cannot_be_sent_back_is_left_out(ask):
    parts = [
        TextPart("x"),
        BuiltinToolCallPart("web_search", {}, "b", provider_name="openai"),
        BuiltinToolReturnPart("web_search", {}, "b", provider_name="openai"),
        FilePart(BinaryContent(b"x", media_type="image/png")),
    ]
    body = await ask([*user("q"), ModelResponse(parts)])
    assert body["messages"][1] == {"role": "assistant", "content": "x"}


PNG = BinaryContent(b"abc", media_type="image/png")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (ImageUrl("http://e/x.png"), {"type": "image_url", "image_url": {"url": "http://e/x.png"}}),
        (
            ImageUrl("http://e/x.png", vendor_metadata={"detail": "low"}),
            {"type": "image_url", "image_url": {"url": "http://e/x.png", "detail": "low"}},
        ),
        (PNG, {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}),
        (
            BinaryContent(b"abc", media_type="audio/wav"),
            {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "wav"}},
        ),
        (
            BinaryContent(b"abc", media_type="audio/mpeg"),
            {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}},
        ),
        (
            BinaryContent(b"abc", media_type="application/pdf"),
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,YWJj", "filename": "filename.pdf"},
            },
        ),
        (
            BinaryContent(b"hello", media_type="text/plain"),
            {
                "type": "text",
                "text": '-----BEGIN FILE id="aaf4c6" type="text/plain"-----\nhello\n-----END FILE id="aaf4c6"-----',
            },
        ),
        (
            BinaryContent(b"{}", media_type="application/json", identifier="mine"),
            {
                "type": "text",
                "text": '-----BEGIN FILE id="mine" type="application/json"-----\n{}\n-----END FILE id="mine"-----',
            },
        ),
    ],
)
async def test_contents(ask, content, expected):
    body = await ask(user("look", content, CachePoint(), "and"))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        expected,
        {"type": "text", "text": "and"},
    ]


async def test_audio_as_a_uri(ask):
    profile = OpenAIModelProfile(openai_chat_audio_input_encoding="uri")
    body = await ask(user("x", BinaryContent(b"abc", media_type="audio/wav")), profile=profile)
    assert body["messages"][0]["content"][1]["input_audio"]["data"] == "data:audio/wav;base64,YWJj"


@pytest.mark.parametrize(
    "content",
    [
        BinaryContent(b"abc", media_type="video/mp4"),
        BinaryContent(b"abc", media_type="application/zip"),
        BinaryContent(b"abc", media_type="audio/ogg"),
        BinaryContent(b"abc", media_type="audio/unheard-of"),
        VideoUrl("http://e/x.mp4"),
    ],
)
async def test_contents_that_chat_completions_do_not_take(server, ask, content):
    with pytest.raises(UserError, match="Chat completions take"):
        await ask(user("x", content))
    assert not server.requests


# ---------------------------------------------------------------- files by URL


@pytest.mark.parametrize(
    ("kind", "ending", "expected"),
    [
        (ImageUrl, "x.png", {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}),
        (AudioUrl, "x.mp3", {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
        (
            DocumentUrl,
            "x.pdf",
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,YWJj", "filename": "filename.pdf"},
            },
        ),
        (DocumentUrl, "x", {"type": "image_url", "image_url": {"url": "data:image/gif;base64,YWJj"}}),
    ],
)
async def test_files_are_fetched_where_they_must_be(server, chat, tools, kind, ending, expected):
    file = b"HTTP/1.1 200 OK\r\ncontent-type: image/gif; x=y\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc"
    moved = b"HTTP/1.1 302 Found\r\nlocation: /there/%b\r\ncontent-length: 0\r\n\r\n" % ending.encode()
    server.will(moved, file, tools.answer(chat.completion()))
    content = kind(f"{server.url}/{ending}", force_download="allow-local")
    body, _ = await chat.ask(server, user("x", content, content))
    assert body["messages"][0]["content"][1:] == [expected, expected]
    assert [request.method for request in server.requests] == ["GET", "GET", "POST"]
    assert server.requests[1].target == f"/there/{ending}"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[64:ff9b::7f00:1]",
    ],
)
async def test_files_are_not_fetched_from_local_addresses(server, chat, host):
    for force in (True, False):
        with pytest.raises(UserError, match="not a public address"):
            await chat.ask(
                server, user("x", AudioUrl(f"http://{host}:{server.port}/x.mp3", force_download=force))
            )
    assert not server.requests


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", UserError, "status 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: /x.mp3\r\ncontent-length: 0\r\n\r\n", UserError, "redirects"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
            UserError,
            "not an http",
        ),
        (None, ModelConnectionError, "without an answer"),
    ],
)
async def test_files_that_cannot_be_fetched(server, chat, answer, error, message):
    server.will(answer)
    model = chat.model(server)
    url = f"{server.url}/x.mp3?key=secret"
    with pytest.raises(error, match=message) as caught:
        await model.request_once(
            user("x", AudioUrl(url, force_download="allow-local")), None, ModelRequestParameters()
        )
    assert "secret" not in str(caught.value)


async def test_a_file_has_a_limit(server, tools):
    from runmgr.models.http.download import download

    server.will(tools.answer(b"x" * 101))
    with pytest.raises(UserError, match="larger than 100 bytes"):
        await download(server.url, limit=100, allow_local=True)


# ---------------------------------------------------------------- settings

ALL = {
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "parallel_tool_calls": False,
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "logit_bias": {"1": 2},
    "stop_sequences": ["a"],
    "extra_headers": {"X-A": "b", "User-Agent": "me"},
    "extra_body": {"foo": 1, "seed": 9},
    "openai_reasoning_effort": "low",
    "openai_logprobs": True,
    "openai_top_logprobs": 3,
    "openai_user": "u",
    "openai_service_tier": "flex",
    "openai_prediction": {"type": "content", "content": "x"},
    "openai_prompt_cache_key": "ck",
    "openai_prompt_cache_retention": "24h",
    "timeout": 7,
    "anthropic_thing": 1,
}
SENT = {
    "frequency_penalty": 0.2,
    "logit_bias": {"1": 2},
    "logprobs": True,
    "max_completion_tokens": 5,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.1,
    "prompt_cache_key": "ck",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "seed": 9,
    "service_tier": "flex",
    "stop": ["a"],
    "stream": False,
    "temperature": 0.5,
    "top_logprobs": 3,
    "top_p": 0.9,
    "user": "u",
    "foo": 1,
}
SAMPLING = {
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
}


async def test_settings(server, ask):
    body = await ask(settings=ALL)
    assert {name: value for name, value in body.items() if name not in {"messages", "model"}} == SENT
    assert server.requests[0].headers["x-a"] == "b"
    assert server.requests[0].headers["user-agent"] == "me"


@pytest.mark.parametrize(
    "options",
    [
        {"name": "o3-mini"},
        {"name": "gpt-5"},
        {"profile": OpenAIModelProfile(openai_supports_sampling_settings=False)},
    ],
)
async def test_settings_that_a_model_refuses(ask, options):
    body = await ask(settings=ALL, **options)
    expected = {name: value for name, value in SENT.items() if name not in SAMPLING}
    assert {name: value for name, value in body.items() if name not in {"messages", "model"}} == expected


async def test_the_old_name_of_the_token_limit(ask):
    profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
    body = await ask(settings={"max_tokens": 5}, profile=profile)
    assert body["max_tokens"] == 5
    assert "max_completion_tokens" not in body


async def test_settings_of_the_model_lie_under_those_of_the_request(server, chat, tools):
    server.will(tools.answer(chat.completion()))
    model = chat.model(server, settings={"seed": 1, "temperature": 0.1})
    await model.request(chat.prompt(), {"seed": 2}, ModelRequestParameters())
    assert server.requests[-1].json().items() >= {"seed": 2, "temperature": 0.1}.items()


async def test_an_extra_body_that_is_none(ask):
    with pytest.raises(UserError, match="extra_body"):
        await ask(settings={"extra_body": "x"})


# ---------------------------------------------------------------- tools and outputs


def schema(required=("a",), **fields):
    return {
        "type": "object",
        "properties": {"a": {"type": "integer", "title": "A"}, "b": {"type": "string", "default": "x"}},
        "required": list(required),
        "additionalProperties": False,
    } | fields


ONE = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
LOOSE = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string", "default": "x"}},
    "required": ["a"],
    "additionalProperties": False,
}
STRICT = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


async def test_tools(ask):
    params = ModelRequestParameters(
        function_tools=[
            ToolDefinition(name="foo", description="d", parameters_json_schema=schema()),
            ToolDefinition(name="one", parameters_json_schema=ONE),
            ToolDefinition(name="strict", strict=True, parameters_json_schema=schema()),
            ToolDefinition(name="loose", strict=False, parameters_json_schema=ONE),
        ]
    )
    body = await ask(params=params, settings={"parallel_tool_calls": False})
    assert body["tool_choice"] == "auto"
    assert body["parallel_tool_calls"] is False
    assert body["tools"] == [
        {"type": "function", "function": {"name": "foo", "description": "d", "parameters": LOOSE}},
        {
            "type": "function",
            "function": {"name": "one", "description": "", "parameters": ONE, "strict": True},
        },
        {
            "type": "function",
            "function": {"name": "strict", "description": "", "parameters": STRICT, "strict": True},
        },
        {"type": "function", "function": {"name": "loose", "description": "", "parameters": ONE}},
    ]


@pytest.mark.parametrize(
    ("text", "profile", "choice"),
    [
        (True, None, "auto"),
        (False, None, "required"),
        (False, OpenAIModelProfile(openai_supports_tool_choice_required=False), "auto"),
    ],
)
async def test_tool_choice(ask, text, profile, choice):
    params = ModelRequestParameters(
        output_mode="tool",
        allow_text_output=text,
        output_tools=[ToolDefinition(name="final_result", parameters_json_schema=ONE, kind="output")],
    )
    body = await ask(params=params, profile=profile)
    assert body["tool_choice"] == choice
    assert [tool["function"]["name"] for tool in body["tools"]] == ["final_result"]


async def test_no_tools_no_choice(ask):
    body = await ask(settings={"parallel_tool_calls": True})
    assert body.keys() == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            OutputObjectDefinition(json_schema=ONE | {"title": "Foo"}, name="Foo", description="desc"),
            {"name": "Foo", "schema": ONE, "description": "desc", "strict": True},
        ),
        (
            OutputObjectDefinition(json_schema=schema()),
            {"name": "final_result", "schema": LOOSE, "strict": False},
        ),
        (
            OutputObjectDefinition(json_schema=schema(), strict=True),
            {"name": "final_result", "schema": STRICT, "strict": True},
        ),
    ],
)
async def test_native_output(ask, output, expected):
    body = await ask(params=ModelRequestParameters(output_mode="native", output_object=output))
    assert body["response_format"] == {"type": "json_schema", "json_schema": expected}


async def test_native_output_of_a_model_that_has_none(ask):
    params = ModelRequestParameters(
        output_mode="native", output_object=OutputObjectDefinition(json_schema=ONE)
    )
    with pytest.raises(UserError, match="Native structured output is not supported"):
        await ask(params=params, profile=OpenAIModelProfile())


@pytest.mark.parametrize(("profile", "held"), [(None, True), (OpenAIModelProfile(), False)])
async def test_prompted_output(ask, profile, held):
    params = ModelRequestParameters(
        output_mode="prompted",
        output_object=OutputObjectDefinition(json_schema=ONE, name="Foo"),
        prompted_output_template="Like {schema}!",
    )
    body = await ask(params=params, profile=profile)
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][0]["content"].startswith('Like {"type": "object"')
    assert ("response_format" in body) is held
    if held:
        assert body["response_format"] == {"type": "json_object"}


async def test_web_search(ask):
    params = ModelRequestParameters(
        builtin_tools=[WebSearchTool(search_context_size="high", user_location={"city": "X"})]
    )
    body = await ask(params=params, name="gpt-4o-search-preview")
    assert body["web_search_options"] == {
        "search_context_size": "high",
        "user_location": {"type": "approximate", "approximate": {"city": "X"}},
    }
    with pytest.raises(
        UserError, match="WebSearchTool is not supported with `OpenAIChatModel` and model 'gpt-4o'"
    ):
        await ask(params=params)
    with pytest.raises(UserError, match="CodeExecutionTool"):
        await ask(
            params=ModelRequestParameters(builtin_tools=[CodeExecutionTool()]), name="gpt-4o-search-preview"
        )


async def test_parameters_are_mapped_once(server, chat, tools, monkeypatch):
    import runmgr.models.openai as module

    calls = []
    real = module.map_parameters
    monkeypatch.setattr(module, "map_parameters", lambda *args: calls.append(args) or real(*args))
    server.will(tools.answer(chat.completion()))
    model = chat.model(server)
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="foo")])
    bodies = []
    for _ in range(3):
        await model.request(chat.prompt(), None, params)
        bodies.append(server.requests[-1].json())
    assert len(calls) == 1
    assert bodies[0] == bodies[1] == bodies[2]
    for number in range(40):
        other = ModelRequestParameters(function_tools=[ToolDefinition(name=f"t{number}")])
        await model.request(chat.prompt(), None, other)
        assert server.requests[-1].json()["tools"][0]["function"]["name"] == f"t{number}"


# ---------------------------------------------------------------- anything

TEXTS = st.text(max_size=8)
IDS = st.sampled_from(["c1", "c2"])
CONTENTS = st.one_of(
    TEXTS,
    st.lists(
        st.one_of(TEXTS, st.just(PNG), st.just(CachePoint()), st.just(ImageUrl("http://e/x.png"))), max_size=3
    ),
)
REQUESTS = st.builds(
    ModelRequest,
    st.lists(
        st.one_of(
            st.builds(SystemPromptPart, TEXTS),
            st.builds(UserPromptPart, CONTENTS),
            st.builds(
                ToolReturnPart, TEXTS, st.one_of(TEXTS, st.integers(), st.none(), st.lists(TEXTS)), IDS
            ),
            st.builds(RetryPromptPart, TEXTS, tool_name=st.none() | TEXTS, tool_call_id=IDS),
        ),
        max_size=4,
    ),
    instructions=st.none() | TEXTS,
)
RESPONSES = st.builds(
    ModelResponse,
    st.lists(
        st.one_of(
            st.builds(TextPart, TEXTS),
            st.builds(ThinkingPart, TEXTS),
            st.builds(
                ToolCallPart, TEXTS, st.one_of(st.none(), TEXTS, st.dictionaries(TEXTS, st.integers())), IDS
            ),
        ),
        max_size=4,
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(REQUESTS, RESPONSES), max_size=6), st.sampled_from([OpenAIModelProfile(), FIELD]))
def test_any_conversation_maps_to_valid_messages(messages, profile):
    files = Files()
    mapped = map_messages(messages, ModelRequestParameters(), profile, files)
    assert not files.missing
    texts = [m["content"] for m in mapped if m["role"] == "tool"]
    returns = [
        p for m in messages if isinstance(m, ModelRequest) for p in m.parts if p.part_kind == "tool-return"
    ]
    assert len(texts) >= len(returns)
    for message in mapped:
        assert message["role"] in {"system", "user", "assistant", "tool"}
        assert set(message) <= {"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}
        assert message["content"] is None or isinstance(message["content"], str | list)
        assert (message["role"] == "tool") == ("tool_call_id" in message)
        for call in message.get("tool_calls", ()):
            assert isinstance(call["function"]["arguments"], str)
    calls = sum(len(m.get("tool_calls", ())) for m in mapped)
    assert calls == sum(p.part_kind == "tool-call" for m in messages for p in m.parts)


def test_bytes_survive():
    image = map_messages(user(PNG, "x"), ModelRequestParameters(), OpenAIModelProfile(), Files())[0][
        "content"
    ][0]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == b"abc"


async def test_over_a_users_client(chat):
    seen = []

    def handle(request):
        seen.append(request)
        return httpx2.Response(200, json=chat.completion())

    class Somewhere:
        url = "http://somewhere/v1/"

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
        model = chat.model(Somewhere, provider={"http_client": client})
        response = await model.request(
            chat.prompt(), {"extra_headers": {"x-a": "b"}}, ModelRequestParameters()
        )
    assert response.parts == [TextPart("hi")]
    assert str(seen[0].url) == "http://somewhere/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer key"
    assert seen[0].headers["x-a"] == "b"
