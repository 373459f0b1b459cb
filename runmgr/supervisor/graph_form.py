"""A graph's run as bytes: its state and the node that comes next, each in the form of the type that it is declared as."""

from __future__ import annotations

from typing import Any, cast
from weakref import WeakKeyDictionary

import msgspec

from runmgr.exceptions import UserError
from runmgr.graph.persistence import NodeSnapshot
from runmgr.graph.persistence.codec import SnapshotCodec

__all__ = ("check", "content", "decode", "encode")

_codecs: WeakKeyDictionary[Any, SnapshotCodec] = WeakKeyDictionary()


def _codec(graph: Any) -> SnapshotCodec:
    codec = _codecs.get(graph)
    if codec is None:
        codec = _codecs[graph] = SnapshotCodec.of_graph(graph)
    return codec


def check(graph: Any, node: Any, state: Any) -> None:
    """Refuse what could not be gone on with: called when the run is submitted.

    Raises:
        UserError: names the field of the state or the node that has no JSON form, or does not come back from it.
    """
    data = encode(graph, node, state)
    try:
        decode(graph, data)
    except Exception as error:
        raise UserError(
            f"{_where(graph, node, state)} cannot be read back from the journal: {error}. Annotate it with what it holds, or open no "
            "journal"
        ) from error


def encode(graph: Any, node: Any, state: Any) -> bytes:
    """Where a graph's run stands.

    Raises:
        UserError: names the field of the state or the node that has no JSON form.
    """
    try:
        return _codec(graph).encode([NodeSnapshot(state=state, node=node)])
    except Exception as error:
        raise UserError(
            f"{_where(graph, node, state)} cannot be kept in the journal: {error}. Keep plain data, dataclasses, attrs classes, "
            "structs or pydantic models in it, hand the rest over as deps, or open no journal"
        ) from error


def content(graph: Any, node: Any, state: Any) -> bytes:
    """A graph's state and node and nothing else: the same for equal ones.

    Raises:
        UserError: names the field of the state or the node that has no JSON form.
    """
    snapshots: list[dict[str, Any]] = msgspec.json.decode(encode(graph, node, state))
    return msgspec.json.encode(
        [[snapshot["state"], snapshot["node"]] for snapshot in snapshots], order="sorted"
    )


def decode(graph: Any, data: bytes) -> tuple[Any, Any]:
    """The node that comes next, and the state."""
    (snapshot,) = _codec(graph).decode(data)
    node = cast("NodeSnapshot[Any, Any]", snapshot)
    return node.node, node.state


def _where(graph: Any, node: Any, state: Any) -> str:
    """Which field it is: the first that does not go by itself."""
    codec = _codec(graph)
    parts: list[tuple[str, Any, Any]] = [
        ("its state", state, codec._state.dump),
        (f"its node {type(node).__name__}", node, codec._node_codec(cast("Any", type(node))).dump),
    ]
    for what, value, dump in parts:
        try:
            dump(value)
        except Exception:  # noqa: BLE001  whichever of the libraries it is
            names: list[str] = [name for name in _fields(value) if not _goes(getattr(value, name, None))]
            return (
                f"field {names[0]!r} of {what} ({type(value).__name__})"
                if names
                else f"{what} ({type(value).__name__})"
            )
    return "its state or its next node"


def _fields(value: Any) -> list[str]:
    kind: Any = cast("Any", type(value))
    for source in ("__struct_fields__", "__dataclass_fields__", "__pydantic_fields__", "model_fields"):
        found = getattr(kind, source, None)
        if found:
            return list(found)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    return list(getattr(value, "__dict__", ()))


def _goes(value: Any) -> bool:
    from runmgr.journal.codec import encode_any

    try:
        encode_any(value)
    except Exception:  # noqa: BLE001  whichever of the libraries it is
        return False
    return True
