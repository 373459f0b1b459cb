"""A bounded mailbox: what others want one task to do, until it looks."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import attrs
import trio

__all__ = ("Mailbox", "MailboxStatistics")

T = TypeVar("T")


@attrs.frozen
class MailboxStatistics:
    """What is in a `Mailbox`, and who waits at it."""

    items: int
    capacity: int
    receivers_waiting: int
    closed: bool


class Mailbox(Generic[T]):
    """Items in, items out, in order; at most ``capacity`` inside.

    Light: a deque, and nothing to wait on until somebody waits. The task that reads makes it when somebody first writes,
    looks with `drain_nowait` where it is convenient, and closes it when it ends.

    Args:
        capacity: how many items it holds, at least 1.
    """

    __slots__ = ("_capacity", "_closed", "_items", "_lot")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._closed = False

    def put_nowait(self, item: T) -> None:
        """Put an item in.

        Raises:
            trio.WouldBlock: it is full.
            trio.BrokenResourceError: it is closed: nobody will read this.
        """
        if self._closed:
            raise trio.BrokenResourceError("this mailbox is closed: its reader has ended")
        if len(self._items) >= self._capacity:
            raise trio.WouldBlock
        self._items.append(item)
        if self._lot is not None:
            self._lot.unpark()

    def receive_nowait(self) -> T:
        """Take the oldest item.

        Raises:
            trio.WouldBlock: it is empty.
            trio.EndOfChannel: it is empty and closed.
        """
        if self._items:
            return self._items.popleft()
        if self._closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> T:
        """Wait for an item and take it. A checkpoint; cancelled, it has taken nothing.

        Raises:
            trio.EndOfChannel: it is empty and closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._items:
            item = self._items.popleft()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return item
        while not self._items:
            if self._closed:
                raise trio.EndOfChannel
            if self._lot is None:
                self._lot = trio.lowlevel.ParkingLot()
            await self._lot.park()
        return self._items.popleft()

    def drain_nowait(self) -> list[T]:
        """Take everything there is, oldest first; perhaps nothing."""
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """Take no more items. What is inside can still be received. No effect the second time."""
        self._closed = True
        if self._lot is not None:
            self._lot.unpark_all()

    def __len__(self) -> int:
        return len(self._items)

    def statistics(self) -> MailboxStatistics:
        """Counts."""
        waiting = 0 if self._lot is None else len(self._lot)
        return MailboxStatistics(len(self._items), self._capacity, waiting, self._closed)
