"""Events for those who asked. Without a subscriber nothing is built and nothing is called: hot paths ask ``listening`` first.

Events happen in synchronous code, which cannot wait. Where a subscriber asked to be waited for (``overflow='wait'``) and has no
room, events gather here, a task hands them on in order, and every run stops at its next node boundary until all are handed
on: so what gathers is bounded by a few events a run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from runmgr.concurrency import Broadcast, Overflow, Subscription
from runmgr.records.events import EventsMissed, RunStream

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ("Subscriptions",)

_log = logging.getLogger("runmgr.supervisor")


class Subscriptions:
    """All subscribers of one supervisor."""

    __slots__ = (
        "_broadcast",
        "_caught_up",
        "_ends",
        "_gathered",
        "_heard",
        "_now",
        "_only",
        "_streams",
        "_work",
        "behind",
        "changed",
        "listening",
        "tell",
        "wants_streams",
    )

    def __init__(self, now: Callable[[], float]) -> None:
        self._broadcast: Broadcast[Any] = Broadcast(self._choose)
        self._now = now
        self._ends: list[Callable[[], object]] = []
        self._streams = 0
        self._only: Subscription[Any] | None = None
        self._heard: dict[Subscription[Any], Callable[[Any], object]] = {}
        """Listeners, by their subscriptions."""
        self._gathered: deque[Any] = deque()
        self._caught_up: trio.Event | None = None
        self._work: trio.Event | None = None
        self.tell: Callable[[Any], object] = self.publish
        """As `publish`, for events that are not `RunStream`: where one subscriber takes everything, or one listens, straight to
        it. To be looked up for each event: it changes with whether its reader waits.
        """
        self.changed: Callable[[], object] | None = None
        """Called when it changes whether anybody wants events, or those of streams."""
        self.behind = False
        """Whether runs are to wait: a subscriber that asked for it has no room."""
        self.listening = False
        """Whether anybody wants events: only then are they built."""
        self.wants_streams = False
        """Whether anybody wants the events of model streams too."""

    @contextmanager
    def open(
        self,
        *,
        filter: Callable[[Any], bool] | None,
        buffer: int,
        overflow: Overflow,
        key: Callable[[Any], Hashable] | None,
        streams: bool,
        services: trio.Nursery,
    ) -> Generator[Subscription[Any], None, None]:
        """A subscriber, for as long as the block lasts. See `Supervisor.subscribe`."""
        subscription = self._broadcast.subscribe(
            filter=filter,
            without=None if streams else RunStream,
            buffer=buffer,
            overflow=overflow,
            key=key,
            on_missed=lambda count: EventsMissed(count=count, at=self._now()),
        )
        if overflow == "wait" and self._work is None:
            self._work = trio.Event()
            services.start_soon(self._hand_on, name="runmgr events")
        with subscription:
            self._streams += streams
            self._want(events=True)
            try:
                yield subscription
            finally:
                self._streams -= streams
                self._want(events=True)
        self._want(events=bool(self._broadcast.subscribers))

    def _want(self, *, events: bool) -> None:
        before = self.listening, self.wants_streams
        self.listening, self.wants_streams = events, self._streams > 0
        if self.changed is not None and before != (self.listening, self.wants_streams):
            self.changed()

    def listen(self, told: Callable[[Any], object], ended: Callable[[], object] | None) -> None:
        """See `Supervisor.listen`."""

        def hear(event: Any) -> bool:
            if type(event) is not RunStream:
                try:
                    told(event)
                except Exception:  # noqa: BLE001  a listener's mistake is none of the run's
                    _log.exception("a listener failed at %s", type(event).__name__)
            return False

        subscription = self._broadcast.subscribe(filter=hear, buffer=1)
        self._heard[subscription] = hear
        subscription.__enter__()
        self._want(events=True)
        if ended is not None:
            self._ends.append(ended)

    def _choose(self) -> None:
        """How events are told from now on."""
        only = None if self._gathered else self._broadcast.only()
        if only is not self._only:
            if self._only is not None:
                self._only._straight(None)
            self._only = only
            if only is not None:
                only._straight(self._tell_by)
        if only is None:
            all_of_them = self._broadcast.subscribers
            # Past what has gathered nobody is told anything: its turn has yet to come, though whom it waited for may have left.
            alone = len(all_of_them) == 1 and not self._gathered
            self.tell = self._heard.get(all_of_them[0], self.publish) if alone else self.publish

    def _tell_by(self, way: Callable[[Any], object]) -> None:
        self.tell = way

    def publish(self, event: Any) -> None:
        """Give the event to every subscriber. Never blocks."""
        if not self._gathered:
            try:
                self._broadcast.publish_nowait(event)
            except trio.WouldBlock:
                self._gathered.append(
                    event
                )  # by `publish` only: with a subscriber who is waited for, `tell` is the same
                self._caught_up = trio.Event()
                self.behind = True
                assert self._work is not None
                self._work.set()
        else:
            self._gathered.append(event)

    async def _hand_on(self) -> None:
        while True:
            assert self._work is not None
            await self._work.wait()
            self._work = trio.Event()
            while self._gathered:
                try:
                    await self._broadcast.publish(self._gathered[0])
                except trio.ClosedResourceError:
                    return  # `close` has given what there was room for
                self._gathered.popleft()
            self._choose()
            if self._caught_up is not None:
                self._caught_up.set()
                self._caught_up = None
                self.behind = False

    async def caught_up(self) -> None:
        """Wait until everything is handed on."""
        while self._caught_up is not None:
            await self._caught_up.wait()

    def close(self) -> None:
        """No more events come: each subscriber's iteration ends after what is buffered. What had gathered is given as far as
        there is room.
        """
        while self._gathered:
            try:
                self._broadcast.publish_nowait(self._gathered.popleft())
            except trio.WouldBlock:
                break
        self.listening = self.wants_streams = False
        self._broadcast.close()
        for ended in self._ends:
            ended()
