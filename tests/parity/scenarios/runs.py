"""Whole runs: hand-offs, deferred calls, overrides, nodes by hand, what models do wrong."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic_ai.agent import Agent, CallToolsNode, capture_run_messages
from pydantic_ai.exceptions import CallDeferred, ModelHTTPError, ModelRetry, UsageLimitExceeded
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits


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


class Foo(BaseModel):
    a: int
    b: str


async def check_handoff(show):
    async def other(ctx: RunContext, q: str) -> str:
        r = await Agent(TestModel(custom_output_text="inner")).run(q, usage=ctx.usage)
        return r.output

    r = await Agent(TestModel(), output_type=[other, Foo]).run("x")
    show(r.output, r.usage(), r.all_messages())


async def check_handoff_messages(show):
    async def hand(ctx: RunContext, q: str) -> Any:
        show(ctx.messages)
        return len(ctx.messages)

    r = await Agent(TestModel(), output_type=hand).run("x")
    show(r.output)


async def check_model_error_in_run(show):
    a = Agent(answers(ModelHTTPError(429, "m", {"e": 1})))
    with capture_run_messages() as m:
        try:
            await a.run("x")
        except Exception as e:
            show(type(e).__name__, e)
    show(m)


async def check_model_raises_weird(show):
    try:
        await Agent(answers(KeyError("k"))).run("x")
    except KeyError as e:
        show("KeyError", e)


async def check_model_returns_garbage(show):
    for g in [None, "str", [1]]:
        try:
            await Agent(FunctionModel(lambda m, i: g)).run("x")
        except BaseException as e:
            show(type(e).__name__)


async def check_unknown_and_known(show):
    a = Agent(answers([ToolCallPart("unk", {}, "1"), ToolCallPart("t", {}, "2")], "k"))

    @a.tool_plain
    def t():
        return 1

    r = await a.run("x")
    show(r.all_messages(), r.usage())


async def check_unknown_with_output(show):
    for st in ("early", "exhaustive"):
        a = Agent(
            answers([ToolCallPart("unk", {}, "1"), ToolCallPart("final_result", {"a": 1, "b": ""}, "2")]),
            output_type=Foo,
            end_strategy=st,
        )
        r = await a.run("x")
        show(r.all_messages(), r.usage())


async def check_text_and_tools_mix(show):
    a = Agent(answers([TextPart("thinking aloud"), ToolCallPart("t", {}, "2")], "end"))

    @a.tool_plain
    def t():
        return 1

    r = await a.run("x")
    show(r.output, r.all_messages())


async def check_text_with_struct_only(show):
    a = Agent(
        answers("no tool", "still", [ToolCallPart("final_result", {"a": 1, "b": ""}, "2")]),
        output_type=Foo,
        retries=3,
    )
    r = await a.run("x")
    show(r.all_messages())


async def check_validator_order_exhaustive(show):
    n = []
    a = Agent(
        answers(
            [
                ToolCallPart("final_result", {"a": 1, "b": ""}, "1"),
                ToolCallPart("final_result", {"a": 2, "b": ""}, "2"),
            ]
        ),
        output_type=Foo,
        end_strategy="exhaustive",
    )

    @a.output_validator
    def v(ctx, o):
        n.append((ctx.tool_call_id, o.a))
        return o

    r = await a.run("x")
    show(n, r.output)


async def check_output_fn_side_effects(show):
    n = []

    def out(a: int):
        n.append(a)
        return a

    for st in ("early", "exhaustive"):
        a = Agent(
            answers(
                [ToolCallPart("final_result", {"a": 1}, "1"), ToolCallPart("final_result", {"a": 2}, "2")]
            ),
            output_type=out,
            end_strategy=st,
        )
        r = await a.run("x")
        show(n, r.output, r.all_messages())
        n.clear()


async def check_deferred_and_output(show):
    for st in ("early", "exhaustive"):
        a = Agent(
            answers(
                [
                    ToolCallPart("ext", {}, "1"),
                    ToolCallPart("final_result", {"a": 1, "b": ""}, "2"),
                    ToolCallPart("ap", {}, "3"),
                ]
            ),
            output_type=[Foo, DeferredToolRequests],
            end_strategy=st,
        )

        @a.tool_plain
        def ext():
            raise CallDeferred

        @a.tool_plain(requires_approval=True)
        def ap():
            return 1

        r = await a.run("x")
        show(r.output, r.all_messages(), r.usage())


async def check_deferred_and_failing_output(show):
    a = Agent(
        answers([ToolCallPart("ext", {}, "1"), ToolCallPart("final_result", {"a": "q", "b": ""}, "2")]),
        output_type=[Foo, DeferredToolRequests],
    )

    @a.tool_plain
    def ext():
        raise CallDeferred

    r = await a.run("x")
    show(r.output, r.all_messages(), r.usage())


async def check_deferred_and_retry(show):
    a = Agent(
        answers([ToolCallPart("ext", {}, "1"), ToolCallPart("bad", {}, "2")]),
        output_type=[str, DeferredToolRequests],
    )

    @a.tool_plain
    def ext():
        raise CallDeferred

    @a.tool_plain
    def bad():
        raise ModelRetry("no")

    r = await a.run("x")
    show(r.output, r.all_messages(), r.usage())


async def check_approve_then_again(show):
    a = Agent(
        answers([ToolCallPart("ap", {"x": 1}, "1")], [ToolCallPart("ap", {"x": 2}, "2")], "done"),
        output_type=[str, DeferredToolRequests],
    )

    @a.tool_plain(requires_approval=True)
    def ap(x: int):
        return x

    r = await a.run("x")
    n = 0
    while isinstance(r.output, DeferredToolRequests):
        n += 1
        r = await a.run(
            message_history=r.all_messages(),
            deferred_tool_results=DeferredToolResults(
                approvals={c.tool_call_id: True for c in r.output.approvals}
            ),
        )
    show(n, r.output, r.all_messages(), len(r.new_messages()))


async def check_approve_invalid_override(show):
    a = Agent(answers([ToolCallPart("ap", {"x": 1}, "1")], "done"), output_type=[str, DeferredToolRequests])

    @a.tool_plain(requires_approval=True)
    def ap(x: int):
        return x

    r = await a.run("x")
    r = await a.run(
        message_history=r.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals={"1": ToolApproved(override_args={"x": "q"})}),
    )
    show(r.all_messages())


async def check_results_for_unknown_tool(show):
    a = Agent(answers("done"), output_type=[str, DeferredToolRequests])
    h = [ModelRequest(parts=[UserPromptPart("q")]), ModelResponse(parts=[ToolCallPart("gone", {}, "1")])]
    r = await a.run(message_history=h, deferred_tool_results=DeferredToolResults(calls={"1": "R"}))
    show(r.all_messages())


async def check_override_nested(show):
    a = Agent(TestModel(custom_output_text="0"))
    with a.override(model=TestModel(custom_output_text="1")):
        with a.override(model=TestModel(custom_output_text="2")):
            show((await a.run("x")).output)
        show((await a.run("x")).output)
    show((await a.run("x")).output)


async def check_override_tools_keep_toolsets(show):
    ts = FunctionToolset()

    @ts.tool
    def a1():
        return 1

    a = Agent(TestModel(), toolsets=[ts])

    @a.tool_plain
    def own():
        return 2

    def new():
        return 3

    with a.override(tools=[new]):
        show((await a.run("x")).output)
    with a.override(toolsets=[]):
        show((await a.run("x")).output)
    show((await a.run("x", toolsets=[FunctionToolset([new])])).output)


async def check_instructions_fn_ctx(show):
    a = Agent(TestModel(), deps_type=str)

    @a.instructions
    async def i(ctx: RunContext[str]):
        return f"for {ctx.deps}, step {ctx.run_step}, {ctx.prompt}"

    @a.tool_plain
    def t():
        return 1

    show((await a.run("x", deps="me")).all_messages())


async def check_sysprompt_fn_ctx(show):
    a = Agent(TestModel(), deps_type=str, system_prompt="static")

    @a.system_prompt
    async def i(ctx: RunContext[str]):
        return f"for {ctx.deps}, step {ctx.run_step}, {ctx.prompt}, {len(ctx.messages)}"

    show((await a.run("x", deps="me")).all_messages())


async def check_usage_limits_stream(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t():
        return 1

    try:
        async with a.run_stream("x", usage_limits=UsageLimits(request_limit=1)) as r:
            await r.get_output()
    except UsageLimitExceeded as e:
        show(e)


async def check_iter_state(show):
    a = Agent(TestModel())

    @a.tool_plain
    def t():
        return 1

    async with a.iter("x") as run:
        async for n in run:
            show(
                type(n).__name__,
                run.ctx.state.run_step,
                run.ctx.state.retries,
                len(run.ctx.state.message_history),
                run.ctx.deps.user_deps,
                run.usage(),
            )


async def check_call_tools_node(show):
    a = Agent(TestModel())
    async with a.iter("x") as run:
        async for n in run:
            if Agent.is_call_tools_node(n):
                show(n.model_response)
                n.model_response = ModelResponse(parts=[TextPart("changed")])
    show(run.result.output, run.all_messages())


async def check_skip_node(show):
    a = Agent(TestModel())
    async with a.iter("x") as run:
        n = await run.next(run.next_node)
        n = await run.next(CallToolsNode(ModelResponse(parts=[TextPart("mine")])))
        show(n, run.result, run.all_messages())


async def check_result_helpers(show):
    r = await Agent(TestModel(), output_type=Foo).run("x")
    show(r, r.output, r.response, r.all_messages() == r.new_messages())


async def check_prompt_types(show):
    a = Agent(TestModel())
    for p in [["a", "b"], ["x", BinaryContent(b"1", media_type="image/png")], ""]:
        show((await a.run(p)).all_messages()[0])


async def check_tool_sync_raises_retry_in_thread(show):
    a = Agent(answers([ToolCallPart("t", {}, "1")], "k"))

    @a.tool_plain
    def t():
        raise ModelRetry("thread")

    show((await a.run("x")).all_messages())


async def check_tool_generic_deps(show):
    @dataclass
    class D:
        conn: str

    a = Agent(TestModel(), deps_type=D)

    @a.tool
    async def q(ctx: RunContext[D], sql: str, *, limit: int = 10) -> list[dict[str, Any]]:
        return [{"sql": sql, "l": limit, "c": ctx.deps.conn}]

    r = await a.run("x", deps=D("c"))
    show(r.output, r.all_messages())


async def check_no_tools_after_prepare_none(show):
    a = Agent(answers([ToolCallPart("t", {}, "1")], "k"))

    async def p(ctx, d):
        return None

    @a.tool_plain(prepare=p)
    def t():
        return 1

    show((await a.run("x")).all_messages())


async def check_tool_def_timeout(show):
    a = Agent(answers([ToolCallPart("t", {}, "1")], [ToolCallPart("t", {}, "2")]), retries=1)

    @a.tool_plain(timeout=0.02)
    async def t():
        await asyncio.sleep(1)

    try:
        await a.run("x")
    except Exception as e:
        show(type(e).__name__, e)


def check_json_schema_output(show):
    class N(BaseModel):
        """Doc of N."""

        kids: list["N"] = []
        v: Annotated[int, Field(description="the v", ge=1)] = 1

    m = TestModel()
    Agent(m, output_type=N).run_sync("x")
    show(
        json.dumps(m.last_model_request_parameters.output_tools[0].parameters_json_schema, sort_keys=True),
        m.last_model_request_parameters.output_tools[0].description,
    )
    m = TestModel()
    Agent(m, output_type=list[N]).run_sync("x")
    show(
        json.dumps(m.last_model_request_parameters.output_tools[0].parameters_json_schema, sort_keys=True),
        m.last_model_request_parameters.output_tools[0].description,
    )
    m = TestModel()
    Agent(m, output_type=[N, bool]).run_sync("x")
    show(
        [
            (
                t.name,
                t.description,
                json.dumps(t.parameters_json_schema, sort_keys=True),
                t.outer_typed_dict_key,
            )
            for t in m.last_model_request_parameters.output_tools
        ]
    )


def check_output_json_schema(show):
    for o in [str, Foo, [Foo, str], list[int], NativeOutput(Foo)]:
        show(
            json.dumps(Agent("test", output_type=o).output_json_schema(), sort_keys=True)
            if hasattr(Agent, "output_json_schema")
            else "no"
        )


async def check_empty_tool_name(show):
    a = Agent(answers([ToolCallPart("", {}, "1")], "k"))
    show((await a.run("x")).all_messages())


async def check_duplicate_ids(show):
    a = Agent(answers([ToolCallPart("t", {"x": 1}, "1"), ToolCallPart("t", {"x": 2}, "1")], "k"))

    @a.tool_plain
    def t(x: int):
        return x

    show((await a.run("x")).all_messages())
