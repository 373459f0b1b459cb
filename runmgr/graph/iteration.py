"""What ``async with graph.iter(...)`` enters and leaves."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from .exceptions import GraphRuntimeError
from .nodes import BaseNode, DepsT, RunEndT, StateT
from .run import ForkDriver, GraphRun

if TYPE_CHECKING:
    from .graph import Graph
    from .persistence import BaseStatePersistence

__all__ = ("GraphIteration",)


class GraphIteration(Generic[StateT, DepsT, RunEndT]):
    """Makes the `GraphRun` on entering, around its span. A plain class: a generator would cost more and show in tracebacks."""

    __slots__ = ("_arguments", "_span")

    def __init__(
        self,
        graph: Graph[StateT, DepsT, RunEndT],
        start_node: BaseNode[StateT, DepsT, RunEndT] | None,
        state: StateT,
        deps: DepsT,
        persistence: BaseStatePersistence[StateT, RunEndT] | None,
        span: AbstractContextManager[Any] | None,
        fork: ForkDriver | None,
    ) -> None:
        self._arguments = (graph, start_node, state, deps, persistence, fork)
        self._span = span

    async def __aenter__(self) -> GraphRun[StateT, DepsT, RunEndT]:
        graph, node, state, deps, persistence, fork = self._arguments
        snapshot_id: str | None = None
        if node is None:
            assert persistence is not None
            snapshot = await persistence.load_next()
            if snapshot is None:
                raise GraphRuntimeError(
                    "Unable to restore snapshot from state persistence.",
                    "It holds no node that waits to be run. Either the run has ended or failed, or nothing was saved "
                    "(`graph.initialize` saves a start node).",
                )
            node, state, snapshot_id = snapshot.node, snapshot.state, snapshot.id
        traceparent = None if self._span is None else _traceparent(self._span.__enter__())
        return GraphRun(
            graph=graph,
            start_node=node,
            persistence=persistence,
            state=state,
            deps=deps,
            traceparent=traceparent,
            snapshot_id=snapshot_id,
            fork=fork,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return None if self._span is None else self._span.__exit__(kind, error, traceback)


def _traceparent(span: Any) -> str | None:
    """The W3C traceparent (https://www.w3.org/TR/trace-context/#traceparent-header) of an OpenTelemetry span."""
    get_context = getattr(span, "get_span_context", None)
    context = None if get_context is None else get_context()
    if context is None or not context.trace_id:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
