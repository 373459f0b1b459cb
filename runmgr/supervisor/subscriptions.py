"""Events for those who asked: each subscriber has a bounded buffer, and nobody is stalled by one who does not read.

Without a subscriber nothing is built and nothing is called: hot paths ask ``listening`` first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from runmgr.records.events import EventsMissed

__all__ = ("Subscription", "Subscriptions")


class Subscription:
    """One subscriber's end: iterate it. Made by `Supervisor.subscribe`."""

    __slots__ = ("_buffer", "_closed", "_filter", "_missed", "_now", "_owner", "_task")

    def __init__(
        self,
        owner: Subscriptions,
        buffer: int,
        filter: Callable[[Any], bool] | None,
        now: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._buffer: deque[Any] = deque(maxlen=buffer)
        self._filter = filter
        self._missed = 0
        self._task: trio.lowlevel.Task | None = None
        self._closed = False
        self._now = now

    def put(self, event: Any) -> None:
        """Take an event; the oldest is dropped, and counted, when the buffer is full."""
        if self._filter is not None and not self._filter(event):
            return
        if len(self._buffer) == self._buffer.maxlen:
            self._missed += 1
        self._buffer.append(event)
        self._wake()

    def close(self) -> None:
        """No more events: the iteration ends after those in the buffer."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:
        """The next event; waits for one.

        Raises:
            trio.BusyResourceError: another task already waits on this subscription.
        """
        if self._task is not None:
            raise trio.BusyResourceError(
                "another task already waits on this subscription; open one for each task"
            )
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._closed:
                raise StopAsyncIteration
            self._task = trio.lowlevel.current_task()

            def stop(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(stop)
        if self._missed:
            missed, self._missed = self._missed, 0
            return EventsMissed(count=missed, at=self._now())
        return self._buffer.popleft()


class Subscriptions:
    """All subscribers of one supervisor."""

    __slots__ = ("_all", "_now", "_streams", "listening", "wants_streams")

    def __init__(self, now: Callable[[], float]) -> None:
        self._all: list[Subscription] = []
        self._streams: list[Subscription] = []
        self._now = now
        self.listening = False
        """Whether anybody wants events: only then are they built."""
        self.wants_streams = False
        """Whether anybody wants the events of model streams too."""

    def open(self, buffer: int, filter: Callable[[Any], bool] | None, streams: bool) -> Subscription:
        """A new subscriber with a buffer of this many events."""
        subscription = Subscription(self, buffer, filter, self._now)
        self._all.append(subscription)
        if streams:
            self._streams.append(subscription)
        self._count()
        return subscription

    def close(self, subscription: Subscription) -> None:
        """The subscriber has left."""
        self._all.remove(subscription)
        if subscription in self._streams:
            self._streams.remove(subscription)
        self._count()

    def close_all(self) -> None:
        """No more events come."""
        for subscription in self._all:
            subscription.close()

    def _count(self) -> None:
        self.listening = bool(self._all)
        self.wants_streams = bool(self._streams)

    def publish(self, event: Any) -> None:
        """Give the event to every subscriber. Never blocks."""
        for subscription in self._all:
            subscription.put(event)

    def publish_stream(self, event: Any) -> None:
        """Give a model stream's event to those who want such."""
        for subscription in self._streams:
            subscription.put(event)
