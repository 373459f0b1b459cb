"""When requests are due: pure, in seconds since the start, decided before anything is sent.

A rate over time is turned into arrivals by time rescaling: arrivals of a process of rate one, put through the inverse of the
rate's integral (D. Cox, P. Lewis, "The Statistical Analysis of Series of Events" (1966), section 2.3).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from runmgr.exceptions import UserError

__all__ = ("ARRIVALS", "Arrival", "Rates", "arrivals", "parse_rates")

Arrival = Literal["constant", "poisson", "gamma"]
ARRIVALS: tuple[Arrival, ...] = ("constant", "poisson", "gamma")


@attrs.frozen
class Rates:
    """A rate over time.

    Args:
        values: one: that rate throughout. Several: steps of equal length, or, with ``ramp``, straight lines between them.
        ramp: whether it changes steadily.
    """

    values: tuple[float, ...]
    ramp: bool = False

    @property
    def constant(self) -> bool:
        """Whether it never changes."""
        return len(self.values) == 1

    @property
    def most(self) -> float:
        """The highest rate there will be."""
        return max(self.values)

    def pieces(self, duration: float) -> list[tuple[float, float, float]]:
        """(length in seconds, rate at its start, rate at its end), covering ``duration``."""
        values = self.values
        if self.ramp:
            length = duration / (len(values) - 1)
            return [(length, values[i], values[i + 1]) for i in range(len(values) - 1)]
        length = duration / len(values)
        return [(length, value, value) for value in values]

    def __str__(self) -> str:
        return (".." if self.ramp else ",").join(f"{value:g}" for value in self.values)


def parse_rates(text: str) -> Rates:
    """``50``; ``10,20,40`` for steps of equal length; ``10..100`` for a ramp.

    Raises:
        UserError: none of these, or a rate that is not above zero.
    """
    ramp = ".." in text
    words = text.split("..") if ramp else text.split(",")
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = ()
    if not values or not all(0 <= value < math.inf for value in values) or not max(values) > 0:
        raise UserError(
            f"--rate {text}: requests a second are needed, above zero: 50, or 10,20,40 for steps, or 10..100 for a ramp"
        )
    return Rates(values, ramp)


def arrivals(
    rates: Rates, kind: Arrival, *, duration: float | None, seed: int, burstiness: float = 1.0
) -> Iterator[float]:
    """The moments at which requests are due, in order, without end unless ``duration`` is given.

    Args:
        rates: requests a second; needs a ``duration`` unless constant.
        kind: ``constant``: evenly spaced, the first at 0. ``poisson``: exponential gaps. ``gamma``: gaps with the shape
            ``burstiness`` and the same mean; 1 is Poisson, less is burstier (a gap's squared coefficient of variation is
            ``1 / burstiness``), as ``vllm bench serve`` defines it.
        duration: seconds; an arrival at or after it is none.
        seed: of the gaps.
        burstiness: see ``gamma``.
    """
    if rates.constant:
        rate = rates.values[0]
        for moment in _unit(kind, seed, burstiness):
            due = moment / rate
            if duration is not None and due >= duration:
                return
            yield due
        return
    assert duration is not None
    pieces = rates.pieces(duration)
    number, begins, passed = 0, 0.0, 0.0  # the piece, when it begins, and how many arrivals are due before it
    for moment in _unit(kind, seed, burstiness):
        while True:
            length, first, last = pieces[number]
            here = (first + last) / 2 * length
            if moment - passed < here:
                break
            passed += here
            begins += length
            number += 1
            if number == len(pieces):
                return
        yield begins + _inverse(moment - passed, length, first, last)


def _inverse(count: float, length: float, first: float, last: float) -> float:
    """When ``count`` arrivals are due in a piece: the root of ``first t + (last - first) t^2 / (2 length) = count``."""
    slope = (last - first) / length
    root = math.sqrt(max(0.0, first * first + 2 * slope * count))
    return 2 * count / (first + root) if first + root > 0 else 0.0


def _unit(kind: Arrival, seed: int, burstiness: float) -> Iterator[float]:
    if kind == "constant":
        number = 0
        while True:
            yield float(number)
            number += 1
    rng = random.Random(seed)
    moment = 0.0
    while True:
        if kind == "poisson":
            moment -= math.log1p(-rng.random())
        else:
            moment += rng.gammavariate(burstiness, 1 / burstiness)
        yield moment


def check_shape(kind: str, burstiness: float, known: Sequence[str] = ARRIVALS) -> None:
    """Whether these can be arrivals.

    Raises:
        UserError: they cannot.
    """
    if kind not in known:
        raise UserError(f"--arrival {kind}: one of {', '.join(known)} is needed")
    if not 0 < burstiness < math.inf:
        raise UserError(
            f"--burstiness {burstiness:g}: a number above zero is needed; 1 is Poisson, less is burstier"
        )
