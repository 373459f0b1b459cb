from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio

from runmgr.graph import (
    BaseNode,
    End,
    Graph,
    GraphNodeStatusError,
    GraphRun,
    GraphRunContext,
    GraphRunResult,
    GraphRuntimeError,
    SimpleStatePersistence,
)


@dataclass
class State:
    log: list[str] = field(default_factory=list)


@dataclass
class Halve(BaseNode[State, str, int]):
    number: int

    async def run(self, ctx: GraphRunContext[State, str]) -> Check:
        await trio.lowlevel.checkpoint()
        ctx.state.log.append(f"{ctx.deps}{self.number}")
        return Check(self.number // 2)


@dataclass
class Check(BaseNode[State, str, int]):
    number: int

    async def run(self, ctx: GraphRunContext[State, str]) -> Halve | End[int]:
        if self.number < 0:
            raise ValueError(f"{self.number} is negative")
        return Halve(self.number) if self.number % 2 == 0 else End(self.number)


graph = Graph(nodes=[Halve, Check])
ALL = [Check(12), Halve(12), Check(6), Halve(6), Check(3), End(3)]


async def test_run():
    result = await graph.run(Check(12), state=State(), deps="x")
    assert (result.output, result.state) == (3, State(["x12", "x6"]))
    assert result == GraphRunResult(3, State(["x12", "x6"]))
    assert repr(result) == "GraphRunResult(output=3, state=State(log=['x12', 'x6']))"
    assert result.persistence.last_snapshot.node == End(3)


def test_run_sync():
    assert graph.run_sync(Check(12), state=State(), deps="").output == 3


def test_run_sync_with_a_runner_of_ones_own():
    ran = []

    def runner(main):
        ran.append(main)
        return trio.run(main)

    assert graph.run_sync(Check(1), state=State(), deps="", runner=runner).output == 1
    assert len(ran) == 1


async def test_iterating_gives_the_start_node_then_what_each_step_returned():
    async with graph.iter(Check(12), state=State(), deps="") as run:
        assert (run.next_node, run.result) == (Check(12), None)
        seen = [(node, run.next_node) async for node in run]
    assert seen == [(node, node) for node in ALL]
    assert run.result.output == 3
    assert run.result is run.result
    assert run.state is run.result.state
    assert [node async for node in run] == []


async def test_driving_by_hand():
    async with graph.iter(Check(12), state=State(), deps="d") as run:
        node = run.next_node
        seen = [node]
        while not isinstance(node, End):
            node = await run.next(node)
            seen.append(node)
        assert seen == ALL
        with pytest.raises(
            TypeError, match=r"`next` must be called with a `BaseNode` instance, got End\(data=3\)"
        ):
            await run.next()


async def test_inspecting_replacing_and_skipping_nodes():
    async with graph.iter(Check(12), state=State(), deps="") as run:
        assert await run.next() == Halve(12)
        assert await run.next(Halve(100)) == Check(50)
        run.next_node.number = 7
        assert await run.next() == End(7)
        assert await run.next(Check(5)) == End(5)  # even from the end
        assert run.result.output == 5
    assert run.state.log == ["100"]


async def test_iterating_after_driving_by_hand_begins_where_the_run_is():
    async with graph.iter(Check(6), state=State(), deps="") as run:
        await run.next()
        assert [node async for node in run] == [Halve(6), Check(3), End(3)]


async def test_an_error_comes_out_where_the_step_was_driven():
    async with graph.iter(Check(-4), state=State(), deps="") as run:
        with pytest.raises(ValueError, match="-4 is negative"):
            async for _ in run:
                pass
        assert (run.next_node, run.result) == (Check(-4), None)
    with pytest.raises(ValueError, match="-4 is negative"):
        await graph.run(Check(-4), state=State(), deps="")


async def test_after_an_error_the_run_refuses_to_go_on_unless_told_with_what():
    async with graph.iter(Check(-4), state=State(), deps="") as run:
        for _ in range(2):
            with pytest.raises(ValueError, match="negative"):
                await run.next(run.next_node)
            with pytest.raises(
                GraphNodeStatusError, match=r"(?s)'error'.*\(Check\) failed.*run.next\(run.next_node\)"
            ) as caught:
                await run.next()
            assert caught.value.actual_status == "error"
            with pytest.raises(GraphNodeStatusError):
                await anext(aiter(run)), await anext(aiter(run))
        run.next_node.number = 8
        assert await run.next(run.next_node) == Halve(8)
        assert await run.next() == Check(4)


async def test_cancelled_in_a_step_it_can_be_tried_again(autojump_clock):
    class Sleep(BaseNode[list[int]]):
        async def run(self, ctx: GraphRunContext[list[int]]) -> End[str]:
            ctx.state.append(1)
            await trio.sleep(2)
            return End("slept")

    async with Graph(nodes=[Sleep]).iter(Sleep(), state=[]) as run:
        with trio.move_on_after(1) as scope:
            await run.next()
        assert scope.cancelled_caught
        assert (run.state, run.result) == ([1], None)
        assert await run.next(run.next_node) == End("slept")
    assert run.state == [1, 1]
    assert trio.current_time() == 3


async def test_one_step_at_a_time():
    class Reenter(BaseNode[None, list[GraphRun]]):
        async def run(self, ctx: GraphRunContext[None, list[GraphRun]]) -> End[None]:
            with pytest.raises(GraphNodeStatusError, match="(?s)'running'.*One step at a time"):
                await ctx.deps[0].next()
            return End(None)

    box = []
    async with Graph(nodes=[Reenter]).iter(Reenter(), deps=box) as run:
        box.append(run)
        assert await run.next() == End(None)


async def test_a_step_makes_no_task_and_runs_in_the_callers():
    class Look(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[tuple]:
            task = trio.lowlevel.current_task()
            return End((task, trio.lowlevel.current_statistics().tasks_living, task.parent_nursery))

    here = trio.lowlevel.current_task()
    living = trio.lowlevel.current_statistics().tasks_living
    result = await Graph(nodes=[Look]).run(Look())
    assert result.output == (here, living, here.parent_nursery)


async def test_what_is_not_of_the_graph_is_refused():
    class Stranger(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    class Halfway(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]:
            return Stranger()

    with pytest.raises(
        GraphRuntimeError, match="(?s)Stranger.*is not in the graph.*Add its class to the `nodes` of `graph`"
    ):
        graph.iter(Stranger())
    async with graph.iter(Check(1), state=State(), deps="") as run:
        with pytest.raises(GraphRuntimeError, match="Stranger"):
            await run.next(Stranger())
        assert await run.next() == End(1)  # nothing has happened to the run
        with pytest.raises(TypeError, match="got 'text'"):
            await run.next("text")
    with pytest.raises(GraphRuntimeError, match="Stranger"):
        await Graph(nodes=[Halfway]).run(Halfway())


@pytest.mark.parametrize("returned", [7, None, [1, 2], "text"])
async def test_a_wrong_return_value_is_named(returned):
    class Wrong(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]:
            return returned

    with pytest.raises(
        GraphRuntimeError,
        match=f"(?s)Invalid node return type: `{type(returned).__name__}`.*`Wrong.run` returned",
    ):
        await Graph(nodes=[Wrong]).run(Wrong())


async def test_a_subclass_that_keeps_its_parents_id_is_of_the_graph():
    class LoudCheck(Check):
        @classmethod
        def get_node_id(cls):
            return "Check"

    assert (await graph.run(LoudCheck(3), state=State(), deps="")).output == 3


async def test_graph_next_runs_one_recorded_step():
    persistence = SimpleStatePersistence()
    assert await graph.next(Check(4), persistence, state=State(), deps="") == Halve(4)
    assert persistence.last_snapshot.node == Halve(4)


async def test_the_name_is_that_of_the_variable():
    my_graph = Graph(nodes=[Halve, Check])
    assert my_graph.name is None
    async with my_graph.iter(Check(1), state=State(), deps="", infer_name=False) as run:
        assert repr(run) == "<GraphRun graph=[unnamed]>"
    async with my_graph.iter(Check(1), state=State(), deps="") as run:
        assert repr(run) == "<GraphRun graph=my_graph>"
    assert Graph(nodes=[Halve, Check], name="given").name == "given"
    unnamed = [Graph(nodes=[Halve, Check])]
    await unnamed[0].run(Check(1), state=State(), deps="")
    assert unnamed[0].name is None


class Span:
    """Stands for an OpenTelemetry span and the context manager that makes it current."""

    trace_id, span_id, trace_flags = 0xABC, 0xDEF, 1

    def __init__(self):
        self.events = []

    def get_span_context(self):
        return self

    def __enter__(self):
        self.events.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.events.append(kind)


async def test_a_span_is_around_the_run_and_gives_the_traceparent():
    span = Span()
    async with graph.iter(Check(1), state=State(), deps="", span=span) as run:
        assert span.events == ["enter"]
        expected = "00-00000000000000000000000000000abc-0000000000000def-01"
        assert run._traceparent() == expected
        await run.next()
        assert run.result._traceparent() == expected
    assert span.events == ["enter", None]
    with pytest.raises(ZeroDivisionError):
        async with graph.iter(Check(1), state=State(), deps="", span=span):
            raise ZeroDivisionError
    assert span.events[-1] is ZeroDivisionError


async def test_without_a_span_there_is_no_traceparent():
    async with graph.iter(Check(1), state=State(), deps="") as run:
        assert run._traceparent(required=False) is None
        with pytest.raises(GraphRuntimeError, match="No span was created for this graph run"):
            run._traceparent()
