"""Room for runs that are submitted and have not ended: what makes submitters wait, from whatever thread they come."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

__all__ = ("Room", "ThreadWaiter", "Waiter")


class Waiter(Protocol):
    """Somebody who waits for a place."""

    granted: bool
    """Whether it was given one. Set before `wake` is called."""

    def wake(self) -> None:
        """It has a place, or the room is closed. Called from any thread; must not block or raise."""
        ...


class ThreadWaiter:
    """A thread that waits."""

    __slots__ = ("_event", "granted")

    def __init__(self) -> None:
        self.granted = False
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """Block until woken."""
        self._event.wait()


class Room:
    """Places, first come first served. For any thread; never blocks.

    Its lock may be entered again: a signal handler that submits while its thread is in here does not hang.

    Args:
        capacity: how many places there are.
    """

    __slots__ = ("_closed", "_free", "_lock", "_waiting", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._closed = False
        self._lock = threading.RLock()
        self._waiting: deque[Waiter] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take_nowait(self) -> bool:
        """Take a place; False where none is free, or others wait for one."""
        with self._lock:
            if self._free > 0 and not self._waiting:
                self._free -= 1
                return True
            return False

    def line_up(self, waiter: Waiter) -> None:
        """Have the waiter woken when it has a place, or when there will be none."""
        with self._lock:
            if not self._closed and (self._free <= 0 or self._waiting):
                self._waiting.append(waiter)
                return
            if not self._closed:
                self._free -= 1
                waiter.granted = True
        waiter.wake()

    def give_up(self, waiter: Waiter) -> None:
        """Wait no longer; a place that it was given meanwhile goes back."""
        with self._lock:
            if not waiter.granted:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                return
        self.put_back()

    def put_back(self) -> None:
        """Give a place back: to the first who waits."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            waiter = self._waiting.popleft()
            waiter.granted = True
        waiter.wake()

    def close(self) -> None:
        """Wake everybody who waits, without a place; nobody waits any more."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for waiter in waiting:
            waiter.wake()
