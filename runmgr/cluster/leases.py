"""Who works on which run: the decisions of a driver, over plain values, with no clock and no I/O.

A run waits, or is leased to one worker, or is settled. A worker that is lost gives its runs back, to the front of the line,
and each lease has a number, so that what a worker that was taken for lost still tells is known for what it is.

- ``waiting -> leased``: `shard`
- ``leased -> waiting``: `lost`
- ``waiting | leased -> settled``: `settle`, the first time only; `withdraw` of one that waits
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ("Leases",)

T = TypeVar("T")


class Leases(Generic[T]):
    """The table.

    Args:
        places: runs that one worker is given at once.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._waiting: OrderedDict[str, T] = OrderedDict()
        self._leased: dict[str, str] = {}
        self._held: dict[str, dict[str, T]] = {}
        """By worker, its runs."""

    # ---------------------------------------------------------------- runs

    def add(self, run_id: str, task: T) -> None:
        """A run is to be worked on."""
        self._waiting[run_id] = task

    def withdraw(self, run_id: str) -> str | None:
        """A run is not wanted any more. One that waits is forgotten; of one that is leased, its worker is given."""
        if self._waiting.pop(run_id, None) is not None:
            return None
        return self._leased.get(run_id)

    def is_open(self, run_id: str) -> bool:
        """Whether it waits or is leased."""
        return run_id in self._leased or run_id in self._waiting

    def settle(self, run_id: str) -> bool:
        """A worker says what came of a run: True where it is believed, which is once for each run.

        A worker that was lost meanwhile is believed too, unless somebody else was first: what it says is as true, and the
        run need not be worked on again.
        """
        holder = self._leased.pop(run_id, None)
        if holder is not None:
            del self._held[holder][run_id]
            return True
        return self._waiting.pop(run_id, None) is not None

    def holder(self, run_id: str) -> str | None:
        """The worker of a run; None where it has none."""
        return self._leased.get(run_id)

    # ---------------------------------------------------------------- workers

    def join(self, worker: str) -> None:
        """A worker can take runs."""
        self._held[worker] = {}

    def lost(self, worker: str) -> list[str]:
        """A worker is gone: its runs wait again, before all others, in the order in which it had them."""
        held = self._held.pop(worker, {})
        for run_id in reversed(held):
            del self._leased[run_id]
            self._waiting[run_id] = held[run_id]
            self._waiting.move_to_end(run_id, last=False)
        return list(held)

    @property
    def workers(self) -> list[str]:
        """Those that can take runs."""
        return list(self._held)

    @property
    def waiting(self) -> int:
        """Runs without a worker."""
        return len(self._waiting)

    def held_by(self, worker: str) -> int:
        """How many runs a worker has."""
        return len(self._held.get(worker, ()))

    def shard(self) -> dict[str, list[T]]:
        """Lease what waits: to each worker what brings all of them to an even load. O(runs leased + workers)."""
        waiting, held = self._waiting, self._held
        if not waiting or not held:
            return {}
        shards: dict[str, list[T]] = {}
        left = len(waiting)
        # The emptiest first; each gets its part of what is left, up to an even level.
        order = sorted(held, key=lambda worker: len(held[worker]))
        for at, worker in enumerate(order):
            mine = held[worker]
            level = -(-(left + sum(len(held[other]) for other in order[at:])) // (len(order) - at))
            take = min(left, self.places - len(mine), max(0, level - len(mine)))
            if take <= 0:
                continue
            tasks = shards[worker] = []
            for _ in range(take):
                run_id, task = waiting.popitem(last=False)
                self._leased[run_id] = worker
                mine[run_id] = task
                tasks.append(task)
            left -= take
        return shards
