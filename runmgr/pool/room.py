"""Room for runs that are submitted and have not ended: what makes submitters wait, from whatever thread they come.

Those who wait get places as runs get theirs behind it: fair between groups (`runmgr.concurrency.fair` names the source), within a
group first come, first served. So a tenant that submits without end keeps out nobody but itself.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from typing import Protocol

from runmgr.concurrency import FairQueue

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
    """Places. For any thread; never blocks.

    Its lock may be entered again: a signal handler that submits while its thread is in here does not hang.

    Args:
        capacity: how many places there are.
        weights: shares of groups where not 1.
    """

    __slots__ = ("_closed", "_free", "_lock", "_waiting", "capacity")

    def __init__(self, capacity: int, weights: Mapping[str, float] | None = None) -> None:
        shares: dict[Hashable, float] = {**weights} if weights else {}
        self.capacity = capacity
        self._free = capacity
        self._closed = False
        self._lock = threading.RLock()
        self._waiting: FairQueue[Waiter, Waiter] = FairQueue(weights=shares)

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

    def set_weight(self, group: str, weight: float | None) -> None:
        """Change a group's share of the places that get free; None: 1 again."""
        with self._lock:
            self._waiting.set_weight(group, weight)

    def line_up(self, waiter: Waiter, group: str = "") -> None:
        """Have the waiter woken when it has a place, or when there will be none."""
        with self._lock:
            if not self._closed and (self._free <= 0 or self._waiting):
                self._waiting.push(waiter, waiter, group=group)
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
            _, waiter = self._waiting.pop()
            waiter.granted = True
        waiter.wake()

    def close(self) -> None:
        """Wake everybody who waits, without a place; nobody waits any more."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            for waiter in waiting:
                self._waiting.remove(waiter)
        for waiter in waiting:
            waiter.wake()
