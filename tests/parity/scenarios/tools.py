"""Tool schemas, toolsets, contexts, continued histories, runs driven by hand."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import asyncio
import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_ai.agent import Agent, WrapperAgent, capture_run_messages
from pydantic_ai.builtin_tools import WebSearchTool
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import RunContext, Tool, ToolDefinition
from pydantic_ai.toolsets import (
    ApprovalRequiredToolset,
    CombinedToolset,
    ExternalToolset,
    FunctionToolset,
    PrefixedToolset,
    WrapperToolset,
)
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_graph import End


def J(b):
    return json.dumps(json.loads(b), sort_keys=True, separators=(",", ":"))


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


def schema(show, f, **kw):
    t = Tool(f, **kw)
    show(t.name, t.description, t.takes_ctx, t.max_retries, json.dumps(t.function_schema.json_schema))
    show(t.tool_def)


def check_schema_google(show):
    async def f(foo: int, bar: str, *, spam: str = "d") -> str:
        """Do foobar stuff, a lot.

        Args:
            foo: The foo thing.
            bar: The bar thing.
            spam: Spam
                more spam.

        Returns:
            The result.
        """
        return ""

    schema(show, f)
    schema(show, f, docstring_format="google", require_parameter_descriptions=True)


def check_schema_sphinx(show):
    def f(foo: int, /, bar: "int") -> str:
        """Sphinx style docstring.

        :param foo: The foo thing.
        :param bar: The bar thing.
        :return: The result.
        """
        return ""

    schema(show, f, docstring_format="sphinx")
    schema(show, f)


def check_schema_numpy(show):
    def f(foo: int, bar: str) -> str:
        """Numpy style docstring.

        Parameters
        ----------
        foo : int
            The foo thing.
        bar : str
            The bar thing.
        """
        return ""

    schema(show, f, docstring_format="numpy")
    schema(show, f)


def check_schema_returns_type(show):
    def f(x: int) -> Annotated[bool, "yes"]:
        """Things.

        Args:
            x: an x

        Returns:
            bool: True if so.
        """
        return True

    schema(show, f)

    def g(x: int) -> int:
        """Only summary.

        Returns:
            Something.
        """
        return 1

    schema(show, g)

    def h() -> int:
        """Returns:
        Something.
        """
        return 1

    schema(show, h)


def check_schema_unknown_fmt(show):
    def f(**kwargs: int) -> str:
        """Unknown style.

        Something else here:  foo
        """
        return ""

    schema(show, f)


def check_schema_missing_desc(show):
    def f(a: int, b: int):
        """Doc.

        Args:
            a: the a
        """

    schema(show, f, require_parameter_descriptions=True)


def check_schema_missing_doc(show):
    def f(a: int): ...

    schema(show, f, require_parameter_descriptions=True)


def check_schema_misc(show):
    def f(*args: int, **kw: str): ...

    schema(show, f)

    def g(*args, **kw): ...

    schema(show, g)

    def h(x, y=3, *, z: list[Foo] | None = None): ...

    schema(show, h)

    def one(foo: Foo):
        "doc of one"

    schema(show, one)

    def oned(foo: Foo = Foo(a=1, b="")): ...

    schema(show, oned)

    class TD(TypedDict):
        x: Annotated[int, Field(description="an x")]

    def td(t: TD):
        """T.

        Args:
            t: the td
        """

    schema(show, td)

    @dataclass
    class DC:
        x: int
        y: str = "q"

    def dc(t: DC): ...

    schema(show, dc)

    def ann(x: Annotated[int, Field(description="desc", ge=3)], y: Literal["a", "b"] = "a"):
        """Foo.

        Args:
            x: other
        """

    schema(show, ann)

    def ctx(ctx: RunContext[int], a: int): ...

    schema(show, ctx)

    def ctx_(a: int): ...

    schema(
        show,
        ctx_,
        name="nm",
        description="D",
        strict=True,
        sequential=True,
        requires_approval=True,
        metadata={"a": 1},
        timeout=3,
        max_retries=6,
    )


def check_schema_err1(show):
    def f(ctx: int, b: RunContext): ...

    a = Agent("test")
    a.tool(f)


def check_schema_err2(show):
    def f(a: int, b: RunContext): ...

    a = Agent("test")
    a.tool_plain(f)


def check_schema_err3(show):
    def f(ctx: RunContext): ...

    a = Agent("test")
    a.tool_plain(f)


def check_schema_err4(show):
    def f(): ...

    a = Agent("test")
    show(a.tool(f) is f)


def check_schema_err5(show):
    class X: ...

    def f(x: X): ...

    Tool(f)


def check_tool_takes_ctx_detect(show):
    def f(ctx: RunContext[int], a: int):
        return ctx.deps

    a = Agent(TestModel(), tools=[f, Tool(lambda a: 3, name="lam")], deps_type=int)
    show(a.run_sync("x", deps=3).output)


def check_tool_lambda(show):
    Tool(lambda x: 1)
    a = Agent(TestModel(), tools=[lambda: 1])
    show(a.run_sync("x").all_messages())


def check_tool_callable_class(show):
    class C:
        def __call__(self, x: int) -> int:
            "docs"
            return x

    t = Tool(C(), name="c")
    show(t.function_schema.json_schema)
    a = Agent(TestModel(), tools=[t])
    show(a.run_sync("x").output)


def check_tool_classmethods(show):
    class C:
        @classmethod
        async def cm(cls, ctx: RunContext, x: int):
            return x

        @staticmethod
        def sm(x: int):
            return x

        def m(self, x: int = 2):
            return x

    a = Agent(TestModel(), tools=[C.cm, C.sm, C().m])
    show(a.run_sync("x").output)


def check_tool_partial(show):
    import functools

    def f(a: int, b: int):
        "doc"
        return a + b

    a = Agent(TestModel(), tools=[Tool(functools.partial(f, 1), name="p")])
    show(a.run_sync("x").output)


def check_tool_args_passing(show):
    a = Agent(
        answers(
            [ToolCallPart("f", "[1,2]", "c")],
            [ToolCallPart("f", None, "c")],
            [ToolCallPart("f", "", "c")],
            "x",
        ),
        retries=5,
    )

    @a.tool_plain
    def f():
        return "ok"

    r = a.run_sync("q")
    show(r.all_messages())


def check_tool_extra_args(show):
    a = Agent(answers([ToolCallPart("f", {"zz": 1}, "c")], "x"), retries=5)

    @a.tool_plain
    def f():
        return "ok"

    r = a.run_sync("q")
    show(r.all_messages())


def check_tool_from_schema(show):
    def f(**kw):
        return kw

    t = Tool.from_schema(
        f,
        name="nm",
        description="ds",
        json_schema={"type": "object", "properties": {"x": {"type": "string"}}},
        takes_ctx=False,
        sequential=True,
    )
    show(t.tool_def, t.takes_ctx)
    a = Agent(TestModel(), tools=[t])
    show(a.run_sync("x").output)

    async def g(ctx, **kw):
        return [ctx.tool_name, kw]

    a = Agent(
        TestModel(),
        tools=[
            Tool.from_schema(
                g,
                name="g",
                description=None,
                json_schema={"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
                takes_ctx=True,
            )
        ],
    )
    show(a.run_sync("x").output)


def check_tool_raises(show):
    a = Agent(TestModel())

    @a.tool_plain
    def f():
        raise ValueError("boo")

    a.run_sync("x")


def check_tool_raises_parallel(show):
    a = Agent(answers([ToolCallPart("f", {}, "a"), ToolCallPart("g", {}, "b")], "x"))

    @a.tool_plain
    async def f():
        raise ValueError("boo")

    @a.tool_plain
    async def g():
        await asyncio.sleep(0.01)
        return 1

    with capture_run_messages() as m:
        try:
            a.run_sync("x")
        except ValueError as e:
            show(e)
    show(m)


def check_retry_prompts(show):
    show(RetryPromptPart("x").model_response())
    show(RetryPromptPart("x", tool_name="t").model_response())
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as e:
        p = RetryPromptPart(e.errors(include_url=False), tool_name="t")
        show(p, p.model_response())
        p = RetryPromptPart([*e.errors(include_url=False)] * 2)
        show(p.model_response())


async def tools_of(show, ts, ctx=None):
    ctx = ctx or RunContext(deps=None, model=TestModel(), usage=RunUsage())
    t = await ts.get_tools(ctx)
    show({k: v.tool_def for k, v in t.items()})
    return t, ctx


def FTS(**kw):
    ts = FunctionToolset(**kw)

    @ts.tool
    def add(a: int, b: int) -> int:
        """Add.

        Args:
            a: first
        """
        return a + b

    @ts.tool(name="sub", retries=4)
    def s(ctx: RunContext, a: int):
        return a - 1

    return ts


async def check_function_toolset(show):
    ts = FTS(id="x")
    show(ts.id, ts.label, ts.max_retries)
    t, c = await tools_of(show, ts)
    show(t["add"].max_retries, t["sub"].max_retries)
    show(await ts.call_tool("add", {"a": 1, "b": 2}, c, t["add"]))
    FunctionToolset([Tool(check_retry_prompts), Tool(check_retry_prompts)])


async def check_prefixed(show):
    ts = FTS().prefixed("p")
    show(ts.label, ts.id)
    t, c = await tools_of(show, ts)
    show(await ts.call_tool("p_add", {"a": 1, "b": 2}, c, t["p_add"]))
    show(ts.tool_name_conflict_hint)


async def check_renamed(show):
    ts = FTS().renamed({"plus": "add"})
    t, c = await tools_of(show, ts)
    show(await ts.call_tool("plus", {"a": 1, "b": 2}, c, t["plus"]))
    show(ts.label, ts.tool_name_conflict_hint)


async def check_filtered(show):
    ts = FTS().filtered(lambda ctx, d: d.name != "sub")
    t, c = await tools_of(show, ts)
    show(ts.label)


async def check_prepared(show):
    async def p(ctx, defs):
        return [replace(d, description="zz") for d in defs][:1]

    ts = FTS().prepared(p)
    await tools_of(show, ts)
    show(ts.label)

    async def p2(ctx, defs):
        return [replace(d, name="zz") for d in defs]

    await tools_of(show, FTS().prepared(p2))


async def check_combined(show):
    ts = CombinedToolset([FTS(), FTS().prefixed("q")])
    t, c = await tools_of(show, ts)
    show(ts.label, ts.id, await ts.call_tool("q_add", {"a": 3, "b": 4}, c, t["q_add"]))
    await tools_of(show, CombinedToolset([FTS(), FTS()]))


async def check_combined2(show):
    await tools_of(
        show, CombinedToolset([FTS(id="one"), FTS(id="two").prefixed("x").renamed({"add": "x_add"})])
    )


async def check_external(show):
    ts = ExternalToolset(
        [
            ToolDefinition(
                name="e", parameters_json_schema={"type": "object", "properties": {}}, description="d"
            )
        ],
        id="ee",
    )
    t, c = await tools_of(show, ts)
    show(ts.id, ts.label)
    await ts.call_tool("e", {}, c, t["e"])


async def check_approval(show):
    ts = FTS().approval_required(lambda ctx, d, args: d.name == "add" and args["a"] > 1)
    t, c = await tools_of(show, ts)
    show(await ts.call_tool("add", {"a": 1, "b": 2}, c, t["add"]))
    await ts.call_tool("add", {"a": 2, "b": 2}, c, t["add"])


async def check_wrapper(show):
    class W(WrapperToolset):
        async def call_tool(self, name, args, ctx, tool):
            show("calling", name, args)
            return await super().call_tool(name, args, ctx, tool)

    a = Agent(TestModel(), toolsets=[W(FTS())])
    r = await a.run("x")
    show(r.output, W(FTS()).label)


async def check_agent_toolsets(show):
    m = TestModel()
    a = Agent(m, toolsets=[FTS(id="a").prefixed("one"), FTS()], tools=[])

    @a.tool_plain
    def own():
        return "o"

    show([t.label for t in a.toolsets])
    r = await a.run("x")
    show(r.output)
    r = await a.run("x", toolsets=[FTS().prefixed("run")])
    show(r.output, m.last_model_request_parameters)
    with a.override(toolsets=[FTS().prefixed("ov")]):
        show((await a.run("x")).output)
    with a.override(toolsets=[], tools=[]):
        show((await a.run("x")).output)


async def check_agent_conflict(show):
    a = Agent(TestModel(), toolsets=[FTS()])

    @a.tool_plain
    def add(): ...

    await a.run("x")


async def check_agent_conflict2(show):
    a = Agent(TestModel(), toolsets=[FTS(id="i1"), FTS()])
    await a.run("x")


async def check_dynamic(show):
    m = TestModel()
    a = Agent(m, deps_type=int)
    n = []

    @a.toolset
    def f(ctx):
        n.append(ctx.run_step)
        return FTS().prefixed(f"d{ctx.deps}")

    @a.toolset(per_run_step=False)
    async def g(ctx):
        n.append("g")
        return None

    r = await a.run("x", deps=3)
    show(r.output, n)
    show([t.label for t in a.toolsets])


async def check_enter_exit(show):
    log = []

    class W(WrapperToolset):
        async def __aenter__(self):
            log.append("in")
            return self

        async def __aexit__(self, *a):
            log.append("out")

    a = Agent(TestModel(), toolsets=[W(FTS())])
    await a.run("x")
    show(log)
    async with a:
        await a.run("x")
        await a.run("x")
    show(log)


async def check_toolset_docs(show):
    ts = FunctionToolset(
        docstring_format="google",
        require_parameter_descriptions=True,
        strict=True,
        sequential=True,
        requires_approval=True,
        metadata={"m": 1},
        max_retries=7,
        timeout=2,
    )

    @ts.tool
    def z(x: int):
        """Z.

        Args:
            x: the x
        """

    t, c = await tools_of(show, ts)
    show(t["z"].max_retries, t["z"].timeout)

    @ts.tool
    def zz(x: int):
        """Z."""


async def check_visit(show):
    ts = CombinedToolset([FTS().prefixed("a"), FTS()])
    seen = []
    ts.apply(lambda t: seen.append(type(t).__name__))
    show(seen)
    r = ts.visit_and_replace(lambda t: WrapperToolset(t))
    show(type(r).__name__, [type(x).__name__ for x in r.toolsets])


async def check_mro(show):
    show(issubclass(PrefixedToolset, WrapperToolset), issubclass(ApprovalRequiredToolset, WrapperToolset))


async def check_tool_ctx_fields(show):
    a = Agent(TestModel(), deps_type=int, retries=3, metadata={"mm": 1})

    @a.tool
    async def t(ctx: RunContext[int], x: int):
        show(
            ctx.deps,
            ctx.model.model_name,
            ctx.usage,
            ctx.prompt,
            ctx.messages,
            ctx.retries,
            ctx.tool_call_id,
            ctx.tool_name,
            ctx.retry,
            ctx.max_retries,
            ctx.run_step,
            ctx.tool_call_approved,
            ctx.tool_call_metadata,
            ctx.partial_output,
            ctx.run_id is not None,
            ctx.metadata,
            ctx.last_attempt,
            ctx.trace_include_content,
            ctx.instrumentation_version,
        )
        return 1

    await a.run("x", deps=3)


async def check_builtin_tools(show):
    m = TestModel()
    a = Agent(m, builtin_tools=[WebSearchTool()])
    await a.run("x")


async def check_multi_agent(show):
    RunUsage()
    inner = Agent(TestModel(custom_output_text="inner"))
    outer = Agent(TestModel())

    @outer.tool
    async def ask(ctx, q: str):
        r = await inner.run(q, usage=ctx.usage)
        return r.output

    r = await outer.run("x", usage_limits=UsageLimits(request_limit=5))
    show(r.output, r.usage())


async def check_wrapper_agent(show):
    a = WrapperAgent(Agent(TestModel(), name="in"))
    r = await a.run("x")
    show(r.output, a.name, a.model.model_name, a.output_type)
    with a.override(model=TestModel(custom_output_text="q")):
        show((await a.run("x")).output)
    async with a.run_stream("x") as r:
        show(await r.get_output())


async def check_system_prompt_dupes(show):
    a = Agent(TestModel())

    @a.system_prompt(dynamic=True)
    def d():
        return str(len(x))

    x = [1]
    r = await a.run("a")
    x.append(2)
    r2 = await a.run("b", message_history=r.all_messages())
    show(r2.all_messages(), r2.new_messages(), r.all_messages())


async def check_history_request_merge(show):
    a = Agent(TestModel())
    seen = []

    def f(ms, info):
        seen.append(ms)
        return ModelResponse(parts=[TextPart("k")])

    a = Agent(FunctionModel(f))
    r = await a.run(
        "new",
        message_history=[
            ModelRequest(parts=[UserPromptPart("one")]),
            ModelRequest(parts=[UserPromptPart("two")], instructions="i2"),
        ],
    )
    show(r.all_messages(), seen, r.new_messages())
    r = await a.run(
        message_history=[
            ModelRequest(parts=[UserPromptPart("one")]),
            ModelResponse(parts=[TextPart("a")]),
            ModelResponse(parts=[TextPart("b")]),
            ModelRequest(parts=[UserPromptPart("two")], instructions="i2"),
        ]
    )
    show(r.all_messages(), seen, r.new_messages())


async def check_history_only_response(show):
    a = Agent(TestModel())
    r = await a.run(
        message_history=[ModelRequest(parts=[UserPromptPart("one")]), ModelResponse(parts=[TextPart("a")])]
    )
    show(r.all_messages(), r.output, r.new_messages(), r.usage())
    r = await a.run("x", message_history=[ModelResponse(parts=[TextPart("a")])])
    show(r.all_messages())


async def check_instr_history(show):
    a = Agent(TestModel(), instructions="new")
    r = await a.run(message_history=[ModelRequest(parts=[UserPromptPart("one")], instructions="old")])
    show(r.all_messages())
    a = Agent(TestModel())
    r = await a.run(message_history=[ModelRequest(parts=[UserPromptPart("one")], instructions="old")])
    show(r.all_messages())
    b = Agent(TestModel())
    r = await b.run(
        "q",
        message_history=[
            ModelRequest(parts=[UserPromptPart("one")], instructions="old"),
            ModelResponse(parts=[TextPart("a")]),
        ],
    )
    show(r.all_messages())


async def check_two_runs_ids(show):
    a = Agent(TestModel())
    r = await a.run("a")
    r2 = await a.run("b", message_history=r.all_messages())
    show(
        [m.run_id == r.run_id for m in r2.all_messages()],
        [m.run_id == r2.run_id for m in r2.all_messages()],
        r.run_id != r2.run_id,
    )


async def check_iter_manual(show):
    a = Agent(answers([ToolCallPart("t", {}, "c")], "done"))

    @a.tool_plain
    def t():
        return 1

    async with a.iter("x") as run:
        n = run.next_node
        names = []
        while not isinstance(n, End):
            names.append(type(n).__name__)
            n = await run.next(n)
        show(names, n, run.result, run.next_node)
        try:
            await run.next(n)
        except Exception as e:
            show(type(e).__name__, e)


async def check_iter_skip(show):
    a = Agent(TestModel())
    async with a.iter("x") as run:
        async for n in run:
            if Agent.is_model_request_node(n):
                n.request.parts.append(UserPromptPart("added"))
    show(run.all_messages())


async def check_iter_exc(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t():
        raise ValueError("x")

    async with a.iter("x") as run:
        async for n in run:
            show(type(n).__name__)


async def check_iter_no_finish(show):
    a = Agent(TestModel())
    async with a.iter("x") as run:
        async for n in run:
            show(type(n).__name__)
            break
    show(run.result, run.all_messages(), run.usage())


async def check_run_twice_node(show):
    a = Agent(TestModel())
    async with a.iter("x") as run:
        n = await run.next(run.next_node)
        first = await run.next(n)
        show(first, await run.next(n) is first, run.all_messages(), run.usage())
