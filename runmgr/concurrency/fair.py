"""A queue that is fair between groups. Pure: no clock, no trio.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-Time Fair Queueing: A Scheduling Algorithm for Integrated Services Packet
Switching Networks", IEEE/ACM Transactions on Networking 5(5), 1997 (SIGCOMM 1996). Each item gets a start tag, ``S =
max(v, F of the group's last item)``, and a finish tag, ``F = S + cost / weight``; the item with the lowest start tag goes
first, and ``v``, the virtual time, is the start tag of the item that went last. Of two groups that both have items all the
time, what they got differs by at most ``cost1 / weight1 + cost2 / weight2`` in cost/weight (theorem 1 there), and a group that comes later
gets its share at once, and nothing for the time when it was not there.

Between priorities there is no fairness: the higher goes first, always. Each priority has a virtual time of its own.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import attrs

__all__ = ("FairQueue", "FairQueueStatistics", "QueueFull")

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class QueueFull(Exception):
    """The queue holds as many items as it may."""


@attrs.frozen
class FairQueueStatistics:
    """What a `FairQueue` holds."""

    items: int
    capacity: int | None
    by_group: dict[Hashable, int]
    by_priority: dict[float, int]


class _Level:
    """The virtual time of one priority, and the groups that have had more than their share of it."""

    __slots__ = ("count", "rested", "time")

    def __init__(self) -> None:
        self.time = 0.0
        self.count = 0  # items at this priority
        self.rested: list[
            tuple[float, int, _Flow]
        ] = []  # heap of groups without items, by the start tag of their next


class _Flow:
    """One group's items at one priority."""

    __slots__ = ("group", "items", "priority", "resting", "start", "ticket")

    def __init__(self, group: Hashable, priority: float) -> None:
        self.group = group
        self.priority = priority
        self.items: OrderedDict[Any, tuple[Any, float]] = OrderedDict()  # key -> item, cost
        self.start = 0.0  # start tag of the next item
        self.ticket = (
            0  # number of its entry in the heap; 0 when it has none. Entries with another number are stale.
        )
        self.resting = False  # whether it is in its level's `rested`


_STALE_ALLOWED = 64


class FairQueue(Generic[K, T]):
    """Items go in with a priority and a group; out comes the highest priority first, fair between groups within it,
    first in first out within priority and group.

    ``push``, ``pop`` and ``remove`` take O(log n) in the number of groups that have items, whatever the number of items;
    memory follows what is in the queue, not what was.

    Args:
        capacity: how many items it may hold; None: any number.
        weights: the share of a group relative to others', 1.0 where nothing is said.
    """

    __slots__ = (
        "_flows",
        "_heap",
        "_held",
        "_levels",
        "_number",
        "_stale",
        "_weights",
        "_where",
        "capacity",
        "where",
    )

    def __init__(
        self, capacity: int | None = None, *, weights: Mapping[Hashable, float] | None = None
    ) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        """How many items it may hold. May be changed; lowering it throws nothing out."""
        self._weights: dict[Hashable, float] = {}
        for group, weight in (weights or {}).items():
            self.set_weight(group, weight)
        self._where: dict[K, _Flow] = {}
        self.where: Mapping[K, object] = self._where
        """The keys of the items, in the order in which they were put in: whether there are any is told without a call."""
        self._flows: dict[tuple[float, Hashable], _Flow] = {}
        self._levels: dict[float, _Level] = {}
        self._heap: list[
            tuple[float, float, int, _Flow]
        ] = []  # of flows with items: -priority, start tag, ticket
        self._stale = 0  # entries of the heap that mean nothing any more
        self._held: dict[Hashable, dict[_Flow, None]] = {}  # group -> its flows that were put aside
        self._number = 0

    def push(
        self, key: K, item: T, *, priority: float = 0, group: Hashable = None, cost: float = 1.0
    ) -> None:
        """Put an item in.

        Args:
            key: to `remove` it by; must not be in the queue.
            item: anything.
            priority: higher goes first.
            group: with whom it shares a share.
            cost: how much of the share it takes, over 0.

        Raises:
            QueueFull: there is no room.
            KeyError: ``key`` is in the queue already.
            ValueError: ``cost`` is not a number over 0.
        """
        if self.is_full:
            raise QueueFull(f"the queue holds {len(self._where)} items, its capacity")
        if key in self._where:
            raise KeyError(key)
        if not 0 < cost < float("inf"):
            raise ValueError(f"cost must be a number over 0, got {cost!r}")
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        level.count += 1
        flow = self._flows.get((priority, group))
        if flow is None:
            flow = self._flows[priority, group] = _Flow(group, priority)
        self._where[key] = flow
        flow.items[key] = (item, cost)
        if len(flow.items) == 1:
            self._enter(flow, level)

    def pop(self) -> tuple[K, T]:
        """Take out the item whose turn it is.

        Raises:
            IndexError: there is none, or only such as belong to groups that are held.
        """
        flow = self._first()
        if flow is None:
            raise IndexError(
                "pop from an empty queue" if not self._where else "every group that has items is held"
            )
        heapq.heappop(self._heap)
        flow.ticket = 0
        key, (item, cost) = flow.items.popitem(last=False)
        level = self._levels[flow.priority]
        level.time = flow.start
        flow.start += cost / self._weights.get(flow.group, 1.0)
        if flow.items:
            self._enter(flow, level)
        self._left(key, flow, level)
        return key, item

    def peek(self) -> tuple[K, T] | None:
        """What `pop` would return; None where it would raise."""
        flow = self._first()
        if flow is None:
            return None
        key, (item, _) = next(iter(flow.items.items()))
        return key, item

    def remove(self, key: K) -> T:
        """Take out an item before its turn, as if it had never been there. Raises KeyError if it is not there."""
        flow = self._where[key]
        item, _ = flow.items.pop(key)
        if not flow.items:
            if flow.ticket:
                flow.ticket = 0
                self._stale += 1
            else:
                self._held[flow.group].pop(flow)
        self._left(key, flow, self._levels[flow.priority])
        if self._stale > _STALE_ALLOWED and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].ticket]
            heapq.heapify(self._heap)
            self._stale = 0
        return item

    def hold(self, group: Hashable) -> None:
        """Pass over a group's items until `unhold`: it is at a limit of its own. Its share is not saved up meanwhile."""
        self._held.setdefault(group, {})

    def unhold(self, group: Hashable) -> None:
        """Let a group that was held have its turns again. No effect on others."""
        for flow in self._held.pop(group, ()):
            self._enter(flow, self._levels[flow.priority])

    def count(self, group: Hashable, *, priority: float = 0) -> int:
        """How many items of a group there are at a priority."""
        flow = self._flows.get((priority, group))
        return 0 if flow is None else len(flow.items)

    def weight(self, group: Hashable) -> float:
        """A group's share relative to others'."""
        return self._weights.get(group, 1.0)

    def set_weight(self, group: Hashable, weight: float | None) -> None:
        """Change a group's share relative to others', from its next item on; None: it is a group like others again.

        Raises:
            ValueError: ``weight`` is not a number over 0.
        """
        if weight is None:
            self._weights.pop(group, None)
            return
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of a group must be a number over 0, got {weight!r} for {group!r}")
        self._weights[group] = weight

    @property
    def is_full(self) -> bool:
        """Whether `push` would raise `QueueFull`."""
        return self.capacity is not None and len(self._where) >= self.capacity

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __iter__(self) -> Iterator[K]:
        """The keys, in the order in which they were put in."""
        return iter(self._where)

    def statistics(self) -> FairQueueStatistics:
        """Counts. O(number of groups)."""
        by_group: dict[Hashable, int] = {}
        for flow in self._flows.values():
            if flow.items:
                by_group[flow.group] = by_group.get(flow.group, 0) + len(flow.items)
        by_priority = {priority: level.count for priority, level in self._levels.items()}
        return FairQueueStatistics(len(self._where), self.capacity, by_group, by_priority)

    def _first(self) -> _Flow | None:
        """The flow whose turn it is, on top of the heap; puts aside what is held, drops what is stale."""
        while self._heap:
            _, _, ticket, flow = self._heap[0]
            if ticket == flow.ticket:
                held = self._held.get(flow.group)
                if held is None:
                    return flow
                held[flow] = None
                flow.ticket = 0
            else:
                self._stale -= 1
            heapq.heappop(self._heap)
        return None

    def _enter(self, flow: _Flow, level: _Level) -> None:
        """Put a flow that has items into the heap."""
        flow.start = max(level.time, flow.start)
        self._number += 1
        flow.ticket = self._number
        heapq.heappush(self._heap, (-flow.priority, flow.start, flow.ticket, flow))

    def _left(self, key: K, flow: _Flow, level: _Level) -> None:
        """After an item has gone: forget what no longer matters."""
        del self._where[key]
        level.count -= 1
        if not flow.items and not flow.resting:
            self._rest(flow, level)
        # A group without items whose next one would start at the virtual time anyway has nothing to be remembered for;
        # once there are no items at all at this priority, that is so for every group.
        while level.rested and (not level.count or level.rested[0][0] <= level.time):
            rested = heapq.heappop(level.rested)[2]
            rested.resting = False
            if not rested.items:
                if level.count and rested.start > level.time:  # had another turn since it was put here
                    self._rest(rested, level)
                else:
                    del self._flows[rested.priority, rested.group]
        if not level.count:
            del self._levels[flow.priority]

    def _rest(self, flow: _Flow, level: _Level) -> None:
        self._number += 1
        heapq.heappush(level.rested, (flow.start, self._number, flow))
        flow.resting = True
