"""The receiving end of a `Broadcast`."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast, get_args

import attrs
import trio

if TYPE_CHECKING:
    from typing import Self

    from .broadcast import Broadcast

__all__ = ("Overflow", "Subscription", "SubscriptionStatistics")

_AT_ONCE = 31
"""Events that a reader takes after another, where they are there, before it looks whether it is cancelled, and how long its turn has lasted."""
_TURN = 0.02
"""Seconds after which other tasks have a turn, though not all is read that was there when the reader's began."""

T = TypeVar("T")

Overflow = Literal["wait", "drop_oldest", "coalesce"]
"""What happens when a subscriber does not keep up.

- ``wait``: past its buffer, the sender waits for room;
- ``drop_oldest``: past its buffer, the oldest event makes room;
- ``coalesce``: of unread events with one key only the newest is kept, in the place of the oldest; past the buffer the
  oldest goes.
"""


@attrs.frozen
class SubscriptionStatistics:
    """What a subscriber has yet to see, and what it will never see."""

    buffered: int
    """Unread events."""
    missed: int
    """Events that were dropped or replaced, in all."""


class Subscription(Generic[T]):
    """Events for one reader. Made by `Broadcast.subscribe`, whose arguments it takes."""

    __slots__ = (
        "_append", "_broadcast", "_buffer", "_coalesces", "_ended", "_error", "_events", "_filter", "_gap", "_is_full", "_key", "_lot", "_odd",
        "_on_missed", "_overflow", "_parked", "_pop", "_rooms", "_sink", "_without", "missed",
    )  # fmt: skip

    def __init__(
        self,
        broadcast: Broadcast[T],
        *,
        filter: Callable[[T], bool] | None,
        buffer: int,
        overflow: Overflow,
        key: Callable[[T], Hashable] | None,
        on_missed: Callable[[int], T] | None,
        without: type | None,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, got {buffer}")
        if overflow not in get_args(Overflow):
            raise ValueError(
                f"overflow must be one of {', '.join(map(repr, get_args(Overflow)))}, got {overflow!r}"
            )
        self._broadcast = broadcast
        self._filter = filter
        self._buffer = buffer
        self._overflow: Overflow = overflow
        self._coalesces = overflow == "coalesce"
        self._key = key
        self._on_missed = on_missed
        self._without = without
        self._events: OrderedDict[Hashable, T] | deque[T]
        """Unread, oldest first; for 'coalesce' by key."""
        self._pop: Callable[[], T]
        """Takes the oldest event."""
        self._append: Callable[[T], object]
        """Adds one, where they have no keys."""
        if self._coalesces:
            by_key: OrderedDict[Hashable, T] = OrderedDict()
            self._events, self._pop = by_key, lambda: by_key.popitem(last=False)[1]
        else:
            unread: deque[T] = deque()
            self._events, self._pop, self._append = unread, unread.popleft, unread.append
        self._gap = 0  # dropped since the reader was last told
        self._ended = False
        self._error: Exception | None = None
        self._odd = False
        """Whether there is more to taking an event than to take the oldest: there is a gap before it, or no room behind it."""
        self._parked = 0
        """Readers in the lot."""
        self._is_full = False  # a plain attribute: senders look at it for each event
        self._sink: Callable[[Callable[[T], object]], object] | None = None
        """Is told how to give it an event, whenever that changes; None while the broadcast does it."""
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._rooms: trio.lowlevel.ParkingLot | None = None
        self.missed = 0
        """How many events the reader will never see, so far: dropped, or replaced by a newer one."""

    async def receive(self) -> T:
        """Wait for an event and take it. A checkpoint; cancelled, it has taken nothing.

        Raises:
            trio.EndOfChannel: the subscription has ended and everything was read.
            Exception: what the filter raised, after everything that was buffered before.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._events or self._gap:
            event = self.receive_nowait()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return event
        while not self._events and not self._ended:
            if self._lot is None:
                self._lot = trio.lowlevel.ParkingLot()
            self._park(1)
            try:
                await self._lot.park()
            except BaseException:  # cancelled: nobody has called it from there
                self._park(-1)
                raise
        return self.receive_nowait()

    def receive_nowait(self) -> T:
        """Take the oldest event.

        Raises:
            trio.WouldBlock: there is none now.
            trio.EndOfChannel: there will be none.
            Exception: what the filter raised.
        """
        if self._gap and self._on_missed is not None:
            gap, self._gap = self._gap, 0
            self._odd = self._is_full
            return self._on_missed(gap)
        if self._events:
            event = self._pop()
            self._is_full = self._odd = False
            if self._rooms is not None:
                self._rooms.unpark()
            return event
        if self._error is not None:
            raise self._error
        if self._ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    def drain_nowait(self) -> list[T]:
        """Take everything there is, oldest first; perhaps nothing. Never raises."""
        events: list[T] = []
        while self._events:
            events.append(self.receive_nowait())
        return events

    def close(self) -> None:
        """End the subscription and forget what is buffered. No effect the second time."""
        self._end()
        self._events.clear()
        self._gap = 0

    def statistics(self) -> SubscriptionStatistics:
        """Counts."""
        return SubscriptionStatistics(len(self._events), self.missed)

    def __aiter__(self) -> AsyncIterator[T]:
        """Each is as `receive`, and a checkpoint where it has to wait. What is there when the reader has its turn is taken without
        another, though not for more than 20 ms; it sees every 32 events whether it is cancelled.
        """
        # A generator, as it costs half of what a coroutine an event does. There is nothing to do when the reader leaves it, so trio
        # need not know of it, and does not warn of one that is left: it takes its first step without trio's hooks.
        reading = self._read()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            reading.__anext__().send(None)
        except StopIteration:
            pass
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return reading

    async def _read(self) -> AsyncGenerator[T, None]:
        events, pop = self._events, self._pop
        yield cast("T", None)  # to `__aiter__`
        while True:
            try:
                event = await self.receive()
            except trio.EndOfChannel:
                return
            yield event
            there = len(events)
            ends = trio.current_time() + _TURN
            while there > 0:
                for _ in range(min(there, _AT_ONCE)):
                    if not events:
                        break
                    yield self.receive_nowait() if self._odd else pop()
                there -= _AT_ONCE
                if there > 0:
                    await trio.lowlevel.checkpoint_if_cancelled()
                    if trio.current_time() > ends:
                        break

    async def __anext__(self) -> T:
        """As `receive`."""
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        broadcast = self._broadcast
        if self._ended or self in broadcast.subscribers:
            raise RuntimeError("a subscription is entered once: call subscribe() for another")
        if broadcast._closed:
            self._ended = True
            return self
        broadcast._set((*broadcast.subscribers, self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- for the Broadcast

    def _wants(self, event: T) -> bool:
        if self._filter is None:
            return True
        try:
            return self._filter(event)
        except Exception as error:  # noqa: BLE001  # a subscriber's mistake is the subscriber's to hear of
            self._fail(error)
            return False

    @property
    def _takes_all(self) -> bool:
        """Whether `_deliver` is all there is to sending it an event, but for those of the class that it is without."""
        return self._filter is None and self._overflow != "wait"

    def _straight(self, sink: Callable[[Callable[[T], object]], object] | None) -> None:
        """From now on whoever sends gives it events without the broadcast, in the way that ``sink`` was told last; None: no more."""
        self._sink = sink
        if sink is not None:
            sink(self._way())

    def _way(self) -> Callable[[T], object]:
        return self._deliver if self._parked or self._coalesces else self._putting()

    def _putting(self) -> Callable[[T], object]:
        """As `_deliver`, where nobody waits. Closed over what it needs: it is called a dozen times for each run."""
        append, events, buffer = self._append, self._events, self._buffer

        def put(event: T) -> None:
            append(event)
            if len(events) > buffer:
                self._drop(1)

        return put

    def _park(self, more: int) -> None:
        """So many readers more are in the lot."""
        self._parked += more
        if self._sink is not None:
            self._sink(self._way())

    def _deliver(self, event: T) -> None:
        # Called for every event where there are several subscribers. What is rare is in methods of its own.
        if not self._coalesces:
            self._append(event)
        elif not self._put_by_key(event):
            return
        if len(self._events) >= self._buffer:
            self._drop(len(self._events) - self._buffer)
        if self._parked:
            self._wake()

    def _put_by_key(self, event: T) -> bool:
        events = self._events
        assert type(events) is OrderedDict
        try:
            key = None if self._key is None else self._key(event)
        except Exception as error:  # noqa: BLE001  # as in `_wants`
            self._fail(error)
            return False
        if key in events:
            self.missed += 1
        events[key] = event
        return True

    def _drop(self, count: int) -> None:
        """There was no room for so many, and is none for another."""
        if count:
            for _ in range(count):
                self._pop()
            self.missed += count
            if self._on_missed is not None:
                self._gap += count
        self._is_full = self._odd = True

    def _wake(self) -> None:
        assert self._lot is not None
        self._lot.unpark()
        self._park(-1)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._end()

    async def _room(self) -> None:
        if self._rooms is None:
            self._rooms = trio.lowlevel.ParkingLot()
        await self._rooms.park()

    def _end(self) -> None:
        """Receive no more events; wake reader and senders."""
        self._ended = True
        self._is_full = False
        self._parked = 0
        broadcast = self._broadcast
        broadcast._set(tuple(other for other in broadcast.subscribers if other is not self))
        for lot in (self._lot, self._rooms):
            if lot is not None:
                lot.unpark_all()
