"""A graph: node classes, checked once when it is built, and runs made from it."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from types import FrameType, NoneType
from typing import TYPE_CHECKING, Any, Generic, cast, get_args, get_origin

from . import mermaid
from .checks import check_nodes, check_reachable
from .exceptions import GraphRuntimeError
from .iteration import GraphIteration
from .nodes import BaseNode, DepsT, End, NodeDef, RunEndT, StateT
from .run import ForkDriver, GraphRun, GraphRunResult

if TYPE_CHECKING:
    from .persistence import BaseStatePersistence

__all__ = ("Graph",)


class _Unset:
    """The type of "not given", where None would mean something."""


_UNSET = _Unset()

Runner = Callable[[Callable[[], Awaitable[Any]]], Any]
"""Runs an async function to its end and returns what it returned: ``trio.run``, for one."""

_DEFAULT_RUNNER = "trio:run"
# Named, not imported: the graph knows no event loop. Looked up when `run_sync` is called without a runner.


class Graph(Generic[StateT, DepsT, RunEndT]):
    """A directed graph of node classes.

    Args:
        nodes: every node class of the graph.
        name: for people; by default the name of the variable that holds the graph when it is first run or drawn.
        state_type: the state's type, where it cannot be read from the nodes. Only persistence needs it.
        run_end_type: the output's type, likewise.
        auto_instrument: accepted for compatibility; spans are opened only when `iter` is given one.
        start: the node classes that runs start with. By default the graph must have a node from which all others can
            be reached; naming the starts is the way out where there are several.

    Raises:
        GraphSetupError: a node has no return annotation, or one that does not resolve or names what cannot come next;
            a node that is named is not in ``nodes``; two nodes have one id; a node cannot be reached.
    """

    name: str | None
    node_defs: dict[str, NodeDef]

    def __init__(
        self,
        *,
        nodes: Sequence[type[BaseNode[StateT, DepsT, RunEndT]]],
        name: str | None = None,
        state_type: type[StateT] | _Unset = _UNSET,
        run_end_type: type[RunEndT] | _Unset = _UNSET,
        auto_instrument: bool = True,
        start: type[BaseNode[Any, Any, Any]] | Sequence[type[BaseNode[Any, Any, Any]]] | None = None,
    ) -> None:
        self.name = name
        self.auto_instrument = auto_instrument
        self._state_type = state_type
        self._run_end_type = run_end_type
        self._searched_name = False
        check_nodes(nodes)
        local_ns: dict[str, Any] = {
            **_caller_locals(sys._getframe(1)),
            **{node.__name__: node for node in nodes},
        }
        self.node_defs = {node.get_node_id(): node.get_node_def(local_ns) for node in nodes}
        check_reachable(self.node_defs, start)
        self.known_types: set[type[BaseNode[Any, Any, Any]]] = set(nodes)
        """Node classes that are known to be of this graph: what a step looks up."""

    async def run(
        self,
        start_node: BaseNode[StateT, DepsT, RunEndT],
        *,
        state: StateT = None,  # pyright: ignore[reportArgumentType]
        deps: DepsT = None,  # pyright: ignore[reportArgumentType]
        persistence: BaseStatePersistence[StateT, RunEndT] | None = None,
        infer_name: bool = True,
    ) -> GraphRunResult[StateT, RunEndT]:
        """Run to the end, in the caller's task.

        Args:
            start_node: the node to begin with.
            state: given to every node, mutated in place.
            deps: given to every node.
            persistence: where to save each step; None saves nothing.
            infer_name: whether a nameless graph looks for the variable that holds it.

        Raises:
            GraphRuntimeError: see `GraphRun.next`.
            Exception: whatever a node raised.
        """
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        async with self.iter(
            start_node, state=state, deps=deps, persistence=persistence, infer_name=False
        ) as run:
            while not isinstance(await run.next(), End):
                pass
            return cast("GraphRunResult[StateT, RunEndT]", run.result)

    def run_sync(
        self,
        start_node: BaseNode[StateT, DepsT, RunEndT],
        *,
        state: StateT = None,  # pyright: ignore[reportArgumentType]
        deps: DepsT = None,  # pyright: ignore[reportArgumentType]
        persistence: BaseStatePersistence[StateT, RunEndT] | None = None,
        infer_name: bool = True,
        runner: Runner | None = None,
    ) -> GraphRunResult[StateT, RunEndT]:
        """`run` from a program without an event loop. Blocks until the run is over.

        Args:
            start_node: as in `run`.
            state: as in `run`.
            deps: as in `run`.
            persistence: as in `run`.
            infer_name: as in `run`.
            runner: runs an async function; ``trio.run`` by default.

        Raises:
            RuntimeError: called from inside an event loop; use ``await graph.run(...)`` there.
        """
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))

        async def main() -> GraphRunResult[StateT, RunEndT]:
            return await self.run(
                start_node, state=state, deps=deps, persistence=persistence, infer_name=False
            )

        return (runner or cast("Runner", pkgutil.resolve_name(_DEFAULT_RUNNER)))(main)

    def iter(
        self,
        start_node: BaseNode[StateT, DepsT, RunEndT],
        *,
        state: StateT = None,  # pyright: ignore[reportArgumentType]
        deps: DepsT = None,  # pyright: ignore[reportArgumentType]
        persistence: BaseStatePersistence[StateT, RunEndT] | None = None,
        span: AbstractContextManager[Any] | None = None,
        infer_name: bool = True,
        fork: ForkDriver | None = None,
    ) -> GraphIteration[StateT, DepsT, RunEndT]:
        """A run to drive oneself: ``async with graph.iter(node) as run: async for node in run: ...``.

        Args:
            start_node: the node to begin with.
            state: given to every node, mutated in place.
            deps: given to every node.
            persistence: where to save each step; None saves nothing.
            span: entered and left around the run; an OpenTelemetry span gives the run its traceparent.
            infer_name: whether a nameless graph looks for the variable that holds it.
            fork: for supervisors: runs the branches when a node returns several.

        Raises:
            GraphRuntimeError: the start node is not in the graph.
        """
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        self.check_member(start_node)
        if persistence is not None:
            persistence.set_graph_types(self)
        return GraphIteration(self, start_node, state, deps, persistence, span, fork)

    def iter_from_persistence(
        self,
        persistence: BaseStatePersistence[StateT, RunEndT],
        *,
        deps: DepsT = None,  # pyright: ignore[reportArgumentType]
        span: AbstractContextManager[Any] | None = None,
        infer_name: bool = True,
        fork: ForkDriver | None = None,
    ) -> GraphIteration[StateT, DepsT, RunEndT]:
        """As `iter`, going on from the node and state that were saved last.

        Raises:
            GraphRuntimeError: on entering: nothing is saved that waits to be run.
        """
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        persistence.set_graph_types(self)
        return GraphIteration(self, None, cast("StateT", None), deps, persistence, span, fork)

    async def initialize(
        self,
        node: BaseNode[StateT, DepsT, RunEndT],
        persistence: BaseStatePersistence[StateT, RunEndT],
        *,
        state: StateT = None,  # pyright: ignore[reportArgumentType]
        infer_name: bool = True,
    ) -> None:
        """Save a start node and state without running anything, for `iter_from_persistence` later."""
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        persistence.set_graph_types(self)
        await persistence.snapshot_node(state, node)

    async def next(
        self,
        node: BaseNode[StateT, DepsT, RunEndT],
        persistence: BaseStatePersistence[StateT, RunEndT],
        *,
        state: StateT = None,  # pyright: ignore[reportArgumentType]
        deps: DepsT = None,  # pyright: ignore[reportArgumentType]
        infer_name: bool = True,
    ) -> BaseNode[StateT, DepsT, Any] | End[RunEndT]:
        """Run one node, recorded in ``persistence``, and return what it returned. See `GraphRun.next`."""
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        persistence.set_graph_types(self)
        return await GraphRun(
            graph=self, start_node=node, persistence=persistence, state=state, deps=deps
        ).next()

    def mermaid_code(
        self,
        *,
        start_node: Sequence[mermaid.NodeIdent] | mermaid.NodeIdent | None = None,
        title: str | bool | None = None,
        edge_labels: bool = True,
        notes: bool = True,
        highlighted_nodes: Sequence[mermaid.NodeIdent] | mermaid.NodeIdent | None = None,
        highlight_css: str = mermaid.DEFAULT_HIGHLIGHT_CSS,
        infer_name: bool = True,
        direction: mermaid.StateDiagramDirection | None = None,
    ) -> str:
        """The graph as a mermaid state diagram.

        Args:
            start_node: one or several nodes (class, instance or id) that runs start with.
            title: above the drawing; the graph's name by default, ``False`` for none.
            edge_labels: whether to write the labels given by `Edge`.
            notes: whether to show the docstrings of nodes with ``docstring_notes``.
            highlighted_nodes: one or several nodes to paint.
            highlight_css: how to paint them.
            infer_name: whether a nameless graph looks for the variable that holds it.
            direction: ``'TB'``, ``'LR'``, ``'RL'`` or ``'BT'``; mermaid's default is top to bottom.

        Raises:
            LookupError: a node that was named is not in the graph.
        """
        if infer_name and self.name is None:
            self._infer_name(sys._getframe(1))
        return mermaid.generate_code(
            self,
            start_node=start_node,
            highlighted_nodes=highlighted_nodes,
            highlight_css=highlight_css,
            title=title if isinstance(title, str) else None if title is False else self.name,
            edge_labels=edge_labels,
            notes=notes,
            direction=direction,
        )

    def get_nodes(self) -> Sequence[type[BaseNode[StateT, DepsT, RunEndT]]]:
        """The node classes, in the order they were given."""
        return [node_def.node for node_def in self.node_defs.values()]

    @property
    def inferred_types(self) -> tuple[Any, Any]:
        """The types of state and output: as given, or read from the nodes, or None."""
        state_type: Any = None if isinstance(self._state_type, _Unset) else self._state_type
        end_type: Any = None if isinstance(self._run_end_type, _Unset) else self._run_end_type
        for node_def in self.node_defs.values():
            state, end = _type_arguments(node_def.node)
            if state_type is None and isinstance(self._state_type, _Unset):
                state_type = state
            if end_type is None and isinstance(self._run_end_type, _Unset):
                end_type = node_def.end_type if end is None else end
        return state_type, end_type

    def check_member(self, node: BaseNode[Any, Any, Any]) -> None:
        """Raise GraphRuntimeError unless ``node`` is one of this graph's."""
        if type(node) not in self.known_types:
            if node.get_node_id() not in self.node_defs:
                name = f" of `{self.name}`" if self.name else ""
                raise GraphRuntimeError(
                    f"Node `{node!r}` is not in the graph.", f"Add its class to the `nodes`{name}."
                )
            self.known_types.add(type(node))  # a subclass that goes by the id of its parent

    def _infer_name(self, frame: FrameType | None) -> None:
        """Take the name of the caller's variable that holds this graph. Looked for once."""
        if self._searched_name or frame is None:
            return
        self._searched_name = True
        for namespace in (frame.f_locals, frame.f_globals):
            for name, value in namespace.items():
                if value is self:
                    self.name = name
                    return

    def __repr__(self) -> str:
        return f"Graph(name={self.name!r}, node_defs={self.node_defs!r})"


def _caller_locals(frame: FrameType | None) -> dict[str, Any]:
    """The names that annotations of classes made inside a function may use; none at module level."""
    # `frame` may be that of a subclass's or a class-getitem's __call__ (typing); those names do no harm.
    while frame is not None and frame.f_globals.get("__name__") == "typing":
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _type_arguments(node: type[BaseNode[Any, Any, Any]]) -> tuple[Any, Any]:
    """``S`` and ``R`` of ``class Node(BaseNode[S, D, R])``; None where they are not said."""
    for base in getattr(node, "__orig_bases__", ()):
        if get_origin(base) is BaseNode:
            arguments = get_args(base)
            state: Any = arguments[0] if arguments else None
            end: Any = arguments[2] if len(arguments) > 2 else None
            known = [
                None if kind is NoneType or not isinstance(kind, type) else kind for kind in (state, end)
            ]
            return known[0], known[1]
    return None, None
