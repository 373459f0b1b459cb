"""One run of a graph, driven a node at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, cast

from .exceptions import GraphNodeStatusError, GraphRuntimeError
from .nodes import BaseNode, DepsT, End, GraphRunContext, RunEndT, StateT, generate_snapshot_id

if TYPE_CHECKING:
    from .graph import Graph
    from .persistence import BaseStatePersistence

__all__ = ("ForkDriver", "GraphRun", "GraphRunResult")

ForkDriver = Callable[[Sequence[BaseNode[Any, Any, Any]]], Awaitable[list[Any]]]
"""Runs the branches of a fork, each until its ``End``, and returns what they ended with, in order."""


class GraphRun(Generic[StateT, DepsT, RunEndT]):
    """A run of a `Graph`: iterate over it, or drive it with `next`.

    Made by `Graph.iter`. A step is one ``await node.run(ctx)`` in the caller's own task: no task, nursery or cancel
    scope is made for it, and its errors are raised where it was driven (from `next`, or out of ``async for``).

    After a step raised, whether an error or cancellation: `next_node` is the node whose step it was, `state` is as that
    node left it, `result` is None. ``next()`` and ``async for`` then refuse to go on (`GraphNodeStatusError`);
    ``next(node)`` with that node tries it again, with another node goes on from there. Cancelling leaves nothing else
    behind.
    """

    __slots__ = (
        "__weakref__", "_failed", "_fork", "_next_node", "_persistence", "_result", "_running", "_started", "_traceparent_",
        "ctx", "graph",
    )  # fmt: skip

    def __init__(
        self,
        *,
        graph: Graph[StateT, DepsT, RunEndT],
        start_node: BaseNode[StateT, DepsT, RunEndT],
        persistence: BaseStatePersistence[StateT, RunEndT] | None = None,
        state: StateT,
        deps: DepsT,
        traceparent: str | None = None,
        snapshot_id: str | None = None,
        fork: ForkDriver | None = None,
    ) -> None:
        self.graph = graph
        self.ctx: GraphRunContext[StateT, DepsT] = GraphRunContext(state=state, deps=deps)
        if snapshot_id is not None:
            start_node.set_snapshot_id(snapshot_id)
        self._next_node: BaseNode[StateT, DepsT, RunEndT] | End[RunEndT] = start_node
        self._persistence = persistence
        self._traceparent_ = traceparent
        self._fork = fork
        self._result: GraphRunResult[StateT, RunEndT] | None = None
        self._started = False
        self._running = False
        self._failed = False

    @property
    def state(self) -> StateT:
        """The run's state."""
        return self.ctx.state

    @property
    def deps(self) -> DepsT:  # pyright: ignore[reportGeneralTypeIssues]  # read-only, as documented
        """The run's dependencies."""
        return self.ctx.deps

    @property
    def next_node(self) -> BaseNode[StateT, DepsT, RunEndT] | End[RunEndT]:
        """The node that runs next (or is running, or has failed); `End` when the run is over."""
        return self._next_node

    @property
    def result(self) -> GraphRunResult[StateT, RunEndT] | None:
        """The result, once the run is over."""
        end = self._next_node
        if type(end) is not End:
            return None
        if self._result is None:
            self._result = GraphRunResult(end.data, self.ctx.state, self._persistence, self._traceparent_)
        return self._result

    @property
    def persistence(self) -> BaseStatePersistence[StateT, RunEndT]:
        """Where the run is saved: what was given, or in memory, the latest step only.

        Without a persistence of one's own nothing is recorded until this is first read: steps then cost nothing more.
        """
        if self._persistence is None:
            self._persistence = _in_memory(self.ctx.state, self._next_node)
        return self._persistence

    async def next(
        self, node: BaseNode[StateT, DepsT, RunEndT] | None = None
    ) -> BaseNode[StateT, DepsT, RunEndT] | End[RunEndT]:
        """Run one node, and return what it returned.

        Args:
            node: the node to run instead of `next_node`. A node that failed here before may be given again.

        Returns:
            The node to run next, or `End`.

        Raises:
            GraphRuntimeError: the node is not of this graph, or returned something that cannot come next.
            GraphNodeStatusError: a step is under way already, or the last one failed and no node was given.
            TypeError: the run is over.
            Exception: whatever the node raised.
        """
        if self._running:
            raise GraphNodeStatusError(
                "running", "One step at a time: await the `next()` that is under way first."
            )
        if node is None:
            if self._failed:
                raise GraphNodeStatusError(
                    "error",
                    f"The last step ({type(self._next_node).__name__}) failed: give the node to run, as in "
                    f"`await run.next(run.next_node)`.",
                )
            node = self._next_node  # pyright: ignore[reportAssignmentType]  # checked below
        if not isinstance(node, BaseNode):
            raise TypeError(f"`next` must be called with a `BaseNode` instance, got {node!r}.")
        if type(node) not in self.graph.known_types:
            self.graph.check_member(node)
        retried = self._failed and node is self._next_node
        self._next_node = node
        self._result = None
        self._running = self._failed = True
        try:
            if self._persistence is None:
                next_node = await node.run(self.ctx)
                if not isinstance(next_node, (BaseNode, End)):
                    next_node = await self._unusual(node, next_node)
            else:
                next_node = await self._recorded(node, self._persistence, retried=retried)
        finally:
            self._running = False
        self._next_node = next_node
        self._failed = False
        return next_node

    async def _recorded(
        self,
        node: BaseNode[StateT, DepsT, RunEndT],
        persistence: BaseStatePersistence[StateT, RunEndT],
        *,
        retried: bool,
    ) -> BaseNode[StateT, DepsT, RunEndT] | End[RunEndT]:
        if retried:  # another execution of the same node, and recorded as such
            node.set_snapshot_id(generate_snapshot_id(node.get_node_id()))
        snapshot_id = node.get_snapshot_id()
        state = self.ctx.state
        await persistence.snapshot_node_if_new(snapshot_id, state, node)
        async with persistence.record_run(snapshot_id):
            next_node = await node.run(self.ctx)
            if not isinstance(next_node, (BaseNode, End)):
                next_node = await self._unusual(node, next_node)
        if isinstance(next_node, End):
            await persistence.snapshot_end(state, next_node)
        else:
            if next_node is node:  # a node may return itself; that is a new execution
                node.set_snapshot_id(generate_snapshot_id(node.get_node_id()))
            await persistence.snapshot_node(state, next_node)
        return next_node

    async def _unusual(
        self, node: BaseNode[StateT, DepsT, RunEndT], returned: Any
    ) -> BaseNode[StateT, DepsT, RunEndT] | End[RunEndT]:
        """A step returned neither a node nor `End`: a fork, or a mistake."""
        name = type(node).__name__
        branches = _branches(returned)
        if branches is None:
            raise GraphRuntimeError(
                f"Invalid node return type: `{type(returned).__name__}`. Expected `BaseNode` or `End`.",
                f"`{name}.run` returned {returned!r}.",
            )
        if self._fork is None:
            raise GraphRuntimeError(
                f"`{name}.run` returned {len(branches)} nodes: a fork, which runs them as child actors. Only a supervisor "
                f"can do that: `await sup.submit_graph(graph, start_node, state=..., deps=...)`, not `graph.run()`."
            )
        outputs = await self._fork(branches)
        join = self.graph.node_defs[node.get_node_id()].join
        return End(outputs) if join is None else join.node(outputs)  # pyright: ignore[reportCallIssue,reportReturnType]

    def __aiter__(self) -> GraphRun[StateT, DepsT, RunEndT]:
        return self

    async def __anext__(self) -> BaseNode[StateT, DepsT, RunEndT] | End[RunEndT]:
        """The start node first, without running it; then each node that a step returned; `End` last."""
        if not self._started:
            self._started = True
            return self._next_node
        if type(self._next_node) is End:
            raise StopAsyncIteration
        return await self.next()

    def _traceparent(self, *, required: bool = True) -> str | None:
        if self._traceparent_ is None and required:
            raise GraphRuntimeError("No span was created for this graph run.")
        return self._traceparent_

    def __repr__(self) -> str:
        return f"<GraphRun graph={self.graph.name or '[unnamed]'}>"


def _branches(returned: Any) -> Sequence[BaseNode[Any, Any, Any]] | None:
    """What a fork starts; None if this is no fork."""
    if isinstance(returned, (list, tuple)):
        members = cast("Sequence[Any]", returned)
        if all(isinstance(member, BaseNode) for member in members):
            return members
    return None


class GraphRunResult(Generic[StateT, RunEndT]):
    """What a run came to."""

    __slots__ = ("_persistence", "_traceparent_", "output", "state")

    def __init__(
        self,
        output: RunEndT,
        state: StateT,
        persistence: BaseStatePersistence[StateT, RunEndT] | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.output = output
        """What the last node ended the run with."""
        self.state = state
        """The state as the last node left it."""
        self._persistence = persistence
        self._traceparent_ = traceparent

    @property
    def persistence(self) -> BaseStatePersistence[StateT, RunEndT]:
        """Where the run was saved; without a persistence of one's own, one in memory that holds the end."""
        if self._persistence is None:
            self._persistence = _in_memory(self.state, End(self.output))
        return self._persistence

    def _traceparent(self, *, required: bool = True) -> str | None:
        if self._traceparent_ is None and required:
            raise GraphRuntimeError("No span was created for this graph run.")
        return self._traceparent_

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GraphRunResult):
            return NotImplemented
        mine, others = (self.output, self.state), cast("Any", (other.output, other.state))
        return mine == others

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # state is mutable

    def __repr__(self) -> str:
        return f"GraphRunResult(output={self.output!r}, state={self.state!r})"


def _in_memory(
    state: StateT, node: BaseNode[StateT, Any, RunEndT] | End[RunEndT]
) -> BaseStatePersistence[StateT, RunEndT]:
    from .persistence.in_mem import SimpleStatePersistence

    return SimpleStatePersistence[StateT, RunEndT].of(state, node)
