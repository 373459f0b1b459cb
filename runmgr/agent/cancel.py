"""Cancelling one run from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from runmgr.exceptions import RunCancelled

if TYPE_CHECKING:
    from runmgr.agent.state import GraphAgentDeps, GraphAgentState
    from runmgr.graph import GraphRunContext

__all__ = ("Cancellation", "run_cancelled")

T = TypeVar("T")


class Cancellation:
    """What ``AgentRun.cancel`` acts on: the scopes in which the run waits just now.

    A run waits in its own steps only, so a scope is opened around each step and none around the user's code between.
    """

    __slots__ = ("reason", "scoped", "scopes")

    def __init__(self, *, scoped: bool) -> None:
        self.reason: str | None = None
        self.scoped = scoped
        """Whether steps open scopes; a hosted run's are within its host's scope."""
        self.scopes: set[trio.CancelScope] = set()

    def cancel(self, reason: str) -> None:
        """Cancel what waits; the first reason stays."""
        if self.reason is None:
            self.reason = reason
        for scope in self.scopes:
            scope.cancel()

    async def guard(self, call: Callable[..., Awaitable[T]], *args: object) -> T | None:
        """Await ``call``, in a scope of its own. None with `reason` set means that the run was cancelled."""
        if self.reason is not None:
            return None
        scope = trio.CancelScope()
        self.scopes.add(scope)
        try:
            with scope:
                return await call(*args)
        finally:
            self.scopes.discard(scope)
        return None


def run_cancelled(ctx: GraphRunContext[GraphAgentState, GraphAgentDeps[Any, Any]]) -> RunCancelled:
    """The error for whoever drives a run that was cancelled."""
    from runmgr.records.outcomes import RunError, RunOutcome, RunState

    state = ctx.state
    deps = ctx.deps
    reason = deps.cancellation.reason if deps.cancellation is not None else None
    return RunCancelled(
        RunOutcome(
            run_id=state.run_id,
            index=0,
            status=RunState.CANCELLED,
            error=RunError("Cancelled", reason or "cancelled"),
            usage=state.usage,
            metadata=state.metadata,
            messages=state.message_history,
            new_message_index=deps.new_message_index,
            model=deps.model.model_name,
            abandoned_threads=tuple(state.abandoned_threads),
        )
    )
