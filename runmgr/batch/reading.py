"""Ending a wait for input that may never come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import trio

__all__ = ("Reading",)

T = TypeVar("T")


class Reading:
    """An iteration that somebody else can end while it waits."""

    def __init__(self) -> None:
        self._stopped = False
        self._scope: trio.CancelScope | None = None

    def stop(self) -> None:
        """Ends it: the item being waited for is not given any more."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def _next(self, items: AsyncIterator[T]) -> T:
        if not self._stopped:
            with trio.CancelScope() as self._scope:
                return await anext(items)
        raise StopAsyncIteration

    def until_stopped(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """The items, until there are no more or `stop` is called."""
        return _Stoppable(self, items)


class _Stoppable(AsyncIterator[T]):
    def __init__(self, reading: Reading, items: AsyncIterator[T]) -> None:
        self._reading = reading
        self._items = items

    async def __anext__(self) -> T:
        return await self._reading._next(self._items)
