from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import attrs
import msgspec
import pytest

from runmgr.graph import BaseNode, Edge, End, Graph, GraphRunContext, GraphSetupError, Join

if TYPE_CHECKING:
    from somewhere import Elsewhere, OnlyForCheckers


class Last(BaseNode):
    async def run(self, ctx: GraphRunContext) -> End[int]: ...


class First(BaseNode):
    async def run(self, ctx: GraphRunContext) -> Last: ...


def refused(*nodes, **arguments):
    with pytest.raises(GraphSetupError) as caught:
        Graph(nodes=list(nodes), **arguments)
    return "\n".join([caught.value.message, *getattr(caught.value, "__notes__", ())])


def test_no_return_annotation():
    class Silent(BaseNode):
        async def run(self, ctx): ...

    assert "Silent" in (message := refused(Silent))
    assert "missing a return type hint" in message
    assert "write for example `async def run" in message


def test_no_run_method():
    class Idle(BaseNode):
        pass

    assert "Idle" in (message := refused(Idle))
    assert "no `run` method" in message


def test_a_name_that_does_not_resolve():
    class Lost(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Elsewhere | End[int]: ...

    assert "`Lost.run`" in (message := refused(Lost))
    assert "'Elsewhere'" in message
    assert "TYPE_CHECKING" in message


def test_other_annotations_need_not_resolve():
    class Fine(BaseNode):
        async def run(self, ctx: OnlyForCheckers) -> End[int]: ...

    assert Graph(nodes=[Fine]).node_defs["Fine"].end_type is int


@pytest.mark.parametrize("annotation", [int, None, "int | End[int]", "dict[str, Last]", "list[int]"])
def test_what_cannot_come_next(annotation):
    class Odd(BaseNode):
        async def run(self, ctx): ...

    Odd.run.__annotations__["return"] = annotation
    assert "Invalid return type" in (message := refused(Odd, Last))
    assert "`Odd.run`" in message


def test_a_node_that_is_not_in_the_graph():
    assert "`Last` is referenced by `First` but not included in the graph" in (message := refused(First))
    assert "Add it to `nodes`" in message


def test_another_class_of_the_same_name_is_not_the_node():
    def other():
        class Last(BaseNode):
            async def run(self, ctx: GraphRunContext) -> End[int]: ...

        return Last

    class Begin(BaseNode):
        async def run(self, ctx): ...

    Begin.run.__annotations__["return"] = Last
    assert "another class" in refused(Begin, other())


def test_duplicate_ids():
    assert "`Last` is not unique" in (message := refused(Last, Last))
    assert "List it once" in message

    class Other(BaseNode):
        @classmethod
        def get_node_id(cls):
            return "Last"

        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    assert "`Last` is not unique" in (message := refused(Last, Other))
    assert "get_node_id" in message


def test_nodes_that_are_not_node_classes():
    assert "write `Last`, the class" in refused(Last())
    assert "subclass `BaseNode`" in refused(int)
    assert "no nodes" in refused()


def test_unreachable_nodes():
    class Island(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Bay: ...

    class Bay(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Island: ...

    class Middle(BaseNode):
        async def run(self, ctx: GraphRunContext) -> First: ...

    message = refused(Last, Island, First, Bay, Middle)
    assert message.startswith("`Island`, `Bay` cannot be reached from `Middle`")
    assert "start=[...]" in message
    assert len(Graph(nodes=[Last, Island, First, Bay, Middle], start=[Island, Middle]).node_defs) == 5


def test_starts_that_are_named_have_to_reach_everything():
    assert "`First` cannot be reached from `Last`" in refused(First, Last, start=Last)
    assert "`First` is named in `start` but not included" in refused(Last, start=[First])
    Graph(nodes=[First, Last], start=First)


def test_a_circle_is_reachable_from_anywhere_in_it():
    class Ping(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Pong: ...

    class Pong(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Ping: ...

    Graph(nodes=[Ping, Pong], start=Pong)
    Graph(nodes=[Ping, Pong])


def test_base_node_as_annotation_means_any_node():
    class Anything(BaseNode):
        async def run(self, ctx: GraphRunContext) -> BaseNode | End[int]: ...

    node_def = Graph(nodes=[Anything, Last]).node_defs["Anything"]
    assert node_def.returns_base_node
    assert node_def.next_node_edges == {}


def test_edges_and_ends_are_read_from_the_annotation():
    class Choose(BaseNode):
        """Chooses."""

        docstring_notes = True

        async def run(
            self, ctx: GraphRunContext
        ) -> Annotated[First, Edge(label="first")] | Last | Annotated[End[str], Edge(label="done")]: ...

    node_def = Graph(nodes=[Choose, First, Last]).node_defs["Choose"]
    assert node_def.node is Choose
    assert node_def.node_id == "Choose"
    assert node_def.note == "Chooses."
    assert node_def.next_node_edges == {"First": Edge("first"), "Last": Edge(None)}
    assert node_def.end_edge == Edge("done")
    assert not node_def.returns_base_node


def test_forks_are_read_from_the_annotation():
    class Collect(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    class Spread(BaseNode):
        async def run(
            self, ctx: GraphRunContext
        ) -> (
            Annotated[list[First], Edge(label="each"), Join(Collect)] | tuple[First | Last, ...] | Collect
        ): ...

    node_def = Graph(nodes=[Spread, First, Last, Collect]).node_defs["Spread"]
    assert set(node_def.fork_edges) == {"First", "Last"}
    assert node_def.next_node_edges == {"Collect": Edge()}
    assert node_def.join == Join(Collect)
    with pytest.raises(GraphSetupError, match="`Collect` is referenced by `Spread`"):
        Graph(nodes=[Spread, First, Last])


def test_a_decorated_run_is_read_through_its_decorator():
    def decorate(function):
        @functools.wraps(function)
        async def wrapper(self, ctx):
            return await function(self, ctx)

        return wrapper

    class Wrapped(BaseNode):
        @decorate
        async def run(self, ctx: GraphRunContext) -> Last: ...

    assert set(Graph(nodes=[Wrapped, Last]).node_defs["Wrapped"].next_node_edges) == {"Last"}


def test_names_of_the_function_that_builds_the_graph_resolve():
    class Local(BaseNode):
        async def run(self, ctx: GraphRunContext) -> Next: ...

    Next = Last | End[int]
    node_def = Graph(nodes=[Local, Last]).node_defs["Local"]
    assert set(node_def.next_node_edges) == {"Last"}
    assert Graph[None, None, int](nodes=[Local, Last]).node_defs["Local"].end_edge == Edge()


@dataclass
class AsDataclass(BaseNode[dict, None, str]):
    text: str

    async def run(self, ctx: GraphRunContext[dict]) -> AsAttrs:
        return AsAttrs(self.text + "a")


@attrs.frozen
class AsAttrs(BaseNode[dict, None, str]):
    text: str

    async def run(self, ctx: GraphRunContext[dict]) -> AsStruct:
        return AsStruct(self.text + "b")


class AsStruct(BaseNode[dict, None, str], msgspec.Struct, frozen=True):
    text: str

    async def run(self, ctx: GraphRunContext[dict]) -> AsSlots:
        return AsSlots(self.text + "c")


@dataclass(slots=True, frozen=True)
class AsSlots(BaseNode[dict, None, str]):
    text: str

    async def run(self, ctx: GraphRunContext[dict]) -> End[str]:
        return End(self.text + "d")


async def test_nodes_of_every_make():
    graph = Graph(nodes=[AsDataclass, AsAttrs, AsStruct, AsSlots])
    assert (await graph.run(AsDataclass(""), state={})).output == "abcd"
    for node in (AsDataclass("x"), AsAttrs("x"), AsStruct("x"), AsSlots("x")):
        node_id = node.get_snapshot_id()
        assert node_id.startswith(f"{type(node).__name__}:")
        assert node.get_snapshot_id() == node_id
        assert node == type(node)("x")
        assert "snapshot" not in repr(node)
        copied = node.deep_copy()
        assert copied == node
        assert copied is not node
        node.set_snapshot_id("other")
        assert node.get_snapshot_id() == "other"


def test_inferred_types():
    assert Graph(nodes=[AsDataclass, AsAttrs, AsStruct, AsSlots]).inferred_types == (dict, str)
    assert Graph(nodes=[First, Last]).inferred_types == (None, int)
    assert Graph(nodes=[First, Last], state_type=list, run_end_type=float).inferred_types == (list, float)


def test_get_nodes_and_repr():
    graph = Graph(nodes=[First, Last], name="both")
    assert graph.get_nodes() == [First, Last]
    assert repr(graph).startswith("Graph(name='both', node_defs={'First': NodeDef(")


def test_notes_are_docstrings_of_ones_own():
    @dataclass
    class Plain(BaseNode):
        docstring_notes = True
        field: int

        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    class Told(Plain):
        """Two
        lines.
        """

    class Unasked(BaseNode):
        """Not shown."""

    assert [node.get_note() for node in (Plain, Told, Unasked)] == [None, "Two\nlines.", None]


def test_deep_copies_share_nothing():
    end = End([1])
    copied = end.deep_copy_data()
    copied.data.append(2)
    assert end == End([1])
    end.set_snapshot_id("end:1")
    assert end.deep_copy_data().get_snapshot_id() == "end:1"


def test_the_graph_knows_no_event_loop():
    import subprocess
    import sys

    # `import runmgr` itself may not import trio either, so this is the graph's doing alone.
    code = "import runmgr.graph, runmgr.graph.persistence.file, sys; print('trio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
