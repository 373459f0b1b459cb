"""What must hold of a graph before it can be run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from .exceptions import GraphSetupError
from .nodes import BaseNode, NodeDef

__all__ = ("check_nodes", "check_reachable")


def check_nodes(nodes: Iterable[Any]) -> None:
    """Raise unless ``nodes`` are node classes with ids of their own."""
    seen: dict[str, Any] = {}
    for node in nodes:
        if not (inspect.isclass(node) and issubclass(node, BaseNode)):
            instead = (
                f"write `{node.get_node_id()}`, the class"
                if isinstance(node, BaseNode)
                else "subclass `BaseNode`"
            )
            raise GraphSetupError(f"`nodes` must be node classes, got {node!r}: {instead}.")
        node_id = node.get_node_id()
        if node_id in seen:
            mend = (
                "List it once"
                if node is seen[node_id]
                else "Rename one of the classes, or override its `get_node_id` classmethod"
            )
            raise GraphSetupError(
                f"Node ID `{node_id}` is not unique — found on {seen[node_id]} and {node}", f"{mend}."
            )
        seen[node_id] = node
    if not seen:
        raise GraphSetupError(
            "The graph has no nodes: list its node classes, as in `Graph(nodes=[First, Second])`."
        )


def check_reachable(
    node_defs: dict[str, NodeDef],
    start: type[BaseNode[Any, Any, Any]] | Sequence[type[BaseNode[Any, Any, Any]]] | None,
) -> None:
    """Raise unless every node that is named is there, and every node that is there can be reached."""
    following: dict[str, set[str]] = {}
    for node_id, node_def in node_defs.items():
        for named in node_def.next_nodes:
            known = node_defs.get(named.get_node_id())
            if known is None or known.node is not named:
                other = (
                    ""
                    if known is None
                    else f" (the graph's `{named.get_node_id()}` is another class, {known.node})"
                )
                raise GraphSetupError(
                    f"`{named.get_node_id()}` is referenced by `{node_id}` but not included in the graph{other}.",
                    f"Add it to `nodes`, or take it out of the annotation of `{node_def.node.__name__}.run`.",
                )
        following[node_id] = (
            set(node_defs)
            if node_def.returns_base_node
            else {named.get_node_id() for named in node_def.next_nodes}
        )
    if start is None:
        best = max(node_defs, key=lambda node_id: len(_reached(following, [node_id])))
        starts, if_not = [best], f"from `{best}`, which reaches the most"
    else:
        starts = [node.get_node_id() for node in ([start] if inspect.isclass(start) else start)]  # pyright: ignore[reportGeneralTypeIssues,reportUnknownVariableType,reportUnknownMemberType,reportAttributeAccessIssue]
        for node_id in starts:
            if node_id not in node_defs:
                raise GraphSetupError(
                    f"`{node_id}` is named in `start` but not included in the graph: add it to `nodes`."
                )
        if_not = f"from {_listed(starts)}"
    lost = set(node_defs) - _reached(following, starts)
    if lost:
        names = [node_id for node_id in node_defs if node_id in lost]
        raise GraphSetupError(
            f"{_listed(names)} cannot be reached {if_not}: no `run` that can be reached names "
            f"{'it' if len(names) == 1 else 'them'} in its return annotation. Add the missing annotation, take the node out "
            f"of `nodes`, or, where runs start with it, name every start: `Graph(nodes=..., start=[...])`."
        )


def _reached(following: dict[str, set[str]], starts: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        node_id = waiting.pop()
        if node_id not in reached:
            reached.add(node_id)
            waiting.extend(following[node_id])
    return reached


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
