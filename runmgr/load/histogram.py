"""A histogram of durations that many processes can fill and one can add up, exactly.

Log-linear buckets as in HdrHistogram (G. Tene, https://hdrhistogram.github.io/HdrHistogram/): values are whole microseconds;
below 2,048 each has a bucket of its own, above that each power of two is cut into 1,024 equal buckets. A bucket's middle is
within 0.05 % of every value in it. Only buckets that hold something take memory, so merging is adding counts and loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ("PERCENTILES", "Histogram")

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)

_SHIFT = 11
_HALF = 1 << (_SHIFT - 1)


class Histogram:
    """Counts of durations.

    Attributes:
        n: values counted, without those that never ended.
        never: values that never ended: they stand above every other when a percentile is asked with ``failures=True``.
        total: sum in seconds.
        low: smallest, in seconds; infinity of nothing.
        high: largest, in seconds; 0 of nothing.
    """

    __slots__ = ("_counts", "high", "low", "n", "never", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.n = 0
        self.never = 0
        self.total = 0.0
        self.low = math.inf
        self.high = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration; one below zero counts as zero."""
        value = int(seconds * 1e6 + 0.5) if seconds > 0 else 0
        if value >= 2048:
            shift = value.bit_length() - _SHIFT
            value = shift * _HALF + (value >> shift)
        counts = self._counts
        counts[value] = counts.get(value, 0) + times
        self.n += times
        self.total += seconds * times
        self.low = min(self.low, seconds)
        self.high = max(self.high, seconds)

    def add_gaps(self, moments: Iterable[float]) -> None:
        """Count the gaps between moments in order: as ``add`` of each, cheaper."""
        counts = self._counts
        low, high, n = self.low, self.high, 0
        first = before = -1.0
        for moment in moments:
            if n:
                gap = moment - before
                value = int(gap * 1e6 + 0.5)
                if value >= 2048:
                    shift = value.bit_length() - _SHIFT
                    value = shift * _HALF + (value >> shift)
                counts[value] = counts.get(value, 0) + 1
                low = min(low, gap)
                high = max(high, gap)
            else:
                first = moment
            before = moment
            n += 1
        if n > 1:
            self.n += n - 1
            self.total += before - first
            self.low, self.high = low, high

    def add_never(self) -> None:
        """Count one that failed before it had a duration."""
        self.never += 1

    def merge(self, other: Histogram) -> None:
        """Add another's counts. Exact: the result is what one histogram of all values would be."""
        counts = self._counts
        for bucket, count in other._counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        self.n += other.n
        self.never += other.never
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    @property
    def mean(self) -> float | None:
        """Seconds; None of nothing. Exact, not from the buckets."""
        return self.total / self.n if self.n else None

    def percentile(self, percent: float, *, failures: bool = False) -> float | None:
        """The duration that ``percent`` of the values do not pass, by nearest rank, in seconds.

        Args:
            percent: 0 to 100.
            failures: whether what never ended counts, as longer than everything: the percentile may be infinite then.

        None of nothing.
        """
        n = self.n + (self.never if failures else 0)
        if not n:
            return None
        rank = max(1, math.ceil(round(percent * n / 100, 9)))
        if rank > self.n:
            return math.inf
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                low, width = _edges(bucket)
                return min(max((low + (width - 1) / 2) * 1e-6, self.low), self.high)
        return self.high

    def within(self, seconds: float) -> int:
        """How many values are at most this long, to the width of a bucket."""
        return sum(
            count for bucket, count in self._counts.items() if _edges(bucket)[0] * 1e-6 <= seconds + 5e-7
        )

    def bars(self, most: int) -> list[tuple[float, float, int]]:
        """At most so many (from, to, count) in seconds over a logarithmic axis, from the smallest to the largest value."""
        if not self.n:
            return []
        low, high = max(self.low, 1e-6), max(self.high, 2e-6)
        step = max(math.log(high / low) / most, math.log(1.02))
        bars = [0] * most
        for bucket, count in self._counts.items():
            start, width = _edges(bucket)
            middle = min(max((start + (width - 1) / 2) * 1e-6, low), high)
            bars[min(most - 1, int(math.log(middle / low) / step))] += count
        last = max(i for i, count in enumerate(bars) if count)
        return [(low * math.exp(step * i), low * math.exp(step * (i + 1)), bars[i]) for i in range(last + 1)]

    def figures(self) -> dict[str, float | int | None]:
        """Count, mean, extremes and percentiles, in milliseconds."""
        whole: dict[str, float | int | None] = {"n": self.n}
        if not self.n:
            return whole | dict.fromkeys(
                ("mean", "min", *(f"p{percent:g}" for percent in PERCENTILES), "max")
            )
        whole["mean"] = round(self.total / self.n * 1e3, 4)
        whole["min"] = round(self.low * 1e3, 4)
        for percent in PERCENTILES:
            whole[f"p{percent:g}"] = round((self.percentile(percent) or 0.0) * 1e3, 4)
        whole["max"] = round(self.high * 1e3, 4)
        return whole

    def state(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "counts": [[bucket, count] for bucket, count in sorted(self._counts.items())],
            "n": self.n,
            "never": self.never,
            "total": self.total,
            "low": self.low if self.n else None,
            "high": self.high,
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Histogram:
        """From ``state``'s values."""
        one = cls()
        one._counts = {int(bucket): int(count) for bucket, count in state["counts"]}
        one.n, one.never, one.total = state["n"], state["never"], state["total"]
        one.low = math.inf if state["low"] is None else state["low"]
        one.high = state["high"]
        return one


def _edges(bucket: int) -> tuple[int, int]:
    """A bucket's lowest value and its width, in microseconds."""
    if bucket < 2 * _HALF:
        return bucket, 1
    shift = bucket // _HALF - 1
    return (bucket - shift * _HALF) << shift, 1 << shift
