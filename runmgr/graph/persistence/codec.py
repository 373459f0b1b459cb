"""Snapshots as JSON, in the form that ``pydantic_graph`` writes.

State, nodes and outputs are users' own types, so each is handled by what it was made with: msgspec for ``Struct`` and
attrs classes, pydantic for dataclasses, models and everything else. Imported when a persistence first needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from pydantic import BaseModel, TypeAdapter

from runmgr.graph.exceptions import GraphRuntimeError
from runmgr.graph.nodes import BaseNode, End

from . import EndSnapshot, NodeSnapshot, Snapshot, SnapshotStatus

if TYPE_CHECKING:
    from runmgr.graph.graph import Graph

__all__ = ("SnapshotCodec",)


class _Written(msgspec.Struct, kw_only=True):
    """One snapshot as it stands in the JSON; the users' values are left as they are."""

    state: msgspec.Raw
    node: msgspec.Raw = msgspec.Raw()  # immutable
    result: _WrittenEnd | None = None
    start_ts: datetime | None = None
    duration: float | None = None
    status: SnapshotStatus = "created"
    ts: datetime | None = None
    kind: Literal["node", "end"]
    id: str


class _WrittenEnd(msgspec.Struct):
    data: msgspec.Raw


class _Codec(Protocol):
    """Of one type."""

    def dump(self, value: Any) -> Any: ...
    def load(self, data: bytes | msgspec.Raw) -> Any: ...


class SnapshotCodec:
    """Encodes and decodes lists of snapshots.

    Args:
        state_type: None: any JSON value.
        end_type: None: any JSON value.
        nodes: the node classes by id; only needed to decode.
    """

    def __init__(
        self, state_type: Any, end_type: Any, nodes: dict[str, type[BaseNode[Any, Any, Any]]] | None = None
    ) -> None:
        self._state = _codec(state_type)
        self._end = _codec(end_type)
        self._nodes = nodes or {}
        self._node_codecs: dict[type, _Codec] = {}

    @classmethod
    def of_graph(cls, graph: Graph[Any, Any, Any]) -> SnapshotCodec:
        """With the types and nodes of a graph."""
        return cls(*graph.inferred_types, {key: node_def.node for key, node_def in graph.node_defs.items()})

    def encode(self, snapshots: Iterable[Snapshot[Any, Any]], *, indent: int | None = None) -> bytes:
        """JSON of ``snapshots``. Raises GraphRuntimeError when a node, or pydantic's errors when a value, has no JSON."""
        data = msgspec.json.encode([self._dump(snapshot) for snapshot in snapshots])
        return data if indent is None else msgspec.json.format(data, indent=indent)

    def _dump(self, snapshot: Snapshot[Any, Any]) -> dict[str, Any]:
        if isinstance(snapshot, NodeSnapshot):
            node = snapshot.node
            return {
                "state": self._state.dump(snapshot.state),
                "node": {**self._node_codec(type(node)).dump(node), "node_id": node.get_node_id()},
                "start_ts": snapshot.start_ts,
                "duration": snapshot.duration,
                "status": snapshot.status,
                "kind": "node",
                "id": snapshot.id,
            }
        return {
            "state": self._state.dump(snapshot.state),
            "result": {"data": self._end.dump(snapshot.result.data)},
            "ts": snapshot.ts,
            "kind": "end",
            "id": snapshot.id,
        }

    def decode(self, data: str | bytes | bytearray) -> list[Snapshot[Any, Any]]:
        """Snapshots from JSON.

        Raises:
            msgspec.ValidationError: (a ValueError) not a list of snapshots.
            pydantic.ValidationError: (a ValueError) a state, node or output does not fit its type.
            GraphRuntimeError: a node is not in the graph.
        """
        return [self._load(entry) for entry in msgspec.json.decode(data, type=list[_Written])]

    def _load(self, entry: _Written) -> Snapshot[Any, Any]:
        state = self._state.load(entry.state)
        if entry.kind == "end" and entry.result is not None and entry.ts is not None:
            end: End[Any] = End(self._end.load(entry.result.data))
            end.set_snapshot_id(entry.id)
            return EndSnapshot(state=state, result=end, ts=entry.ts, id=entry.id)
        if not entry.node:
            raise msgspec.ValidationError(
                f"Snapshot {entry.id!r} of kind {entry.kind!r} lacks its node or its result"
            )
        fields: dict[str, Any] = msgspec.json.decode(entry.node, type=dict[str, Any])
        node_id = fields.pop("node_id", None)
        if node_id not in self._nodes:
            raise GraphRuntimeError(
                f"Snapshot {entry.id!r} holds a node `{node_id}`, which is not in the graph "
                f"(it has {', '.join(self._nodes) or 'none: call `persistence.set_graph_types(graph)`'})."
            )
        node: BaseNode[Any, Any, Any] = self._node_codec(self._nodes[node_id]).load(
            msgspec.json.encode(fields)
        )
        node.set_snapshot_id(entry.id)
        return NodeSnapshot(
            state=state,
            node=node,
            start_ts=entry.start_ts,
            duration=entry.duration,
            status=entry.status,
            id=entry.id,
        )

    def _node_codec(self, node: type[BaseNode[Any, Any, Any]]) -> _Codec:
        codec = self._node_codecs.get(node)
        if codec is None:
            has_fields = is_dataclass(node) or _is_msgspec(node) or issubclass(node, BaseModel)
            codec = self._node_codecs[node] = _codec(node) if has_fields else _Bare(node)
        return codec


class _Pydantic:
    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def dump(self, value: Any) -> Any:
        return self._adapter.dump_python(value, mode="json", by_alias=True)

    def load(self, data: bytes | msgspec.Raw) -> Any:
        return self._adapter.validate_json(bytes(data))


class _Msgspec:
    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)

    def dump(self, value: Any) -> Any:
        return msgspec.to_builtins(value, builtin_types=())

    def load(self, data: bytes | msgspec.Raw) -> Any:
        return self._decoder.decode(data)


class _Bare:
    """Of a node class that declares no fields: it is its name."""

    def __init__(self, node: type[BaseNode[Any, Any, Any]]) -> None:
        self._node = node

    def dump(self, value: Any) -> Any:
        if any(not name.startswith("__") for name in self._names(value)):
            raise GraphRuntimeError(
                f"Node `{value!r}` has attributes but declares no fields, so it cannot be saved: make "
                f"`{self._node.__name__}` a dataclass (or an attrs class, or a msgspec.Struct)."
            )
        return {}

    @staticmethod
    def _names(value: object) -> list[str]:
        return list(vars(value))

    def load(self, data: bytes | msgspec.Raw) -> Any:  # noqa: ARG002  # the name was all there is
        return self._node()


def _is_msgspec(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    bases: tuple[type[Any], ...] = kind.__mro__
    return msgspec.Struct in bases or any("__attrs_attrs__" in vars(base) for base in bases)


def _codec(kind: Any) -> _Codec:
    if _is_msgspec(kind):
        return _Msgspec(kind)
    return _Pydantic(Any if kind is None else kind)
