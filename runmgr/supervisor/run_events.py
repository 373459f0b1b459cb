"""The events of one run, from subscribing until its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from runmgr.records.events import RunEnded

if TYPE_CHECKING:
    from typing import Self

    from runmgr.concurrency import Overflow, Subscription, SubscriptionStatistics

    from .handle import RunHandle

__all__ = ("RunEvents", "events_of")


class RunEvents:
    """Iterate it for one run's events; the last one is its `RunEnded`."""

    __slots__ = ("_ended", "_subscription")

    def __init__(self, subscription: Subscription[Any], *, ended: bool) -> None:
        self._subscription = subscription
        self._ended = ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next event; waits for one. Cancelled, it has taken none."""
        if self._ended:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        event = await self._subscription.__anext__()
        self._ended = type(event) is RunEnded
        return event

    def statistics(self) -> SubscriptionStatistics:
        """How many are buffered, and how many were missed."""
        return self._subscription.statistics()


@asynccontextmanager
async def events_of(
    handle: RunHandle, *, buffer: int, overflow: Overflow, streams: bool
) -> AsyncGenerator[RunEvents, None]:
    """See `RunHandle.events`."""
    run_id = handle.run_id

    def mine(event: Any) -> bool:
        return getattr(event, "run_id", None) == run_id

    subscribe = handle._sup.facade.subscribe
    async with subscribe(filter=mine, buffer=buffer, overflow=overflow, streams=streams) as subscription:
        yield RunEvents(subscription, ended=handle._outcome is not None)
