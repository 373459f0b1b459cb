"""A mutable sum of usage and cost: what accounts are made of."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from runmgr.usage import RunUsage

from .amounts import counted, dollars, pack, units

__all__ = ("RunTally", "Tally", "has_audio", "settled", "summed")

_COUNTS = (
    "tool_calls",
    "cache_write_tokens",
    "cache_read_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_audio_tokens",
)


class Tally:
    """A mutable sum of usage and cost."""

    __slots__ = (
        "cache_audio_read_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "details",
        "earlier",
        "input_audio_tokens",
        "output_audio_tokens",
        "packed",
        "rare",
        "tool_calls",
        "unpriced",
    )

    def __init__(self) -> None:
        self.packed = 0
        """Requests, input and output tokens and the cost, as one number (see `amounts`): `settled` adds to it for every request."""
        self.tool_calls = 0
        self.rare = False
        """Whether `add_rare` was called: else there is none of what it adds."""
        self.cache_write_tokens = 0
        self.cache_read_tokens = 0
        self.input_audio_tokens = 0
        self.cache_audio_read_tokens = 0
        self.output_audio_tokens = 0
        self.details: dict[str, int] | None = None
        self.unpriced = 0
        """Requests whose price is unknown: while it is above 0, ``cost`` is only a lower bound."""
        self.earlier: list[Tally] | None = None
        """Of a run that began again: the share of each attempt before the present one."""

    @property
    def requests(self) -> int:
        """Model requests."""
        return counted(self.packed)[0]

    @property
    def input_tokens(self) -> int:
        """Input tokens of all of them."""
        return counted(self.packed)[2]

    @property
    def output_tokens(self) -> int:
        """Output tokens of all of them."""
        return counted(self.packed)[3]

    @property
    def cost(self) -> Decimal:
        """US dollars, of those whose price is known."""
        return dollars(counted(self.packed)[5])

    def add(self, usage: Any, packed: int, *, priced: bool) -> None:
        """Add one settled request; see `settled`."""
        self.packed += packed
        if not priced:
            self.unpriced += 1
        self.add_rare(usage)

    def add_rare(self, usage: Any) -> None:
        """Add what few requests use, of any usage or tally: caches, audio, details."""
        self.rare = True
        self.cache_read_tokens += usage.cache_read_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.input_audio_tokens += usage.input_audio_tokens
        self.output_audio_tokens += usage.output_audio_tokens
        self.cache_audio_read_tokens += usage.cache_audio_read_tokens
        if usage.details:
            self._add_details(usage.details)

    def merge(self, other: Tally) -> None:
        """Add another tally."""
        self.packed += other.packed
        self.tool_calls += other.tool_calls
        self.unpriced += other.unpriced
        if other.rare:
            self.add_rare(other)

    def without(self, others: Iterable[Tally]) -> Tally:
        """What is left when parts of it are taken away."""
        rest = summed((self,))
        for other in others:
            for name in _COUNTS:
                setattr(rest, name, getattr(rest, name) - getattr(other, name))
            rest.packed -= other.packed
            rest.unpriced -= other.unpriced
            if other.details:
                rest._add_details({name: -count for name, count in other.details.items()})
        if rest.details:
            rest.details = {name: count for name, count in rest.details.items() if count} or None
        return rest

    def load(self, usage: RunUsage, cost: Decimal, unpriced: int) -> None:
        """Add a `RunUsage` with its cost, as the journal keeps them."""
        self.packed += pack(usage.requests, usage.input_tokens, usage.output_tokens, units(cost))
        self.tool_calls += usage.tool_calls
        self.unpriced += unpriced
        self.add_rare(usage)

    def _add_details(self, details: dict[str, int]) -> None:
        mine = self.details
        if mine is None:
            mine = self.details = {}
        for name, count in details.items():
            mine[name] = mine.get(name, 0) + count

    def last_attempt(self) -> Tally:
        """The share of the present attempt."""
        return self if self.earlier is None else self.without(self.earlier)

    def begin_attempt(self) -> Tally:
        """The run begins again: gives the share of the attempt that has failed, and sets it apart."""
        part = summed((self.last_attempt(),))
        if self.earlier is None:
            self.earlier = []
        self.earlier.append(part)
        return part

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not (self.packed or self.tool_calls)

    @property
    def known_cost(self) -> Decimal | None:
        """The cost, or None where the price of any request is unknown."""
        return None if self.unpriced else self.cost

    def usage(self) -> RunUsage:
        """The sum as a `RunUsage` of its own."""
        requests, _, inputs, outputs, _, _ = counted(self.packed)
        return RunUsage(
            requests=requests,
            tool_calls=self.tool_calls,
            input_tokens=inputs,
            output_tokens=outputs,
            cache_write_tokens=self.cache_write_tokens,
            cache_read_tokens=self.cache_read_tokens,
            input_audio_tokens=self.input_audio_tokens,
            cache_audio_read_tokens=self.cache_audio_read_tokens,
            output_audio_tokens=self.output_audio_tokens,
            details=dict(self.details) if self.details else {},
        )


class RunTally(Tally):
    """A run's tally, and what its requests need at every door."""

    __slots__ = ("account", "meter", "sizes")

    def __init__(self, account: Tally) -> None:
        super().__init__()
        self.account = account
        """The tally of its group and agent."""
        self.meter: Any = None
        """The `Meter` of its own budget, where it has one."""
        self.sizes: Any = None
        """The bytes of its messages, where they were counted."""


def settled(tally: Tally, account: Tally, served: Tally, usage: Any, packed: int, *, priced: bool) -> None:
    """Add one settled request to the three tallies that it belongs to.

    Args:
        tally: the run's.
        account: of its group and agent.
        served: of the model that answered.
        usage: its `RequestUsage`.
        packed: its tokens and its cost, as one number.
        priced: whether the cost is known.
    """
    tally.packed += packed
    account.packed += packed
    served.packed += packed
    if not priced:
        tally.unpriced += 1
        account.unpriced += 1
        served.unpriced += 1
    if (
        usage.details
        or usage.cache_read_tokens
        or usage.cache_write_tokens
        or usage.input_audio_tokens
        or usage.output_audio_tokens
        or usage.cache_audio_read_tokens
    ):
        tally.add_rare(usage)
        account.add_rare(usage)
        served.add_rare(usage)


def has_audio(usage: Any) -> bool:
    """Whether any of a usage is audio."""
    return bool(usage.input_audio_tokens or usage.output_audio_tokens or usage.cache_audio_read_tokens)


def summed(tallies: Iterable[Tally]) -> Tally:
    """A new tally, the sum of these."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total
