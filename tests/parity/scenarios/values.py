"""Messages, usage, exceptions: reprs, JSON, equality, arithmetic."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import copy
import json
import pickle
import tempfile
from dataclasses import asdict, astuple, dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_ai import ModelMessagesTypeAdapter as MTA
from pydantic_ai.exceptions import (
    AgentRunError,
    ApprovalRequired,
    CallDeferred,
    ContentFilterError,
    FallbackExceptionGroup,
    IncompleteToolCall,
    ModelAPIError,
    ModelHTTPError,
    ModelRetry,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    BinaryImage,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    CachePoint,
    DocumentUrl,
    FilePart,
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.usage import RequestUsage, RunUsage, UsageLimits

TS = datetime(2025, 1, 1, tzinfo=UTC)


def rt(show, ms):
    b = MTA.dump_json(ms)
    back = MTA.validate_json(b)
    show(MTA.dump_json(back) == b, len(back))
    show(json.dumps(json.loads(b), sort_keys=True))
    p = MTA.dump_python(ms, mode="json")
    show(MTA.dump_json(MTA.validate_python(p)) == b)


def check_rt_all(show):
    rt(
        show,
        [
            ModelRequest(
                parts=[
                    SystemPromptPart("s", timestamp=TS, dynamic_ref="d"),
                    UserPromptPart(
                        [
                            "a",
                            ImageUrl("http://a/b.png"),
                            BinaryContent(b"\x00\xff", media_type="image/png"),
                            AudioUrl("http://x/y.mp3"),
                            VideoUrl("http://y/z.mp4", force_download=True),
                            DocumentUrl("http://d/x.pdf", vendor_metadata={"a": 1}),
                            CachePoint(),
                        ],
                        timestamp=TS,
                    ),
                    ToolReturnPart("t", {"a": [1]}, "id", timestamp=TS, metadata={"m": 1}),
                    RetryPromptPart("r", tool_name="t", tool_call_id="q", timestamp=TS),
                ],
                instructions="i",
                timestamp=TS,
                run_id="r",
                metadata={"z": 1},
            ),
            ModelResponse(
                parts=[
                    TextPart("t", id="x", provider_details={"q": 1}),
                    ThinkingPart("th", id="1", signature="s", provider_name="p"),
                    ToolCallPart("t", {"x": 1}, "a"),
                    ToolCallPart("t", '{"x":1}', "b"),
                    BuiltinToolCallPart("ws", {"q": 1}, "c", provider_name="p"),
                    BuiltinToolReturnPart("ws", "res", "c", timestamp=TS, provider_name="p"),
                    FilePart(BinaryContent(b"abc", media_type="image/jpeg"), id="f"),
                ],
                usage=RequestUsage(input_tokens=1, details={"d": 2}),
                model_name="m",
                timestamp=TS,
                provider_name="pp",
                provider_url="u",
                provider_details={"x": 1},
                provider_response_id="pr",
                finish_reason="stop",
                run_id="r",
                metadata={"k": 1},
            ),
        ],
    )


def check_retry_errors_rt(show):
    try:
        TypeAdapter(dict[str, int]).validate_python({"a": "x"})
    except ValidationError as e:
        ms = [
            ModelRequest(
                parts=[
                    RetryPromptPart(
                        e.errors(include_url=False), tool_name="t", tool_call_id="i", timestamp=TS
                    )
                ]
            )
        ]
    rt(show, ms)


def check_media_types(show):
    for u in [
        "http://x/a.png",
        "http://x/a.jpg",
        "http://x/a.jpeg",
        "http://x/a.gif",
        "http://x/a.webp",
        "http://x/a",
    ]:
        try:
            i = ImageUrl(u)
            show(u, i.media_type, i.format)
        except Exception as e:
            show(u, type(e).__name__, e)
    for u in [
        "http://x/a.mp3",
        "http://x/a.wav",
        "http://x/a.flac",
        "http://x/a.oga",
        "http://x/a.aiff",
        "http://x/a.aac",
        "http://x/a.ogg",
    ]:
        try:
            i = AudioUrl(u)
            show(u, i.media_type, i.format)
        except Exception as e:
            show(u, type(e).__name__, e)
    for u in [
        "http://x/a.mp4",
        "http://x/a.mkv",
        "http://x/a.mov",
        "http://x/a.webm",
        "http://x/a.flv",
        "http://x/a.mpeg",
        "http://x/a.mpg",
        "http://x/a.wmv",
        "http://x/a.three_gp",
        "https://youtu.be/lCdaVNyHtjU",
        "https://www.youtube.com/watch?v=x",
        "http://x/b",
    ]:
        try:
            i = VideoUrl(u)
            show(u, i.is_youtube, i.media_type, i.format)
        except Exception as e:
            show(u, type(e).__name__, e)
    for u in [
        "http://x/a.pdf",
        "http://x/a.txt",
        "http://x/a.csv",
        "http://x/a.docx",
        "http://x/a.xlsx",
        "http://x/a.html",
        "http://x/a.md",
        "http://x/a.rtf",
        "http://x/a.doc",
        "http://x/a.xls",
        "http://x/a.json",
        "http://x/a.foo",
        "http://x/a.pdf?x=1",
        "http://x/a.xml",
        "http://x/a.yaml",
        "https://arxiv.org/pdf/2403.05530",
    ]:
        try:
            i = DocumentUrl(u)
            show(u, i.media_type, i.format)
        except Exception as e:
            show(u, type(e).__name__, e)
    show(
        ImageUrl("http://x/a", media_type="image/png").format,
        ImageUrl("http://x/a.png?y=1").media_type,
        ImageUrl("http://x/a.png#y").identifier,
        ImageUrl("http://x/a.png", identifier="zz").identifier,
    )


def check_binary(show):
    for mt in [
        "image/png",
        "image/jpeg",
        "audio/wav",
        "audio/mpeg",
        "video/mp4",
        "application/pdf",
        "text/plain",
        "application/json",
        "application/octet-stream",
        "image/heic",
        "text/csv",
        "application/msword",
        "video/quicktime",
        "audio/ogg",
    ]:
        b = BinaryContent(b"abc", media_type=mt)
        try:
            f = b.format
        except Exception as e:
            f = f"{type(e).__name__} {e}"
        show(
            mt,
            b.is_audio,
            b.is_image,
            b.is_video,
            b.is_document,
            f,
            b.identifier,
            b.data_uri,
            b.base64 if hasattr(b, "base64") else None,
        )
    narrowed = BinaryContent.from_data_uri("data:image/png;base64,YWJj")
    show(type(narrowed).__name__, narrowed.data, narrowed.media_type, narrowed.identifier)
    show(type(BinaryContent.narrow_type(BinaryContent(b"a", media_type="image/png"))).__name__)
    try:
        BinaryContent.from_data_uri("foo")
    except Exception as e:
        show(type(e).__name__, e)
    try:
        BinaryImage(b"a", media_type="text/plain")
    except Exception as e:
        show(type(e).__name__)
    show(
        BinaryContent(b"a", media_type="image/png") == BinaryContent(b"a", media_type="image/png"),
        BinaryContent(b"a", media_type="image/png", identifier="x").identifier,
    )


def check_binary_path(show):
    d = Path(tempfile.mkdtemp())
    for n in ["a.png", "b.txt", "d.md", "e.pdf", "f"]:
        p = d / n
        p.write_bytes(b"zz")
        content = BinaryContent.from_path(p)
        show(n, type(content).__name__, content.data, content.media_type)
    try:
        BinaryContent.from_path(d / "none")
    except Exception as e:
        show(type(e).__name__)


def check_response_props(show):
    r = ModelResponse(
        parts=[
            TextPart("a"),
            TextPart("b"),
            ThinkingPart("t"),
            ToolCallPart("x", {}, "i"),
            TextPart("c"),
            BuiltinToolCallPart("w", {}, "k"),
            BuiltinToolReturnPart("w", 1, "k"),
            FilePart(BinaryImage(b"1", media_type="image/png")),
        ]
    )
    show(r.text, r.thinking, r.tool_calls, r.files, r.images, r.builtin_tool_calls)
    show(ModelResponse(parts=[]).text, ModelResponse(parts=[]).thinking)
    try:
        r.cost()
    except Exception as e:
        show(type(e).__name__, e)
    try:
        show(
            ModelResponse(
                parts=[],
                model_name="gpt-4o",
                provider_name="openai",
                usage=RequestUsage(input_tokens=1000, output_tokens=10),
            )
            .cost()
            .total_price
        )
    except Exception as e:
        show(type(e).__name__, e)
    try:
        ModelResponse(parts=[], model_name="zzz").cost()
    except Exception as e:
        show(type(e).__name__, e)


def check_toolcall(show):
    for a in [None, "", "{}", '{"a":1}', {"a": 1}, {}, "[1]", "{bad"]:
        p = ToolCallPart("t", a, "i")
        for m in ["args_as_dict", "args_as_json_str", "has_content"]:
            try:
                show(a, m, getattr(p, m)())
            except BaseException as e:
                show(a, m, type(e).__name__, e)


def check_deltas(show):
    t = TextPart("a")
    show(TextPartDelta("b").apply(t), t)
    for d, p in [
        (TextPartDelta("b"), ThinkingPart("x")),
        (ThinkingPartDelta(content_delta="c", signature_delta="s"), ThinkingPart("x")),
        (ThinkingPartDelta(), ThinkingPart("x")),
        (ThinkingPartDelta(content_delta="q"), ThinkingPartDelta(content_delta="z")),
        (ThinkingPartDelta(content_delta="q"), TextPart("x")),
        (ToolCallPartDelta(args_delta="x"), ToolCallPart("t", "y", "i")),
        (ToolCallPartDelta(args_delta={"a": 1}), ToolCallPart("t", "y", "i")),
        (ToolCallPartDelta(args_delta="{"), ToolCallPart("t", {"b": 1}, "i")),
        (ToolCallPartDelta(args_delta={"a": 1}), ToolCallPart("t", {"b": 1}, "i")),
        (ToolCallPartDelta(tool_name_delta="zz", tool_call_id="j"), ToolCallPart("t", "y", "i")),
        (ToolCallPartDelta(args_delta="x"), ToolCallPartDelta(args_delta="w")),
        (ToolCallPartDelta(tool_name_delta="n", args_delta="x"), ToolCallPartDelta(tool_name_delta="m")),
        (ToolCallPartDelta(args_delta="x"), TextPart("q")),
        (ToolCallPartDelta(args_delta="x"), ToolCallPart("t", None, "i")),
        (ToolCallPartDelta(args_delta="x"), BuiltinToolCallPart("t", "k", "i")),
    ]:
        try:
            show(d.apply(p))
        except Exception as e:
            show(type(e).__name__, e)
    show(
        ToolCallPartDelta(tool_name_delta="n").as_part(),
        ToolCallPartDelta().as_part(),
        ToolCallPartDelta(tool_name_delta="n", args_delta="x", tool_call_id="i").as_part(),
    )


def check_eq_repr(show):
    show(
        TextPart("a") == TextPart("a"),
        TextPart("a") != TextPart("b"),
        TextPart("a") == ThinkingPart("a"),
        ModelRequest(parts=[]) == ModelRequest(parts=[]),
    )
    for x in [
        TextPart("a"),
        ThinkingPart("a"),
        ToolCallPart("t"),
        ToolReturnPart("t", "c", "i", timestamp=TS),
        UserPromptPart("x", timestamp=TS),
        SystemPromptPart("x", timestamp=TS),
        RetryPromptPart("x", timestamp=TS, tool_call_id="i"),
        ModelRequest(parts=[]),
        ModelResponse(parts=[], timestamp=TS),
        ModelRequest.user_text_prompt("hi", instructions="q"),
        ImageUrl("http://x/y"),
        BinaryContent(b"", media_type="a/b"),
        PartStartEvent(index=0, part=TextPart("a")),
        PartDeltaEvent(index=0, delta=TextPartDelta("x")),
        PartEndEvent(index=1, part=TextPart("q"), next_part_kind="text"),
        FinalResultEvent(tool_name=None, tool_call_id=None),
        FunctionToolCallEvent(ToolCallPart("t", {}, "i")),
        FunctionToolResultEvent(ToolReturnPart("t", "c", "i", timestamp=TS), content="x"),
        ToolReturn("x"),
        ToolReturn("x", content="y", metadata=1),
        ToolApproved(),
        ToolDenied(),
        ToolDenied("x"),
        DeferredToolRequests(),
        DeferredToolResults(),
        DeferredToolResults(calls={"a": 1}),
        RunUsage(),
        RequestUsage(input_tokens=3),
        UsageLimits(),
        UsageLimits(request_limit=None),
        RunUsage(details={"a": 1}),
        TextOutput(str),
        ToolOutput(int),
        NativeOutput([int]),
        PromptedOutput([int]),
    ]:
        show(x)
    c = FunctionToolCallEvent(ToolCallPart("t", {}, "i"))
    show(c.tool_call_id, c.call_id, FunctionToolResultEvent(ToolReturnPart("t", "c", "i")).tool_call_id)


def check_kinds(show):
    for x in [
        TextPart("a"),
        ThinkingPart("a"),
        ToolCallPart("t"),
        ToolReturnPart("t", "c", "i"),
        UserPromptPart("x"),
        SystemPromptPart("x"),
        RetryPromptPart("x"),
    ]:
        show(x.part_kind)
    show(
        ModelRequest(parts=[]).kind,
        ModelResponse(parts=[]).kind,
        ImageUrl("x").kind,
        CachePoint().kind,
        PartStartEvent(index=0, part=TextPart("")).event_kind,
        TextPartDelta("").part_delta_kind,
    )


def check_exceptions(show):
    es = [
        ModelRetry("m"),
        UserError("u"),
        AgentRunError("a"),
        UsageLimitExceeded("l"),
        UnexpectedModelBehavior("b"),
        UnexpectedModelBehavior("b", '{"a":1}'),
        UnexpectedModelBehavior("b", "zz"),
        ModelHTTPError(500, "mm", {"x": 1}),
        ModelHTTPError(404, "mm"),
        ModelAPIError("mn", "msg"),
        CallDeferred(),
        CallDeferred(metadata={"a": 1}),
        ApprovalRequired(),
        ContentFilterError("x"),
        IncompleteToolCall("x"),
        FallbackExceptionGroup("m", [ValueError("a")]),
    ]
    for e in es:
        show(type(e).__mro__[1].__name__, str(e), repr(e), e.args, getattr(e, "message", None))
        try:
            p = pickle.loads(pickle.dumps(e))
            show(type(p).__name__, str(p), sorted(vars(p).items()))
        except Exception as x:
            show("PICKLE", type(x).__name__, x)
    show(
        ModelRetry("a") == ModelRetry("a"),
        hash(ModelRetry("a")) == hash(ModelRetry("a")),
        ModelRetry("a") == ModelRetry("b"),
    )
    show(
        TypeAdapter(ModelRetry).dump_python(ModelRetry("x")),
        TypeAdapter(ModelRetry).validate_python({"message": "q", "kind": "model-retry"}),
    )


def check_usage_ops(show):
    a = RequestUsage(input_tokens=1, output_tokens=2, details={"x": 1})
    b = RequestUsage(input_tokens=3, cache_read_tokens=1, details={"x": 2, "y": 3})
    c = a + b
    show(
        c,
        c.total_tokens,
        c.requests,
        a.has_values(),
        RequestUsage().has_values(),
        a.opentelemetry_attributes(),
        c.opentelemetry_attributes(),
    )
    u = RunUsage(requests=1)
    u.incr(a)
    show(u)
    show(u + RunUsage(requests=2, tool_calls=1))
    show(u + a, sum([RequestUsage(input_tokens=1)] * 2, RunUsage()))
    try:
        show(a + u)
    except Exception as e:
        show(type(e).__name__)
    show(
        copy.copy(u) == u,
        copy.deepcopy(u) == u,
        u == RunUsage(requests=1, input_tokens=1, output_tokens=2, details={"x": 1}),
        bool(u.has_values()),
    )
    show(
        RequestUsage.extract(
            {"usage": {"prompt_tokens": 5, "completion_tokens": 6}, "model": "gpt-4o"},
            provider="openai",
            provider_url="",
            provider_fallback="openai",
        )
    )


def check_limits(show):
    for kw, u in [
        (dict(request_limit=1), RunUsage(requests=1)),
        (dict(input_tokens_limit=5), RunUsage(input_tokens=6)),
        (dict(total_tokens_limit=5), RunUsage(input_tokens=6)),
        (dict(output_tokens_limit=5), RunUsage(output_tokens=6)),
        (dict(tool_calls_limit=1), RunUsage(tool_calls=2)),
    ]:
        l = UsageLimits(**kw)
        for m in ["check_before_request", "check_tokens", "check_before_tool_call"]:
            try:
                show(m, getattr(l, m)(u))
            except Exception as e:
                show(m, type(e).__name__, e)
        show(l.has_token_limits())
    UsageLimits(request_tokens_limit=3)


def check_limits_dep(show):
    show(UsageLimits(request_tokens_limit=3), UsageLimits(response_tokens_limit=3))


def check_deferred_build(show):
    d = DeferredToolRequests(
        calls=[ToolCallPart("a", {}, "1")], approvals=[ToolCallPart("b", {}, "2")], metadata={"1": {"x": 1}}
    )
    show(d)
    try:
        show(d.build_results(approve_all=True))
    except Exception as e:
        show(type(e).__name__)
    r = DeferredToolResults(calls={"1": "x"}, approvals={"2": True})
    show(r.to_tool_call_results() if hasattr(r, "to_tool_call_results") else None)
    T = TypeAdapter(DeferredToolResults)
    show(
        T.validate_python(
            {
                "calls": {"a": {"return_value": 1, "kind": "tool-return"}},
                "approvals": {
                    "b": {"kind": "tool-denied", "message": "no"},
                    "c": {"kind": "tool-approved"},
                    "d": True,
                },
            }
        )
    )
    T = TypeAdapter(DeferredToolRequests)
    show(json.dumps(T.dump_python(d, mode="json"), sort_keys=True))
    show(T.validate_python(T.dump_python(d, mode="json")))


def check_pydantic_field(show):
    class M(BaseModel):
        msgs: list[ModelMessage]
        u: RunUsage
        p: TextPart

    m = M(
        msgs=[ModelRequest(parts=[UserPromptPart("x", timestamp=TS)])],
        u=RunUsage(requests=1),
        p=TextPart("q"),
    )
    show(m)
    show(json.dumps(json.loads(m.model_dump_json()), sort_keys=True))
    show(M.model_validate_json(m.model_dump_json()) == m)


def check_dataclass_tools(show):
    m = ModelRequest(parts=[UserPromptPart("x", timestamp=TS)], timestamp=TS)
    show(
        replace(m, instructions="z"),
        is_dataclass(m),
        sorted(f.name for f in fields(m)),
        sorted(asdict(m).items()),
    )
    m2 = copy.deepcopy(m)
    m2.parts.append(SystemPromptPart("s", timestamp=TS))
    show(m2, m, copy.copy(m) == m)
    show(astuple(TextPart("x")))
    try:
        hash(TextPart("x"))
    except TypeError:
        show("unhashable")


def check_validate_bad(show):
    for b in [
        b'[{"kind":"zz"}]',
        b'[{"parts":[{"part_kind":"zz"}],"kind":"request"}]',
        b"{}",
        b"[",
        b'[{"kind":"request"}]',
    ]:
        try:
            show(MTA.validate_json(b))
        except Exception as e:
            show(type(e).__name__, isinstance(e, ValueError))


def check_old_formats(show):
    show(
        MTA.validate_json(
            b'[{"parts":[{"content":"x","part_kind":"user-prompt"}],"kind":"request"},{"parts":[{"content":"y","part_kind":"text"}],"kind":"response","usage":{"requests":1,"request_tokens":3,"response_tokens":4,"total_tokens":7,"details":null},"vendor_details":{"a":1},"vendor_id":"v"}]'
        )
    )


def check_tool_return_str(show):
    @dataclass
    class D:
        a: int

    for c in ["x", 1, None, {"a": 1}, [1, 2], D(1), TS, b"x", (1,), {"b": b"\xff"}, 1.0, True]:
        p = ToolReturnPart("t", c, "i")
        try:
            show(c, p.model_response_str(), p.model_response_object(), p.has_content())
        except Exception as e:
            show(c, type(e).__name__, e)


def check_price(show):
    from pydantic_ai.settings import ModelSettings, merge_model_settings

    show(
        merge_model_settings(None, None),
        merge_model_settings({"a": 1}, None),
        merge_model_settings({"a": 1}, {"b": 2}),
        sorted(ModelSettings.__annotations__),
    )
