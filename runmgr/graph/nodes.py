"""The parts a graph is written in: nodes, the end, edges, and what a node is given.

A node is a class with one ``async def run``. Its return annotation *is* the graph: whatever it names can come next::

    @dataclass
    class Check(BaseNode[State, None, int]):
        number: int

        async def run(self, ctx: GraphRunContext[State]) -> Halve | Annotated[End[int], Edge(label="odd")]: ...

Nodes may be dataclasses, attrs classes, ``msgspec.Struct`` classes or plain classes: `BaseNode` brings no metaclass and
no fields.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Never, Self, cast
from uuid import uuid4

from typing_extensions import TypeVar

__all__ = (
    "BaseNode",
    "DepsT",
    "Edge",
    "End",
    "GraphRunContext",
    "Join",
    "NodeDef",
    "NodeRunEndT",
    "RunEndT",
    "StateT",
    "generate_snapshot_id",
)

StateT = TypeVar("StateT", default=None)
"""A run's state: any object, handed to every node, mutated in place."""
DepsT = TypeVar("DepsT", default=None, contravariant=True)  # noqa: PLC0105  # documented name
"""What nodes need from outside: clients, settings. Never saved."""
RunEndT = TypeVar("RunEndT", covariant=True, default=None)  # noqa: PLC0105  # documented name
"""The type of a run's output: what ``End`` holds."""
NodeRunEndT = TypeVar("NodeRunEndT", covariant=True, default=Never)  # noqa: PLC0105  # documented name
"""The type of the output that one node may end the run with; ``Never`` when it does not."""

_SNAPSHOT_ID = "__snapshot_id"


def generate_snapshot_id(node_id: str) -> str:
    """A fresh id for one execution of a node: the node's id and 128 random bits."""
    return f"{node_id}:{uuid4().hex}"


@dataclass(kw_only=True, slots=True)
class GraphRunContext(Generic[StateT, DepsT]):
    """What a node's ``run`` is given. One object serves a whole run."""

    state: StateT
    """The run's state; mutate it in place."""
    deps: DepsT
    """The run's dependencies."""


class BaseNode(Generic[StateT, DepsT, NodeRunEndT]):
    """One step of a graph: subclass it and write ``run``.

    No ``ABCMeta``: that would keep ``msgspec.Struct`` from being mixed in, and make every ``isinstance`` slower.
    A class without ``run`` is refused when its graph is built.
    """

    docstring_notes: ClassVar[bool] = False
    """Whether the class's docstring becomes its note in the drawing."""

    async def run(
        self, ctx: GraphRunContext[StateT, DepsT]
    ) -> BaseNode[StateT, DepsT, Any] | End[NodeRunEndT] | Sequence[BaseNode[StateT, DepsT, Any]]:
        """Do the step and say what comes next.

        The return annotation of the override is read when the graph is built, so it has to name every node and every
        ``End[...]`` that may be returned.

        Args:
            ctx: the run's state and dependencies.

        Returns:
            The next node, or ``End(output)``. A ``list`` or ``tuple`` of nodes is a fork; only a supervisor's
            ``submit_graph`` can run one.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no `run` method: write `async def run(self, ctx) -> ...`"
        )

    def get_snapshot_id(self) -> str:
        """The id under which persistence knows this execution; made when first asked for."""
        try:
            return cast("str", self.__dict__[_SNAPSHOT_ID])
        except KeyError:
            snapshot_id = self.__dict__[_SNAPSHOT_ID] = generate_snapshot_id(self.get_node_id())
            return snapshot_id

    def set_snapshot_id(self, snapshot_id: str) -> None:
        """Give this execution the id it had when it was saved."""
        # Through __dict__, so that frozen classes take it and `==`, `repr` and the fields know nothing of it.
        self.__dict__[_SNAPSHOT_ID] = snapshot_id

    @classmethod
    def get_node_id(cls) -> str:
        """The node's name within its graph: the class name, unless overridden."""
        return cls.__name__

    @classmethod
    def get_note(cls) -> str | None:
        """The note for the drawing: the docstring if ``docstring_notes`` is set, or None."""
        if not cls.docstring_notes:
            return None
        # Only a docstring of its own: not BaseNode's, and not the signature that @dataclass writes.
        docstring = cls.__dict__.get("__doc__")
        if not isinstance(docstring, str) or docstring.startswith(f"{cls.__name__}("):
            return None
        from inspect import cleandoc

        return cleandoc(docstring) or None

    @classmethod
    def get_node_def(cls, local_ns: dict[str, Any] | None) -> NodeDef:
        """What the class says about itself, read from its ``run`` method's return annotation.

        Args:
            local_ns: names, besides those of the class's module, that annotations may use.

        Raises:
            GraphSetupError: the annotation is missing, cannot be resolved, or names something that cannot come next.
        """
        from .annotations import read_node

        return read_node(cls, local_ns)

    def deep_copy(self) -> Self:
        """A copy that shares nothing with this node, for persistence that keeps history."""
        return copy.deepcopy(self)


@dataclass(slots=True)
class End(Generic[RunEndT]):
    """The end of a run, with its output."""

    data: RunEndT
    """The run's output."""
    _snapshot_id: str | None = field(default=None, init=False, repr=False, compare=False)

    def deep_copy_data(self) -> End[RunEndT]:
        """A copy whose data shares nothing with this one's."""
        end = End(copy.deepcopy(self.data))
        end._snapshot_id = self._snapshot_id
        return end

    def get_snapshot_id(self) -> str:
        """The id under which persistence knows this end; made when first asked for."""
        if self._snapshot_id is None:
            self._snapshot_id = generate_snapshot_id("end")
        return self._snapshot_id

    def set_snapshot_id(self, set_id: str) -> None:
        """Give this end the id it had when it was saved."""
        self._snapshot_id = set_id


@dataclass(frozen=True, slots=True)
class Edge:
    """Annotation of an edge: ``Annotated[NextNode, Edge(label='why')]``."""

    label: str | None = None
    """Shown beside the edge in the drawing."""


@dataclass(frozen=True, slots=True)
class Join:
    """Annotation of a fork: ``Annotated[list[Work], Join(Collect)]``.

    When every branch has ended, the run goes on with ``Collect(outputs)``: ``outputs`` is the list of what the branches
    ended with, in the order of the nodes that were returned. Without a `Join` the run ends with that list.
    """

    node: type[BaseNode[Any, Any, Any]]
    """The node to go on with; called with one argument, the list of outputs."""


@dataclass(kw_only=True, slots=True)
class NodeDef:
    """What a graph knows of one node."""

    node: type[BaseNode[Any, Any, Any]]
    """The class."""
    node_id: str
    """Its name within the graph."""
    note: str | None
    """Its note in the drawing."""
    next_node_edges: dict[str, Edge]
    """Which nodes may come next, by their id."""
    end_edge: Edge | None
    """Set when the node may end the run."""
    returns_base_node: bool
    """Whether the annotation says ``BaseNode``: any node of the graph may come next."""
    fork_edges: dict[str, Edge] = field(default_factory=dict[str, Edge])
    """Which nodes a fork may start, by their id."""
    join: Join | None = None
    """Where a fork's outputs go; None: they are the run's output."""
    end_type: Any = None
    """The ``X`` of ``End[X]`` in the annotation, or None."""
    next_nodes: tuple[type[BaseNode[Any, Any, Any]], ...] = ()
    """The classes that the annotation names (next, forked and joined), to check that the graph has them."""
