"""Model wrappers, direct requests, settings, limits, whole agents."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import asyncio
import json
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import models
from pydantic_ai.agent import Agent
from pydantic_ai.builtin_tools import WebSearchTool
from pydantic_ai.direct import (
    model_request,
    model_request_stream,
    model_request_stream_sync,
    model_request_sync,
)
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, ModelRetry
from pydantic_ai.messages import (
    BinaryImage,
    BuiltinToolCallPart,
    BuiltinToolReturnPart,
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import infer_model, override_allow_model_requests
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel, Model, ModelRequestParameters
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, Tool, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset
from pydantic_ai.usage import RequestUsage, RunUsage, UsageLimits


class Foo(BaseModel):
    a: int
    b: str


def answers(*responses, **kw):
    it = iter(responses)

    def f(messages, info):
        r = next(it)
        if isinstance(r, str):
            return ModelResponse(parts=[TextPart(r)])
        if isinstance(r, list):
            return ModelResponse(parts=r)
        if isinstance(r, BaseException):
            raise r
        return r

    return FunctionModel(f, **kw)


async def check_fallback(show):
    f = FallbackModel(answers(ModelHTTPError(500, "m1"), model_name="one"), answers("ok", model_name="two"))
    r = await Agent(f).run("x")
    show(r.all_messages(), f.model_name, f.system, f.base_url)
    f = FallbackModel(answers(ModelHTTPError(500, "m1")), answers(ModelHTTPError(400, "m2", {"a": 1})))
    try:
        await Agent(f).run("x")
    except Exception as e:
        show(type(e).__name__, e, e.exceptions)
    f = FallbackModel(answers(ValueError("q")), answers("x"))
    await Agent(f).run("x")


async def check_fallback_on(show):
    f = FallbackModel(answers(ValueError("q")), answers("x"), fallback_on=(ValueError,))
    show((await Agent(f).run("x")).output)
    f = FallbackModel(answers(ValueError("q")), answers("x"), fallback_on=lambda e: isinstance(e, ValueError))
    show((await Agent(f).run("x")).output)
    f = FallbackModel(answers(ModelAPIError("m", "z")), "test")
    show((await Agent(f).run("x")).output)


async def check_fallback_stream(show):
    async def bad(m, i):
        raise ModelHTTPError(500, "b")
        yield ""

    async def good(m, i):
        yield "a "
        yield "b"

    async with Agent(
        FallbackModel(FunctionModel(stream_function=bad), FunctionModel(stream_function=good))
    ).run_stream("x") as r:
        show(await r.get_output(), r.all_messages())


async def check_fallback_settings(show):
    got = []

    def f(m, i):
        got.append(i.model_settings)
        raise ModelHTTPError(500, "x")

    def g(m, i):
        got.append(i.model_settings)
        return ModelResponse(parts=[TextPart("k")])

    await Agent(
        FallbackModel(
            FunctionModel(f, settings={"temperature": 0.1}),
            FunctionModel(g, settings={"temperature": 0.2, "max_tokens": 3}),
        ),
        model_settings={"max_tokens": 9},
    ).run("x")
    show(got)


async def check_wrapper_model(show):
    class W(WrapperModel):
        pass

    w = W(TestModel())
    r = await Agent(w).run("x")
    show(r.output, w.model_name, w.system, w.settings, w.wrapped)


async def check_allow_requests(show):
    from pydantic_ai.models import check_allow_model_requests

    with override_allow_model_requests(False):
        try:
            check_allow_model_requests()
        except Exception as e:
            show(type(e).__name__, e)
        show((await Agent(TestModel()).run("x")).output)
    show(models.ALLOW_MODEL_REQUESTS)


def check_infer(show):
    show(infer_model("test").model_name)
    m = TestModel()
    show(infer_model(m) is m)
    for x in ["test:foo", "nope", "openai"]:
        try:
            infer_model(x)
        except Exception as e:
            show(type(e).__mro__[-3].__name__)


async def check_direct(show):
    show(await model_request("test", [ModelRequest.user_text_prompt("hi")]))
    show(
        await model_request(
            TestModel(),
            [ModelRequest.user_text_prompt("hi")],
            model_request_parameters=ModelRequestParameters(
                function_tools=[
                    ToolDefinition(
                        name="t",
                        parameters_json_schema={
                            "type": "object",
                            "properties": {"x": {"type": "integer"}},
                            "required": ["x"],
                        },
                    )
                ]
            ),
        )
    )
    async with model_request_stream("test", [ModelRequest.user_text_prompt("hi")]) as s:
        show([e async for e in s])
        show(s.get(), s.usage(), s.model_name)


def check_direct_sync(show):
    show(model_request_sync("test", [ModelRequest.user_text_prompt("hi")]))
    with model_request_stream_sync("test", [ModelRequest.user_text_prompt("hi")]) as s:
        show(list(s))
        show(s.get(), s.usage(), s.response)


async def check_custom_model(show):
    class M(Model):
        @property
        def model_name(self):
            return "mm"

        @property
        def system(self):
            return "ss"

        async def request(self, messages, model_settings, model_request_parameters):
            show(messages, model_settings, model_request_parameters)
            return ModelResponse(parts=[TextPart("hi")], model_name=self.model_name)

    r = await Agent(M(), model_settings={"temperature": 1}).run("x")
    show(r.output, M().base_url, M().profile, M().settings, M().label)
    try:
        async with Agent(M()).run_stream("x") as r:
            pass
    except Exception as e:
        show(type(e).__name__, e)
    try:
        await M().count_tokens([], None, ModelRequestParameters())
    except Exception as e:
        show(type(e).__name__, e)


async def check_unsupported(show):
    for kw in [
        dict(output_type=NativeOutput(Foo)),
        dict(builtin_tools=[WebSearchTool()]),
        dict(output_type=BinaryImage),
    ]:
        try:
            await Agent(TestModel(), **kw).run("x")
        except Exception as e:
            show(type(e).__name__, e)


async def check_count_tokens_limit(show):
    class T(TestModel):
        async def count_tokens(self, *a):
            return RequestUsage(input_tokens=10)

    for l in [
        UsageLimits(input_tokens_limit=5, count_tokens_before_request=True),
        UsageLimits(input_tokens_limit=500, count_tokens_before_request=True),
    ]:
        try:
            show((await Agent(T()).run("x", usage_limits=l)).usage())
        except Exception as e:
            show(type(e).__name__, e)


async def check_tool_limit_parallel(show):
    ran = []
    a = Agent(
        answers([ToolCallPart("t", {}, "a"), ToolCallPart("t", {}, "b"), ToolCallPart("t", {}, "c")], "x")
    )

    @a.tool_plain
    def t():
        ran.append(1)
        return 1

    for n in [2, 3]:
        a.model = answers(
            [ToolCallPart("t", {}, "a"), ToolCallPart("t", {}, "b"), ToolCallPart("t", {}, "c")], "x"
        )
        try:
            show((await a.run("x", usage_limits=UsageLimits(tool_calls_limit=n))).usage())
        except Exception as e:
            show(type(e).__name__, e)
        show(len(ran))


async def check_tool_limit_failing(show):
    a = Agent(answers([ToolCallPart("t", {"x": 1}, "a")], [ToolCallPart("t", {"x": 2}, "a")], "x"))

    @a.tool_plain
    def t(x: int):
        if x == 1:
            raise ModelRetry("z")
        return 1

    r = await a.run("x", usage_limits=UsageLimits(tool_calls_limit=1))
    show(r.usage())


async def check_output_tool_not_counted(show):
    r = await Agent(TestModel(), output_type=Foo).run("x", usage_limits=UsageLimits(tool_calls_limit=0))
    show(r.usage())


def check_setup_errors(show):
    for f in [
        lambda: Agent("test", output_type=[]),
        lambda: Agent("test", output_type=[str, str]),
        lambda: Agent("test", output_type=[str, TextOutput(str.upper)]),
        lambda: Agent("test", output_type=[NativeOutput(Foo), Foo]),
        lambda: Agent("test", output_type=[PromptedOutput(Foo), str]),
        lambda: Agent("test", output_type=ToolOutput(NativeOutput(Foo))),
        lambda: Agent("test", output_type=NativeOutput(ToolOutput(Foo))),
        lambda: Agent("test", output_type=NativeOutput([DeferredToolRequests, Foo])),
        lambda: Agent("test", end_strategy="zz") and None,
        lambda: Agent("test", output_type=NativeOutput([])),
        lambda: Agent("test", output_type=[Foo, Foo]),
        lambda: Agent("test", instrument=3) and None,
        lambda: Tool(3),
        lambda: TextOutput(3) and None,
        lambda: Agent("test", output_type=TextOutput(lambda: "x")),
    ]:
        try:
            show(f())
        except BaseException as e:
            show(type(e).__name__, e)


async def check_run_output_type(show):
    a = Agent(TestModel())
    r = await a.run("x", output_type=Foo)
    show(r.output)

    @a.output_validator
    def v(o):
        return o

    await a.run("x", output_type=Foo)


async def check_validators_chain(show):
    a = Agent(TestModel(custom_output_text="a"))

    @a.output_validator
    def v1(o: str) -> str:
        return o + "1"

    @a.output_validator
    async def v2(ctx: RunContext, o: str) -> str:
        return o + "2"

    show((await a.run("x")).output)


async def check_validator_text_retry(show):
    a = Agent(answers("a", "b"))

    @a.output_validator
    def v1(ctx, o):
        show(ctx.retry, ctx.max_retries, ctx.tool_name, ctx.run_step, o)
        if o == "a":
            raise ModelRetry("no a")
        return o

    r = await a.run("x")
    show(r.all_messages())


async def check_deps_override(show):
    a = Agent(TestModel(), deps_type=str)

    @a.system_prompt
    def s(ctx):
        return ctx.deps

    with a.override(deps="ov"):
        show((await a.run("x", deps="z")).all_messages())


async def check_decorators(show):
    a = Agent(TestModel())

    @a.tool_plain()
    def t1():
        return 1

    @a.tool()
    def t2(ctx):
        return 2

    @a.system_prompt()
    def sp():
        return "s"

    @a.instructions()
    def ins():
        return "i"

    show(t1(), (await a.run("x")).all_messages()[0])
    a.tool_plain(lambda: 3) if False else None


async def check_context_deps_tools(show):
    @dataclass
    class D:
        n: int

    a = Agent(TestModel(), deps_type=D)

    @a.tool
    async def t(ctx: RunContext[D]):
        ctx.deps.n += 1
        return ctx.deps.n

    d = D(1)
    r = await a.run("x", deps=d)
    show(d, r.output)


async def check_name_infer(show):
    agent_x = Agent(TestModel())
    await agent_x.run("q")
    show(agent_x.name)
    a2 = Agent(TestModel())
    await a2.run("q", infer_name=False)
    show(a2.name)


async def check_sync_tool_thread(show):
    import threading

    a = Agent(TestModel())
    mt = threading.current_thread()

    @a.tool_plain
    def t():
        return threading.current_thread() is mt

    show((await a.run("x")).output)


async def check_multiple_text_parts(show):
    r = await Agent(answers([TextPart("a"), TextPart("b")])).run("x")
    show(r.output)
    r = await Agent(answers([TextPart("a"), ThinkingPart("t"), TextPart("b")])).run("x")
    show(r.output)
    r = await Agent(
        answers(
            [
                TextPart("a"),
                BuiltinToolCallPart("w", {}, "i"),
                BuiltinToolReturnPart("w", "r", "i"),
                TextPart("b"),
            ]
        )
    ).run("x")
    show(r.output)
    r = await Agent(
        answers([TextPart('{"a":1,'), TextPart('"b":"c"}')]), output_type=PromptedOutput(Foo)
    ).run("x")
    show(r.output)


async def check_image_output(show):
    from pydantic_ai.profiles import ModelProfile

    img = BinaryImage(b"q", media_type="image/png")
    m = answers([TextPart("here"), FilePart(img)], profile=ModelProfile(supports_image_output=True))
    r = await Agent(m, output_type=BinaryImage).run("x")
    show(r.output, r.all_messages())
    m = answers([TextPart("here")], [FilePart(img)], profile=ModelProfile(supports_image_output=True))
    r = await Agent(m, output_type=BinaryImage).run("x")
    show(r.output, r.all_messages())
    m = answers([TextPart("here")], profile=ModelProfile(supports_image_output=True))
    r = await Agent(m, output_type=BinaryImage | str).run("x")
    show(r.output)


async def check_tools_and_native(show):
    from pydantic_ai.profiles import ModelProfile

    m = TestModel(
        custom_output_text='{"a":3,"b":"z"}', profile=ModelProfile(supports_json_schema_output=True)
    )
    a = Agent(m, output_type=NativeOutput(Foo))

    @a.tool_plain
    def t():
        return 1

    r = await a.run("x")
    show(r.output, r.usage())


async def check_default_mode_native(show):
    from pydantic_ai.profiles import ModelProfile

    for mode in ["native", "prompted", "tool"]:
        m = TestModel(
            custom_output_text='{"a":3,"b":"z"}' if mode != "tool" else None,
            profile=ModelProfile(supports_json_schema_output=True, default_structured_output_mode=mode),
        )
        r = await Agent(m, output_type=Foo).run("x")
        show(r.output, m.last_model_request_parameters)


async def check_run_id_ctx(show):
    a = Agent(TestModel())
    ids = []

    @a.tool
    def t(ctx):
        ids.append(ctx.run_id)
        return 1

    r = await a.run("x")
    show(ids == [r.run_id], all(m.run_id == r.run_id for m in r.all_messages()))


async def check_usage_object(show):
    u = RunUsage(requests=3, input_tokens=5)
    r = await Agent(TestModel()).run("x", usage=u)
    show(r.usage(), u, u is r.usage())
    try:
        await Agent(TestModel()).run(
            "x", usage=RunUsage(requests=3), usage_limits=UsageLimits(request_limit=3)
        )
    except Exception as e:
        show(e)


async def check_history_processor_variants(show):
    class P:
        def __call__(self, ms: list[ModelMessage]) -> list[ModelMessage]:
            return ms

    class PA:
        async def __call__(self, ctx: RunContext[int], ms: list[ModelMessage]) -> list[ModelMessage]:
            show(ctx.deps)
            return ms

    class Q:
        def m(self, ctx: RunContext[int], ms):
            return ms

        async def am(self, ms):
            return ms

    a = Agent(TestModel(), deps_type=int, history_processors=[P(), PA(), Q().m, Q().am])
    show((await a.run("x", deps=4)).output)


async def check_agent_context(show):
    a = Agent(TestModel())
    async with a as b:
        show(b is a, (await a.run("x")).output)


async def check_concurrent_runs(show):
    a = Agent(TestModel(), deps_type=int)

    @a.tool
    async def t(ctx: RunContext[int]):
        await asyncio.sleep(0.01)
        return ctx.deps

    outs = []
    if asyncio.__name__ == "asyncio":
        outs = [r.output for r in await asyncio.gather(*[a.run("x", deps=i) for i in range(5)])]
    else:
        outs = [None] * 5

        async def one(i):
            outs[i] = (await a.run("x", deps=i)).output

        async with asyncio.open_nursery() as n:
            for i in range(5):
                n.start_soon(one, i)
    show(outs)


def check_two_loops(show):
    a = Agent(TestModel())
    show([a.run_sync("x").output for _ in range(3)])


async def check_tool_name_prefix_desc(show):
    a = Agent(TestModel())

    @a.tool_plain(name="nn", description="dd")
    def t(x: int = 3):
        "own doc"
        return x

    m = a.model
    await a.run("x")
    show(m.last_model_request_parameters)


async def check_args_validation_types(show):
    a = Agent(
        answers(
            [ToolCallPart("t", {"d": "2020-01-01", "e": "q", "s": [1, 1], "f": {"a": "1", "b": "z"}}, "i")],
            "k",
        )
    )

    @a.tool_plain
    def t(d: date, e: Literal["q"], s: set[int], f: Foo):
        show(d, e, s, f)
        return [d, e, s, f]

    r = await a.run("x")
    show(r.all_messages())
    show(json.loads(r.all_messages_json())[2]["parts"][0]["content"])


async def check_partial_args_wrong_json(show):
    a = Agent(
        answers(
            [ToolCallPart("final_result", '{"a":1,"b":', "i")],
            [ToolCallPart("final_result", '{"a":1,"b":"x"}', "j")],
        ),
        output_type=Foo,
    )
    r = await a.run("x")
    show(r.all_messages())


async def check_retry_count_reset(show):
    a = Agent(
        answers(
            [ToolCallPart("t", {"x": 1}, "a")],
            [ToolCallPart("t", {"x": 0}, "b")],
            [ToolCallPart("t", {"x": 1}, "c")],
            "x",
        ),
        retries=1,
    )

    @a.tool
    def t(ctx, x: int):
        show(ctx.retry)
        if x:
            raise ModelRetry("n")
        return x

    show((await a.run("x")).usage())


async def check_output_retries(show):
    for kw in [dict(retries=2), dict(output_retries=0), dict(retries=0, output_retries=2)]:
        a = Agent(TestModel(), output_type=Foo, **kw)
        n = []

        @a.output_validator
        def v(o):
            n.append(1)
            raise ModelRetry("x")

        try:
            await a.run("x")
        except Exception as e:
            show(len(n), e)


async def check_tooloutput_max_retries(show):
    a = Agent(TestModel(), output_type=ToolOutput(Foo, max_retries=3))
    n = []

    @a.output_validator
    def v(ctx, o):
        n.append((ctx.retry, ctx.max_retries))
        raise ModelRetry("x")

    try:
        await a.run("x")
    except Exception as e:
        show(n, e)


async def check_deferred_with_external_toolset(show):
    a = Agent(
        TestModel(),
        toolsets=[
            ExternalToolset(
                [
                    ToolDefinition(
                        name="ex",
                        parameters_json_schema={
                            "type": "object",
                            "properties": {"q": {"type": "string"}},
                            "required": ["q"],
                        },
                    )
                ]
            )
        ],
        output_type=[str, DeferredToolRequests],
    )
    r = await a.run("x")
    show(r.output, r.all_messages())
    r2 = await a.run(
        message_history=r.all_messages(),
        deferred_tool_results=r.output.build_results()
        if hasattr(r.output, "build_results")
        else DeferredToolResults(calls={c.tool_call_id: "R" for c in r.output.calls}),
    )
    show(r2.output, r2.all_messages())


async def check_deferred_override_run(show):
    a = Agent(
        TestModel(),
        toolsets=[
            ExternalToolset(
                [ToolDefinition(name="ex", parameters_json_schema={"type": "object", "properties": {}})]
            )
        ],
    )
    r = await a.run("x", output_type=[str, DeferredToolRequests])
    show(r.output)


async def check_approval_toolset_agent(show):
    ts = FunctionToolset()

    @ts.tool
    def d(x: int):
        return x

    a = Agent(TestModel(), toolsets=[ts.approval_required()], output_type=[str, DeferredToolRequests])
    r = await a.run("x")
    show(r.output)
    r2 = await a.run(
        message_history=r.all_messages(),
        deferred_tool_results=DeferredToolResults(
            approvals={c.tool_call_id: True for c in r.output.approvals}
        ),
    )
    show(r2.output)
