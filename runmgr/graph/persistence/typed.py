"""What persistences share that write JSON: they have to know the types of state, nodes and output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runmgr.graph.exceptions import GraphRuntimeError
from runmgr.graph.nodes import RunEndT, StateT

from . import BaseStatePersistence

if TYPE_CHECKING:
    from runmgr.graph.graph import Graph

    from .codec import SnapshotCodec

__all__ = ("TypedPersistence",)


@dataclass
class TypedPersistence(BaseStatePersistence[StateT, RunEndT]):
    """A persistence that learns its types from the graph, or is told them."""

    _codec: SnapshotCodec | None = field(default=None, init=False, repr=False, compare=False)

    def should_set_types(self) -> bool:
        """Whether reading and writing JSON still need types."""
        return self._codec is None

    def set_graph_types(self, graph: Graph[StateT, Any, RunEndT]) -> None:
        """See the base class."""
        if self._codec is None:
            from .codec import SnapshotCodec

            self._codec = SnapshotCodec.of_graph(graph)

    def set_types(self, state_type: type[Any], run_end_type: type[Any]) -> None:
        """Learn the types of state and output; enough to write, while reading needs the graph's nodes too."""
        from .codec import SnapshotCodec

        self._codec = SnapshotCodec(state_type, run_end_type)

    def _known_codec(self) -> SnapshotCodec:
        if self._codec is None:
            raise GraphRuntimeError(
                "The types of state and nodes must be known: run this persistence through a graph, or call "
                "`persistence.set_graph_types(graph)`."
            )
        return self._codec
