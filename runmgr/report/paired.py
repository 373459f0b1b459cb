"""Two batches on the same cases: the mean difference, its interval and a test. Pure functions over numbers.

Sources:

- The paired standard error, clustered by case where a case has several epochs: E. Miller, "Adding Error Bars to Evals" (2024),
  arXiv:2411.00640, sections 2.2 and 4; with the factor C / (C - 1) as in `runmgr.report.statistics`.
- McNemar's test, exact and conditional on the discordant pairs: Q. McNemar, Psychometrika 12 (1947) 153-157; the exact form as in
  M. Fagerland, S. Lydersen, P. Laake, BMC Med. Res. Methodol. 13 (2013) 91.
- The percentile bootstrap over cases and the test by it: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 16;
  the ``(k + 1) / (B + 1)`` of its p: A. Davison, D. Hinkley, "Bootstrap Methods and their Application" (1997), section 4.2.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, TypeAlias

import msgspec

__all__ = ("Difference", "bootstrap_means", "difference", "interval_of", "mcnemar_exact")

Test: TypeAlias = Literal["mcnemar", "bootstrap", "normal"]

_MOST_DRAWS = 4_000_000
_MOST_RESAMPLES = 10_000
_LEAST_RESAMPLES = 1_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer's paired difference: candidate minus baseline."""

    pairs: int
    """Runs of the same case and epoch that both sides scored."""
    cases: int
    """Cases among them."""
    baseline: float
    """The baseline's mean over the pairs."""
    candidate: float
    """The candidate's."""
    difference: float
    stderr: float | None
    """None of fewer than two cases."""
    low: float | None
    """The interval's ends, at ``confidence``."""
    high: float | None
    confidence: float
    p: float | None
    """Two-sided: how probable a difference at least so large is, were there none."""
    test: Test | None
    """``mcnemar`` (exact) for scores of 0 and 1 with one epoch; ``bootstrap`` otherwise; ``normal`` beyond 4,000 cases,
    where the bootstrap's answer is the same and takes long."""
    won: int
    """Pairs in which the candidate scored more; next: less; the same."""
    lost: int
    tied: int


def difference(
    pairs: Sequence[tuple[int, float, float]], *, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """The difference of pairs of scores.

    Args:
        pairs: case, baseline's score, candidate's score.
        confidence: of the interval.
        seed: of the bootstrap's draws.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("there are no pairs to compare")
    n = len(pairs)
    baseline = math.fsum(a for _, a, _ in pairs) / n
    candidate = math.fsum(b for _, _, b in pairs) / n
    mean = math.fsum(b - a for _, a, b in pairs) / n
    won = sum(b > a for _, a, b in pairs)
    lost = sum(b < a for _, a, b in pairs)
    clusters = _clusters(pairs)
    cases = len(clusters)
    stderr = low = high = p = None
    test: Test | None = None
    if cases > 1:
        stderr = _stderr(clusters, mean, n)
        reach = NormalDist().inv_cdf(0.5 + confidence / 2) * stderr
        low, high = mean - reach, mean + reach
        if cases == n and all(a in (0.0, 1.0) and b in (0.0, 1.0) for _, a, b in pairs):
            test, p = "mcnemar", mcnemar_exact(won, lost)
        elif cases * _LEAST_RESAMPLES <= _MOST_DRAWS:
            test = "bootstrap"
            means = bootstrap_means(clusters, seed=seed)
            low, high = interval_of(means, confidence)
            below = sum(m <= 0 for m in means)
            above = sum(m >= 0 for m in means)
            p = min(1.0, 2 * (min(below, above) + 1) / (len(means) + 1))
        else:
            test = "normal"
            p = 1.0 if stderr == 0 and mean == 0 else math.erfc(abs(mean) / (stderr or 1e-300) / math.sqrt(2))
    return Difference(
        pairs=n,
        cases=cases,
        baseline=baseline,
        candidate=candidate,
        difference=mean,
        stderr=stderr,
        low=low,
        high=high,
        confidence=confidence,
        p=p,
        test=test,
        won=won,
        lost=lost,
        tied=n - won - lost,
    )


def _clusters(pairs: Sequence[tuple[int, float, float]]) -> list[tuple[float, int]]:
    """Each case's sum of differences and number of pairs."""
    sums: dict[int, list[float]] = {}
    for case, a, b in pairs:
        sums.setdefault(case, []).append(b - a)
    return [(math.fsum(each), len(each)) for each in sums.values()]


def _stderr(clusters: Sequence[tuple[float, int]], mean: float, n: int) -> float:
    cases = len(clusters)
    squares = math.fsum((total - count * mean) ** 2 for total, count in clusters)
    return math.sqrt(cases / (cases - 1) * squares) / n


def mcnemar_exact(won: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test: twice the smaller tail of Binomial(won + lost, 1/2), at most 1."""
    n, k = won + lost, min(won, lost)
    if n == 0:
        return 1.0
    # from the largest term of the tail downwards; each is the one before times i / (n - i + 1)
    term = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    total, i = term, k
    while i > 0 and term > total * 1e-17:
        term *= i / (n - i + 1)
        total += term
        i -= 1
    return min(1.0, 2 * total)


def bootstrap_means(
    clusters: Sequence[tuple[float, int]], *, seed: int = 0, resamples: int | None = None
) -> list[float]:
    """Sorted means of resamples of whole cases.

    Args:
        clusters: each case's sum and number of values.
        seed: of the draws.
        resamples: how many; 10,000, or fewer where there are more than 400 cases.
    """
    size = len(clusters)
    if resamples is None:
        resamples = max(_LEAST_RESAMPLES, min(_MOST_RESAMPLES, _MOST_DRAWS // size))
    rng = random.Random(seed)
    if all(count == clusters[0][1] for _, count in clusters):
        sums = [total for total, _ in clusters]
        n = size * clusters[0][1]
        return sorted(math.fsum(rng.choices(sums, k=size)) / n for _ in range(resamples))
    means: list[float] = []
    for _ in range(resamples):
        drawn = rng.choices(clusters, k=size)
        means.append(math.fsum(total for total, _ in drawn) / sum(count for _, count in drawn))
    return sorted(means)


def interval_of(means: Sequence[float], confidence: float) -> tuple[float, float]:
    """The percentile interval of sorted resample means."""
    tail = (1 - confidence) / 2
    last = len(means) - 1
    return means[max(0, math.floor(tail * (last + 1)))], means[
        min(last, math.ceil((1 - tail) * (last + 1)) - 1)
    ]
