"""What ``--agent`` names, where that is no agent: a function, or a node graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from runmgr.exceptions import UserError
from runmgr.graph import Graph
from runmgr.supervisor.functions import FunctionAgent

__all__ = ("as_agent",)


def as_agent(found: Any, spec: str) -> Any:
    """What ``--agent`` names, as something with ``iter``.

    Args:
        found: an agent (given back as it is), a graph, or a function of the prompt.
        spec: how it was named, for messages.

    Raises:
        UserError: it is none of these.
    """
    if hasattr(found, "iter") and not isinstance(found, Graph):
        return found
    if isinstance(found, Graph):
        return FunctionAgent(_graph_function(found, spec), name=spec)  # pyright: ignore[reportUnknownArgumentType]
    if callable(found):
        try:
            return FunctionAgent(found, name=spec)
        except UserError:
            raise UserError(
                f"--agent {spec}: a function must take the prompt; is it a function that makes an agent? "
                "Name the agent itself"
            ) from None
    raise UserError(
        f"--agent {spec}: that is {type(found).__name__}; an Agent is needed, or a Graph, or a function of the prompt"
    )


def _graph_function(graph: Graph[Any, Any, Any], spec: str) -> Callable[..., Any]:
    """Runs the graph from its first node, made of the prompt, with a state made of nothing."""
    first = next(iter(graph.node_defs.values())).node
    state_type: Any = graph.inferred_types[0]
    try:
        inspect.signature(first).bind("prompt")
    except TypeError as error:
        raise UserError(
            f"--agent {spec}: the graph's first node {first.__name__} must be made of the prompt alone ({error})"
        ) from error
    stateful = state_type not in {None, type(None), Any} and isinstance(state_type, type)
    new_state: Callable[[], Any] = cast("Any", state_type) if stateful else lambda: None

    make: Any = first

    async def run(prompt: Any) -> Any:
        result = await graph.run(make(prompt), state=new_state())
        return result.output

    return run
