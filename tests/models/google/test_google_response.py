"""What Gemini's answers become, whole and streamed: compared with what Pydantic AI 1.46 makes of them.

Answers as of https://ai.google.dev/api/generate-content, errors as of https://ai.google.dev/gemini-api/docs/troubleshooting.
"""

import json
from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import AgentRunError, MalformedResponseError, ModelHTTPError, UserError
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
    ToolCallPart,
)
from runmgr.models import ModelRequestParameters, ToolDefinition, infer_model
from runmgr.models.google_response import map_answer
from runmgr.models.google_stream import GeminiStreamedResponse
from runmgr.models.http import Reply
from runmgr.models.retry import RetryPolicy, classify, retry_after
from runmgr.usage import RequestUsage

PARAMS = ModelRequestParameters()
SIGNED = {"thought_signature": "c2ln"}


def mapped(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return map_answer(body, model_name="asked", provider_name="google-gla", provider_url="u")


class Pieces:
    head = Reply(200, [], b"")

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""


async def read(pieces, params=PARAMS):
    stream = GeminiStreamedResponse(params, model_name="asked", provider_name="google-gla", provider_url="u")
    await stream.open(Pieces(pieces))
    seen = [event async for event in stream]
    return stream.get(), seen


def test_text(gemini):
    response = mapped(gemini.answer({"text": "hi"}))
    assert response == ModelResponse(
        [TextPart("hi")],
        usage=RequestUsage(input_tokens=10, output_tokens=5, details={"text_prompt_tokens": 10}),
        model_name="gemini-2.5-flash-001",
        timestamp=response.timestamp,
        provider_name="google-gla",
        provider_url="u",
        provider_details={"finish_reason": "STOP"},
        provider_response_id="r1",
        finish_reason="stop",
    )


def test_thoughts_signatures_and_parallel_calls(gemini):
    response = mapped(
        gemini.answer(
            {"text": "hm", "thought": True},
            {"text": "", "thought": True},
            {"functionCall": {"name": "foo", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "bar", "id": "cid"}},
            {"text": "a", "thoughtSignature": "c2ln"},
            {"text": ""},
            {"text": "", "thoughtSignature": "c2ln"},
        )
    )
    first = response.parts[1]
    assert first.tool_call_id
    assert response.parts == [
        ThinkingPart("hm"),
        ToolCallPart("foo", {"x": 1}, first.tool_call_id, provider_details=SIGNED),
        ToolCallPart("bar", None, "cid"),
        TextPart("a", provider_details=SIGNED),
        TextPart("", provider_details=SIGNED),
    ]


def test_files_and_code(gemini):
    png = {"inlineData": {"mimeType": "image/png", "data": "YWJj"}}
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    image, call, returned, alone = (
        mapped(gemini.answer(png, code, result)).parts + mapped(gemini.answer(result)).parts
    )
    assert image == FilePart(BinaryImage(b"abc", media_type="image/png"))
    assert (call.tool_name, call.args) == ("code_execution", {"code": "1", "language": "PYTHON"})
    assert (returned.content, returned.tool_call_id) == (
        {"outcome": "OUTCOME_OK", "output": "1"},
        call.tool_call_id,
    )
    assert alone.tool_call_id


def test_what_google_searched_and_read(gemini):
    web = {"webSearchQueries": ["q"], "groundingChunks": [{"web": {"uri": "u", "title": "t"}}]}
    pages = {"urlMetadata": [{"retrievedUrl": "u", "urlRetrievalStatus": "S"}]}
    answer = gemini.answer({"text": "a"}, candidate={"groundingMetadata": web, "urlContextMetadata": pages})
    call, found, fetch, page, text = mapped(answer).parts
    assert (call.tool_name, call.args) == ("web_search", {"queries": ["q"]})
    assert found.content == [{"domain": None, "title": "t", "uri": "u"}]
    assert (fetch.tool_name, fetch.args) == ("web_fetch", {"urls": ["u"]})
    assert page.content == [{"retrieved_url": "u", "url_retrieval_status": "S"}]
    assert text == TextPart("a")
    files = {"groundingChunks": [{"retrievedContext": {"title": "t", "fileSearchStore": "f"}}]}
    call, found, _ = mapped(gemini.answer({"text": "a"}, candidate={"groundingMetadata": files})).parts
    assert (call.tool_name, found.content) == ("file_search", [{"title": "t", "file_search_store": "f"}])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((name, "content_filter") for name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")),
        *((name, "error") for name in ("LANGUAGE", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "NO_IMAGE")),
        *((name, None) for name in ("OTHER", "FINISH_REASON_UNSPECIFIED", "SOMETHING_NEW")),
    ],
)  # fmt: skip
def test_finish_reasons(gemini, reason, expected):
    answer = gemini.answer(
        reason=reason, candidate={"content": None, "safetyRatings": [{"category": "C", "blocked": True}]}
    )
    response = mapped(answer)
    assert (response.parts, response.finish_reason) == ([], expected)
    assert response.provider_details["finish_reason"] == reason
    (rating,) = response.provider_details["safety_ratings"]
    assert (rating["category"], rating["blocked"], rating["severity"]) == ("C", True, None)


BLOCKED = {
    "promptFeedback": {
        "blockReason": "SAFETY",
        "blockReasonMessage": "no",
        "safetyRatings": [{"category": "C"}],
    },
    "usageMetadata": {"promptTokenCount": 3},
}


async def test_a_blocked_prompt(gemini):
    for response in (mapped(BLOCKED), (await read(gemini.sse(BLOCKED)))[0]):
        assert (response.parts, response.finish_reason) == ([], "content_filter")
        assert response.provider_details["block_reason"] == "SAFETY"
        assert response.provider_details["block_reason_message"] == "no"
        assert response.usage.input_tokens == 3


def test_usage(gemini):
    usage = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 6,
        "totalTokenCount": 156,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 25}, {"modality": "IMAGE"}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 8}],
        "trafficType": "ON_DEMAND",
    }  # fmt: skip
    result = mapped(gemini.answer({"text": "a"}, usageMetadata=usage)).usage
    assert result == RequestUsage(
        input_tokens=106,  # with what Google's own tools put into the prompt, which is paid for as input
        output_tokens=50,
        cache_read_tokens=40,
        input_audio_tokens=25,
        cache_audio_read_tokens=10,
        output_audio_tokens=8,
        details={
            "cached_content_tokens": 40,
            "thoughts_tokens": 30,
            "tool_use_prompt_tokens": 6,
            "text_prompt_tokens": 60,
            "audio_prompt_tokens": 25,
            "audio_cache_tokens": 10,
            "audio_candidates_tokens": 8,
        },
    )
    assert result.total_tokens == usage["totalTokenCount"]
    assert mapped(gemini.answer(usageMetadata=None)).usage == RequestUsage()


def test_logprobs(gemini):
    details = mapped(
        gemini.answer(
            {"text": "a"}, candidate={"logprobsResult": {"chosenCandidates": []}, "avgLogprobs": -0.5}
        )
    )
    assert details.provider_details["logprobs"] == {"chosenCandidates": []}
    assert details.provider_details["avg_logprobs"] == -0.5


def test_what_is_unknown_breaks_nothing(gemini):
    answer = gemini.answer(
        {"hologram": {}}, {"functionResponse": {"name": "x"}}, {"text": "a", "mood": 1}, extra=[1]
    )
    assert mapped(answer).parts == [TextPart("a")]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"candidates": []}', b'{"candidates": [{"content": 1}]}'],
)
def test_what_is_no_answer(body):
    with pytest.raises(MalformedResponseError, match="Google answered"):
        mapped(body)


# ---------------------------------------------------------------- streams


async def test_streamed_text(gemini):
    response, seen = await read(
        gemini.sse(
            gemini.piece({"text": "a"}, usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 1}),
            {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 4}},
            gemini.piece({"text": "b", "thoughtSignature": "c2ln"}, usageMetadata=None),
            gemini.answer({"text": ""}, usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 7}),
        )
    )
    assert seen == [
        PartStartEvent(index=0, part=TextPart("a")),
        FinalResultEvent(tool_name=None, tool_call_id=None),
        PartDeltaEvent(index=0, delta=TextPartDelta("b", provider_details=SIGNED)),
        PartEndEvent(index=0, part=TextPart("ab", provider_details=SIGNED)),
    ]
    assert response.usage == RequestUsage(input_tokens=10, output_tokens=7)
    assert (response.model_name, response.provider_response_id) == ("gemini-2.5-flash-001", "r1")
    assert (response.finish_reason, response.provider_details) == ("stop", {"finish_reason": "STOP"})


async def test_streamed_thoughts_and_calls(gemini):
    params = ModelRequestParameters(output_tools=[ToolDefinition(name="bar", kind="output")])
    response, seen = await read(
        gemini.sse(
            gemini.piece({"text": "h", "thought": True}),
            gemini.piece({"text": "m", "thought": True, "thoughtSignature": "c2ln"}),
            gemini.piece(
                {"functionCall": {"name": "foo", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "bar", "args": {}, "id": "c"}},
            ),
            gemini.answer({"text": ""}),
        ),
        params,
    )
    thought, first, second = response.parts
    assert thought == ThinkingPart("hm", provider_details=SIGNED)
    assert (first.tool_name, first.args, first.provider_details) == ("foo", {"x": 1}, SIGNED)
    assert second == ToolCallPart("bar", {}, "c")
    assert FinalResultEvent(tool_name="bar", tool_call_id="c") in seen


async def test_streamed_files_code_and_searches(gemini):
    files = {"groundingChunks": [{"retrievedContext": {"title": "t"}}]}
    response, _ = await read(
        gemini.sse(
            gemini.piece({"inlineData": {"mimeType": "image/png", "data": "YWJj"}}),
            gemini.piece({"executableCode": {"language": "PYTHON", "code": "1"}}),
            gemini.piece({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
            gemini.piece({"executableCode": {"code": 'print(file_search.query(query="z"))'}}),
            gemini.piece({"hologram": 1}),
            gemini.piece(
                {"text": "a"}, candidate={"urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "u"}]}}
            ),
            gemini.answer(
                {"text": "b"}, candidate={"groundingMetadata": files, "safetyRatings": [{"category": "C"}]}
            ),
        )
    )
    kinds = [getattr(part, "tool_name", part.part_kind) for part in response.parts]
    assert kinds == [
        "file",
        *["code_execution"] * 2,
        "file_search",
        *["web_fetch"] * 2,
        "text",
        "file_search",
    ]
    assert response.parts[1].tool_call_id == response.parts[2].tool_call_id
    assert response.parts[3].args == {"query": "z"}
    assert response.parts[3].tool_call_id == response.parts[7].tool_call_id
    assert response.provider_details["safety_ratings"][0]["category"] == "C"


async def test_errors_inside_a_stream(gemini):
    error = {"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}
    for before in ([], [gemini.piece({"text": "a"})]):
        with pytest.raises(ModelHTTPError, match="boom") as caught:
            await read(gemini.sse(*before, error))
        assert (caught.value.status_code, caught.value.body) == (503, error)


async def test_no_end_is_an_error(gemini):
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read(gemini.sse(gemini.piece({"text": "a"})))
    with pytest.raises(MalformedResponseError, match="cut short"):
        await read([])


PARTS = [
    ThinkingPart("h\u00e4"),
    TextPart("\u20acab", provider_details=SIGNED),
    ToolCallPart("foo", {"x": 1}, "c"),
]


def recorded(gemini):
    return b"".join(
        gemini.sse(
            gemini.piece({"text": "h\u00e4", "thought": True}),
            gemini.piece({"text": "\u20aca"}),
            gemini.piece({"text": "b", "thoughtSignature": "c2ln"}),
            gemini.piece({"functionCall": {"name": "foo", "args": {"x": 1}, "id": "c"}}),
            gemini.answer(),
        )
    )


async def test_cut_and_ended_at_every_byte(gemini):
    whole = recorded(gemini)
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
@given(cuts=st.lists(st.integers(0, 1500), max_size=40))
def test_in_any_pieces(gemini, cuts):
    whole = recorded(gemini)
    cuts = sorted(min(cut, len(whole)) for cut in cuts)
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert trio.run(read, pieces)[0].parts == PARTS


NAMES = ["candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "finishReason", "inlineData", "data", "groundingMetadata", "usageMetadata", "error"]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
ANSWERS = st.one_of(
    JSON,
    JSON.map(lambda part: {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}),
    JSON.map(lambda value: {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": value}),
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=40), ANSWERS.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_give_a_response_or_a_typed_error(body):
    with suppress(AgentRunError):
        assert isinstance(mapped(body), ModelResponse)
    with suppress(AgentRunError):
        assert isinstance(trio.run(read, [b"data: " + body + b"\n\n"])[0], ModelResponse)


# ---------------------------------------------------------------- over a connection


async def test_over_a_connection(server, tools, gemini):
    server.will(tools.chunked(*gemini.sse(gemini.piece({"text": "a"}), gemini.answer({"text": "b"}))))
    model = gemini.model(server)
    for _ in range(2):
        async with model.request_stream(gemini.prompt("q"), None, PARAMS) as answer:
            async for _event in answer:
                pass
        assert answer.get().parts == [TextPart("ab")]
    assert server.requests[0].target == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "retried"), [(400, False), (403, False), (429, True), (500, True), (503, True)]
)
async def test_errors(server, tools, gemini, status, retried):
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.002s"}]
    body = {"error": {"code": status, "message": "m", "status": "X", "details": details}}
    server.will(tools.answer(body, status=status))
    model = gemini.model(server, retry=RetryPolicy(base=0.001))
    with pytest.raises(ModelHTTPError) as caught:
        await model.request(gemini.prompt("q"), None, PARAMS)
    error = caught.value
    assert (error.status_code, error.body) == (status, body)
    assert (classify(error) is not None) is retried
    assert retry_after(error) == 0.002
    assert len(server.requests) == (3 if retried else 1)
    assert "hunter2" not in str(error) + repr(model) + repr(model.client)


async def test_errors_of_other_shapes(server, tools, gemini):
    for body in (
        b"bad gateway",
        b'[{"error": {"code": 502}}]',
        b'{"error": {"details": [1, {"retryDelay": 5}]}}',
    ):
        server.answers.clear()
        server.will(tools.answer(body, status=502))
        with pytest.raises(ModelHTTPError) as caught:
            await gemini.model(server).request_once(gemini.prompt("q"), None, PARAMS)
        assert retry_after(caught.value) is None


async def test_counting_tokens(server, tools, gemini):
    server.will(tools.answer({"totalTokens": 42, "promptTokensDetails": []}))
    model = gemini.model(server)
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="foo")])
    usage = await model.count_tokens(gemini.prompt("q", instructions="i"), {"max_tokens": 3}, params)
    assert usage == RequestUsage(input_tokens=42)
    request = server.requests[0]
    assert request.target == "/v1beta/models/gemini-2.5-flash:countTokens"
    asked = request.json()["generateContentRequest"]
    assert asked["model"] == "models/gemini-2.5-flash"
    assert {"contents", "systemInstruction", "tools"} <= asked.keys()
    server.answers.clear()
    server.will(tools.answer({}))
    with pytest.raises(MalformedResponseError, match="count of tokens"):
        await gemini.model(server, retry=RetryPolicy(max_retries=0)).count_tokens(
            gemini.prompt("q"), None, PARAMS
        )


def test_by_its_string(monkeypatch):
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="GOOGLE_API_KEY"):
        infer_model("google:gemini-2.5-flash")
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    for string in ("google:gemini-2.5-flash", "google-gla:gemini-2.5-flash"):
        model = infer_model(string)
        assert (model.model_name, model.system) == ("gemini-2.5-flash", "google-gla")
        assert model.base_url == "https://generativelanguage.googleapis.com/"
