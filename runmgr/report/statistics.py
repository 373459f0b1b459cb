"""Means with their standard errors, and figures over many values, each in one pass and little memory."""

from __future__ import annotations

import math
from array import array
from collections import Counter

__all__ = ("Histogram", "ScoreStatistics")


class ScoreStatistics:
    """Mean and standard error of a score.

    The mean is ``sum(s) / n``. Its standard error is that of the mean of independent cases, ``sqrt(v / n)`` with the sample variance
    ``v = sum((s - mean)**2) / (n - 1)``. Where a case is run several times (epochs), its runs are no independent draws of cases: the error is clustered
    by case, ``sqrt(C / (C - 1) * sum over cases (sum over its runs (s - mean))**2) / n`` with ``C`` cases. With one run
    a case the second formula is the first.

    Source: E. Miller, "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations" (2024),
    arXiv:2411.00640, sections 2.1 and 2.2; the factor C / (C - 1) is the usual correction for few clusters (Cameron and Miller,
    "A Practitioner's Guide to Cluster-Robust Inference", J. Human Resources 50 (2015), section II.B).

    Args:
        clustered: whether cases have several runs; keeps 12 bytes a case then, and none otherwise.
    """

    __slots__ = ("_clusters", "_lost", "_m2", "_mean", "_sum", "n")

    def __init__(self, *, clustered: bool = False) -> None:
        self.n = 0
        self._sum = self._lost = 0.0
        self._mean = 0.0
        self._m2 = 0.0
        self._clusters: tuple[array[float], array[int]] | None = (
            (array("d"), array("I")) if clustered else None
        )

    def add(self, value: float, case: int) -> None:
        """Counts a run's score: a compensated sum (Neumaier), so that the mean does not depend on the order, and Welford's update
        for the variance.

        Args:
            value: the score.
            case: which case the run is of.
        """
        self.n += 1
        whole = self._sum + value
        self._lost += (
            (self._sum - whole) + value if abs(self._sum) >= abs(value) else (value - whole) + self._sum
        )
        self._sum = whole
        delta = value - self._mean
        self._mean += delta / self.n
        self._m2 += delta * (value - self._mean)
        if self._clusters is not None:
            sums, counts = self._clusters
            if case >= len(sums):
                more = max(case + 1 - len(sums), len(sums) // 4)
                sums.frombytes(bytes(8 * more))
                counts.frombytes(bytes(counts.itemsize * more))
            sums[case] += value
            counts[case] += 1

    @property
    def mean(self) -> float | None:
        """The mean; None of nothing."""
        return (self._sum + self._lost) / self.n if self.n else None

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean; None of fewer than two cases."""
        if self._clusters is None:
            return math.sqrt(max(self._m2, 0.0) / (self.n - 1) / self.n) if self.n > 1 else None
        cases, total, mean = 0, 0.0, self.mean or 0.0
        for value, count in zip(*self._clusters, strict=True):
            if count:
                cases += 1
                total += (value - count * mean) ** 2
        return math.sqrt(cases / (cases - 1) * total) / self.n if cases > 1 else None


_WIDTH = math.log(1.1)
_LEAST = 1e-9


class Histogram:
    """Counts of positive values in buckets 10 % wide; any number of values in about a hundred integers.

    Percentiles are the geometric middle of a bucket: within 5 % of the truth.
    """

    __slots__ = ("buckets", "largest", "n", "smallest", "total")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.n = 0
        self.total = 0.0
        self.smallest = math.inf
        self.largest = -math.inf

    def add(self, value: float) -> None:
        """Counts a value; those under 1e-9 count as that."""
        self.n += 1
        self.total += value
        if value < self.smallest:  # noqa: PLR1730  here and below: no call of a function
            self.smallest = value
        if value > self.largest:  # noqa: PLR1730
            self.largest = value
        bucket = math.floor(math.log(value if value > _LEAST else _LEAST) / _WIDTH)
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1  # a Counter's own look-up of what is new is slow

    def percentile(self, share: float) -> float | None:
        """The value that this share (0 to 1) of all values does not pass, by nearest rank; None of nothing."""
        if not self.n:
            return None
        rank = max(1, math.ceil(share * self.n))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return min(max(math.exp((bucket + 0.5) * _WIDTH), self.smallest), self.largest)
        return self.largest

    def bars(self, most: int) -> list[tuple[float, float, int]]:
        """At most so many (from, to, count), neighbouring buckets joined, from the first to the last that holds a value."""
        if not self.n:
            return []
        first, last = min(self.buckets), max(self.buckets)
        step = max(1, math.ceil((last - first + 1) / most))
        edges = range(first, last + 1, step)
        return [
            (
                math.exp(start * _WIDTH),
                math.exp((start + step) * _WIDTH),
                sum(self.buckets.get(b, 0) for b in range(start, start + step)),
            )
            for start in edges
        ]
