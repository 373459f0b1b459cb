"""Outputs, retries, system prompts, limits: one agent, plain runs."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import json
from dataclasses import dataclass
from typing import Annotated, NotRequired, Optional, TypedDict

from pydantic import BaseModel, Field
from pydantic_ai.agent import Agent, capture_run_messages
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import NativeOutput, PromptedOutput, StructuredDict, TextOutput, ToolOutput
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_graph import End


class Foo(BaseModel):
    a: int
    b: str


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


def check_result_tuple(show):
    r = Agent(TestModel(), output_type=tuple[str, str]).run_sync("Hello")
    show(r.output, r.all_messages())
    show(r)


def check_foo_retry(show):
    def f(messages, info):
        show(info)
        args = {"a": "wrong", "b": "foo"} if len(messages) == 1 else {"a": 42, "b": "foo"}
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, args)])

    r = Agent(FunctionModel(f), output_type=Foo).run_sync("Hello")
    show(r.output)
    show(r.all_messages())
    show(r.usage())
    show(json.dumps(json.loads(r.all_messages_json()), sort_keys=True))


def check_plain_response(show):
    def f(messages, info):
        if len(messages) == 1:
            return ModelResponse(parts=[TextPart("hello")])
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, '{"response": ["foo","bar"]}')])

    r = Agent(FunctionModel(f), output_type=tuple[str, str]).run_sync("Hello")
    show(r.output)
    show(r.all_messages())


def check_output_validator(show):
    a = Agent(
        answers(
            [ToolCallPart("final_result", {"a": 1, "b": "x"})],
            [ToolCallPart("final_result", {"a": 2, "b": "x"})],
        ),
        output_type=Foo,
    )

    @a.output_validator
    def v(ctx, o):
        show(ctx.tool_name, ctx.retry, ctx.max_retries, ctx.run_step, ctx.partial_output, ctx.tool_call_id)
        if o.a != 2:
            raise ModelRetry('"a" should be 2')
        return o

    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_output_validator_exceeded(show):
    a = Agent(TestModel(), output_type=Foo)

    @a.output_validator
    async def v(o):
        raise ModelRetry("no")

    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except Exception as e:
            show(type(e).__name__, str(e), repr(e.__cause__))
    show(m)


def check_unknown_tool(show):
    a = Agent(answers([ToolCallPart("foobar", "{}")], "ok"))

    @a.tool_plain
    def known():
        return 1

    r = a.run_sync("x")
    show(r.all_messages())


def check_unknown_tool_exceed(show):
    a = Agent(answers([ToolCallPart("foobar", "{}")], [ToolCallPart("foobar", "{}")]))
    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except Exception as e:
            show(type(e).__name__, str(e), repr(e.__cause__))
    show(m)


def check_unknown_tool_multi_retries(show):
    a = Agent(answers(*[[ToolCallPart("foobar", "{}")]] * 5), retries=3)
    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except Exception as e:
            show(type(e).__name__, str(e), repr(e.__cause__))
    show(m)


def check_empty_response(show):
    a = Agent(answers([], "ok"))
    r = a.run_sync("x")
    show(r.all_messages())


def check_empty_response_exceed(show):
    a = Agent(answers([], [], []))
    a.run_sync("x")


def check_empty_text(show):
    a = Agent(answers("", "ok"))
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_ws_text(show):
    a = Agent(answers("  ", "ok"))
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_thinking_only(show):
    a = Agent(answers([ThinkingPart("hmm")], "ok"))
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_thinking_only_with_tools(show):
    a = Agent(
        answers([ThinkingPart("hmm")], [ToolCallPart("final_result", {"a": 1, "b": "x"})]), output_type=Foo
    )
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_empty_then_text_recover(show):
    a = Agent(answers([TextPart("foo"), ToolCallPart("t", {})], []))

    @a.tool_plain
    def t():
        return 1

    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_empty_then_text_recover_output_tool(show):
    a = Agent(
        answers(
            [TextPart("foo"), ToolCallPart("t", {})], [], [ToolCallPart("final_result", {"a": 1, "b": "x"})]
        ),
        output_type=Foo,
    )

    @a.tool_plain
    def t():
        return 1

    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_content_filter(show):
    a = Agent(
        answers(
            ModelResponse(parts=[], finish_reason="content_filter", provider_details={"finish_reason": "x"})
        )
    )
    a.run_sync("x")


def check_length_empty(show):
    a = Agent(answers(ModelResponse(parts=[], finish_reason="length")))
    a.run_sync("x")


def check_length_incomplete_tool(show):
    a = Agent(
        answers(ModelResponse(parts=[ToolCallPart("t", '{"x": ')], finish_reason="length")),
        model_settings={"max_tokens": 5},
    )

    @a.tool_plain
    def t(x: int):
        return 1

    a.run_sync("x")


def check_length_thinking(show):
    a = Agent(
        answers(ModelResponse(parts=[ThinkingPart("x")], finish_reason="length")),
        model_settings={"max_tokens": 5},
    )
    a.run_sync("x")


def check_output_tool_and_text(show):
    a = Agent(
        answers([TextPart("foo"), ToolCallPart("final_result", {"a": 1, "b": "x"})]), output_type=[Foo, str]
    )
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_union(show):
    class Bar(BaseModel):
        """A bar thing."""

        c: int

    m = TestModel()
    a = Agent(m, output_type=Foo | Bar)
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters)
    m = TestModel(seed=1)
    a = Agent(m, output_type=[Foo, Bar])
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_union_with_str(show):
    m = TestModel()
    a = Agent(m, output_type=Foo | str)
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters)


def check_optional(show):
    m = TestModel()
    a = Agent(m, output_type=Optional[Foo])
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_list(show):
    m = TestModel()
    a = Agent(m, output_type=list[Foo])
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_int(show):
    m = TestModel()
    a = Agent(m, output_type=int)
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_td(show):
    class T(TypedDict):
        """td doc"""

        x: int
        y: NotRequired[str]

    m = TestModel()
    a = Agent(m, output_type=T)
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_dc(show):
    @dataclass
    class D:
        x: int
        y: str = "a"

    m = TestModel()
    a = Agent(m, output_type=D)
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_tooloutput(show):
    m = TestModel()
    a = Agent(m, output_type=ToolOutput(Foo, name="nm", description="ds", strict=True, max_retries=4))
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_tooloutput_list(show):
    m = TestModel()
    a = Agent(m, output_type=[ToolOutput(Foo, name="nm", description="ds"), ToolOutput(int, name="i")])
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_native(show):
    m = TestModel()
    a = Agent(m, output_type=NativeOutput([Foo, int], name="N", description="D"))
    show(a.run_sync("x").output)


def check_native2(show):
    from pydantic_ai.profiles import ModelProfile

    m = TestModel(
        custom_output_text='{"a":1,"b":"x"}', profile=ModelProfile(supports_json_schema_output=True)
    )
    a = Agent(m, output_type=NativeOutput(Foo, name="N", description="D", strict=True))
    show(a.run_sync("x").output, m.last_model_request_parameters)
    m = TestModel(
        custom_output_text='{"result":{"kind":"Foo","data":{"a":1,"b":"x"}}}',
        profile=ModelProfile(supports_json_schema_output=True),
    )
    a = Agent(m, output_type=NativeOutput([Foo, int]))
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters, r.all_messages())


def check_prompted(show):
    m = TestModel(custom_output_text='```json\n{"a":1,"b":"x"}\n```')
    a = Agent(m, output_type=PromptedOutput(Foo, name="N", description="D"), instructions="Be good.")
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters, r.all_messages())


def check_prompted_template(show):
    m = TestModel(custom_output_text='{"a":1,"b":"x"}')
    a = Agent(m, output_type=PromptedOutput(Foo, template="Gimme {schema}!"))
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters, r.all_messages())


def check_prompted_retry(show):
    a = Agent(
        answers("nope", '{"a":"x"}', '{"a":1,"b":"x"}'), output_type=PromptedOutput(Foo), output_retries=3
    )
    r = a.run_sync("x")
    show(r.output, r.all_messages())


def check_text_output(show):
    def up(s: str) -> str:
        return s.upper()

    m = TestModel(custom_output_text="hi")
    a = Agent(m, output_type=TextOutput(up))
    r = a.run_sync("x")
    show(r.output, r.all_messages(), m.last_model_request_parameters)


def check_text_output_ctx_retry(show):
    def up(ctx: RunContext, s: str) -> int:
        show(ctx.retry, ctx.max_retries, ctx.tool_name)
        if ctx.retry == 0:
            raise ModelRetry("again")
        return 5

    r = Agent(answers("hi", "ho"), output_type=TextOutput(up)).run_sync("x")
    show(r.output, r.all_messages())


def check_output_function(show):
    def get(city: str, temp: float = 1.0) -> dict:
        """Get it.

        Args:
            city: The city.
        """
        return {"c": city, "t": temp}

    m = TestModel()
    a = Agent(m, output_type=get)
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_output_function_ctx_retry(show):
    async def get(ctx: RunContext[int], foo: Foo) -> str:
        show(ctx.deps, ctx.retry, ctx.tool_name, ctx.tool_call_id)
        if foo.a == 1:
            raise ModelRetry("no 1")
        return foo.b

    r = Agent(
        answers(
            [ToolCallPart("final_result", {"a": 1, "b": "x"}, "c1")],
            [ToolCallPart("final_result", {"a": 2, "b": "x"}, "c2")],
        ),
        output_type=get,
        deps_type=int,
    ).run_sync("x", deps=5)
    show(r.output, r.all_messages())


def check_output_bound_method(show):
    class W:
        def get(self, x: int) -> int:
            "doc"
            return x + 1

    m = TestModel()
    a = Agent(m, output_type=[W().get, ToolOutput(W().get, name="q")])
    show(a.run_sync("x").output, m.last_model_request_parameters)


def check_structured_dict(show):
    P = StructuredDict(
        {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]},
        name="P",
        description="a P",
    )
    m = TestModel()
    a = Agent(m, output_type=P)
    r = a.run_sync("x")
    show(r.output, m.last_model_request_parameters, r.all_messages())


def check_structured_dict_bad(show):
    StructuredDict({"type": "string"})


def check_early(show):
    calls = []
    a = Agent(
        answers(
            [
                ToolCallPart("final_result", {"a": 1, "b": "x"}, "a"),
                ToolCallPart("t", {"x": 1}, "b"),
                ToolCallPart("final_result", {"a": 2, "b": "y"}, "c"),
                ToolCallPart("unk", {}, "d"),
            ]
        ),
        output_type=Foo,
        end_strategy="early",
    )

    @a.tool_plain
    def t(x: int):
        calls.append(x)
        return x

    r = a.run_sync("x")
    show(r.output, r.all_messages(), sorted(calls), r.usage())


def check_exhaustive(show):
    calls = []
    a = Agent(
        answers(
            [
                ToolCallPart("t", {"x": 0}, "z"),
                ToolCallPart("final_result", {"a": 1, "b": "x"}, "a"),
                ToolCallPart("t", {"x": 1}, "b"),
                ToolCallPart("final_result", {"a": 2, "b": "y"}, "c"),
                ToolCallPart("unk", {}, "d"),
            ]
        ),
        output_type=Foo,
        end_strategy="exhaustive",
    )

    @a.tool_plain
    def t(x: int):
        calls.append(x)
        return x

    r = a.run_sync("x")
    show(r.output, r.all_messages(), sorted(calls), r.usage())


def check_exhaustive_bad_output(show):
    a = Agent(
        answers(
            [
                ToolCallPart("final_result", {"a": "q"}, "a"),
                ToolCallPart("final_result", {"a": 2, "b": "y"}, "c"),
                ToolCallPart("t", {"x": 1}, "b"),
            ]
        ),
        output_type=Foo,
        end_strategy="exhaustive",
    )

    @a.tool_plain
    def t(x: int):
        return x

    r = a.run_sync("x")
    show(r.output, r.all_messages(), r.usage())


def check_exhaustive_bad_second(show):
    a = Agent(
        answers(
            [
                ToolCallPart("final_result", {"a": 2, "b": "y"}, "c"),
                ToolCallPart("final_result", {"a": "q"}, "a"),
                ToolCallPart("t", {"x": 1}, "b"),
            ]
        ),
        output_type=Foo,
        end_strategy="exhaustive",
    )

    @a.tool_plain
    def t(x: int):
        raise ModelRetry("hm")

    r = a.run_sync("x")
    show(r.output, r.all_messages(), r.usage())


def check_early_bad_first(show):
    a = Agent(
        answers(
            [
                ToolCallPart("final_result", {"a": "q"}, "a"),
                ToolCallPart("final_result", {"a": 2, "b": "y"}, "c"),
                ToolCallPart("t", {"x": 1}, "b"),
            ]
        ),
        output_type=Foo,
    )

    @a.tool_plain
    def t(x: int):
        return x

    r = a.run_sync("x")
    show(r.output, r.all_messages(), r.usage())


def check_all_bad_and_tools(show):
    a = Agent(
        answers(
            [ToolCallPart("final_result", {"a": "q"}, "a"), ToolCallPart("t", {"x": 1}, "b")],
            [ToolCallPart("final_result", {"a": 2, "b": "y"}, "c")],
        ),
        output_type=Foo,
    )

    @a.tool_plain
    def t(x: int):
        return x

    r = a.run_sync("x")
    show(r.output, r.all_messages(), r.usage())


def check_tool_retry(show):
    a = Agent(answers([ToolCallPart("t", {"x": 1}, "a")], [ToolCallPart("t", {"x": 2}, "b")], "done"))

    @a.tool
    def t(ctx, x: int):
        show(
            ctx.retry,
            ctx.max_retries,
            ctx.last_attempt,
            ctx.retries,
            ctx.run_step,
            ctx.tool_name,
            ctx.tool_call_id,
            ctx.prompt,
            ctx.usage,
        )
        if x == 1:
            raise ModelRetry("bad x")
        return x

    r = a.run_sync("hello")
    show(r.all_messages())


def check_tool_retry_exceed(show):
    a = Agent(answers(*[[ToolCallPart("t", {"x": 1}, "a")]] * 4), retries=2)

    @a.tool
    def t(ctx, x: int):
        show(ctx.retry, ctx.last_attempt)
        raise ModelRetry("bad x")

    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except Exception as e:
            show(type(e).__name__, str(e), repr(e.__cause__), e.message)
    show(m)


def check_tool_valid_error(show):
    a = Agent(
        answers(
            [ToolCallPart("t", {"x": "nan"}, "a")],
            [ToolCallPart("t", '{"x":', "b")],
            [ToolCallPart("t", '{"x":1}', "b")],
            "done",
        ),
        retries=3,
    )

    @a.tool_plain
    def t(x: int, y: Annotated[int, Field(gt=0)] = 1):
        return x

    r = a.run_sync("hello")
    show(r.all_messages())
    show(r.all_messages()[2].parts[0].model_response())


def check_run_history(show):
    a = Agent(TestModel(), system_prompt="SYS", instructions="INS")
    r = a.run_sync("one")
    r2 = a.run_sync("two", message_history=r.all_messages())
    show(r2.all_messages())
    show(r2.new_messages(), r2._new_message_index if hasattr(r2, "_new_message_index") else "")
    r3 = a.run_sync(message_history=r2.all_messages())
    show(r3.new_messages())
    r4 = a.run_sync(message_history=r2.all_messages()[:3])
    show(r4.all_messages(), len(r4.new_messages()))


def check_no_prompt(show):
    r = Agent(TestModel()).run_sync()
    show(r.all_messages())


def check_no_prompt_sys(show):
    r = Agent(TestModel(), system_prompt="x").run_sync()
    show(r.all_messages())


def check_no_prompt_ins(show):
    r = Agent(TestModel(), instructions="x").run_sync()
    show(r.all_messages())


def check_history_ends_toolcalls(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t(x: int):
        return x

    h = [ModelRequest(parts=[UserPromptPart("q")]), ModelResponse(parts=[ToolCallPart("t", {"x": 1}, "a")])]
    r = a.run_sync(message_history=h)
    show(r.all_messages())
    a.run_sync("more", message_history=h)


def check_sysprompts(show):
    a = Agent(TestModel(), system_prompt=("a", "b"))

    @a.system_prompt
    def f():
        return "c"

    @a.system_prompt(dynamic=True)
    async def g(ctx):
        return f"d{ctx.deps}"

    r = a.run_sync("x", deps=1)
    show(r.all_messages())
    r2 = a.run_sync("y", deps=2, message_history=r.all_messages())
    show(r2.all_messages())
    r2 = a.run_sync("y", deps=3, message_history=[ModelRequest(parts=[UserPromptPart("q")])])
    show(r2.all_messages())


def check_instructions(show):
    a = Agent(
        TestModel(), instructions=["a", lambda: "b", lambda ctx: f"c{ctx.deps}", lambda: None, lambda: ""]
    )

    @a.instructions
    def f(ctx):
        return "D"

    @a.instructions
    def g():
        return None

    r = a.run_sync("x", deps=1, instructions="more")
    show(r.all_messages())
    with a.override(instructions="OV"):
        show(a.run_sync("x").all_messages())


def check_usage_limits(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t():
        return 1

    for lim in [
        UsageLimits(request_limit=1),
        UsageLimits(total_tokens_limit=5),
        UsageLimits(input_tokens_limit=1),
        UsageLimits(output_tokens_limit=1),
        UsageLimits(tool_calls_limit=0),
        UsageLimits(tool_calls_limit=1),
        UsageLimits(request_limit=None),
    ]:
        with capture_run_messages() as m:
            try:
                r = a.run_sync("x y z", usage_limits=lim)
                show(r.usage())
            except Exception as e:
                show(type(e).__name__, str(e))
        show(
            lim,
            m
            if not lim.output_tokens_limit and not lim.total_tokens_limit and not lim.input_tokens_limit
            else "",
        )


def check_usage_shared(show):
    u = RunUsage()
    a = Agent(TestModel())
    r = a.run_sync("x", usage=u)
    show(u, r.usage() is u)
    a.run_sync("x", usage=u)
    show(u)


def check_model_none(show):
    Agent().run_sync("x")


def check_agent_repr(show):
    a = Agent("test", name="bob")
    show(a)
    show(Agent())
    show(a.name, a.model, a.output_type, a.deps_type, a.end_strategy)
    my = Agent("test")
    my.run_sync("x")
    show(my.name, my)


def check_unknown_model(show):
    Agent("foo:bar")


def check_unknown_model2(show):
    Agent("foobar")


def check_bad_kw(show):
    Agent("test", foo=1)


def check_dup_tool(show):
    a = Agent("test")

    @a.tool_plain
    def t():
        return 1

    @a.tool_plain(name="t")
    def u():
        return 1


def check_dup_tool2(show):
    def t(): ...

    Agent("test", tools=[t, t])


def check_conflict_output(show):
    a = Agent("test", output_type=Foo)

    @a.tool_plain
    def final_result():
        return 1

    a.run_sync("x")


def check_iter(show):
    async def m():
        a = Agent(answers([ToolCallPart("t", {}, "a")], "done"))

        @a.tool_plain
        def t():
            return 1

        async with a.iter("hi") as run:
            show(run, run.next_node, run.result, run.usage())
            async for n in run:
                show(n, run.next_node, run.usage())
            show(run.result, run.all_messages(), run.new_messages(), run.run_id is not None, run.metadata)
            show(run.ctx.state)

    return m


async def check_iter_async(show):
    await check_iter(show)()


async def check_iter_next(show):
    a = Agent(TestModel())
    async with a.iter("hi") as run:
        n = run.next_node
        while not isinstance(n, End):
            show(n)
            n = await run.next(n)
            if type(n).__name__ == "End":
                break
        show(n, run.result)
