"""Amounts of requests, tokens and dollars: as an object, and as one whole number that holds all of them.

The number has a lane of bits for each count, so one addition adds all of them, and one comparison holds them against all limits of a
budget (L. Lamport, "Multiple Byte Processing with Full-Word Instructions", Communications of the ACM 18(8), 1975; today SWAR). Of
the first lane upwards: requests, requests without a proven bound, input tokens, output tokens, both together, dollars. Lanes are
signed: a number is the sum of its lanes' values, each shifted, so sums and differences are right whatever the signs.

Dollars are counted in units of 10^-24 dollars, and so exactly, whatever `decimal` context the program has set: a price of up to
eighteen decimals a million tokens is a whole number of units a token. Finer ones are rounded up.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

__all__ = (
    "COST_LANE",
    "EXACT",
    "GUARD",
    "GUARDS",
    "INPUT",
    "MOST",
    "MOST_DOLLARS",
    "OPEN",
    "OUTPUT",
    "REQUEST",
    "Amount",
    "counted",
    "dollars",
    "ending",
    "pack",
    "raised",
    "units",
    "with_cost_of",
)

_LANES = 5  # below that of the dollars
_LANE = 60  # two of CPython's digits
_INPUTS, _OUTPUTS, _BOTH, _COST = (number * _LANE for number in range(2, 6))
COST_LANE = 1 << _COST
"""A unit of dollars."""
REQUEST = 1
OPEN = 1 << _LANE
"""A request without a proven bound."""
INPUT = 1 << _INPUTS | 1 << _BOTH
"""An input token: it is one of both together too."""
OUTPUT = 1 << _OUTPUTS | 1 << _BOTH
"""An output token, likewise."""
MOST = 1 << _LANE - 2
"""No limit of requests or tokens is above that, nor "no limit"."""
MOST_DOLLARS = Decimal(10) ** 20
_COST_GUARD = 1 << _COST + 159
GUARDS = sum(1 << (lane + 1) * _LANE - 1 for lane in range(_LANES)) | _COST_GUARD
"""The highest bit of each lane: of a number that has them added, each is set while its lane is not below 0."""
GUARD = {
    "requests": REQUEST << _LANE - 1,
    "input_tokens": 1 << _INPUTS + _LANE - 1,
    "output_tokens": 1 << _OUTPUTS + _LANE - 1,
    "tokens": 1 << _BOTH + _LANE - 1,
    "cost": _COST_GUARD,
}
"""That of each lane which a budget can limit."""

_HALF = 1 << _LANE - 1
_HALVES = sum(_HALF << lane * _LANE for lane in range(_LANES))
_MASK = (1 << _LANE) - 1
_DECIMALS = 24
EXACT = Context(prec=100)
"""For all reckoning with dollars."""
_ZERO = Decimal(0)


class Amount:
    """So many requests, tokens and dollars."""

    __slots__ = ("cost", "input_tokens", "output_tokens", "requests")

    def __init__(
        self, requests: int = 0, input_tokens: int = 0, output_tokens: int = 0, cost: Decimal = _ZERO
    ) -> None:
        self.requests = requests
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cost = cost

    @classmethod
    def of(cls, packed: int) -> Amount:
        """What a number holds."""
        requests, _, inputs, outputs, _, cost = counted(packed)
        return cls(requests, inputs, outputs, dollars(cost))

    @property
    def packed(self) -> int:
        """As one number."""
        return pack(self.requests, self.input_tokens, self.output_tokens, units(self.cost))

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def add(self, other: Amount) -> None:
        """Add another amount."""
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        if other.cost is not _ZERO:
            self.cost = EXACT.add(self.cost, other.cost)

    def take(self, other: Amount) -> None:
        """Take another amount away."""
        self.requests -= other.requests
        self.input_tokens -= other.input_tokens
        self.output_tokens -= other.output_tokens
        if other.cost is not _ZERO:
            self.cost = EXACT.subtract(self.cost, other.cost)

    def raise_to(self, other: Amount) -> None:
        """Make it at least as much as another, in everything."""
        self.requests = max(self.requests, other.requests)
        self.input_tokens = max(self.input_tokens, other.input_tokens)
        self.output_tokens = max(self.output_tokens, other.output_tokens)
        self.cost = max(self.cost, other.cost)

    def to_list(self) -> list[Any]:
        """As plain data, for the journal."""
        return [self.requests, self.input_tokens, self.output_tokens, str(self.cost)]


def pack(requests: int = 0, inputs: int = 0, outputs: int = 0, cost: int = 0, unbounded: int = 0) -> int:
    """As one number; ``cost`` in units."""
    return requests + unbounded * OPEN + inputs * INPUT + outputs * OUTPUT + (cost << _COST)


def counted(packed: int) -> tuple[int, int, int, int, int, int]:
    """The lanes' values: requests, those of them without a bound, input, output and all tokens, and units of dollars."""
    biased = packed + _HALVES  # so that no lane is below 0 and borrows from the next
    return (
        (biased & _MASK) - _HALF,
        (biased >> _LANE & _MASK) - _HALF,
        (biased >> _INPUTS & _MASK) - _HALF,
        (biased >> _OUTPUTS & _MASK) - _HALF,
        (biased >> _BOTH & _MASK) - _HALF,
        biased >> _COST,
    )


def with_cost_of(packed: int, other: int) -> int:
    """Requests and tokens of a number without dollars, with the dollars of another."""
    return packed + (other >> _COST << _COST)


def raised(packed: int, least: int) -> tuple[int, int]:
    """A number, its tokens and dollars raised to at least those of another, and by how much they were."""
    one, other = counted(packed), counted(least)
    inputs, outputs, cost = (max(0, other[lane] - one[lane]) for lane in (2, 3, 5))
    more = pack(0, inputs, outputs, cost)
    return packed + more, more


def ending(
    requests: int = MOST,
    input_tokens: int = MOST,
    output_tokens: int = MOST,
    tokens: int = MOST,
    cost: Decimal = MOST_DOLLARS,
) -> int:
    """Limits as one number, with the guards: what is left of it, less what is needed, has them all while nothing goes over."""
    lanes = (requests, MOST, input_tokens, output_tokens, tokens)
    number = sum(limit << lane * _LANE for lane, limit in enumerate(lanes))
    return GUARDS + number - (units(cost.copy_negate()) << _COST)  # rounded down


def units(cost: Decimal) -> int:
    """Dollars in units, rounded up where that is not exact."""
    if not cost:
        return 0
    return int(EXACT.scaleb(cost, _DECIMALS).to_integral_value(ROUND_CEILING, EXACT))


def dollars(number: int) -> Decimal:
    """Units in dollars, exactly."""
    if not number:
        return _ZERO
    # Normalized, and so without the unit's many decimals; adding 0 takes an exponent above 0 away.
    return EXACT.add(EXACT.normalize(EXACT.scaleb(Decimal(number), -_DECIMALS)), _ZERO)
