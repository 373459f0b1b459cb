"""Typed node graphs: what ``pydantic_graph`` holds, with its names, on any event loop (no trio is imported here)."""

from __future__ import annotations

from .exceptions import GraphNodeStatusError, GraphRuntimeError, GraphSetupError
from .graph import Graph
from .nodes import BaseNode, Edge, End, GraphRunContext, Join, NodeDef
from .persistence import BaseStatePersistence, EndSnapshot, NodeSnapshot, Snapshot, SnapshotStatus
from .persistence.in_mem import FullStatePersistence, SimpleStatePersistence
from .run import ForkDriver, GraphRun, GraphRunResult

__all__ = (
    "BaseNode",
    "BaseStatePersistence",
    "Edge",
    "End",
    "EndSnapshot",
    "ForkDriver",
    "FullStatePersistence",
    "Graph",
    "GraphNodeStatusError",
    "GraphRun",
    "GraphRunContext",
    "GraphRunResult",
    "GraphRuntimeError",
    "GraphSetupError",
    "Join",
    "NodeDef",
    "NodeSnapshot",
    "SimpleStatePersistence",
    "Snapshot",
    "SnapshotStatus",
)
