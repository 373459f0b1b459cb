"""Streams, events, history processors, deferred tools, overrides, settings."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import asyncio
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_ai.agent import Agent, capture_run_messages
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, UsageLimitExceeded
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    DocumentUrl,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturn,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_ai.usage import UsageLimits


def J(b):
    return json.dumps(json.loads(b), sort_keys=True, separators=(",", ":"))


class Foo(BaseModel):
    a: int
    b: str


class FooBar(BaseModel):
    text: str
    n: int = 0


def streamed(*turns):
    it = iter(turns)

    async def f(messages, info):
        for x in next(it):
            yield x

    return FunctionModel(stream_function=f)


def answers(*responses):
    it = iter(responses)

    def f(messages, info):
        r = next(it)
        if isinstance(r, str):
            return ModelResponse(parts=[TextPart(r)])
        if isinstance(r, list):
            return ModelResponse(parts=r)
        return r

    return FunctionModel(f)


async def check_stream_text(show):
    a = Agent(TestModel())

    @a.tool_plain
    async def ret_a(x: str) -> str:
        return f"{x}-apple"

    async with a.run_stream("Hello") as r:
        show(
            r.is_complete,
            r.all_messages(),
            r.usage(),
            r.run_id is not None,
            r.timestamp() is not None,
            r.response,
        )
        show([c async for c in r.stream_text(debounce_by=None)])
        show(r.is_complete, r.all_messages(), r.usage(), r.new_messages(), r.response)


async def check_stream_text_delta(show):
    async with Agent(TestModel(custom_output_text="The cat sat on the mat.")).run_stream("Hello") as r:
        show([c async for c in r.stream_text(delta=True, debounce_by=None)])
        show(r.all_messages())
        show(await r.get_output())


async def check_stream_default_debounce(show):
    async with Agent(TestModel(custom_output_text="The cat sat on the mat.")).run_stream("Hello") as r:
        show([c async for c in r.stream_text()])
        show(r.all_messages())


async def check_stream_output_text(show):
    async with Agent(TestModel(custom_output_text="The cat sat on the mat.")).run_stream("Hello") as r:
        show([c async for c in r.stream_output(debounce_by=None)])


async def check_stream_validator(show):
    a = Agent(TestModel(custom_output_text="The cat sat"))

    @a.output_validator
    def v(ctx, o):
        show(ctx.partial_output, o)
        return o.upper()

    async with a.run_stream("Hello") as r:
        show([c async for c in r.stream_text(debounce_by=None)])
        show(await r.get_output())
    async with a.run_stream("Hello") as r:
        show([c async for c in r.stream_output(debounce_by=None)])


async def check_stream_structured(show):
    a = Agent(TestModel(custom_output_args={"text": "hello there", "n": 4}), output_type=FooBar)
    async with a.run_stream("Hello") as r:
        show([c async for c in r.stream_output(debounce_by=None)])
        show(r.all_messages(), r.is_complete)
        show(await r.get_output(), r.usage())


async def check_stream_structured_text_err(show):
    a = Agent(TestModel(), output_type=FooBar)
    async with a.run_stream("Hello") as r:
        show([c async for c in r.stream_text(debounce_by=None)])


async def check_stream_responses(show):
    a = Agent(
        streamed(
            [
                {0: DeltaToolCall("final_result", '{"text":', tool_call_id="c1")},
                {0: DeltaToolCall(json_args=' "he')},
                {0: DeltaToolCall(json_args='llo", "n": 3}')},
            ]
        ),
        output_type=FooBar,
    )
    async with a.run_stream("Hello") as r:
        async for m, last in r.stream_responses(debounce_by=None):
            show(m, last)
            try:
                show(await r.validate_response_output(m, allow_partial=not last))
            except ValidationError as e:
                show("VE", e)
    show(r.all_messages())


async def check_stream_early_break(show):
    a = Agent(TestModel(custom_output_text="The cat sat on the mat."))
    async with a.run_stream("Hello") as r:
        async for c in r.stream_text(debounce_by=None):
            show(c)
            break
    show(r.is_complete, r.all_messages())


async def check_stream_nothing_read(show):
    a = Agent(TestModel(custom_output_text="The cat sat on the mat."))
    async with a.run_stream("Hello") as r:
        pass
    show(r.is_complete, r.all_messages(), r.usage())


async def check_stream_call_return(show):
    a = Agent(streamed([{0: DeltaToolCall("t", '{"x":1}', tool_call_id="c1")}], ["hello ", "world"]))

    @a.tool_plain
    async def t(x: int):
        return str(x)

    async with a.run_stream("q") as r:
        show(r.all_messages())
        show(await r.get_output())
        show(r.all_messages(), r.usage())


async def check_stream_retry_unknown(show):
    a = Agent(streamed([{0: DeltaToolCall("hello_world", "", tool_call_id="c1")}], ["success ", "x"]))
    async with a.run_stream("q") as r:
        show(await r.get_output())
        show(r.all_messages())


async def check_stream_retry_unknown_exc(show):
    a = Agent(
        streamed(
            [{0: DeltaToolCall("hello_world", "", tool_call_id="c1")}],
            [{0: DeltaToolCall("hello_world", "", tool_call_id="c1")}],
        )
    )
    async with a.run_stream("q"):
        pass


async def check_stream_empty(show):
    a = Agent(streamed([], ["x"]))
    async with a.run_stream("q") as r:
        show(await r.get_output())


async def check_stream_plain_err(show):
    a = Agent(streamed(["foo"], ["bar"]), output_type=tuple[str, str])
    async with a.run_stream("q"):
        pass


async def check_stream_output_and_other(show):
    for st in ["early", "exhaustive"]:
        a = Agent(
            streamed(
                [
                    {0: DeltaToolCall("final_result", '{"text":"a"}', tool_call_id="c1")},
                    {1: DeltaToolCall("t", '{"x":1}', tool_call_id="c2")},
                    {2: DeltaToolCall("final_result", '{"text":"b"}', tool_call_id="c3")},
                    {3: DeltaToolCall("unk", '{"x":1}', tool_call_id="c4")},
                ]
            ),
            output_type=FooBar,
            end_strategy=st,
        )

        @a.tool_plain
        def t(x: int):
            show("called")
            return x

        async with a.run_stream("q") as r:
            show(await r.get_output())
        show(r.all_messages(), r.usage())


async def check_stream_text_then_tool(show):
    a = Agent(streamed(["hi ", {1: DeltaToolCall("t", '{"x":1}', tool_call_id="c2")}], ["end"]))

    @a.tool_plain
    def t(x: int):
        show("called")
        return x

    async with a.run_stream("q") as r:
        show(await r.get_output())
    show(r.all_messages())
    a = Agent(streamed(["hi ", {1: DeltaToolCall("t", '{"x":1}', tool_call_id="c2")}], ["end"]))

    @a.tool_plain
    def t(x: int):
        show("called")
        return x

    async for e in a.run_stream_events("q"):
        show(e)


async def check_stream_thinking(show):
    a = Agent(
        streamed(
            [
                {0: DeltaThinkingPart(content="hm")},
                {0: DeltaThinkingPart(content="mm", signature="s")},
                "text",
            ]
        )
    )
    async for e in a.run_stream_events("q"):
        show(e)


async def check_stream_events_structured(show):
    a = Agent(
        streamed(
            [{0: DeltaToolCall("t", '{"x":"a"}', tool_call_id="c1")}],
            [{0: DeltaToolCall("t", '{"x":1}', tool_call_id="c2")}],
            [
                {0: DeltaToolCall("final_result", '{"text":', tool_call_id="c3")},
                {0: DeltaToolCall(json_args='"q"}')},
            ],
        ),
        output_type=FooBar,
    )

    @a.tool_plain
    def t(x: int):
        return x

    async for e in a.run_stream_events("q"):
        show(e)


async def check_event_handler(show):
    async def h(ctx, evs):
        show(ctx.run_step, ctx.retry)
        async for e in evs:
            show(e)

    a = Agent(TestModel(), event_stream_handler=h)

    @a.tool_plain
    def t(x: int):
        return x

    r = await a.run("q")
    show(r.output)
    async with a.run_stream("q") as r:
        show(await r.get_output())


async def check_event_handler_break(show):
    async def h(ctx, evs):
        async for e in evs:
            show(e)
            break

    a = Agent(TestModel(custom_output_text="a b c"))
    r = await a.run("q", event_stream_handler=h)
    show(r.output, r.all_messages())


async def check_node_stream(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t(x: int):
        return x

    async with a.iter("q") as run:
        async for n in run:
            if Agent.is_model_request_node(n):
                async with n.stream(run.ctx) as s:
                    async for e in s:
                        show(e)
                    show(s.get(), s.usage(), s.response)
            elif Agent.is_call_tools_node(n):
                async with n.stream(run.ctx) as s:
                    async for e in s:
                        show(e)
            elif Agent.is_user_prompt_node(n):
                show("U", n)
            elif Agent.is_end_node(n):
                show("E", n)
    show(run.result)


async def check_node_stream_text(show):
    a = Agent(TestModel(custom_output_text="aa bb cc"))
    async with a.iter("q") as run:
        async for n in run:
            if Agent.is_model_request_node(n):
                async with n.stream(run.ctx) as s:
                    show([x async for x in s.stream_text(debounce_by=None)])
                    show([x async for x in s.stream_output(debounce_by=None)])
                    show([x async for x in s.stream_responses(debounce_by=None)])


async def check_node_stream_partial(show):
    a = Agent(TestModel(custom_output_text="aa bb cc"))
    async with a.iter("q") as run:
        async for n in run:
            if Agent.is_model_request_node(n):
                async with n.stream(run.ctx) as s:
                    async for e in s:
                        show(e)
                        break
    show(run.result, run.all_messages())


async def check_stream_usage_limit(show):
    a = Agent(TestModel(custom_output_text="aa bb cc dd"))
    try:
        async with a.run_stream("q", usage_limits=UsageLimits(output_tokens_limit=1)) as r:
            async for x in r.stream_text(debounce_by=None):
                show(x)
    except UsageLimitExceeded as e:
        show(e)
    show(r.usage())


def check_run_stream_sync(show):
    a = Agent(TestModel(custom_output_text="aa bb cc"))
    r = a.run_stream_sync("q")
    show(list(r.stream_text(delta=True, debounce_by=None)))
    show(r.get_output(), r.all_messages(), r.usage(), r.is_complete)
    r = a.run_stream_sync("q")
    show(list(r.stream_output(debounce_by=None)))
    r = a.run_stream_sync("q")
    show(list(r.stream_responses(debounce_by=None)))


async def check_hist_proc(show):
    def p(ms):
        return ms[-1:]

    async def p2(ctx: RunContext, ms):
        show(ctx.run_step, len(ms))
        return ms

    seen = []

    def f(messages, info):
        seen.append(list(messages))
        return ModelResponse(parts=[TextPart("ok")])

    a = Agent(FunctionModel(f), history_processors=[p, p2])
    r = await a.run(
        "q",
        message_history=[
            ModelRequest(parts=[UserPromptPart("old")]),
            ModelResponse(parts=[TextPart("oldr")]),
        ],
    )
    show(seen, r.all_messages(), r.new_messages())


async def check_hist_proc_empty(show):
    r = await Agent(TestModel(), history_processors=[lambda ms: []]).run("q")
    show(r.all_messages())


async def check_hist_proc_resp_last(show):
    r = await Agent(TestModel(), history_processors=[lambda ms: [*ms, ModelResponse(parts=[])]]).run("q")
    show(r.all_messages())


async def check_hist_proc_add(show):
    def p(ms):
        return [ModelRequest(parts=[SystemPromptPart("s")]), *ms]

    a = Agent(TestModel(), history_processors=[p])

    @a.tool_plain
    def t():
        return 1

    r = await a.run("q")
    show(r.all_messages(), r.new_messages())


async def check_hist_proc_replace(show):
    def p(ms):
        return [
            replace(
                m,
                parts=[
                    replace(x, content=x.content.upper()) if isinstance(x, UserPromptPart) else x
                    for x in m.parts
                ],
            )
            if isinstance(m, ModelRequest)
            else m
            for m in ms
        ]

    a = Agent(TestModel(), history_processors=[p])
    r = await a.run("q")
    show(r.all_messages(), r.new_messages())


async def check_hist_proc_stream(show):
    def p(ms):
        return ms[-1:]

    a = Agent(TestModel(), history_processors=[p])
    async with a.run_stream(
        "q",
        message_history=[
            ModelRequest(parts=[UserPromptPart("old")]),
            ModelResponse(parts=[TextPart("oldr")]),
        ],
    ) as r:
        await r.get_output()
        show(r.all_messages(), r.new_messages())


async def check_deferred(show):
    a = Agent(
        answers(
            [
                ToolCallPart("ext", {"x": 1}, "c1"),
                ToolCallPart("appr", {"y": 2}, "c2"),
                ToolCallPart("reg", {}, "c3"),
                ToolCallPart("dyn", {"z": 1}, "c4"),
            ],
            "done",
        ),
        output_type=[str, DeferredToolRequests],
    )

    @a.tool_plain
    def ext(x: int):
        raise CallDeferred(metadata={"m": 1})

    @a.tool_plain(requires_approval=True)
    def appr(y: int):
        return y * 2

    @a.tool_plain
    def reg():
        return "r"

    @a.tool
    def dyn(ctx, z: int):
        show(ctx.tool_call_approved, ctx.tool_call_metadata)
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"k": 2})
        return z

    r = await a.run("q")
    show(r.output, r.all_messages(), r.usage())
    r2 = await a.run(
        message_history=r.all_messages(),
        deferred_tool_results=DeferredToolResults(
            calls={"c1": "ext result"},
            approvals={"c2": ToolApproved(override_args={"y": 5}), "c4": True},
            metadata={"c4": {"mm": 3}},
        ),
    )
    show(r2.output, r2.all_messages(), r2.new_messages(), r2.usage())


async def check_deferred_deny(show):
    def mk():
        a = Agent(
            answers(
                [
                    ToolCallPart("appr", {"y": 2}, "c2"),
                    ToolCallPart("appr", {"y": 3}, "c3"),
                    ToolCallPart("ext", {}, "c1"),
                ],
                "done",
            ),
            output_type=[str, DeferredToolRequests],
        )

        @a.tool_plain(requires_approval=True)
        def appr(y: int):
            return y * 2

        @a.tool_plain
        def ext():
            raise CallDeferred

        return a

    a = mk()
    r = await a.run("q")
    r2 = await a.run(
        message_history=r.all_messages(),
        deferred_tool_results=DeferredToolResults(
            calls={"c1": ModelRetry("try again")}, approvals={"c2": ToolDenied("no way"), "c3": False}
        ),
    )
    show(r2.all_messages())
    for bad in [
        DeferredToolResults(),
        DeferredToolResults(approvals={"c2": True}),
        DeferredToolResults(approvals={"c2": True, "c3": True, "zz": True}, calls={"c1": 1}),
    ]:
        try:
            await a.run(message_history=r.all_messages(), deferred_tool_results=bad)
        except Exception as e:
            show(type(e).__name__, sorted(str(e)))
    try:
        await a.run(
            "hey",
            message_history=r.all_messages(),
            deferred_tool_results=DeferredToolResults(
                calls={"c1": ToolReturn("x", content="more", metadata={"a": 1})},
                approvals={"c2": True, "c3": True},
            ),
        )
    except Exception as e:
        show(type(e).__name__, sorted(str(e)))
    for h in [
        [],
        [ModelRequest(parts=[UserPromptPart("q")])],
        [ModelRequest(parts=[UserPromptPart("q")]), ModelResponse(parts=[TextPart("q")])],
    ]:
        try:
            await a.run(message_history=h, deferred_tool_results=DeferredToolResults(calls={"c1": 1}))
        except Exception as e:
            show(type(e).__name__, sorted(str(e)))


async def check_deferred_prompt_and_results(show):
    a = Agent(
        answers([ToolCallPart("ext", {}, "c1")], "done"),
        output_type=[str, DeferredToolRequests],
        instructions="ins",
    )

    @a.tool_plain
    def ext():
        raise CallDeferred

    r = await a.run("q")
    r2 = await a.run(
        "hey",
        message_history=r.all_messages(),
        deferred_tool_results=DeferredToolResults(
            calls={"c1": ToolReturn("x", content="more", metadata={"a": 1})}
        ),
    )
    show(r2.all_messages(), r2.new_messages())


async def check_deferred_no_output(show):
    a = Agent(answers([ToolCallPart("ext", {}, "c1")], "done"))

    @a.tool_plain
    def ext():
        raise CallDeferred

    await a.run("q")


async def check_deferred_no_output2(show):
    a = Agent(answers([ToolCallPart("ext", {}, "c1")], "done"))

    @a.tool_plain(requires_approval=True)
    def ext():
        return 1

    await a.run("q")


async def check_deferred_stream(show):
    a = Agent(
        streamed(
            [
                {0: DeltaToolCall("ext", "{}", tool_call_id="c1")},
                {1: DeltaToolCall("reg", "{}", tool_call_id="c2")},
            ],
            ["x"],
        ),
        output_type=[str, DeferredToolRequests],
    )

    @a.tool_plain
    def ext():
        raise CallDeferred

    @a.tool_plain
    def reg():
        return 1

    async with a.run_stream("q") as r:
        show(await r.get_output())
        show([x async for x in r.stream_output(debounce_by=None)])
        show(r.all_messages(), r.is_complete)


async def check_only_deferred(show):
    Agent("test", output_type=DeferredToolRequests)


def check_override(show):
    a = Agent("test", name="n", deps_type=int)

    @a.tool
    def t(ctx):
        return ctx.deps

    with a.override(deps=4, model=TestModel(custom_output_text="ov"), name="q"):
        show(a.run_sync("x", deps=1).all_messages(), a.name)

    def t2():
        return "t2"

    with a.override(tools=[t2]):
        show(a.run_sync("x", deps=1).output)
    with a.override(toolsets=[]):
        show(a.run_sync("x", deps=1).output)
    show(a.run_sync("x", deps=1).output)


def check_capture(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t():
        raise RuntimeError("boom")

    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except RuntimeError as e:
            show(e)
    show(m)
    with capture_run_messages() as m:
        with capture_run_messages() as m2:
            a2 = Agent(TestModel())
            a2.run_sync("one")
            a2.run_sync("two")
        show(m is m2, m, m2)


def check_settings(show):
    got = []

    def f(ms, info):
        got.append(info.model_settings)
        return ModelResponse(parts=[TextPart("x")])

    a = Agent(
        FunctionModel(f, settings={"temperature": 0.1, "top_p": 1}),
        model_settings={"temperature": 0.2, "max_tokens": 5},
    )
    a.run_sync("x", model_settings={"max_tokens": 6, "seed": 1})
    a.run_sync("x")
    show(got)


def check_metadata(show):
    a = Agent(TestModel(), metadata={"a": 1})
    r = a.run_sync("x", metadata={"b": 2})
    show(r.metadata)
    a = Agent(TestModel(), metadata=lambda ctx: {"p": ctx.prompt, "u": ctx.usage.requests})
    r = a.run_sync("x")
    show(r.metadata)
    r = a.run_sync("x", metadata=lambda ctx: {"z": ctx.run_step})
    show(r.metadata)
    with a.override(metadata={"o": 1}):
        show(a.run_sync("x", metadata={"b": 1}).metadata)


def check_prepare_tools(show):
    m = TestModel()

    async def pt(ctx, defs):
        return [replace(d, description="D", strict=True) for d in defs if d.name != "u"]

    a = Agent(m, prepare_tools=pt)

    @a.tool_plain
    def t():
        return 1

    @a.tool_plain
    def u():
        return 1

    show(a.run_sync("x").output, m.last_model_request_parameters)

    async def none(ctx, defs):
        return None

    a = Agent(m, prepare_tools=none)

    @a.tool_plain
    def t():
        return 1

    show(a.run_sync("x").output, m.last_model_request_parameters)

    async def bad(ctx, defs):
        return [*defs, ToolDefinition(name="new")]

    a = Agent(m, prepare_tools=bad)
    a.run_sync("x")


def check_prepare_output(show):
    m = TestModel()

    async def pt(ctx, defs):
        return [replace(d, description="D", strict=True) for d in defs]

    a = Agent(m, prepare_output_tools=pt, output_type=Foo)
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_tool_prepare(show):
    m = TestModel()
    a = Agent(m, deps_type=int)

    async def pr(ctx, d):
        if ctx.deps == 42:
            return replace(d, description="yes")

    @a.tool(prepare=pr)
    def hitchhiker(ctx, answer: str):
        return answer

    show(a.run_sync("", deps=41).output)
    show(a.run_sync("", deps=42).output, m.last_model_request_parameters)


def check_tool_returns(show):
    @dataclass
    class D:
        x: int

    vals = [
        1,
        None,
        True,
        "s",
        b"abc",
        {"a": D(1)},
        [Foo(a=1, b="c")],
        D(2),
        Foo(a=1, b="c"),
        datetime(2020, 1, 1),
        BinaryContent(b"x", media_type="image/png"),
        ImageUrl("http://x/y.png"),
        [BinaryContent(b"x", media_type="image/png"), "t"],
        {"b": BinaryContent(b"x", media_type="image/png")},
        ToolReturn("rv", content=["c", ImageUrl("http://x/y.png")], metadata={"m": 1}),
        ToolReturn({"x": 1}),
        ToolReturn("rv", content="one"),
        ("a", 1),
        {"s"},
        1.5,
        DocumentUrl("http://x/y.pdf"),
        [AudioUrl("http://a/b.mp3"), VideoUrl("http://a/b.mp4")],
    ]
    for v in vals:
        a = Agent(TestModel())

        @a.tool_plain
        def t() -> Any:
            return v

        try:
            r = a.run_sync("x")
            show(
                v,
                r.all_messages()[2:],
                r.all_messages()[2].parts[0].model_response_str(),
                r.all_messages()[2].parts[0].model_response_object(),
                r.output,
            )
        except Exception as e:
            show(v, type(e).__name__, e)


def check_tool_returns_bad(show):
    for v in [
        [ToolReturn("x")],
        ToolReturn(ImageUrl("http://x/y.png")),
        [ToolReturn("x"), ImageUrl("http://x/y.png")],
        object(),
        ToolReturn(BinaryContent(b"x", media_type="image/png")),
    ]:
        a = Agent(TestModel())

        @a.tool_plain
        def t() -> Any:
            return v

        try:
            r = a.run_sync("x")
            show(v, r.all_messages()[2:])
        except Exception as e:
            show(v, type(e).__name__, e)


def check_user_content(show):
    a = Agent(TestModel())
    c = [
        "look",
        ImageUrl("http://x/y.png"),
        BinaryContent(b"123", media_type="audio/wav"),
        CachePoint(),
        DocumentUrl("http://x/y.pdf"),
    ]
    r = a.run_sync(c)
    show(r.all_messages(), J(r.all_messages_json()), r.usage())
    r = a.run_sync([])
    show(r.all_messages())


async def check_concurrent_tools_order(show):
    a = Agent(
        answers(
            [
                ToolCallPart("t", {"d": 3}, "c1"),
                ToolCallPart("t", {"d": 1}, "c2"),
                ToolCallPart("t", {"d": 2}, "c3"),
            ],
            "done",
        )
    )

    @a.tool_plain
    async def t(d: int):
        await asyncio.sleep(d / 100)
        return d

    evs = []

    async def h(ctx, es):
        async for e in es:
            evs.append(e)

    r = await a.run("x", event_stream_handler=None)
    show(r.all_messages())


async def check_sequential(show):
    log = []

    def mk():
        a = Agent(
            answers(
                [
                    ToolCallPart("t", {"d": 3}, "c1"),
                    ToolCallPart("u", {"d": 1}, "c2"),
                    ToolCallPart("t", {"d": 2}, "c3"),
                ],
                "done",
            )
        )

        @a.tool_plain
        async def t(d: int):
            log.append(("s", d))
            await asyncio.sleep(d / 100)
            log.append(("e", d))
            return d

        @a.tool_plain(sequential=True)
        async def u(d: int):
            log.append(("s", d))
            await asyncio.sleep(d / 100)
            log.append(("e", d))
            return d

        return a

    await mk().run("x")
    show(log)
    log.clear()
    a = Agent(answers([ToolCallPart("t", {"d": 3}, "c1"), ToolCallPart("t", {"d": 1}, "c2")], "done"))

    @a.tool_plain
    async def t(d: int):
        log.append(("s", d))
        await asyncio.sleep(d / 100)
        log.append(("e", d))
        return d

    with a.sequential_tool_calls():
        await a.run("x")
    show(log)


def check_timeout(show):
    a = Agent(
        answers([ToolCallPart("t", {}, "c1")], [ToolCallPart("t", {}, "c1")], "done"),
        tool_timeout=0.05,
        retries=2,
    )

    @a.tool_plain
    async def t():
        await asyncio.sleep(1)

    r = a.run_sync("x")
    show(r.all_messages())


def check_result_json(show):
    r = Agent(TestModel(), output_type=Foo).run_sync("x")
    show(
        J(r.all_messages_json(output_tool_return_content="cc")),
        J(r.new_messages_json()),
        r.all_messages(output_tool_return_content="hh"),
        r.new_messages(output_tool_return_content="q"),
        r.all_messages(),
    )
    r = Agent(TestModel()).run_sync("x")
    r.all_messages(output_tool_return_content="hh")


def check_result_attrs(show):
    r = Agent(TestModel(), output_type=Foo).run_sync("x")
    show(
        r.response, r.timestamp() is not None, r.usage(), r.output, r.run_id is not None, r._output_tool_name
    )
