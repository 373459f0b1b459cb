from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal

import attrs
import msgspec
import pydantic
import pydantic_graph
import pytest
import trio

from runmgr.graph import (
    BaseNode,
    BaseStatePersistence,
    End,
    EndSnapshot,
    FullStatePersistence,
    Graph,
    GraphNodeStatusError,
    GraphRunContext,
    GraphRuntimeError,
    NodeSnapshot,
    SimpleStatePersistence,
)
from runmgr.graph.persistence.file import FileStatePersistence


@dataclass
class State:
    count: int = 0
    log: list[str] = field(default_factory=list)


@dataclass
class Add(BaseNode[State, None, Decimal]):
    number: int
    fail: bool = False

    async def run(self, ctx: GraphRunContext[State]) -> Show:
        ctx.state.count += self.number
        if self.fail:
            raise RuntimeError("told to fail")
        return Show()


class Show(BaseNode[State, None, Decimal]):
    async def run(self, ctx: GraphRunContext[State]) -> Add | End[Decimal]:
        ctx.state.log.append(str(ctx.state.count))
        await trio.sleep(1)
        return Add(2) if ctx.state.count < 3 else End(Decimal("1.5"))

    def __eq__(self, other):
        return type(other) is Show

    __hash__ = None


graph = Graph(nodes=[Add, Show])


def in_file(path, **options):
    persistence = FileStatePersistence(path / "run.json", **options)
    persistence.set_graph_types(graph)
    return persistence


@pytest.fixture(params=["memory", "file", "threads"])
def persistence(request, tmp_path):
    if request.param == "memory":
        return FullStatePersistence()
    return in_file(tmp_path, run_io=None if request.param == "file" else in_a_thread)


async def in_a_thread(function):
    # Beside a clock that jumps a real thread cannot be waited for; that the runner is used is what matters here.
    await trio.lowlevel.checkpoint()
    return function()


async def statuses(persistence):
    return [getattr(snapshot, "status", "end") for snapshot in await persistence.load_all()]


async def test_every_step_is_kept_with_the_state_before_it(persistence, autojump_clock):
    result = await graph.run(Add(1), state=State(), persistence=persistence)
    assert result.persistence is persistence
    history = await persistence.load_all()
    assert [(snapshot.node, snapshot.state.count) for snapshot in history] == [
        (Add(1), 0),
        (Show(), 1),
        (Add(2), 1),
        (Show(), 3),
        (End(Decimal("1.5")), 3),
    ]
    assert history[-1].state.log == ["1", "3"]
    assert [type(snapshot) for snapshot in history] == [NodeSnapshot] * 4 + [EndSnapshot]
    for snapshot in history[:-1]:
        assert snapshot.status == "success"
        assert 0 <= snapshot.duration < 5
        assert snapshot.start_ts.tzinfo is not None
        assert snapshot.id.startswith(f"{type(snapshot.node).__name__}:")
    assert history[-1].id.startswith("end:")
    assert len({snapshot.id for snapshot in history}) == 5


async def test_going_on_from_what_was_saved(persistence, autojump_clock):
    async with graph.iter(Add(1), state=State(), persistence=persistence) as run:
        await run.next()
        await run.next()
    async with graph.iter_from_persistence(persistence) as run:
        assert (run.next_node, run.state) == (Add(2), State(1, ["1"]))
        assert [node async for node in run] == [Add(2), Show(), End(Decimal("1.5"))]
    assert await statuses(persistence) == ["success"] * 4 + ["end"]
    with pytest.raises(GraphRuntimeError, match="Unable to restore snapshot from state persistence"):
        async with graph.iter_from_persistence(persistence):
            pass


async def test_initialize_saves_a_start(persistence, autojump_clock):
    await graph.initialize(Add(5), persistence, state=State())
    assert await statuses(persistence) == ["created"]
    async with graph.iter_from_persistence(persistence) as run:
        assert await statuses(persistence) == ["pending"]
        assert [node async for node in run][-1] == End(Decimal("1.5"))


async def test_a_failed_step_is_recorded_and_so_is_its_retry(persistence, autojump_clock):
    async with graph.iter(Add(1, fail=True), state=State(), persistence=persistence) as run:
        with pytest.raises(RuntimeError, match="told to fail"):
            await run.next()
        assert await statuses(persistence) == ["error"]
        assert await persistence.load_next() is None
        with pytest.raises(GraphNodeStatusError, match="error"):
            await run.next()
        run.next_node.fail = False
        assert await run.next(run.next_node) == Show()
    assert await statuses(persistence) == ["error", "success", "created"]


async def test_a_cancelled_step_can_be_loaded_again(persistence, autojump_clock):
    with trio.move_on_after(0.5) as scope:
        await graph.run(Add(1), state=State(), persistence=persistence)
    assert scope.cancelled_caught
    assert await statuses(persistence) == ["success", "created"]
    async with graph.iter_from_persistence(persistence) as run:
        assert run.next_node == Show()


async def test_a_node_that_has_run_is_not_run_again(persistence, autojump_clock):
    async with graph.iter(Add(1), state=State(), persistence=persistence) as run:
        node = run.next_node
        await run.next(node)
        with pytest.raises(GraphNodeStatusError, match="'success', must be 'created' or 'pending'"):
            await run.next(node)
        assert run.state.count == 1


async def test_a_node_that_returns_itself_is_a_new_execution(tmp_path):
    @dataclass
    class Count(BaseNode[State, None, int]):
        number: int = 0

        async def run(self, ctx: GraphRunContext[State]) -> Count | End[int]:
            self.number += 1
            return self if self.number < 3 else End(self.number)

    persistence = FullStatePersistence()
    assert (await Graph(nodes=[Count]).run(Count(), state=State(), persistence=persistence)).output == 3
    assert [snapshot.node for snapshot in persistence.history] == [Count(0), Count(1), Count(2), End(3)]
    assert len({snapshot.id for snapshot in persistence.history}) == 4


async def test_unknown_snapshots_are_named(persistence):
    persistence.set_graph_types(graph)
    with pytest.raises(LookupError, match="Add:none"):
        async with persistence.record_run("Add:none"):
            pass


# -- in memory


async def test_without_copies_the_history_changes_with_the_run(autojump_clock):
    persistence = FullStatePersistence(deep_copy=False)
    await graph.run(Add(1), state=State(), persistence=persistence)
    assert {snapshot.state.count for snapshot in persistence.history} == {3}


async def test_with_copies_the_history_stays_as_it_was():
    class Begin(BaseNode[list[int]]):
        async def run(self, ctx: GraphRunContext[list[int]]) -> End[list[int]]:
            return End(ctx.state)

    persistence = FullStatePersistence()
    result = await Graph(nodes=[Begin]).run(Begin(), state=[1], persistence=persistence)
    result.output.append(2)
    assert [snapshot.state for snapshot in persistence.history] == [[1], [1]]
    assert persistence.history[-1].result == End([1])


async def test_simple_keeps_the_latest_only(autojump_clock):
    persistence = SimpleStatePersistence()
    async with graph.iter(Add(1), state=State(), persistence=persistence) as run:
        await run.next()
        assert persistence.last_snapshot.node == Show()
        assert persistence.last_snapshot.status == "created"
    async with graph.iter_from_persistence(persistence) as run:
        assert run.next_node == Show()
        async for _ in run:
            pass
    assert persistence.last_snapshot.node == End(Decimal("1.5"))
    assert await persistence.load_next() is None
    with pytest.raises(NotImplementedError, match="FullStatePersistence"):
        await persistence.load_all()
    with pytest.raises(LookupError, match="x"):
        persistence.record_run("x")


async def test_a_run_without_persistence_has_one_when_it_is_asked_for(autojump_clock):
    async with graph.iter(Add(1), state=State()) as run:
        await run.next()
        persistence = run.persistence
        assert isinstance(persistence, SimpleStatePersistence)
        assert persistence.last_snapshot.node == Show()
        await run.next()
        assert persistence.last_snapshot.node == Add(2)
        assert run.persistence is persistence


async def test_json_round_trip(autojump_clock):
    persistence = FullStatePersistence()
    with pytest.raises(GraphRuntimeError, match="set_graph_types"):
        persistence.dump_json()
    assert persistence.should_set_types()
    await graph.run(Add(1), state=State(), persistence=persistence)
    other = FullStatePersistence()
    other.set_graph_types(graph)
    other.load_json(persistence.dump_json(indent=2))
    assert other.history == persistence.history
    assert other.dump_json() == persistence.dump_json()


async def test_json_without_a_graph_can_be_written_but_holds_unknown_nodes(autojump_clock):
    persistence = FullStatePersistence()
    await graph.run(Add(1), state=State(), persistence=persistence)
    other = FullStatePersistence()
    other.set_types(State, Decimal)
    other.history = persistence.history
    data = other.dump_json()
    with pytest.raises(GraphRuntimeError, match="`Add`.*set_graph_types"):
        other.load_json(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "truncated"),
        ("{}", "array"),
        ('[{"kind": "node", "id": "x", "state": {}}]', "lacks its node"),
        ('[{"kind": "end", "id": "x", "state": {}}]', "lacks its node or its result"),
        ('[{"kind": "node", "id": "x", "state": {"count": "many"}, "node": {"node_id": "Show"}}]', "count"),
    ],
)
def test_json_that_is_something_else(text, message):
    persistence = FullStatePersistence()
    persistence.set_graph_types(graph)
    with pytest.raises(ValueError, match=message):
        persistence.load_json(text)


# -- every kind of node and state


class ModelState(pydantic.BaseModel):
    tags: set[str] = set()


@attrs.define
class AttrsNode(BaseNode[ModelState, None, tuple[int, ...]]):
    number: int
    when: Decimal = Decimal(1)

    async def run(self, ctx: GraphRunContext[ModelState]) -> StructNode:
        ctx.state.tags.add("attrs")
        return StructNode(self.number + 1)


class StructNode(BaseNode[ModelState, None, tuple[int, ...]], msgspec.Struct):
    number: int

    async def run(self, ctx: GraphRunContext[ModelState]) -> End[tuple[int, ...]]:
        return End((self.number, 7))


async def test_attrs_structs_and_pydantic_models_are_saved_too(tmp_path):
    kinds = Graph(nodes=[AttrsNode, StructNode], run_end_type=tuple[int, ...])
    persistence = FileStatePersistence(tmp_path / "kinds.json")
    await kinds.run(AttrsNode(1), state=ModelState(), persistence=persistence)
    again = FileStatePersistence(tmp_path / "kinds.json")
    again.set_graph_types(kinds)
    history = await again.load_all()
    assert [snapshot.node for snapshot in history] == [AttrsNode(1), StructNode(2), End((2, 7))]
    assert history[-1].state == ModelState(tags={"attrs"})


async def test_a_node_with_attributes_but_no_fields_cannot_be_saved(tmp_path):
    class Sloppy(BaseNode):
        def __init__(self, number):
            self.number = number

        async def run(self, ctx: GraphRunContext) -> End[None]: ...

    with pytest.raises(GraphRuntimeError, match="make `Sloppy` a dataclass"):
        await Graph(nodes=[Sloppy]).run(Sloppy(1), persistence=FileStatePersistence(tmp_path / "x.json"))


# -- the file


async def test_the_file_is_replaced_never_rewritten_in_place(tmp_path, autojump_clock):
    persistence = in_file(tmp_path)
    async with graph.iter(Add(1), state=State(), persistence=persistence) as run:
        await run.next()
        with persistence.json_file.open() as before:
            inode = persistence.json_file.stat().st_ino
            await run.next()
            assert persistence.json_file.stat().st_ino != inode
            assert [entry["node"]["node_id"] for entry in json.load(before)] == ["Add", "Show"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


async def test_a_write_that_fails_leaves_the_old_content(tmp_path, autojump_clock):
    persistence = in_file(tmp_path)
    await graph.initialize(Add(1), persistence, state=State())
    before = persistence.json_file.read_bytes()
    with pytest.raises(ValueError, match="serialize unknown type"):
        await graph.initialize(Add(1), persistence, state=State(count=object()))
    assert persistence.json_file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


async def test_a_path_may_be_a_string_and_no_file_is_an_empty_history(tmp_path):
    persistence = FileStatePersistence(str(tmp_path / "none.json"))
    with pytest.raises(GraphRuntimeError, match="set_graph_types"):
        await persistence.load_all()
    persistence.set_graph_types(graph)
    assert await persistence.load_all() == []
    assert await persistence.load_next() is None


async def test_a_file_of_something_else_is_named(tmp_path):
    persistence = in_file(tmp_path)
    persistence.json_file.write_text("{}")
    with pytest.raises(GraphRuntimeError, match=r"run\.json does not hold snapshots of this graph"):
        await persistence.load_all()


async def test_a_node_that_ran_when_its_process_died_is_rerun_only_on_request(tmp_path, autojump_clock):
    persistence = in_file(tmp_path)
    await graph.initialize(Add(3), persistence, state=State())
    recording = persistence.record_run((await persistence.load_all())[0].id)
    await recording.__aenter__()  # and then nothing: the process is gone
    assert await statuses(persistence) == ["running"]
    assert await persistence.load_next() is None
    async with graph.iter_from_persistence(in_file(tmp_path, rerun_interrupted=True)) as run:
        assert [node async for node in run][-1] == End(Decimal("1.5"))
    assert await statuses(persistence) == ["success", "success", "end"]
    with pytest.raises(GeneratorExit):
        await recording.gen.athrow(GeneratorExit)


async def test_real_threads(tmp_path):
    persistence = in_file(tmp_path, run_io=trio.to_thread.run_sync)
    async with graph.iter(Add(3), state=State(), persistence=persistence) as run:
        assert await run.next() == Show()
    assert await statuses(persistence) == ["success", "created"]


# -- beside pydantic_graph


@dataclass
class TheirAdd(pydantic_graph.BaseNode[State, None, Decimal]):
    number: int
    fail: bool = False

    async def run(self, ctx: pydantic_graph.GraphRunContext[State]) -> pydantic_graph.End[Decimal]:
        return pydantic_graph.End(Decimal("2.5"))

    @classmethod
    def get_node_id(cls):
        return "Add"


async def test_the_file_is_that_of_pydantic_graph_both_ways(tmp_path):
    path = tmp_path / "run.json"
    await graph.initialize(Add(1), FileStatePersistence(path), state=State(7, ["x"]))

    theirs = pydantic_graph.FullStatePersistence()
    theirs.set_graph_types(pydantic_graph.Graph(nodes=[TheirAdd], state_type=State, run_end_type=Decimal))
    theirs.load_json(path.read_bytes())
    (snapshot,) = theirs.history
    assert (snapshot.node, snapshot.state, snapshot.status) == (TheirAdd(1), State(7, ["x"]), "created")

    end = pydantic_graph.EndSnapshot(state=State(8), result=pydantic_graph.End(Decimal("2.5")), id="end:1")
    theirs.history.append(end)
    path.write_bytes(theirs.dump_json())
    history = await in_file(tmp_path).load_all()
    assert [snapshot.node for snapshot in history] == [Add(1), End(Decimal("2.5"))]
    assert [snapshot.state for snapshot in history] == [State(7, ["x"]), State(8)]
    assert [snapshot.id for snapshot in history] == [snapshot.id for snapshot in theirs.history]
    assert history[1].ts == end.ts


def test_subclasses_may_keep_snapshots_elsewhere():
    with pytest.raises(TypeError, match="abstract"):
        BaseStatePersistence()
