"""Outputs while they come; FunctionModel and TestModel."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import asyncio
import json
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.agent import Agent
from pydantic_ai.exceptions import CallDeferred, ModelRetry
from pydantic_ai.messages import (
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturn,
    UserPromptPart,
)
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import PromptedOutput, TextOutput
from pydantic_ai.tools import DeferredToolRequests, RunContext


class Foo(BaseModel):
    a: int
    b: str


def streamed(*turns):
    it = iter(turns)

    async def f(messages, info):
        for x in next(it):
            yield x

    return FunctionModel(stream_function=f)


TC = lambda n, a, i, idx=0: {idx: DeltaToolCall(n, a, tool_call_id=i)}


async def check_so_text(show):
    async with Agent(streamed(["hello ", "world"])).run_stream("x") as r:
        show([x async for x in r.stream_output(debounce_by=None)])
    async with Agent(streamed(["hello ", "world"])).run_stream("x") as r:
        show([x async for x in r.stream_responses(debounce_by=None)])
    async with Agent(streamed(["hello ", "world"])).run_stream("x") as r:
        show([x async for x in r.stream_text(debounce_by=None)])
    async with Agent(streamed(["hello ", "world"])).run_stream("x") as r:
        show([x async for x in r.stream_text(debounce_by=None, delta=True)])


async def check_so_struct(show):
    T = lambda: streamed(
        [
            TC("final_result", '{"a": 1', "c"),
            {0: DeltaToolCall(json_args=', "b":')},
            {0: DeltaToolCall(json_args='"q')},
            {0: DeltaToolCall(json_args='rs"}')},
        ]
    )
    for m in ["stream_output", "stream_responses"]:
        async with Agent(T(), output_type=Foo).run_stream("x") as r:
            show([x async for x in getattr(r, m)(debounce_by=None)])
            show(r.all_messages())
            show(await r.get_output())


async def check_bad_final_responses(show):
    a = Agent(
        streamed([TC("final_result", '{"a": 1', "c"), {0: DeltaToolCall(json_args=', "b":3}')}]),
        output_type=Foo,
    )
    async with a.run_stream("x") as r:
        try:
            show([x async for x in r.stream_responses(debounce_by=None)])
        except Exception as e:
            show(type(e).__name__, e)
        show(r.all_messages(), r.is_complete)


async def check_bad_final_output(show):
    a = Agent(
        streamed([TC("final_result", '{"a": 1', "c"), {0: DeltaToolCall(json_args=', "b":3}')}]),
        output_type=Foo,
    )
    async with a.run_stream("x") as r:
        try:
            show([x async for x in r.stream_output(debounce_by=None)])
        except Exception as e:
            show(type(e).__name__, e)
        show(r.all_messages(), r.is_complete)


async def check_bad_final_get(show):
    a = Agent(
        streamed([TC("final_result", '{"a": 1', "c"), {0: DeltaToolCall(json_args=', "b":3}')}]),
        output_type=Foo,
    )
    async with a.run_stream("x") as r:
        await r.get_output()


async def check_validator_retry_stream(show):
    a = Agent(streamed(["hi"]))

    @a.output_validator
    def v(o):
        raise ModelRetry("no")

    async with a.run_stream("x") as r:
        try:
            show([x async for x in r.stream_text(debounce_by=None)])
        except Exception as e:
            show(type(e).__name__, e)
        try:
            await r.get_output()
        except Exception as e:
            show(type(e).__name__, e)
        show(r.all_messages())


async def check_output_fn_stream(show):
    n = []

    def out(ctx: RunContext, a: int, b: str = "x"):
        n.append((ctx.partial_output, a, b))
        return (a, b)

    T = lambda: streamed(
        [
            TC("final_result", '{"a": 1', "c"),
            {0: DeltaToolCall(json_args=', "b":')},
            {0: DeltaToolCall(json_args='"q"}')},
        ]
    )
    async with Agent(T(), output_type=out).run_stream("x") as r:
        show([x async for x in r.stream_output(debounce_by=None)])
    show(n)
    n.clear()
    async with Agent(T(), output_type=out).run_stream("x") as r:
        show(await r.get_output(), await r.get_output())
    show(n, r.all_messages())


async def check_text_fn_stream(show):
    n = []

    def out(ctx: RunContext, t: str):
        n.append((ctx.partial_output, t))
        return t.upper()

    async with Agent(streamed(["a ", "b"]), output_type=TextOutput(out)).run_stream("x") as r:
        show([x async for x in r.stream_output(debounce_by=None)])
    show(n)
    n.clear()
    async with Agent(streamed(["a ", "b"]), output_type=TextOutput(out)).run_stream("x") as r:
        show([x async for x in r.stream_text(debounce_by=None)])
    show(n)


async def check_native_stream(show):
    for M in [PromptedOutput(Foo)]:
        async with Agent(streamed(['{"a":1,', '"b":', '"x"}']), output_type=M).run_stream("x") as r:
            show([x async for x in r.stream_output(debounce_by=None)])
        show(r.all_messages())


async def check_union_text_first(show):
    a = Agent(streamed(["some text ", TC("final_result", '{"a":1,"b":"x"}', "c", 1)]), output_type=[str, Foo])
    async with a.run_stream("x") as r:
        show(await r.get_output())
    show(r.all_messages())


async def check_struct_with_text_before(show):
    a = Agent(streamed(["some text ", TC("final_result", '{"a":1,"b":"x"}', "c", 1)]), output_type=Foo)
    async with a.run_stream("x") as r:
        show(await r.get_output())
    show(r.all_messages())


async def check_iter_stream_then_next(show):
    a = Agent(streamed(["a ", "b"]))
    async with a.iter("x") as run:
        n = await run.next(run.next_node)
        async with n.stream(run.ctx) as s:
            async for _e in s:
                pass
        n = await run.next(n)
        show(n)
        n = await run.next(n)
        show(n)


async def check_events_result(show):
    a = Agent(streamed([TC("t", "{}", "c")], ["ok"]), output_type=str)

    @a.tool_plain
    def t():
        return ToolReturn("x", content="more")

    async for e in a.run_stream_events("q"):
        show(e)


async def check_events_exception(show):
    a = Agent(streamed([TC("t", "{}", "c")], ["ok"]), output_type=str)

    @a.tool_plain
    def t():
        raise ValueError("boom")

    async for e in a.run_stream_events("q"):
        show(type(e).__name__)


async def check_events_many_tools(show):
    a = Agent(
        streamed(
            [TC("t", '{"d":3}', "c0"), TC("t", '{"d":1}', "c1", 1), TC("t", '{"d":2}', "c2", 2)], ["ok"]
        ),
        output_type=str,
    )

    @a.tool_plain
    async def t(d: int):
        await asyncio.sleep(d / 50)
        return d

    async for e in a.run_stream_events("q"):
        show(e)


async def check_events_output_tool_bad(show):
    a = Agent(
        streamed([TC("final_result", '{"a":"q"}', "c")], [TC("final_result", '{"a":1,"b":"z"}', "d")]),
        output_type=Foo,
    )
    async for e in a.run_stream_events("q"):
        show(e)


async def check_events_early_multi(show):
    a = Agent(
        streamed(
            [
                TC("final_result", '{"a":1,"b":"z"}', "c"),
                TC("t", "{}", "e", 1),
                TC("final_result", '{"a":2,"b":"z"}', "d", 2),
            ]
        ),
        output_type=Foo,
    )

    @a.tool_plain
    def t():
        return 1

    async for e in a.run_stream_events("q"):
        show(e)


async def check_events_deferred(show):
    a = Agent(streamed([TC("t", "{}", "e"), TC("u", "{}", "g", 1)]), output_type=[str, DeferredToolRequests])

    @a.tool_plain(requires_approval=True)
    def t():
        return 1

    @a.tool_plain
    def u():
        raise CallDeferred

    async for e in a.run_stream_events("q"):
        show(e)


async def check_stream_with_history(show):
    a = Agent(streamed(["a ", "b"]))
    async with a.run_stream(
        "x", message_history=[ModelRequest(parts=[UserPromptPart("o")]), ModelResponse(parts=[TextPart("p")])]
    ) as r:
        await r.get_output()
        show(
            r.all_messages(),
            r.new_messages(),
            len(json.loads(r.all_messages_json())),
            len(json.loads(r.new_messages_json())),
        )


async def check_stream_from_response_history(show):
    a = Agent(streamed(["a ", "b"]))
    async with a.run_stream(
        message_history=[ModelRequest(parts=[UserPromptPart("o")]), ModelResponse(parts=[TextPart("p")])]
    ) as r:
        show(
            await r.get_output(),
            r.is_complete,
            [x async for x in r.stream_output()],
            [x async for x in r.stream_text()],
            [x async for x in r.stream_responses()],
            r.all_messages(),
            r.usage(),
            r.response,
            r.timestamp() is not None,
        )


async def check_stream_output_tool_return_content(show):
    a = Agent(streamed([TC("final_result", '{"a":1,"b":"z"}', "c")]), output_type=Foo)
    async with a.run_stream("x") as r:
        await r.get_output()
        show(
            r.all_messages(output_tool_return_content="qq"),
            r.new_messages(output_tool_return_content="qq")[-1],
        )


async def check_debounce(show):
    async def f(ms, info):
        for i in range(6):
            yield f"{i} "
            await asyncio.sleep(0.02)

    async with Agent(FunctionModel(stream_function=f)).run_stream("x") as r:
        show(len([x async for x in r.stream_text(debounce_by=0.5)]))


async def check_model_no_stream(show):
    a = Agent(FunctionModel(lambda m, i: ModelResponse(parts=[])))
    async with a.run_stream("x"):
        pass


async def check_model_no_fn(show):
    await Agent(FunctionModel(stream_function=lambda m, i: None)).run("x")


def check_fm_none(show):
    FunctionModel()


async def check_fm_props(show):
    async def f(m, i):
        yield ""

    def g(m, i): ...

    show(
        FunctionModel(g).model_name,
        FunctionModel(stream_function=f).model_name,
        FunctionModel(g, stream_function=f).model_name,
        FunctionModel(g, model_name="q").model_name,
        FunctionModel(g).system,
        FunctionModel(g).base_url,
    )
    show(FunctionModel(g))


async def check_fm_async(show):
    async def g(m, i):
        return ModelResponse(parts=[TextPart("x")])

    r = await Agent(FunctionModel(g)).run("x")
    show(r.all_messages(), r.usage())


async def check_fm_stream_usage(show):
    async with Agent(streamed(["a b c"])).run_stream("x y") as r:
        await r.get_output()
        show(r.usage(), r.response)


async def check_builtin_stream(show):
    a = Agent(
        streamed(
            [
                {0: BuiltinToolCallPart("ws", {"q": 1}, "b1", provider_name="p")},
                {1: BuiltinToolReturnPart("ws", "res", "b1", provider_name="p")},
                "text",
            ]
        )
    )
    async for e in a.run_stream_events("q"):
        show(e)


async def check_testmodel_misc(show):
    for m in [
        TestModel(call_tools=["a"]),
        TestModel(call_tools=[]),
        TestModel(custom_output_text="x", model_name="mm"),
        TestModel(seed=5),
    ]:
        a = Agent(m)

        @a.tool_plain
        def a_(x: int, y: str, z: bool = True, l: list[int] = []):
            return [x, y]

        @a.tool_plain(name="a")
        def b(x: float):
            return x

        r = await a.run("q")
        show(r.output, r.all_messages(), m.model_name, m.system)
    await Agent(TestModel(call_tools=["zz"])).run("x")


async def check_testmodel_custom(show):
    show((await Agent(TestModel(custom_output_args={"a": 3, "b": "q"}), output_type=Foo).run("x")).output)
    show(
        (await Agent(TestModel(custom_output_args={"response": [1]}), output_type=list[int]).run("x")).output
    )
    show((await Agent(TestModel(custom_output_args={"k": 3}), output_type=dict[str, int]).run("x")).output)
    try:
        await Agent(TestModel(custom_output_text="x"), output_type=Foo).run("x")
    except BaseException as e:
        show(type(e).__name__, e)
    try:
        await Agent(TestModel(custom_output_args={}), output_type=str).run("x")
    except BaseException as e:
        show(type(e).__name__, e)
    TestModel(custom_output_text="x", custom_output_args={})


async def check_testmodel_schema(show):
    class A(BaseModel):
        i: int = Field(ge=5, le=9)
        s: str = Field(min_length=8)
        p: str = Field(pattern="^a+$", default="a")
        d: date
        dt: datetime
        l: list[str] = Field(min_length=2)
        st: set[int]
        t: tuple[int, str]
        o: int | None
        u: int | str
        lit: Literal["q", "r"]
        dd: dict[str, int]
        n: None
        b: bool
        f: float = Field(gt=3)
        e: Any
        c: Literal[3]
        by: bytes
        model_config = ConfigDict(extra="allow")

    for seed in range(3):
        try:
            r = await Agent(TestModel(seed=seed), output_type=A).run("x")
            show(r.output, r.all_messages()[1])
        except Exception as e:
            show(type(e).__name__, e)


async def check_testmodel_retry(show):
    a = Agent(TestModel(), retries=2)
    n = []

    @a.tool_plain
    def t(x: int):
        n.append(x)
        if len(n) < 2:
            raise ModelRetry("again")
        return x

    r = await a.run("q")
    show(r.all_messages())


async def check_testmodel_output_retry(show):
    a = Agent(TestModel(), output_type=Foo, retries=2)
    n = []

    @a.output_validator
    def t(o):
        n.append(o)
        if len(n) < 2:
            raise ModelRetry("again")
        return o

    r = await a.run("q")
    show(r.all_messages())


async def check_merge_runids(show):
    seen = []

    def f(ms, info):
        seen.append(list(ms))
        return ModelResponse(parts=[TextPart("k")])

    a = Agent(FunctionModel(f), instructions="I")
    h = lambda: [
        ModelRequest(parts=[UserPromptPart("one")], run_id="r1", metadata={"a": 1}),
        ModelRequest(parts=[UserPromptPart("two")], run_id="r1", metadata={"b": 1}),
    ]
    r = await a.run(message_history=h())
    show(r.all_messages(), seen)
    seen.clear()
    r = await a.run("x", message_history=h())
    show(r.all_messages(), seen)
    seen.clear()
    r = await a.run(
        "x",
        message_history=[
            *h(),
            ModelResponse(parts=[TextPart("q")], run_id="r1"),
            ModelResponse(parts=[TextPart("q")], run_id="r2"),
        ],
    )
    show(r.all_messages(), seen)
