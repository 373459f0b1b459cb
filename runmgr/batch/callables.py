"""A Python function, or a node graph, as what a batch runs: a run of one step.

What the function asks of models on its own is its own affair. Where it has a parameter ``supervisor`` it is given the batch's, and what it
submits there is limited, retried and accounted.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import trio

from runmgr.exceptions import UserError
from runmgr.graph import BaseNode, End, Graph
from runmgr.usage import RunUsage

__all__ = ("CallableAgent", "as_agent")


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
        return CallableAgent(_graph_function(found, spec), spec)  # pyright: ignore[reportUnknownArgumentType]
    if callable(found):
        try:
            inspect.signature(found).bind("prompt")
        except (TypeError, ValueError):
            with_supervisor = _takes_supervisor(found)
            if not with_supervisor:
                raise UserError(
                    f"--agent {spec}: a function must take the prompt; is it a function that makes an agent? "
                    "Name the agent itself"
                ) from None
        return CallableAgent(found, spec)
    raise UserError(
        f"--agent {spec}: that is {type(found).__name__}; an Agent is needed, or a Graph, or a function of the prompt"
    )


def _takes_supervisor(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
        signature.bind("prompt", supervisor=None)
    except (TypeError, ValueError):
        return False
    return "supervisor" in signature.parameters


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


class CallableAgent:
    """A function with the door of an agent.

    Args:
        function: sync (run in a worker thread) or async; takes the prompt.
        name: what it is called.
    """

    model = None
    name: str

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async
        )
        self._supervised = _takes_supervisor(function)

    def fingerprint(self) -> str:
        """By its name: what a function does cannot be seen."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    async def call(self, prompt: Any, host: Any) -> Any:
        """The function's result; sync ones run in a worker thread that is abandoned on cancellation."""
        more = {"supervisor": host.supervisor} if self._supervised else {}
        if self._is_async:
            return await self._function(prompt, **more)
        return await trio.to_thread.run_sync(lambda: self._function(prompt, **more), abandon_on_cancel=True)

    @asynccontextmanager
    async def iter(
        self, prompt: Any = None, *, host: Any, run_id: str | None = None, snapshot: Any = None, **_: Any
    ) -> AsyncGenerator[_Step]:
        """One run; a snapshot is never made, so there is none to go on from."""
        del run_id, snapshot
        yield _Step(self, prompt, host)


class _Call(BaseNode[Any, Any, Any]):
    """The one node: a call of the function."""

    async def run(self, ctx: Any) -> End[Any]:
        raise NotImplementedError


class _Step:
    """What a supervisor drives: one node, then the end."""

    history_epoch = 0
    metadata: Any = None
    result: Any = None

    def __init__(self, agent: CallableAgent, prompt: Any, host: Any) -> None:
        self._agent = agent
        self._prompt = prompt
        self._host = host
        self.next_node: Any = _Call()
        # what a supervisor looks at when the run has ended: no messages of its own, no threads left behind
        said = SimpleNamespace(new_message_index=0, run_context=SimpleNamespace(abandoned_threads=()))
        self.ctx = SimpleNamespace(deps=said)

    async def next(self, _node: Any) -> Any:
        output = await self._agent.call(self._prompt, self._host)
        self.result = SimpleNamespace(output=output)
        self.next_node = End(output)
        return self.next_node

    def all_messages(self) -> list[Any]:
        return []

    def usage(self) -> RunUsage:
        return RunUsage()

    def snapshot(self) -> None:
        return None
