"""Who works on which run: the decisions of a driver, over plain values, with no clock and no I/O.

A run waits, or is leased to one worker, or is settled. A worker that is lost gives its runs back, to the front of the line.

- ``waiting -> leased``: `shard`
- ``leased -> waiting``: `lost`
- ``leased -> given up``: `lost`, where the run was lost with its worker too often
- ``waiting | leased -> settled``: `settle`, the first time only; `withdraw` of one that waits

One of the runs of a worker that dies may be what kills it. Runs that were lost twice are suspects: of those a worker has few
at a time, of those that were lost three times only one. Where a worker dies that had suspects, only those that were lost most
often are blamed, so that what is given up after four is nobody's neighbour.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

__all__ = ("AT_ONCE", "Leases", "Lost")

T = TypeVar("T")

AT_ONCE: tuple[int | None, ...] = (None, None, 32, 1)
"""How many runs that were lost so often a worker has at once; None: any number. Beyond the last one they are given up."""


class Lost(NamedTuple, Generic[T]):
    """What becomes of a lost worker's runs."""

    again: list[T]
    """These wait again."""
    given_up: list[T]
    """These were lost too often."""


class Leases(Generic[T]):
    """The table.

    Args:
        places: runs that one worker is given at once.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._waiting: OrderedDict[str, T] = OrderedDict()
        self._suspects: OrderedDict[str, T] = OrderedDict()
        """Those that wait and were lost so often that they are dealt out one by one."""
        self._losses: dict[str, int] = {}
        """Of runs that were lost with a worker: how often they are blamed."""
        self._leased: dict[str, str] = {}
        self._held: dict[str, dict[str, T]] = {}
        """By worker, its runs."""

    # ---------------------------------------------------------------- runs

    def add(self, run_id: str, task: T) -> None:
        """A run is to be worked on."""
        self._waiting[run_id] = task

    def withdraw(self, run_id: str) -> str | None:
        """A run is not wanted any more. One that waits is forgotten; of one that is leased, its worker is given."""
        if self._unqueue(run_id) is not None:
            self._losses.pop(run_id, None)
            return None
        return self._leased.get(run_id)

    def _unqueue(self, run_id: str) -> T | None:
        task = self._waiting.pop(run_id, None)
        return self._suspects.pop(run_id, None) if task is None else task

    def is_open(self, run_id: str) -> bool:
        """Whether it waits or is leased."""
        return run_id in self._leased or run_id in self._waiting or run_id in self._suspects

    def settle(self, run_id: str) -> T | None:
        """A worker says what came of a run: gives it where that is believed, which is once for each run, else None.

        A worker that was lost meanwhile is believed too, unless somebody else was first: what it says is as true, and the
        run need not be worked on again.
        """
        if self._losses:
            self._losses.pop(run_id, None)
        holder = self._leased.pop(run_id, None)
        if holder is not None:
            return self._held[holder].pop(run_id)
        return self._unqueue(run_id)

    def settle_if(self, run_id: str, task: T) -> bool:
        """`settle`, where this very run is leased under that id; gives whether it is."""
        holder = self._leased.get(run_id)
        return holder is not None and self._held[holder][run_id] is task and self.settle(run_id) is not None

    def losses(self, run_id: str) -> int:
        """How often a run was lost with its worker and is blamed for it."""
        return self._losses.get(run_id, 0)

    def holder(self, run_id: str) -> str | None:
        """The worker of a run; None where it has none."""
        return self._leased.get(run_id)

    # ---------------------------------------------------------------- workers

    def join(self, worker: str) -> None:
        """A worker can take runs."""
        self._held[worker] = {}

    def lost(self, worker: str, *, blamed: bool = True) -> Lost[T]:
        """A worker is gone: its runs wait again, before all others, in the order in which it had them.

        Args:
            worker: its name.
            blamed: whether one of its runs may be why; False where it was asked to end.
        """
        held = self._held.pop(worker, {})
        losses = self._losses
        worst = max((losses.get(run_id, 0) for run_id in held), default=0) if losses else 0
        given_up: list[T] = []
        again: list[T] = []
        for run_id in reversed(held):
            del self._leased[run_id]
            count = losses.get(run_id, 0)
            if blamed and (AT_ONCE[worst] is None or count == worst):
                count += 1
                losses[run_id] = count
            if count >= len(AT_ONCE):
                del losses[run_id]
                given_up.append(held[run_id])
                continue
            line = self._waiting if AT_ONCE[count] is None else self._suspects
            line[run_id] = held[run_id]
            line.move_to_end(run_id, last=False)
            again.append(held[run_id])
        return Lost(again[::-1], given_up[::-1])

    @property
    def workers(self) -> list[str]:
        """Those that can take runs."""
        return list(self._held)

    @property
    def waiting(self) -> int:
        """Runs without a worker."""
        return len(self._waiting) + len(self._suspects)

    def all_waiting(self) -> list[T]:
        """Those, in the order in which they are to be leased. O(runs that wait)."""
        return [*self._suspects.values(), *self._waiting.values()]

    def held_by(self, worker: str) -> int:
        """How many runs a worker has."""
        return len(self._held.get(worker, ()))

    def shard(self) -> dict[str, list[T]]:
        """Lease what waits: to each worker what brings all of them to an even load. O(runs leased + workers)."""
        waiting, held = self._waiting, self._held
        shards: dict[str, list[T]] = {}
        if self._suspects and held:
            self._deal_suspects(shards)
        if not waiting or not held:
            return shards
        left = len(waiting)
        # The emptiest first; each gets its part of what is left, up to an even level.
        order = sorted(held, key=lambda worker: len(held[worker]))
        for at, worker in enumerate(order):
            mine = held[worker]
            level = -(-(left + sum(len(held[other]) for other in order[at:])) // (len(order) - at))
            take = min(left, self.places - len(mine), max(0, level - len(mine)))
            for _ in range(take):
                run_id, task = waiting.popitem(last=False)
                self._lease(worker, run_id, task, shards)
            left -= max(0, take)
        return shards

    def _lease(self, worker: str, run_id: str, task: T, shards: dict[str, list[T]]) -> None:
        self._leased[run_id] = worker
        self._held[worker][run_id] = task
        shards.setdefault(worker, []).append(task)

    def _deal_suspects(self, shards: dict[str, list[T]]) -> None:
        """Runs that may be what killed their worker: few of them at a time."""
        losses = self._losses
        has = {
            worker: [losses[run_id] for run_id in runs if losses.get(run_id, 0) and self._is_suspect(run_id)]
            for worker, runs in self._held.items()
        }
        for run_id in list(self._suspects):
            count = losses[run_id]
            most = AT_ONCE[count]
            assert most is not None
            worker = min(has, key=lambda worker: (len(has[worker]), len(self._held[worker])))
            # A run that is to be alone among suspects is so for as long as it is there.
            others = has[worker]
            alone = most == 1 or any(AT_ONCE[other] == 1 for other in others)
            if len(others) >= (1 if alone else most) or len(self._held[worker]) >= self.places:
                break
            others.append(count)
            self._lease(worker, run_id, self._suspects.pop(run_id), shards)

    def _is_suspect(self, run_id: str) -> bool:
        return AT_ONCE[self._losses[run_id]] is not None
