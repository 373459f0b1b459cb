"""Tools within a turn: order, concurrency, failures, results, deferral, end strategies."""

import time

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ApprovalRequired, CallDeferred, ModelRetry, UnexpectedModelBehavior, UserError
from runmgr.messages import (
    BinaryContent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ImageUrl,
    RetryPromptPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from runmgr.toolsets import ExternalToolset, FunctionToolset


async def test_parallel_tools_are_recorded_in_call_order_and_reported_as_they_end(says, call, autojump_clock):
    calls = [call("wait", {"seconds": s}, f"c{s}") for s in (3, 1, 2)]
    agent = Agent(says(calls, "done"))
    running = []

    @agent.tool_plain
    async def wait(seconds: int) -> int:
        running.append(seconds)
        await trio.sleep(seconds)
        return seconds

    started = trio.current_time()
    events = []
    async with agent.iter("?") as run:
        async for node in run:
            if Agent.is_call_tools_node(node):
                async with node.stream(run.ctx) as stream:
                    events += [event async for event in stream]
    assert trio.current_time() - started == 3
    assert running == [3, 1, 2]
    assert [e.tool_call_id for e in events if isinstance(e, FunctionToolCallEvent)] == ["c3", "c1", "c2"]
    assert [e.tool_call_id for e in events if isinstance(e, FunctionToolResultEvent)] == ["c1", "c2", "c3"]
    assert [p.tool_call_id for p in run.all_messages()[2].parts] == ["c3", "c1", "c2"]


async def test_a_tool_that_raises_ends_its_siblings_first(says, call, autojump_clock):
    agent = Agent(says([call("slow", {}, "c1"), call("boom", {}, "c2"), call("slow", {}, "c3")]))
    ended = []

    @agent.tool_plain
    async def slow() -> str:
        try:
            await trio.sleep(1000)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            ended.append(trio.current_time())
        return "never"

    @agent.tool_plain
    async def boom() -> str:
        await trio.sleep(5)
        raise LookupError("boom")

    with pytest.raises(LookupError, match="boom") as caught:
        await agent.run("?")
    assert len(ended) == 2
    assert caught.type is LookupError, "bare, not in a group"


async def test_the_first_of_several_errors_is_raised(says, call, autojump_clock):
    agent = Agent(says([call("boom", {"seconds": s}, f"c{s}") for s in (2, 1)]))

    @agent.tool_plain
    async def boom(seconds: int) -> str:
        await trio.sleep(seconds)
        raise LookupError(f"after {seconds}")

    with pytest.raises(LookupError, match="after 1"):
        await agent.run("?")


@pytest.mark.parametrize(("limit", "seconds", "most"), [(1, 6, 1), (2, 3, 2), (None, 1, 6), (10, 1, 6)])
async def test_max_concurrency(says, call, autojump_clock, limit, seconds, most):
    agent = Agent(says([call("wait", {}, f"c{n}") for n in range(6)], "done"), max_concurrency=limit)
    now = peak = 0

    @agent.tool_plain
    async def wait() -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await trio.sleep(1)
        now -= 1

    started = trio.current_time()
    result = await agent.run("?")
    assert (trio.current_time() - started, peak) == (seconds, most)
    assert [p.tool_call_id for p in result.all_messages()[2].parts] == [f"c{n}" for n in range(6)]


async def test_max_concurrency_is_at_least_one():
    with pytest.raises(UserError, match="at least 1"):
        Agent(max_concurrency=0)


async def test_a_sequential_tool_makes_its_turn_sequential(says, call, autojump_clock):
    agent = Agent(says([call("a", {}, "c1"), call("b", {}, "c2")], "done"))
    log = []

    @agent.tool_plain
    async def a() -> None:
        log.append("a begins")
        await trio.sleep(1)
        log.append("a ends")

    @agent.tool_plain(sequential=True)
    async def b() -> None:
        log.append("b begins")
        await trio.sleep(1)

    await agent.run("?")
    assert log == ["a begins", "a ends", "b begins"]


async def test_sync_tools_run_in_threads_at_once(says, call):
    agent = Agent(says([call("block", {}, f"c{n}") for n in range(4)], "done"))

    @agent.tool_plain
    def block() -> None:
        time.sleep(0.1)

    started = time.perf_counter()
    await agent.run("?")
    assert time.perf_counter() - started < 0.35


async def test_a_tool_knows_its_call(says, call):
    agent = Agent(says([call("look", {}, "c1"), call("look", {}, "c2")], "done"), deps_type=str, retries=3)
    seen = []

    @agent.tool
    async def look(ctx: RunContext[str]) -> None:
        seen.append(
            (ctx.tool_name, ctx.tool_call_id, ctx.deps, ctx.run_step, ctx.prompt, ctx.retry, ctx.max_retries)
        )
        assert len(ctx.messages) == 2
        assert ctx.usage.requests == 1

    await agent.run("question", deps="deps")
    assert seen == [("look", c, "deps", 1, "question", 0, 3) for c in ("c1", "c2")]


async def test_n_retries_are_n_plus_1_executions(says, call):
    agent = Agent(says(*([call("never", {}, f"c{n}")] for n in range(9))))
    attempts = []

    @agent.tool(retries=2)
    async def never(ctx: RunContext) -> None:
        attempts.append((ctx.retry, ctx.last_attempt))
        raise ModelRetry("no")

    with pytest.raises(UnexpectedModelBehavior, match="Tool 'never' exceeded max retries count of 2"):
        await agent.run("?")
    assert attempts == [(0, False), (1, False), (2, True)]


async def test_failures_of_one_turn_count_once(says, call):
    agent = Agent(says([call("never", {}, "c1"), call("never", {}, "c2")], "done"))

    @agent.tool_plain
    async def never() -> None:
        raise ModelRetry("no")

    result = await agent.run("?")
    assert [type(p) for p in result.all_messages()[2].parts] == [RetryPromptPart] * 2
    assert result.usage().tool_calls == 0


async def test_tool_timeout(says, call, autojump_clock):
    agent = Agent(says([call("slow")], "done"), tool_timeout=5)

    @agent.tool_plain
    async def slow() -> None:
        await trio.sleep(100)

    result = await agent.run("?")
    assert trio.current_time() < 50
    assert "imed out" in result.all_messages()[2].parts[0].content


async def test_rich_tool_results(says, call):
    picture = BinaryContent(b"png", media_type="image/png")
    agent = Agent(
        says([call("one", {}, "c1"), call("several", {}, "c2"), call("explicit", {}, "c3")], "done")
    )

    @agent.tool_plain
    async def one() -> BinaryContent:
        return picture

    @agent.tool_plain
    async def several() -> list:
        return ["text", picture, ImageUrl("https://x/y.png")]

    @agent.tool_plain
    async def explicit() -> ToolReturn:
        return ToolReturn("short", content=["long", picture], metadata={"kept": "apart"})

    parts = (await agent.run("?")).all_messages()[2].parts
    returns = [p for p in parts if isinstance(p, ToolReturnPart)]
    prompts = [p.content for p in parts if isinstance(p, UserPromptPart)]
    name = picture.identifier
    url = ImageUrl("https://x/y.png")
    assert [p.content for p in returns] == [
        f"See file {name}",
        ["text", f"See file {name}", f"See file {url.identifier}"],
        "short",
    ]
    assert returns[2].metadata == {"kept": "apart"}
    assert prompts == [
        [f"This is file {name}:", picture],
        [f"This is file {name}:", picture, f"This is file {url.identifier}:", url],
        ["long", picture],
    ]
    assert parts[:3] == returns, "prompts come after all returns"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([ToolReturn("x")], "invalid nested `ToolReturn`"),
        (ToolReturn([ToolReturn("x")]), "invalid nested `ToolReturn`"),
        (ToolReturn(BinaryContent(b"x", media_type="image/png")), "Please use `content` instead"),
    ],
)
async def test_wrongly_nested_results(says, call, value, message):
    agent = Agent(says([call("tool")]))

    @agent.tool_plain
    async def tool():
        return value

    with pytest.raises(UserError, match=message):
        await agent.run("?")


# ------------------------------------------------------------------ deferral


def deferring(model):
    agent = Agent(
        model,
        output_type=[str, DeferredToolRequests],
        toolsets=[ExternalToolset([ToolDefinition(name="outside")])],
    )

    @agent.tool(requires_approval=True)
    async def delete(ctx: RunContext, path: str) -> str:
        assert ctx.tool_call_approved
        return f"deleted {path}, {ctx.tool_call_metadata}"

    @agent.tool
    async def maybe(ctx: RunContext, path: str) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "protected"})
        return f"did {path}"

    @agent.tool_plain
    async def later() -> str:
        raise CallDeferred(metadata={"ticket": 1})

    @agent.tool_plain
    async def now() -> str:
        return "now"

    return agent


async def test_deferral_there_and_back(says, call):
    calls = [
        call("now", {}, "c0"),
        call("delete", {"path": "/a"}, "c1"),
        call("outside", {}, "c2"),
        call("maybe", {"path": "/b"}, "c3"),
        call("later", {}, "c4"),
        call("delete", {"path": "/c"}, "c5"),
    ]
    agent = deferring(says(calls, "done"))
    first = await agent.run("?")
    requests = first.output
    assert [c.tool_call_id for c in requests.calls] == ["c4", "c2"]
    assert [c.tool_call_id for c in requests.approvals] == ["c3", "c1", "c5"]
    assert requests.metadata == {"c3": {"why": "protected"}, "c4": {"ticket": 1}}
    assert [p.tool_call_id for p in first.all_messages()[-1].parts] == ["c0"]

    results = DeferredToolResults(
        calls={"c2": "from outside", "c4": ModelRetry("try later")},
        approvals={"c1": ToolApproved(override_args={"path": "/safe"}), "c3": True, "c5": ToolDenied("no!")},
        metadata={"c1": {"by": "me"}},
    )
    second = await agent.run(message_history=first.all_messages(), deferred_tool_results=results)
    assert second.output == "done"
    contents = {p.tool_call_id: p.content for p in second.new_messages()[0].parts}
    assert contents == {
        "c1": "deleted /safe, {'by': 'me'}",
        "c2": "from outside",
        "c3": "did /b",
        "c4": "try later",
        "c5": "no!",
    }
    assert second.usage().tool_calls == 2, "only what ran here"
    assert first.usage().tool_calls == 1


async def test_a_result_of_none_is_a_result(says, call):
    agent = deferring(says([call("outside", {}, "c2")], "done"))
    first = await agent.run("?")
    second = await agent.run(
        message_history=first.all_messages(), deferred_tool_results=DeferredToolResults(calls={"c2": None})
    )
    assert second.new_messages()[0].parts[0].content is None


async def test_results_for_the_wrong_calls(says, call):
    agent = deferring(says([call("outside", {}, "c2")], "done"))
    first = await agent.run("?")
    with pytest.raises(UserError, match=r"Expected: \{'c2'\}, got: \{'c9'\}"):
        await agent.run(
            message_history=first.all_messages(), deferred_tool_results=DeferredToolResults(calls={"c9": 1})
        )


async def test_deferral_needs_the_output_type(says, call):
    agent = Agent(says([call("later")]))

    @agent.tool_plain
    async def later() -> str:
        raise CallDeferred

    with pytest.raises(UserError, match="`DeferredToolRequests` is not among output types"):
        await agent.run("?")
    with pytest.raises(UserError, match="To use tools that require approval"):
        agent.tool_plain(requires_approval=True)(later)


# ------------------------------------------------------------------ toolsets


async def test_names_clash(says):
    def same() -> None: ...

    agent = Agent(says("x"), tools=[same], toolsets=[FunctionToolset([same])])
    with pytest.raises(
        UserError, match=r"(?s)conflicts with existing tool from the agent: 'same'.*PrefixedToolset"
    ):
        await agent.run("?")


async def test_toolsets_are_open_while_their_run_is(says, call):
    log = []

    class Server(FunctionToolset):
        async def __aenter__(self):
            log.append("open")
            return self

        async def __aexit__(self, *exc_info):
            log.append("closed")

    server = Server()

    @server.tool
    async def look() -> str:
        log.append("used")
        return "x"

    agent = Agent(says([call("look")], "done", "again"), toolsets=[server])
    await agent.run("?")
    assert log == ["open", "used", "closed"]
    log.clear()
    async with agent:
        assert log == ["open"]
        await agent.run("?")
    assert log[-1] == "closed"
    log.clear()
    agent = Agent(says(lambda m, i: 1 / 0), toolsets=[server])
    with pytest.raises(ZeroDivisionError):
        await agent.run("?")
    assert log == ["open", "closed"]


async def test_an_agent_may_be_entered_by_several_tasks_at_once(autojump_clock):
    users = most = 0

    class Server(FunctionToolset):
        async def __aenter__(self):
            nonlocal users, most
            users += 1
            most = max(most, users)
            return self

        async def __aexit__(self, *exc_info):
            nonlocal users
            users -= 1

    agent = Agent(toolsets=[Server()])

    async def enter(seconds):
        async with agent:
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        for seconds in (3, 1, 2):
            nursery.start_soon(enter, seconds)
    assert (users, most) == (0, 3)


async def test_dynamic_toolsets_and_tools_of_a_run(says, call):
    listed = []

    def names(messages, info):
        listed.append([t.name for t in info.function_tools])
        return [call("extra")] if len(listed) < 3 else "done"

    agent = Agent(says(names, names, names, names), deps_type=str)

    @agent.toolset
    def by_step(ctx: RunContext[str]):
        toolset = FunctionToolset()
        toolset.add_function(lambda: None, name=f"{ctx.deps}_{ctx.run_step}")
        return toolset

    async def extra() -> str:
        return "x"

    await agent.run("?", deps="step", toolsets=[FunctionToolset([extra])])
    assert listed == [["step_1", "extra"], ["step_2", "extra"], ["step_3", "extra"]]
    listed[:] = [[], [], []]
    await agent.run("?", deps="other")
    assert listed[-1] == ["other_1"]


async def test_prepare_tools(says):
    seen = []

    async def none_of_it(ctx, tool_defs):
        seen.append([t.name for t in tool_defs])
        return None

    def model(messages, info):
        assert info.function_tools == []
        assert [t.name for t in info.output_tools] == ["final_result"]
        return "done"

    agent = Agent(says(model), prepare_tools=none_of_it, output_type=[str, int])

    @agent.tool_plain
    def a() -> None: ...

    assert (await agent.run("?")).output == "done"
    assert seen == [["a"]]


async def test_tools_added_later_are_there_in_the_next_run(says):
    counts = []

    def model(messages, info):
        counts.append(len(info.function_tools))
        return "x"

    agent = Agent(says(model, model))
    await agent.run("?")

    @agent.tool_plain
    def new() -> None: ...

    await agent.run("?")
    assert counts == [0, 1]


async def test_sequential_tool_calls(says, call, autojump_clock):
    calls = [call("wait", {}, f"c{n}") for n in range(3)]
    agent = Agent(says(calls, "done", calls, "done"))

    @agent.tool_plain
    async def wait() -> None:
        await trio.sleep(1)

    with Agent.sequential_tool_calls():
        await agent.run("?")
    assert trio.current_time() == 3
    await agent.run("?")
    assert trio.current_time() == 4
