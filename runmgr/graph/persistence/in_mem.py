"""Persistence in memory: the latest snapshot, or all of them."""

from __future__ import annotations

import copy
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from runmgr.graph.nodes import BaseNode, End, RunEndT, StateT

from . import BaseStatePersistence, EndSnapshot, NodeSnapshot, Snapshot
from .recording import Recording
from .typed import TypedPersistence

__all__ = ("FullStatePersistence", "SimpleStatePersistence")


@dataclass
class SimpleStatePersistence(BaseStatePersistence[StateT, RunEndT]):
    """Keeps the latest snapshot only, without copying anything: what a run without a persistence of its own has."""

    last_snapshot: Snapshot[StateT, RunEndT] | None = None
    """The latest snapshot."""

    @classmethod
    def of(
        cls, state: StateT, node: BaseNode[StateT, Any, RunEndT] | End[RunEndT]
    ) -> SimpleStatePersistence[StateT, RunEndT]:
        """One that holds where a run is now."""
        if isinstance(node, End):
            return cls(EndSnapshot(state=state, result=node))
        return cls(NodeSnapshot(state=state, node=node))

    async def snapshot_node(self, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]) -> None:
        """See the base class. Not a checkpoint."""
        self.last_snapshot = NodeSnapshot(state=state, node=next_node)

    async def snapshot_node_if_new(
        self, snapshot_id: str, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]
    ) -> None:
        """See the base class. Not a checkpoint."""
        if self.last_snapshot is None or self.last_snapshot.id != snapshot_id:
            self.last_snapshot = NodeSnapshot(state=state, node=next_node, id=snapshot_id)

    async def snapshot_end(self, state: StateT, end: End[RunEndT]) -> None:
        """See the base class. Not a checkpoint."""
        self.last_snapshot = EndSnapshot(state=state, result=end)

    def record_run(self, snapshot_id: str) -> AbstractAsyncContextManager[None]:
        """See the base class. Not a checkpoint."""
        snapshot = self.last_snapshot
        if not isinstance(snapshot, NodeSnapshot) or snapshot.id != snapshot_id:
            raise LookupError(f"No snapshot found with id={snapshot_id!r}")
        return Recording(snapshot)

    async def load_next(self) -> NodeSnapshot[StateT, RunEndT] | None:
        """See the base class. Not a checkpoint."""
        snapshot = self.last_snapshot
        if isinstance(snapshot, NodeSnapshot) and snapshot.status == "created":
            snapshot.status = "pending"
            return snapshot
        return None

    async def load_all(self) -> list[Snapshot[StateT, RunEndT]]:
        """Not possible: only the latest snapshot is kept.

        Raises:
            NotImplementedError: always; use `FullStatePersistence`.
        """
        raise NotImplementedError(
            "load is not supported for SimpleStatePersistence, which keeps only the latest snapshot: use FullStatePersistence"
        )


@dataclass
class FullStatePersistence(TypedPersistence[StateT, RunEndT]):
    """Keeps every snapshot of a run, in memory: grows with the number of steps."""

    deep_copy: bool = True
    """Whether state and nodes are deep-copied into each snapshot; without it they change as the run goes on."""
    history: list[Snapshot[StateT, RunEndT]] = field(default_factory=list[Any])
    """The snapshots, oldest first."""

    async def snapshot_node(self, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]) -> None:
        """See the base class. Not a checkpoint."""
        self._add_node(next_node.get_snapshot_id(), state, next_node)

    async def snapshot_node_if_new(
        self, snapshot_id: str, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]
    ) -> None:
        """See the base class. Not a checkpoint."""
        if not any(snapshot.id == snapshot_id for snapshot in reversed(self.history)):
            self._add_node(snapshot_id, state, next_node)

    def _add_node(self, snapshot_id: str, state: StateT, node: BaseNode[StateT, Any, RunEndT]) -> None:
        if self.deep_copy:
            state, node = copy.deepcopy(state), node.deep_copy()
        self.history.append(NodeSnapshot(state=state, node=node, id=snapshot_id))

    async def snapshot_end(self, state: StateT, end: End[RunEndT]) -> None:
        """See the base class. Not a checkpoint."""
        snapshot_id = end.get_snapshot_id()
        if self.deep_copy:
            state, end = copy.deepcopy(state), end.deep_copy_data()
        self.history.append(EndSnapshot(state=state, result=end, id=snapshot_id))

    def record_run(self, snapshot_id: str) -> AbstractAsyncContextManager[None]:
        """See the base class. Not a checkpoint."""
        for snapshot in reversed(self.history):
            if snapshot.id == snapshot_id and isinstance(snapshot, NodeSnapshot):
                return Recording(snapshot)
        raise LookupError(f"No snapshot found with id={snapshot_id!r}")

    async def load_next(self) -> NodeSnapshot[StateT, RunEndT] | None:
        """See the base class. Not a checkpoint."""
        for snapshot in self.history:
            if isinstance(snapshot, NodeSnapshot) and snapshot.status == "created":
                snapshot.status = "pending"
                return snapshot
        return None

    async def load_all(self) -> list[Snapshot[StateT, RunEndT]]:
        """See the base class. Not a checkpoint."""
        return self.history

    def dump_json(self, *, indent: int | None = None) -> bytes:
        """The history as JSON.

        Raises:
            GraphRuntimeError: the types are not known yet: run the persistence through a graph, or call
                `set_graph_types`.
        """
        return self._known_codec().encode(self.history, indent=indent)

    def load_json(self, json_data: str | bytes | bytearray) -> None:
        """Replace the history by what `dump_json` wrote. Raises as `dump_json`, and ValueError for other JSON."""
        self.history = self._known_codec().decode(json_data)
