"""Paired differences: the textbook's figures, and what must hold of any."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.report.paired import bootstrap_means, difference, interval_of, mcnemar_exact


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail_exactly(won, lost):
    n, k = won + lost, min(won, lost)
    exact = min(Fraction(1), 2 * Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n))
    assert mcnemar_exact(won, lost) == pytest.approx(float(exact), rel=1e-9)


def test_mcnemar_of_a_textbook_and_of_large_counts():
    assert mcnemar_exact(4, 16) == pytest.approx(0.01182, abs=1e-5)  # binom.test(4, 20)
    assert mcnemar_exact(0, 0) == 1
    assert 0 < mcnemar_exact(499, 43) < 1e-90
    assert mcnemar_exact(500_000, 500_000) == 1


def test_the_difference_of_two_right_and_wrong_lists():
    a, b = [1, 0, 0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 1, 1, 0, 0]
    found = difference([(i, float(x), float(y)) for i, (x, y) in enumerate(zip(a, b, strict=True))])
    d = [y - x for x, y in zip(a, b, strict=True)]
    mean = sum(d) / 8
    stderr = math.sqrt(sum((x - mean) ** 2 for x in d) / 7 / 8)
    assert (found.difference, found.won, found.lost, found.tied) == (0.25, 3, 1, 4)
    assert found.stderr == pytest.approx(stderr)
    assert (found.low, found.high) == (
        pytest.approx(mean - 1.959964 * stderr),
        pytest.approx(mean + 1.959964 * stderr),
    )
    assert (found.test, found.p) == ("mcnemar", pytest.approx(0.625))


def test_epochs_are_clustered_by_case_and_tested_by_bootstrap():
    """Ten equal epochs of a case say no more than one."""
    rng = random.Random(3)
    once = [(i, float(rng.random() < 0.4), float(rng.random() < 0.6)) for i in range(60)]
    tenfold = [pair for pair in once for _ in range(10)]
    a, b = difference(once), difference(tenfold)
    assert b.stderr == pytest.approx(a.stderr)
    assert (a.test, b.test) == ("mcnemar", "bootstrap")
    assert (b.pairs, b.cases) == (600, 60)


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_is_right():
    rng = random.Random(1)
    pairs = [(i, rng.gauss(0, 1), rng.gauss(0.5, 1)) for i in range(300)]
    found = difference(pairs)
    assert found.test == "bootstrap"
    reach = 1.96 * found.stderr
    assert found.low == pytest.approx(found.difference - reach, abs=0.05)
    assert found.high == pytest.approx(found.difference + reach, abs=0.05)
    assert found.p < 0.01
    same = difference([(i, b + rng.gauss(0, 1), b + rng.gauss(0, 1)) for i, _, b in pairs])
    assert same.p > 0.05
    assert difference(pairs) == found  # the seed is fixed


def test_bootstrap_of_unequal_clusters_and_of_many_cases():
    means = bootstrap_means([(2.0, 2), (0.0, 1), (3.0, 3), (0.0, 4)], resamples=2000)
    assert means == sorted(means)
    low, high = interval_of(means, 0.9)
    assert 0 <= low < 0.5 < high <= 1
    many = difference([(i, 0.25, 0.5 + 0.1 * (i % 2)) for i in range(5000)])
    assert (many.test, many.p) == ("normal", 0)


@settings(max_examples=25, deadline=None)  # a loaded machine is no fault of it
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0])),
        min_size=1,
        max_size=12,
    )
)
def test_turned_round_it_is_the_same_with_the_other_sign(pairs):
    one, other = difference(pairs), difference([(c, b, a) for c, a, b in pairs])
    assert one.difference == pytest.approx(-other.difference)
    assert (one.won, one.lost, one.tied) == (other.lost, other.won, other.tied)
    assert one.stderr == pytest.approx(other.stderr)
    assert (one.test is None) == (one.cases < 2)
    assert one.p is None or 0 <= one.p <= 1


def test_nothing_to_compare_and_one_case():
    with pytest.raises(ValueError, match="no pairs"):
        difference([])
    one = difference([(0, 0.0, 1.0)])
    assert (one.difference, one.stderr, one.low, one.p) == (1, None, None, None)
