"""A Python function as what a supervisor runs in place of an agent: a run of one step.

This is the one place beside the agent that knows what an actor looks at; whoever runs functions under a supervisor (batches, plans,
a program of yours) takes it from here.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio

from runmgr.exceptions import UserError
from runmgr.graph import BaseNode, End
from runmgr.usage import RunUsage

__all__ = ("FunctionAgent",)


class FunctionAgent:
    """A function that a supervisor's `submit` and `map` take where they take an agent.

    ``supervisor.submit(FunctionAgent(function), prompt)`` calls ``function(prompt)``; what it returns is the run's output, what it
    raises fails the run. A parameter ``supervisor`` is given the supervisor, as seen by the run: what it submits there are its
    children. Agents that it runs pass the supervisor's doors and are accounted to the run. Restarted or resumed, it is called again
    from its beginning.

    Args:
        function: async, or sync: then it runs in a worker thread, which is left behind when the run is cancelled, and named in
            ``outcome.abandoned_threads``.
        name: what it is called in accounts and journals; by default the function's qualified name.

    Raises:
        UserError: it does not take a prompt.
    """

    model = None
    """It has none of its own."""

    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        self.name: str = name or getattr(function, "__qualname__", type(function).__name__)
        self._function = function
        self._supervised = _takes(function, supervisor=None)
        if not self._supervised and not _takes(function):
            raise UserError(
                f"{self.name}: a function that is run must take the prompt, and nothing else it needs"
            )
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async
        )

    def fingerprint(self) -> str:
        """By its name: what a function does cannot be seen."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    @asynccontextmanager
    async def iter(self, prompt: Any = None, *, host: Any, **_: Any) -> AsyncGenerator[Any]:
        """What a supervisor calls: one run."""
        more = {"supervisor": host.supervisor} if self._supervised else {}
        yield _Step(self, prompt, more)

    async def _call(self, prompt: Any, more: dict[str, Any], left_behind: list[str]) -> Any:
        if self._is_async:
            return await self._function(prompt, **more)
        thread = f"{self.name} (thread)"
        try:
            return await trio.to_thread.run_sync(
                lambda: self._function(prompt, **more), abandon_on_cancel=True, thread_name=thread
            )
        except trio.Cancelled:
            left_behind.append(thread)
            raise


def _takes(function: Callable[..., Any], **more: Any) -> bool:
    try:
        signature = inspect.signature(function)
        signature.bind("prompt", **more)
    except (TypeError, ValueError):
        return False
    return more.keys() <= signature.parameters.keys()


class _Call(BaseNode[Any, Any, Any]):
    """The one node: a call of the function."""

    async def run(self, ctx: Any) -> End[Any]:
        raise NotImplementedError


class _Step:
    """What an actor drives: one node, then the end. It has no messages, and counts nothing that the ledger does not."""

    history_epoch = 0
    metadata: Any = None
    result: Any = None

    def __init__(self, agent: FunctionAgent, prompt: Any, more: dict[str, Any]) -> None:
        self._agent = agent
        self._prompt = prompt
        self._more = more
        self._left_behind: list[str] = []
        self.next_node: Any = _Call()
        self.ctx = SimpleNamespace(deps=SimpleNamespace(new_message_index=0))

    @property
    def abandoned_threads(self) -> tuple[str, ...]:
        return tuple(self._left_behind)

    async def next(self, _node: Any) -> Any:
        output = await self._agent._call(self._prompt, self._more, self._left_behind)
        self.result = SimpleNamespace(output=output)
        self.next_node = End(output)
        return self.next_node

    def all_messages(self) -> list[Any]:
        return []

    def usage(self) -> RunUsage:
        return RunUsage()

    def snapshot(self) -> None:
        return None
