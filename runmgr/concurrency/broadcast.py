"""One sender's events to any number of subscribers, none of whom can stall it unless it asks to be waited for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import trio

from .subscription import Overflow, Subscription

__all__ = ("Broadcast",)

T = TypeVar("T")


class Broadcast(Generic[T]):
    """Sends each event to every subscriber whose filter lets it through.

    Without subscribers sending costs an attribute: ``if broadcast.subscribers: broadcast.publish_nowait(make_event())``.
    Sending is synchronous for everyone but subscribers with ``overflow='wait'``; an event is either given to every
    subscriber or, while such a one has no room, to none.
    """

    __slots__ = ("_changed", "_closed", "_patient", "_turn", "subscribers")

    def __init__(self, changed: Callable[[], object] | None = None) -> None:
        """Args:
        changed: called whenever other subscribers are there than before.
        """
        self._changed = changed
        # Tuples, replaced when they change: sending iterates over them while filters may end subscriptions.
        self.subscribers: tuple[Subscription[T], ...] = ()
        """Those who are subscribed now."""
        self._patient: tuple[Subscription[T], ...] = ()  # those with overflow='wait'
        self._turn = trio.Lock()
        self._closed = False

    def _set(self, subscribers: tuple[Subscription[T], ...]) -> None:
        if subscribers == self.subscribers:
            return
        self.subscribers = subscribers
        self._patient = tuple(one for one in subscribers if one._overflow == "wait")
        if self._changed is not None:
            self._changed()

    def only(self) -> Subscription[T] | None:
        """Where there is one subscriber, which takes every event as it is and never has a sender wait: that one, so that it can be given
        events straight, for as long as the subscribers do not change. It does not look at ``without`` then. None otherwise.
        """
        if len(self.subscribers) == 1 and self.subscribers[0]._takes_all:
            return self.subscribers[0]
        return None

    def subscribe(
        self,
        *,
        filter: Callable[[T], bool] | None = None,
        buffer: int = 1_000,
        overflow: Overflow = "drop_oldest",
        key: Callable[[T], Hashable] | None = None,
        on_missed: Callable[[int], T] | None = None,
        without: type | None = None,
    ) -> Subscription[T]:
        """A subscription: ``async with broadcast.subscribe() as events: async for event in events: ...``.

        It begins on entering the block and ends on leaving it.

        Args:
            filter: only events for which it returns true; None: all. Called in the sender, perhaps twice: keep it
                short. If it raises, the subscription ends, and its reader gets the exception after what is buffered.
            buffer: how many events may wait to be read, at least 1.
            overflow: what happens past that; see `Overflow`.
            key: for ``coalesce``: what an event is about; called as ``filter`` is. None: all events are about the same.
            without: events of exactly this class are left out, at less cost than a filter's.
            on_missed: makes an event that says how many were dropped, received where the gap is.

        Raises:
            ValueError: ``buffer`` is under 1, or ``overflow`` is unknown.
        """
        return Subscription(
            self,
            filter=filter,
            buffer=buffer,
            overflow=overflow,
            key=key,
            on_missed=on_missed,
            without=without,
        )

    def publish_nowait(self, event: T) -> None:
        """Send an event.

        Raises:
            trio.WouldBlock: a subscriber that wants to be waited for has no room. Nobody was given the event.
            trio.ClosedResourceError: the broadcast is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("this broadcast is closed")
        kind = type(event)
        for subscription in self._patient:
            if subscription._is_full and kind is not subscription._without and subscription._wants(event):
                raise trio.WouldBlock
        for subscription in self.subscribers:
            if kind is not subscription._without and (
                subscription._filter is None or subscription._wants(event)
            ):
                subscription._deliver(event)

    async def publish(self, event: T) -> None:
        """Send an event, waiting for room where a subscriber asked for that.

        A checkpoint only if it has to wait. Cancelled, it has sent the event to nobody. Senders that have to wait get
        through in the order in which they came; those who need not wait go ahead of them.

        Raises:
            trio.ClosedResourceError: the broadcast is closed.
        """
        try:
            return self.publish_nowait(event)
        except trio.WouldBlock:
            pass
        # One at a time: a reader that makes room for one event wakes one sender, not thousands.
        async with self._turn:
            while True:
                for subscription in self._patient:
                    while (
                        subscription._is_full
                        and type(event) is not subscription._without
                        and subscription._wants(event)
                    ):
                        await subscription._room()
                try:
                    return self.publish_nowait(event)
                except trio.WouldBlock:
                    pass

    def close(self) -> None:
        """End every subscription, once its buffer is read. No effect the second time."""
        self._closed = True
        for subscription in self.subscribers:
            subscription._end()
