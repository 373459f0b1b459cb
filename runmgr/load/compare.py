"""Two loads side by side: each figure's difference with its interval.

Requests of one load are not independent: a server that was slow was slow for all that came then. So a figure's standard error is that of
batch means: the requests in order of time, cut into batches (A. Law, W. Kelton, "Simulation Modeling and Analysis", 9.5.3). The interval of a
percentile is the values between the ranks that the error of its share allows (R. Woodruff, JASA 47 (1952) 635-646), and of a difference by
what each side's interval leaves open (G. Zou, A. Donner, Statistics in Medicine 27 (2008) 1693-1702). Pure functions over numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, variance

import msgspec

from runmgr.load.results import LoadedRun

__all__ = ("Figure", "FigureDifference", "compare_loads", "figures_of")

_BATCHES = 20
_LEAST_A_BATCH = 5
_PERCENTILES = (50.0, 90.0, 99.0)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one load, with its interval; None where there is too little to say."""

    value: float
    low: float | None
    high: float | None
    n: int


class FigureDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of two loads: candidate minus baseline."""

    baseline: Figure
    candidate: Figure
    difference: float
    relative: float | None
    """Of the baseline's value; None where that is zero."""
    low: float | None
    high: float | None
    better: bool | None
    """Whether the whole interval is on the better side, or on the worse; None: neither."""


def figures_of(run: LoadedRun, confidence: float = 0.95) -> dict[str, Figure]:
    """A load's figures by name: milliseconds, rates a second, shares."""
    t = _t(confidence, _BATCHES - 1)
    found: dict[str, Figure] = {}
    for name, values in run.times.items():
        if not values:
            continue
        found[f"{name}.mean"] = _mean(values, t)
        for percent in _PERCENTILES:
            found[f"{name}.p{percent:g}"] = _percentile(values, percent / 100, t)
    for name, moments in (("requests_per_second", run.ended_at), ("output_tokens_per_second", run.tokens_at)):
        figure = _rate(moments, run.begin, run.end, t)
        if figure is not None:
            found[name] = figure
    if run.failures:
        found["errors"] = _mean(run.failures, t)
    return found


def compare_loads(
    baseline: LoadedRun, candidate: LoadedRun, confidence: float = 0.95
) -> dict[str, FigureDifference]:
    """The figures that both have, and what changed."""
    before, after = figures_of(baseline, confidence), figures_of(candidate, confidence)
    return {name: _difference(name, before[name], after[name]) for name in before if name in after}


def _difference(name: str, a: Figure, b: Figure) -> FigureDifference:
    change = b.value - a.value
    low = high = better = None
    if None not in {a.low, a.high, b.low, b.high}:
        assert a.low is not None
        assert a.high is not None
        assert b.low is not None
        assert b.high is not None
        low = change - math.hypot(b.value - b.low, a.high - a.value)
        high = change + math.hypot(b.high - b.value, a.value - a.low)
        if low > 0 or high < 0:
            better = (low > 0) == name.endswith("_per_second")  # of all else less is better
    return FigureDifference(
        baseline=a,
        candidate=b,
        difference=change,
        relative=change / a.value if a.value else None,
        low=low,
        high=high,
        better=better,
    )


def _mean(values: Sequence[float], t: float) -> Figure:
    error = _error(values, lambda value: value)
    value = fmean(values)
    if error is None:
        return Figure(value=value, low=None, high=None, n=len(values))
    return Figure(value=value, low=value - t * error, high=value + t * error, n=len(values))


def _percentile(values: Sequence[float], share: float, t: float) -> Figure:
    ordered, n = sorted(values), len(values)

    def at(rank: float) -> float:
        return ordered[min(n - 1, max(0, math.ceil(round(rank * n, 9)) - 1))]

    value = at(share)
    error = _error(values, lambda one: float(one <= value))
    # Equal values make the share of those below exceed the rank: no less than the independent case's error is believed.
    if error is None:
        return Figure(value=value, low=None, high=None, n=n)
    error = max(error, math.sqrt(share * (1 - share) / n))
    low, high = share - t * error, share + t * error
    inside = low > 0 and high * n <= n  # else the values seen do not reach as far as the interval does
    return Figure(value=value, low=at(low) if inside else None, high=at(high) if inside else None, n=n)


def _rate(moments: Sequence[tuple[float, float]], begin: float, end: float, t: float) -> Figure | None:
    """Amounts a second, from those in equal slices of the window."""
    seconds = end - begin
    if seconds <= 0:
        return None
    slices = [0.0] * _BATCHES
    n = 0
    for at, amount in moments:
        if begin <= at < end:
            slices[min(_BATCHES - 1, int((at - begin) / seconds * _BATCHES))] += amount
            n += 1
    rates = [amount / seconds * _BATCHES for amount in slices]
    value = fmean(rates)
    if n < _BATCHES * _LEAST_A_BATCH:
        return Figure(value=value, low=None, high=None, n=n)
    error = math.sqrt(variance(rates) / _BATCHES)
    return Figure(value=value, low=value - t * error, high=value + t * error, n=n)


def _error(values: Sequence[float], of: Callable[[float], float]) -> float | None:
    """The standard error of a mean, by batch means; None of too few values."""
    size = len(values) // _BATCHES
    if size < _LEAST_A_BATCH:
        return None
    means = [fmean(map(of, values[i * size : (i + 1) * size])) for i in range(_BATCHES)]
    return math.sqrt(variance(means) / _BATCHES)


def _t(confidence: float, freedom: int) -> float:
    """Student's quantile by its expansion (M. Abramowitz, I. Stegun, 26.7.5): to three digits from ten degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
