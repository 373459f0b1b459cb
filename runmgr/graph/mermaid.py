"""Draws a graph as mermaid code (https://mermaid.js.org/syntax/stateDiagram.html, version 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .nodes import BaseNode, Edge, NodeDef

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ("DEFAULT_HIGHLIGHT_CSS", "NodeIdent", "StateDiagramDirection", "generate_code")

DEFAULT_HIGHLIGHT_CSS = "fill:#fdff32"
"""How highlighted nodes are painted unless told otherwise."""
NodeIdent = type[BaseNode[Any, Any, Any]] | BaseNode[Any, Any, Any] | str
"""A node, by class, instance or id."""
StateDiagramDirection = Literal["TB", "LR", "RL", "BT"]
"""Top to bottom, left to right, right to left, bottom to top."""


def generate_code(
    graph: Graph[Any, Any, Any],
    /,
    *,
    start_node: Sequence[NodeIdent] | NodeIdent | None = None,
    highlighted_nodes: Sequence[NodeIdent] | NodeIdent | None = None,
    highlight_css: str = DEFAULT_HIGHLIGHT_CSS,
    title: str | None = None,
    edge_labels: bool = True,
    notes: bool = True,
    direction: StateDiagramDirection | None = None,
) -> str:
    """See `Graph.mermaid_code`, of which this is the drawing half."""
    starts = _ids(graph, "Start", start_node)
    highlighted = _ids(graph, "Highlighted", highlighted_nodes)
    lines: list[str] = []
    if title:
        lines += ["---", f"title: {title}", "---"]
    lines.append("stateDiagram-v2")
    if direction:
        lines.append(f"  direction {direction}")
    for node_id, node_def in graph.node_defs.items():
        if node_id in starts:
            lines.append(f"  [*] --> {node_id}")
        lines += _edges(graph, node_def, labels=edge_labels)
        if notes and node_def.note:
            lines.append(f"  note right of {node_id}")
            lines += [f"    {line}" for line in node_def.note.splitlines() if line]
            lines.append("  end note")
    if highlighted:
        lines += ["", f"classDef highlighted {highlight_css}"]
        lines += [f"class {node_id} highlighted" for node_id in highlighted]
    return "\n".join(lines)


def _edges(graph: Graph[Any, Any, Any], node_def: NodeDef, *, labels: bool) -> Iterator[str]:
    here = node_def.node_id
    if node_def.returns_base_node:  # anything may follow
        for node_id in graph.node_defs:
            yield _edge(here, node_id, Edge(), labels=labels)
    else:
        for node_id, edge in node_def.next_node_edges.items():
            yield _edge(here, node_id, edge, labels=labels)
    if node_def.end_edge is not None:
        yield _edge(here, "[*]", node_def.end_edge, labels=labels)
    if node_def.fork_edges:
        fork = f"{here}_fork"
        yield f"  state {fork} <<fork>>"
        yield f"  {here} --> {fork}"
        for node_id, edge in node_def.fork_edges.items():
            yield _edge(fork, node_id, edge, labels=labels)
        if node_def.join is not None:
            # The branches' ends are the join: that is where their outputs go.
            yield f"  {fork} --> {node_def.join.node.get_node_id()}: join"


def _edge(source: str, target: str, edge: Edge, *, labels: bool) -> str:
    return f"  {source} --> {target}" + (f": {edge.label}" if labels and edge.label else "")


def _ids(graph: Graph[Any, Any, Any], what: str, given: Sequence[NodeIdent] | NodeIdent | None) -> list[str]:
    if given is None:
        return []
    idents = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    ids = [ident if isinstance(ident, str) else ident.get_node_id() for ident in idents]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]
    for node_id in ids:
        if node_id not in graph.node_defs:
            error = LookupError(f'{what} node "{node_id}" is not in the graph.')
            error.add_note(f"It has {', '.join(graph.node_defs)}.")
            raise error
    return ids
