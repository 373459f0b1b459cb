"""Accounting: who used how much, consistent at every instant, O(1) a request.

Every settled request is added at once to its run's, its group's, its model's and the total's tally, so the sum over runs,
over groups and over models each equal the total, always. Requests that were paid and whose run failed, was cancelled or
began again stay counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from runmgr.usage import RunUsage

__all__ = ("OLDER", "Ledger", "Tally")

_ZERO = Decimal(0)
OLDER = "(older)"
"""The name under which `Ledger.by_run` sums the runs that it no longer remembers one by one."""


class Tally:
    """A mutable sum of usage and cost."""

    __slots__ = (
        "cache_audio_read_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cost",
        "details",
        "input_audio_tokens",
        "input_tokens",
        "output_audio_tokens",
        "output_tokens",
        "requests",
        "tool_calls",
        "unpriced",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.tool_calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_write_tokens = 0
        self.cache_read_tokens = 0
        self.input_audio_tokens = 0
        self.cache_audio_read_tokens = 0
        self.output_audio_tokens = 0
        self.details: dict[str, int] | None = None
        self.cost = _ZERO
        self.unpriced = 0
        """Requests whose price is unknown: while it is above 0, ``cost`` is only a lower bound."""

    def add(self, usage: Any, cost: Decimal | None) -> None:
        """Add one settled request's `RequestUsage`."""
        self.requests += 1
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost
        if usage.cache_read_tokens or usage.cache_write_tokens:
            self.cache_read_tokens += usage.cache_read_tokens
            self.cache_write_tokens += usage.cache_write_tokens
        if usage.input_audio_tokens or usage.output_audio_tokens or usage.cache_audio_read_tokens:
            self.input_audio_tokens += usage.input_audio_tokens
            self.output_audio_tokens += usage.output_audio_tokens
            self.cache_audio_read_tokens += usage.cache_audio_read_tokens
        if usage.details:
            self._add_details(usage.details)

    def merge(self, other: Tally) -> None:
        """Add another tally."""
        self.requests += other.requests
        self.tool_calls += other.tool_calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.input_audio_tokens += other.input_audio_tokens
        self.cache_audio_read_tokens += other.cache_audio_read_tokens
        self.output_audio_tokens += other.output_audio_tokens
        self.cost += other.cost
        self.unpriced += other.unpriced
        if other.details:
            self._add_details(other.details)

    def load(self, usage: RunUsage, cost: Decimal, unpriced: int) -> None:
        """Add a `RunUsage` with its cost, as the journal keeps them."""
        self.requests += usage.requests
        self.tool_calls += usage.tool_calls
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.cache_read_tokens += usage.cache_read_tokens
        self.input_audio_tokens += usage.input_audio_tokens
        self.cache_audio_read_tokens += usage.cache_audio_read_tokens
        self.output_audio_tokens += usage.output_audio_tokens
        self.cost += cost
        self.unpriced += unpriced
        if usage.details:
            self._add_details(usage.details)

    def _add_details(self, details: dict[str, int]) -> None:
        mine = self.details
        if mine is None:
            mine = self.details = {}
        for name, count in details.items():
            mine[name] = mine.get(name, 0) + count

    @property
    def known_cost(self) -> Decimal | None:
        """The cost, or None where the price of any request is unknown."""
        return None if self.unpriced else self.cost

    def usage(self) -> RunUsage:
        """The sum as a `RunUsage` of its own."""
        return RunUsage(
            requests=self.requests,
            tool_calls=self.tool_calls,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_read_tokens=self.cache_read_tokens,
            input_audio_tokens=self.input_audio_tokens,
            cache_audio_read_tokens=self.cache_audio_read_tokens,
            output_audio_tokens=self.output_audio_tokens,
            details=dict(self.details) if self.details else {},
        )


class Ledger:
    """All tallies of one supervisor but those of live runs, which the runs hold. Called synchronously, by one owner."""

    __slots__ = ("_finished", "_keep", "_older", "groups", "models", "prior", "total")

    def __init__(self, keep: int) -> None:
        self.total = Tally()
        self.prior = Tally()
        """What earlier processes spent on the same journal: budgets count it, `usage` does not."""
        self.models: dict[str, Tally] = {}
        self.groups: dict[str, Tally] = {}
        self._finished: OrderedDict[str, Tally] = OrderedDict()
        self._older = Tally()
        self._keep = keep

    def group(self, name: str) -> Tally:
        """The group's tally, made where missing."""
        tally = self.groups.get(name)
        if tally is None:
            tally = self.groups[name] = Tally()
        return tally

    def model(self, name: str) -> Tally:
        """The model's tally, made where missing."""
        tally = self.models.get(name)
        if tally is None:
            tally = self.models[name] = Tally()
        return tally

    def close_run(self, run_id: str, tally: Tally) -> None:
        """The run has ended: remember its tally for a while, then only its share of the sum."""
        finished = self._finished
        earlier = finished.pop(run_id, None)
        if earlier is not None:  # the same id, run again
            self._older.merge(earlier)
        finished[run_id] = tally
        if len(finished) > self._keep:
            self._older.merge(finished.popitem(last=False)[1])

    def by_run(self, live: Iterable[tuple[str, Tally]]) -> dict[str, RunUsage]:
        """Usage by run: live ones and the last ended ones one by one, all earlier ones in one sum. O(runs kept)."""
        sums = dict(self._finished)
        for run_id, tally in live:
            earlier = sums.get(run_id)
            if earlier is not None:
                both = Tally()
                both.merge(earlier)
                both.merge(tally)
                sums[run_id] = both
            else:
                sums[run_id] = tally
        usages = {run_id: tally.usage() for run_id, tally in sums.items()}
        if self._older.requests or self._older.tool_calls:
            usages[OLDER] = self._older.usage()
        return usages
