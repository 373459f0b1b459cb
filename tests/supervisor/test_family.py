"""Runs that submit runs: who waits for whom, who ends whom, who pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import RunCancelled, RunEnded, RunFailed
from runmgr.graph import BaseNode, End, Graph, GraphRunContext, Join
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import RunSpec, current_supervisor, open_supervisor
from runmgr.tools import RunContext
from runmgr.toolsets import FunctionToolset, WrapperToolset
from runmgr.usage import RequestUsage


async def nap(run):
    await trio.sleep(1)
    return run.prompt


def parent_of(child, count=1, wait=True):
    """A step that submits so many children and gives what they gave."""

    async def submit_children(run):
        handles = [await run.supervisor.submit(child, number) for number in range(count)]
        return [(await handle.result()).output for handle in handles] if wait else handles

    return submit_children


def tree(fakes, depth, width=2):
    agent = fakes.Agent(nap)
    for _ in range(depth):
        agent = fakes.Agent(parent_of(agent, width))
    return agent


async def test_a_parent_waits_without_its_place(fakes, autojump_clock):
    states = []

    async def look(run):
        states.append(dict(sup.snapshot().states))
        await trio.sleep(1)

    async with open_supervisor(max_running=1) as sup:
        handle = await sup.submit(fakes.Agent(parent_of(fakes.Agent(look), 3)))
        outcome = await handle.outcome()
    assert outcome.succeeded
    assert trio.current_time() == 3
    for state in states:
        assert state["running"] == 1
        assert state["paused"] + state["queued"] >= 1


@pytest.mark.parametrize(("places", "queue"), [(1, 0), (1, 100), (2, 1), (7, 3)])
async def test_no_deadlock_however_few_places(fakes, autojump_clock, places, queue):
    async with open_supervisor(max_running=places, max_queued=queue) as sup:
        async with sup.map(tree(fakes, 3), range(5)) as outcomes:
            seen = [outcome async for outcome in outcomes]
        snapshot = sup.snapshot()
    assert all(outcome.succeeded for outcome in seen)
    assert snapshot.states["succeeded"] == 5 * (1 + 2 + 4 + 8)
    assert snapshot.parked == snapshot.places_taken == snapshot.queued == 0
    assert trio.current_time() == -(-5 * 8 // places)


async def test_maps_in_tools_too(fakes, autojump_clock):
    async def map_reduce(run):
        async with run.supervisor.map(fakes.Agent(nap), range(6)) as outcomes:
            return sum([outcome.output async for outcome in outcomes])

    async with open_supervisor(max_running=2, max_queued=1) as sup:
        handles = [await sup.submit(fakes.Agent(map_reduce)) for _ in range(3)]
        assert [(await handle.result()).output for handle in handles] == [15] * 3


async def test_what_is_begun_is_finished_before_more_is_begun(fakes, autojump_clock):
    """With children behind the queue, 200 parents would be parked; they go before it."""
    most = 0

    async def watch(run):
        nonlocal most
        most = max(most, sup.snapshot().parked)
        await trio.sleep(1)

    async with open_supervisor(max_running=2, max_queued=500) as sup:
        async with sup.map(fakes.Agent(parent_of(fakes.Agent(watch))), range(200)) as outcomes:
            assert all([outcome.succeeded async for outcome in outcomes])
    assert most <= 4


async def test_beyond_max_parked_the_wait_that_would_stop_everything_is_refused(fakes, autojump_clock):
    async with open_supervisor(max_running=2, max_parked=1) as sup:
        handles = [await sup.submit(tree(fakes, 3, 1)) for _ in range(3)]
        outcomes = [await handle.outcome() for handle in handles]
        assert sup.snapshot().parked == 0
    errors = {outcome.error.message for outcome in outcomes if outcome.error}
    assert errors  # they did not hang
    assert any("max_parked=1" in error for error in errors)


@pytest.mark.parametrize("how", ["a limit of the group", "lowered for the group", "lowered"])
async def test_limits_below_what_waiting_runs_keep_leave_a_place_for_whom_they_wait(
    fakes, autojump_clock, how
):
    together = []

    async def look(run):
        together.append(sup.snapshot().states["running"])
        await trio.sleep(1)

    async def submit_late(run):
        await trio.sleep(1)
        child = await run.supervisor.submit(fakes.Agent(look), "child", group="g")
        return (await child.outcome()).status

    limits = {"g": 1} if how == "a limit of the group" else None
    with trio.fail_after(100):
        async with open_supervisor(max_running=3, max_parked=0, group_limits=limits) as sup:
            handles = [await sup.submit(fakes.Agent(submit_late), number, group="g") for number in range(2)]
            await trio.sleep(1.5)
            if how == "lowered":
                sup.max_running = 1
            elif how == "lowered for the group":
                sup.set_group("g", max_running=1)
            assert all([(await handle.outcome()).succeeded for handle in handles])
    assert together == [1, 1]


async def test_children_are_cancelled_with_their_parent_and_end_before_it(fakes, autojump_clock):
    ended = []

    async def slow(run):
        try:
            await trio.sleep(100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            ended.append("child")

    children = []

    async def begin(run):
        children.extend([await run.supervisor.submit(fakes.Agent(slow)) for _ in range(3)])
        await trio.sleep(100)

    async with open_supervisor(max_running=3) as sup:
        parent = await sup.submit(fakes.Agent(begin))
        await trio.sleep(5)
        assert [child.state for child in children] == ["running", "running", "queued"]
        parent.cancel("enough")
        outcome = await parent.outcome()
        ended.append("parent")
    assert ended == ["child", "child", "parent"]
    assert outcome.error.message == "enough"
    outcomes = [await child.outcome() for child in children]
    assert {outcome.status for outcome in outcomes} == {"cancelled"}
    assert {outcome.parent for outcome in outcomes} == {parent.run_id}
    assert "has ended" in outcomes[0].error.message
    assert trio.current_time() == 6


async def test_a_parent_that_fails_takes_its_children_along(fakes, autojump_clock):
    children = []

    async def fail(run):
        children.append(await run.supervisor.submit(fakes.Agent(nap, nap, nap)))
        await trio.sleep(0.5)
        raise ValueError("mine")

    async with open_supervisor() as sup:
        with pytest.raises(RunFailed, match="mine"):
            await (await sup.submit(fakes.Agent(fail))).result()
        assert (await children[0].outcome()).status == "cancelled"


async def test_a_parent_that_is_done_waits_for_its_children(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        parent = await sup.submit(fakes.Agent(parent_of(fakes.Agent(nap), 3, wait=False)))
        outcome = await parent.outcome()
    assert trio.current_time() == 3
    assert [handle.state for handle in outcome.output] == ["succeeded"] * 3


@pytest.mark.parametrize(("timeout", "status"), [(None, "cancelled"), (0.5, "failed")])
async def test_a_parent_that_was_done_and_is_ended_among_its_children_gives_nothing(
    fakes, autojump_clock, timeout, status
):
    async with open_supervisor() as sup:
        parent = fakes.Agent(parent_of(fakes.Agent(nap), wait=False))
        handle = await sup.submit(parent, timeout=timeout)
        await trio.sleep(0.6)
        handle.cancel("not wanted")
        outcome = await handle.outcome()
    assert (outcome.status, outcome.output) == (status, None)


async def test_a_run_whose_toolset_cannot_be_closed_gives_nothing(autojump_clock):
    class Stuck(WrapperToolset):
        async def __aexit__(self, *_):
            raise OSError("it cannot be closed")

    async def answer(messages, info):
        return ModelResponse([TextPart("done")])

    agent = Agent(FunctionModel(answer), toolsets=[Stuck(FunctionToolset([]))])
    async with open_supervisor() as sup:
        outcome = await (await sup.submit(agent, "q")).outcome()
    assert (outcome.status, outcome.output, outcome.error.message) == ("failed", None, "it cannot be closed")


async def test_a_failing_child_is_its_parents_to_deal_with(fakes, autojump_clock):
    async def boom(run):
        raise ValueError("boom")

    async def try_it(run):
        try:
            await (await run.supervisor.submit(fakes.Agent(boom))).result()
        except RunFailed as error:
            return error.outcome.error.message

    async with open_supervisor() as sup:
        assert (await (await sup.submit(fakes.Agent(try_it))).result()).output == "boom"


async def test_usage_counts_in_both_and_once_in_all(fakes, autojump_clock):
    model = fakes.Model()

    async def ask(run):
        await run.ask(model)

    async def ask_and_submit(run):
        await run.ask(model)
        handles = [await run.supervisor.submit(fakes.Agent(ask)) for _ in range(2)]
        for handle in handles:
            await handle.outcome()
        assert parent.usage().requests == 3

    async with open_supervisor() as sup:
        parent = await sup.submit(fakes.Agent(ask_and_submit), group="g")
        outcome = await parent.outcome()
        assert outcome.usage == parent.usage()
        assert outcome.usage.requests == 3
        assert outcome.usage.input_tokens == 9
        assert sup.usage().requests == 3
        assert sorted(usage.requests for usage in sup.usage(by="run").values()) == [1, 1, 1]
        assert sup.usage(by="group")["g"].requests == 3  # children are of their parent's group


async def test_depth_and_number_are_bounded(fakes, autojump_clock):
    class Endless(fakes.Agent):
        def __init__(self):
            async def again(run):
                return (await (await run.supervisor.submit(self)).result()).output

            super().__init__(again)

    async with open_supervisor(max_depth=4) as sup:
        with pytest.raises(RunFailed, match="max_depth=4"):
            await (await sup.submit(Endless())).result()
        assert sup.snapshot().states["failed"] == 5
    async with open_supervisor(max_children=10) as sup:
        outcome = await (await sup.submit(tree(fakes, 2, 4))).outcome()
        assert "max_children=10" in outcome.error.message
        assert sum(sup.snapshot().states.values()) == 11


async def test_waiting_in_a_circle_is_refused(fakes, autojump_clock):
    async def wait_for_parent(run):
        await top.outcome()

    async def wait_for_itself(run):
        await sup.get(run.host.run_id).outcome()

    async with open_supervisor() as sup:
        top = await sup.submit(fakes.Agent(parent_of(fakes.Agent(wait_for_parent))))
        assert "waits for it" in (await top.outcome()).error.message
        own = await sup.submit(fakes.Agent(wait_for_itself))
        assert "itself" in (await own.outcome()).error.message


async def test_children_are_still_admitted_while_draining(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        parent = await sup.submit(fakes.Agent(nap, parent_of(fakes.Agent(nap))))
        await sup.drain()
        assert (await parent.outcome()).succeeded


async def test_a_run_that_ended_has_no_more_children(fakes, autojump_clock):
    left = []

    async def leave(run):
        left.append(run.supervisor)

    async with open_supervisor() as sup:
        await (await sup.submit(fakes.Agent(leave))).outcome()
        with pytest.raises(RunEnded):
            await left[0].submit(fakes.Agent(nap))


async def test_a_run_cannot_drain_its_own_supervisor(fakes, autojump_clock):
    async def drain(run):
        await run.supervisor.drain()

    async with open_supervisor() as sup:
        with pytest.raises(RunFailed, match="cannot drain its own supervisor"):
            await (await sup.submit(fakes.Agent(drain))).result()


async def test_a_tool_that_waits_too_long_for_a_child_goes_on_in_its_place(fakes, autojump_clock):
    async def impatient(run):
        handle = await run.supervisor.submit(fakes.Agent(nap, nap, nap))
        with trio.move_on_after(1.5):
            await handle.outcome()
        handle.cancel("too slow")
        return "went on"

    async with open_supervisor(max_running=1) as sup:
        handle = await sup.submit(fakes.Agent(impatient, nap))
        assert (await handle.outcome()).succeeded
        assert sup.snapshot().parked == sup.snapshot().places_taken == 0


async def test_parallel_parts_that_wait_for_different_children(fakes, autojump_clock):
    async def both(run):
        async def one(seconds):
            async def sleep(_):
                await trio.sleep(seconds)

            await (await run.supervisor.submit(fakes.Agent(sleep))).outcome()
            await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for seconds in (1, 5, 2):
                nursery.start_soon(one, seconds)

    async with open_supervisor(max_running=1) as sup:
        handles = [await sup.submit(fakes.Agent(both)) for _ in range(2)]
        for handle in handles:
            assert (await handle.outcome()).succeeded
        assert sup.snapshot().parked == sup.snapshot().places_taken == 0


async def test_a_paused_parent_of_children(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        parent = await sup.submit(fakes.Agent(parent_of(fakes.Agent(nap, nap)), nap))
        await trio.sleep(0.5)
        assert parent.state == "paused"  # waits for its child
        answer = parent.pause()
        await answer.wait()
        assert trio.current_time() == 2
        await trio.sleep(10)
        assert parent.state == "paused"
        parent.resume()
        assert (await parent.outcome()).succeeded
    assert trio.current_time() == 13


async def test_cancel_with_grace_lets_families_end_at_a_boundary(fakes, autojump_clock):
    async with open_supervisor(max_running=2) as sup:
        parents = [await sup.submit(fakes.Agent(parent_of(fakes.Agent(nap, nap)))) for _ in range(2)]
        await trio.sleep(0.5)
        sup.cancel("stop", grace=10)
        await sup.drain()
        assert trio.current_time() == 1
        assert [(await parent.outcome()).status for parent in parents] == ["cancelled"] * 2
        assert sup.snapshot().states["failed"] == 0


@pytest.mark.parametrize("waits_by", ["outcome", "map", "maps of one child"])
@pytest.mark.parametrize("submits_at", [0.0, 1.0])
@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_a_tool_of_a_run_that_is_stopped_takes_nothing_of_the_stop_for_a_result(
    tmp_path, autojump_clock, waits_by, submits_at, grace
):
    """What it submits in the grace is refused, and its children end there: it is called again when its run is resumed."""

    async def of_child(messages, info):
        await trio.sleep(1)
        return ModelResponse([ToolCallPart("rest", {}, "c")] if len(messages) == 1 else [TextPart("yes")])

    child = Agent(FunctionModel(of_child))

    @child.tool_plain(idempotent=True)
    async def rest() -> str:
        return "rested"

    async def of_parent(messages, info):
        if len(messages) == 1:
            return ModelResponse([ToolCallPart("ask", {}, "c")])
        return ModelResponse([TextPart(messages[-1].parts[-1].content)])

    parent = Agent(FunctionModel(of_parent))

    @parent.tool(idempotent=True)
    async def ask(ctx: RunContext) -> str:
        await trio.sleep(submits_at)
        if waits_by == "outcome":
            return (await (await ctx.supervisor.submit(child, "q")).outcome()).output or "nothing"
        shared = "child" if waits_by == "maps of one child" else None
        async with ctx.supervisor.map(child, [RunSpec(prompt="q", run_id=shared)]) as outcomes:
            return " ".join([outcome.output or "nothing" async for outcome in outcomes])

    async def run(*, resume):
        async with open_supervisor(journal=tmp_path / "j", resume=resume) as sup:
            handles = [await sup.submit(parent, "p", run_id=run_id) for run_id in ("p", "another")]
            if not resume:
                await trio.sleep(0.5)
                sup.cancel("stop", grace=grace)
            return [await handle.outcome() for handle in handles]

    assert {outcome.status for outcome in await run(resume=False)} == {"cancelled"}
    assert [(outcome.status, outcome.output) for outcome in await run(resume=True)] == [
        ("succeeded", "yes")
    ] * 2


# -------------------------------------------------------------------- real agents and graphs


def talker(*answers):
    """An agent whose model answers with these in turn."""

    async def answer(messages, info):
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse(parts=[answers[turn]], usage=RequestUsage(input_tokens=1, output_tokens=1))

    return Agent(FunctionModel(answer, model_name="talker"))


async def test_an_agents_tools_fan_out(autojump_clock):
    worker = talker(TextPart("worked"))
    boss = talker(ToolCallPart("delegate", {"n": 3}, "c"), TextPart("all done"))

    @boss.tool
    async def delegate(ctx: RunContext, n: int) -> list[str]:
        async with ctx.supervisor.map(worker, [f"part {i}" for i in range(n)]) as outcomes:
            return [outcome.output async for outcome in outcomes]

    async with open_supervisor(max_running=1) as sup:
        outcome = await (await sup.submit(boss, "go")).outcome()
        assert outcome.output == "all done"
        assert outcome.messages[2].parts[0].content == ["worked"] * 3
        assert outcome.usage.requests == 5
        assert sup.usage().requests == 5


async def test_a_child_of_a_resumed_parent_is_not_run_again(tmp_path, autojump_clock):
    """The parent's tool is called again after the crash; the child it finished is not."""
    runs = []

    def agents(crash):
        worker = talker(TextPart("worked"))
        boss = talker(ToolCallPart("delegate", {}, "c"), TextPart("all done"))

        @boss.tool(idempotent=True)
        async def delegate(ctx: RunContext) -> list[str]:
            runs.append("boss")
            outputs = []
            for number in range(2):
                handle = await ctx.supervisor.submit(worker, "same")
                outcome = await handle.outcome()
                outputs.append((outcome.run_id, outcome.replayed if number == 0 else None))
                if crash:
                    await trio.sleep_forever()
            return [run_id for run_id, _ in outputs]

        return boss

    path = tmp_path / "journal.sqlite"
    with trio.move_on_after(5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(agents(crash=True), "go", run_id="boss")
            await trio.sleep_forever()
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(agents(crash=False), "go", run_id="boss")).outcome()
        assert sup.usage().requests == 2  # the boss's second request and the second worker
    assert outcome.succeeded
    first, second = outcome.messages[2].parts[0].content
    assert first.startswith("boss/")
    assert second == first + "-2"
    assert runs == ["boss", "boss"]


@dataclass
class Collect(BaseNode[list, None, int]):
    parts: list[int]

    async def run(self, ctx: GraphRunContext[list, None]) -> End[int]:
        return End(sum(self.parts))


@dataclass
class Square(BaseNode[list, None, int]):
    number: int

    async def run(self, ctx: GraphRunContext[list, None]) -> End[int]:
        await trio.sleep(self.number)
        if self.number > 90:
            raise ValueError("too large")
        ctx.state.append(self.number)
        return End(self.number**2)


@dataclass
class Spread(BaseNode[list, None, int]):
    numbers: list[int]

    async def run(self, ctx: GraphRunContext[list, None]) -> Annotated[list[Square], Join(Collect)]:
        return [Square(number) for number in self.numbers]


squares = Graph(nodes=[Spread, Square, Collect])


@pytest.mark.parametrize("places", [1, 10])
async def test_a_fork_runs_as_children_and_joins(autojump_clock, places):
    async with open_supervisor(max_running=places) as sup:
        handle = await sup.submit_graph(squares, Spread([3, 1, 2]), state=[], group="g")
        outcome = await handle.outcome()
        assert outcome.output == 14
        assert sup.snapshot().states["succeeded"] == 4
        assert (await handle.result()).state == ([3, 1, 2] if places == 1 else [1, 2, 3])
        assert (await (await sup.submit_graph(squares, Spread([]), state=[])).outcome()).output == 0
    assert trio.current_time() == (6 if places == 1 else 3)


async def test_a_branch_that_fails_ends_the_others(autojump_clock):
    async with open_supervisor() as sup:
        handle = await sup.submit_graph(squares, Spread([1, 95, 99, 100]), state=[])
        with pytest.raises(RunFailed, match="too large"):
            await handle.result()
    assert trio.current_time() == 95
    assert sup.snapshot().states["cancelled"] == 2


async def test_agents_in_a_graphs_nodes_pass_the_doors(autojump_clock):
    agent = talker(TextPart("hello"))

    @dataclass
    class Ask(BaseNode[None, None, str]):
        async def run(self, ctx: GraphRunContext) -> End[str]:
            supervisor = current_supervisor()
            child = await supervisor.submit(agent, "as a child")
            result = await agent.run("within")
            return End(result.output + (await child.result()).output)

    async with open_supervisor(max_running=1) as sup:
        outcome = await (await sup.submit_graph(Graph(nodes=[Ask]), Ask())).outcome()
        assert outcome.output == "hellohello"
        assert outcome.usage.requests == 2
        assert sup.usage(by="model")["talker"].requests == 2
    assert current_supervisor() is None


async def test_a_cancelled_child_says_so(fakes, autojump_clock):
    async def look(run):
        handle = await run.supervisor.submit(fakes.Agent(nap, nap))
        await trio.sleep(0.5)
        handle.cancel("not needed")
        with pytest.raises(RunCancelled, match="not needed"):
            await handle.result()
        return "fine"

    async with open_supervisor() as sup:
        assert (await (await sup.submit(fakes.Agent(look))).result()).output == "fine"


async def test_supervisors_nested_and_side_by_side_are_independent(fakes, autojump_clock):
    """A run that waits for another supervisor's run keeps its place: that one has places of its own."""

    async def nested(run):
        async with open_supervisor(max_running=1) as inner:
            handles = [await inner.submit(tree(fakes, 1)) for _ in range(2)]
            held.append((sup.snapshot().places_taken, sup.snapshot().parked))
            return [(await handle.result()).output for handle in handles]

    async def across(run):
        return (await (await other.submit(fakes.Agent(nap), run.prompt)).result()).output

    held = []
    async with open_supervisor(max_running=1) as sup, open_supervisor(max_running=1) as other:
        first = await sup.submit(fakes.Agent(nested))
        second = await sup.submit(fakes.Agent(across), "x")
        assert (await first.outcome()).succeeded
        assert (await second.result()).output == "x"
        assert held == [(1, 0)]
        assert (sup.snapshot().submitted, other.snapshot().submitted) == (2, 1)
        sup.cancel()
        assert (await (await other.submit(fakes.Agent(nap))).outcome()).succeeded
