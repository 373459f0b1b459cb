import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.report.statistics import Histogram, ScoreStatistics

SCORES = st.lists(st.floats(-10, 10), min_size=2, max_size=60)


@given(SCORES)
def test_mean_and_standard_error_of_independent_cases(values):
    for clustered in (False, True):
        figure = ScoreStatistics(clustered=clustered)
        for case, value in enumerate(values):
            figure.add(value, case)
        assert figure.n == len(values)
        assert figure.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
        assert figure.stderr == pytest.approx(statistics.stdev(values) / math.sqrt(len(values)), abs=1e-7)


@given(SCORES, st.integers(2, 5))
def test_repeating_each_case_does_not_make_the_error_smaller(values, epochs):
    """Epochs that always agree say nothing new: the clustered error is that of one epoch."""
    once, often = ScoreStatistics(clustered=True), ScoreStatistics(clustered=True)
    for case, value in enumerate(values):
        once.add(value, case)
    for _ in range(epochs):
        for case, value in enumerate(values):
            often.add(value, case)
    assert often.stderr == pytest.approx(once.stderr, abs=1e-7)


def test_clustered_error_by_hand():
    figure = ScoreStatistics(clustered=True)
    for case, scores in enumerate([(1, 1), (0, 1), (0, 0)]):
        for score in scores:
            figure.add(score, case)
    # mean 1/2; sums of deviations by case 1, 0, -1; sqrt(3/2 * 2) / 6
    assert figure.stderr == pytest.approx(math.sqrt(3) / 6)


def test_figures_of_nothing_and_of_one():
    figure = ScoreStatistics()
    assert (figure.mean, figure.stderr, figure.n) == (None, None, 0)
    figure.add(1.0, 0)
    assert (figure.mean, figure.stderr, figure.n) == (1.0, None, 1)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1), st.floats(0, 1))
def test_percentiles_are_within_a_bucket_of_the_truth(values, share):
    figure = Histogram()
    for value in values:
        figure.add(value)
    truth = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert figure.percentile(share) == pytest.approx(truth, rel=0.1)
    assert sum(count for _, _, count in figure.bars(10)) == len(values)
    assert len(figure.bars(10)) <= 10


def test_a_histogram_of_nothing():
    assert Histogram().percentile(0.5) is None
    assert Histogram().bars(5) == []
