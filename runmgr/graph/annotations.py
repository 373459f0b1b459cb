"""From a node class to its `NodeDef`: reads the return annotation of ``run``."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from typing import Annotated, Any, Union, cast, get_args, get_origin

from .exceptions import GraphSetupError
from .nodes import BaseNode, Edge, End, Join, NodeDef

__all__ = ("read_node",)

_HOW = "write for example `async def run(self, ctx: GraphRunContext) -> NextNode | End[int]`"


def read_node(cls: type[BaseNode[Any, Any, Any]], local_ns: dict[str, Any] | None) -> NodeDef:
    """See `BaseNode.get_node_def`."""
    if cls.run is BaseNode.run:
        raise GraphSetupError(f"Node {cls} has no `run` method: {_HOW}.")
    reader = _Reader(cls)
    reader.read(_return_annotation(cls, local_ns), ())
    return NodeDef(
        node=cls,
        node_id=cls.get_node_id(),
        note=cls.get_note(),
        next_node_edges=reader.next_edges,
        end_edge=reader.end_edge,
        returns_base_node=reader.returns_base_node,
        fork_edges=reader.fork_edges,
        join=reader.join,
        end_type=reader.end_type,
        next_nodes=tuple(dict.fromkeys(reader.named)),
    )


class _Reader:
    """Walks one annotation."""

    __slots__ = (
        "cls",
        "end_edge",
        "end_type",
        "fork_edges",
        "join",
        "named",
        "next_edges",
        "returns_base_node",
    )

    def __init__(self, cls: type[BaseNode[Any, Any, Any]]) -> None:
        self.cls = cls
        self.next_edges: dict[str, Edge] = {}
        self.fork_edges: dict[str, Edge] = {}
        self.end_edge: Edge | None = None
        self.end_type: Any = None
        self.returns_base_node = False
        self.join: Join | None = None
        self.named: list[type[BaseNode[Any, Any, Any]]] = []

    def read(self, annotation: Any, extras: tuple[Any, ...]) -> None:
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *more = get_args(annotation)
            self.read(inner, (*more, *extras))
        elif (
            type(annotation).__name__ == "TypeAliasType"
        ):  # `type Next = A | B`, on 3.11 from typing_extensions
            self.read(annotation.__value__, extras)
        elif origin is Union or origin is types.UnionType:
            for member in get_args(annotation):
                self.read(member, extras)
        elif origin in {list, tuple}:
            self.read_fork(annotation, extras)
        else:
            self.read_one(annotation, origin, _edge(extras))

    def read_one(self, annotation: Any, origin: Any, edge: Edge) -> None:
        target = origin or annotation
        if target is End:
            self.end_edge = edge
            self.end_type = next(iter(get_args(annotation)), None)
        elif target is BaseNode:
            self.returns_base_node = True
        else:
            node = self.node_class(target, annotation)
            self.next_edges[node.get_node_id()] = edge

    def read_fork(self, annotation: Any, extras: tuple[Any, ...]) -> None:
        edge = _edge(extras)
        for extra in extras:
            if isinstance(extra, Join):
                self.join = extra
                self.named.append(extra.node)
        members = [member for member in get_args(annotation) if member is not Ellipsis]
        while members:
            member = members.pop(0)
            origin = get_origin(member)
            if origin is Union or origin is types.UnionType:
                members[:0] = get_args(member)
            elif (origin or member) is BaseNode:
                self.returns_base_node = True
            else:
                node = self.node_class(origin or member, annotation)
                self.fork_edges[node.get_node_id()] = edge

    def node_class(self, target: Any, annotation: Any) -> type[BaseNode[Any, Any, Any]]:
        if not (inspect.isclass(target) and issubclass(target, BaseNode)):
            raise GraphSetupError(
                f"Invalid return type: {annotation!r}",
                f"It is in the annotation of `{self.cls.__name__}.run`. Only nodes, `End[...]` and lists or tuples of "
                f"nodes can be returned: {_HOW}.",
            )
        node = cast("type[BaseNode[Any, Any, Any]]", target)
        self.named.append(node)
        return node


def _edge(extras: tuple[Any, ...]) -> Edge:
    return next((extra for extra in extras if isinstance(extra, Edge)), Edge())


def _return_annotation(cls: type[BaseNode[Any, Any, Any]], local_ns: dict[str, Any] | None) -> Any:
    function = inspect.unwrap(cls.run)
    try:
        annotation = _raw_annotations(function)["return"]
    except KeyError:
        raise GraphSetupError(
            f"Node {cls} is missing a return type hint on its `run` method",
            f"The graph is read from it: {_HOW}.",
        ) from None

    def holder() -> None: ...

    holder.__annotations__ = {"return": annotation}
    global_ns: dict[str, Any] = getattr(function, "__globals__", {})
    try:
        # Only the return annotation: the others may name things that exist for the type checker alone.
        return typing.get_type_hints(holder, global_ns, local_ns or {}, include_extras=True)["return"]
    except NameError as error:
        raise GraphSetupError(
            f"The return annotation of `{cls.__name__}.run` ({annotation!r}) names {error.name!r}, which is neither in "
            f"the module {cls.__module__!r} nor among the graph's nodes. Import it outside `if TYPE_CHECKING`, or list "
            f"that node in `Graph(nodes=...)`."
        ) from None


def _raw_annotations(function: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    return function.__annotations__
