"""Saving a run between its steps, and going on from there.

A *snapshot* is the state and node before a step (`NodeSnapshot`) or the state and output after the last one
(`EndSnapshot`). `runmgr.graph.persistence.in_mem` keeps them in memory, `runmgr.graph.persistence.file` in a JSON file.
The JSON is that of ``pydantic_graph``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal

from runmgr.graph.nodes import BaseNode, End, RunEndT, StateT

if TYPE_CHECKING:
    from runmgr.graph.graph import Graph

__all__ = (
    "BaseStatePersistence",
    "EndSnapshot",
    "NodeSnapshot",
    "RunEndT",
    "Snapshot",
    "SnapshotStatus",
    "StateT",
    "utc_now",
)

SnapshotStatus = Literal["created", "pending", "running", "success", "error"]
"""Of one execution of a node.

- ``created``: saved, not run;
- ``pending``: loaded by `BaseStatePersistence.load_next`, about to run;
- ``running``: running now, or the process died while it was;
- ``success``: it returned;
- ``error``: it raised.

A step that was cancelled goes back to ``created``: it can be loaded and run again.
"""


def utc_now() -> datetime:
    """The wall clock, for people who read snapshots. Nothing is decided by it."""
    return datetime.now(tz=UTC)


@dataclass(kw_only=True)
class NodeSnapshot(Generic[StateT, RunEndT]):
    """The state and the node before a step, and what became of the step."""

    state: StateT
    """The state before the node ran."""
    node: BaseNode[StateT, Any, RunEndT]
    """The node."""
    start_ts: datetime | None = None
    """When the node started to run."""
    duration: float | None = None
    """How long it ran, in seconds."""
    status: SnapshotStatus = "created"
    """What became of it."""
    kind: Literal["node"] = "node"
    id: str = ""
    """Unique to this execution; the node's own snapshot id unless given."""

    def __post_init__(self) -> None:
        if not self.id:
            self.id = self.node.get_snapshot_id()


@dataclass(kw_only=True)
class EndSnapshot(Generic[StateT, RunEndT]):
    """The state and the output at the end of a run."""

    state: StateT
    """The state as the last node left it."""
    result: End[RunEndT]
    """The output."""
    ts: datetime = field(default_factory=utc_now)
    """When the run ended."""
    kind: Literal["end"] = "end"
    id: str = ""
    """Unique to this end; the end's own snapshot id unless given."""

    def __post_init__(self) -> None:
        if not self.id:
            self.id = self.result.get_snapshot_id()

    @property
    def node(self) -> End[RunEndT]:
        """The `End`, under the name that a `NodeSnapshot` has for its node."""
        return self.result


Snapshot = NodeSnapshot[StateT, RunEndT] | EndSnapshot[StateT, RunEndT]
"""One entry of a run's history."""


class BaseStatePersistence(ABC, Generic[StateT, RunEndT]):
    """Where a run's snapshots go. Subclass it to keep them elsewhere.

    One run writes to a persistence at a time.
    """

    @abstractmethod
    async def snapshot_node(self, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]) -> None:
        """Save the state and the node that will run next, with status ``created``."""
        raise NotImplementedError

    @abstractmethod
    async def snapshot_node_if_new(
        self, snapshot_id: str, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]
    ) -> None:
        """`snapshot_node`, unless there is a snapshot with that id already."""
        raise NotImplementedError

    @abstractmethod
    async def snapshot_end(self, state: StateT, end: End[RunEndT]) -> None:
        """Save the state and the output of a run that is over."""
        raise NotImplementedError

    @abstractmethod
    def record_run(self, snapshot_id: str) -> AbstractAsyncContextManager[None]:
        """Around the execution of a node: ``running`` on entering, then ``success`` or ``error`` with the duration.

        Raises:
            LookupError: on entering: there is no such snapshot.
            GraphNodeStatusError: on entering: its status is neither ``created`` nor ``pending``.
        """
        raise NotImplementedError

    @abstractmethod
    async def load_next(self) -> NodeSnapshot[StateT, RunEndT] | None:
        """The oldest snapshot with status ``created``, marked ``pending``; None if there is none."""
        raise NotImplementedError

    @abstractmethod
    async def load_all(self) -> list[Snapshot[StateT, RunEndT]]:
        """Every snapshot that was kept, oldest first."""
        raise NotImplementedError

    def set_graph_types(self, graph: Graph[StateT, Any, RunEndT]) -> None:
        """Learn the types that loading needs. Called by the graph before a run."""

    def should_set_types(self) -> bool:
        """Whether `set_types` still has to be called."""
        return False

    def set_types(self, state_type: type[Any], run_end_type: type[Any]) -> None:
        """Learn the types of state and output, where there is no graph at hand."""
