"""The histogram: close to the truth, and exact when merged."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.load.histogram import PERCENTILES, Histogram

durations = st.lists(st.floats(0, 5_000), min_size=1, max_size=200)


def of(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations, st.sampled_from([0.0, 1.0, *PERCENTILES, 100.0]))
def test_percentiles_are_within_a_bucket_of_the_nearest_rank(values, percent):
    truth = sorted(values)[max(1, math.ceil(round(percent * len(values) / 100, 9))) - 1]
    assert of(values).percentile(percent) == pytest.approx(truth, rel=0.0005, abs=6e-7)


@given(durations, durations)
def test_merging_is_exact(some, others):
    merged = of(some)
    merged.merge(Histogram.of_state(json.loads(json.dumps(of(others).state()))))
    whole = of(some + others)
    assert merged.state() | {"total": 0} == whole.state() | {"total": 0}
    assert merged.total == pytest.approx(whole.total)
    assert [merged.percentile(p) for p in PERCENTILES] == [whole.percentile(p) for p in PERCENTILES]


@given(st.lists(st.floats(0, 100), min_size=0, max_size=50).map(sorted))
def test_gaps_are_what_adding_each_gives(moments):
    at_once, one_by_one = Histogram(), Histogram()
    at_once.add_gaps(moments)
    for before, after in zip(moments, moments[1:], strict=False):
        one_by_one.add(after - before)
    assert at_once.state() | {"total": 0} == one_by_one.state() | {"total": 0}
    assert at_once.total == pytest.approx(one_by_one.total, abs=1e-9)


def test_what_never_ended_stands_above_everything():
    histogram = of([0.1] * 98)
    histogram.add_never()
    histogram.add_never()
    assert histogram.percentile(99) == pytest.approx(0.1)
    assert histogram.percentile(98, failures=True) == pytest.approx(0.1)
    assert histogram.percentile(99, failures=True) == math.inf


@given(durations)
def test_bars_hold_every_value(values):
    histogram = of(values)
    bars = histogram.bars(20)
    assert sum(count for _, _, count in bars) == len(values)
    assert len(bars) <= 20


@given(durations, st.floats(0.001, 5_000))
def test_within_counts_what_is_not_longer(values, limit):
    found = of(values).within(limit)
    assert (
        sum(v <= limit * 0.9985 - 2e-6 for v in values)
        <= found
        <= sum(v <= limit * 1.0015 + 2e-6 for v in values)
    )


def test_nothing_has_no_figures():
    figures = Histogram().figures()
    assert figures["n"] == 0
    assert figures["p99"] is None
    some = Histogram()
    some.add(1.0)
    assert list(figures) == list(some.figures())
    assert Histogram().mean is None
