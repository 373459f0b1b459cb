"""Cancelling one run from outside, and tasks that live inside a run's block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import trio

__all__ = ("Cancellation", "TaskScope")

T = TypeVar("T")


class Cancellation:
    """What ``AgentRun.cancel`` acts on: the scopes in which the run waits just now.

    A run waits in its own steps only, so a scope is opened around each step and none around the user's code between.
    """

    __slots__ = ("reason", "scopes")

    def __init__(self) -> None:
        self.reason: str | None = None
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


class TaskScope:
    """A nursery for helpers of a block: what the block raises comes out bare, and the helpers end with the block.

    The helpers handle their own errors (they must not raise); leaving the block cancels those that still run.
    """

    __slots__ = ("_manager", "nursery")

    nursery: trio.Nursery

    def __init__(self) -> None:
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> trio.Nursery:
        self.nursery = await self._manager.__aenter__()
        return self.nursery

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.nursery.cancel_scope.cancel()
        try:
            # The error goes around the nursery instead of through it, which would put it into a group.
            await self._manager.__aexit__(None, None, None)
        except trio.Cancelled:
            # An outer scope was cancelled too. The block's own error, if any, is the one to tell of; the scope's
            # next checkpoint raises again.
            if error is None or isinstance(error, trio.Cancelled):
                raise
