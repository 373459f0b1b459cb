"""When requests are due."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.exceptions import UserError
from runmgr.load.arrivals import Rates, arrivals, parse_rates


def kolmogorov(sample, cdf):
    """Kolmogorov's statistic, and the probability of a larger one (its asymptotic series, after Stephens' correction)."""
    n = len(sample)
    d = max(max((i + 1) / n - cdf(x), cdf(x) - i / n) for i, x in enumerate(sorted(sample)))
    t = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * d
    return d, 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * t * t) for k in range(1, 101))


def gaps(moments):
    return [b - a for a, b in itertools.pairwise([0.0, *moments])]


@pytest.mark.parametrize("seed", range(5))
def test_poisson_gaps_are_exponential(seed):
    moments = list(itertools.islice(arrivals(Rates((40.0,)), "poisson", duration=None, seed=seed), 5_000))
    _, p = kolmogorov(gaps(moments), lambda x: 1 - math.exp(-40 * x))
    assert p > 0.01
    # the test can tell: the same gaps are not those of another rate, nor evenly spaced
    assert kolmogorov(gaps(moments), lambda x: 1 - math.exp(-44 * x))[1] < 1e-4


def test_gamma_has_the_mean_and_the_burstiness():
    for burstiness in (0.25, 1.0, 4.0):
        found = gaps(
            itertools.islice(
                arrivals(Rates((10.0,)), "gamma", duration=None, seed=3, burstiness=burstiness), 20_000
            )
        )
        mean = sum(found) / len(found)
        spread = sum((x - mean) ** 2 for x in found) / len(found) / mean**2
        assert mean == pytest.approx(0.1, rel=0.05)
        assert spread == pytest.approx(1 / burstiness, rel=0.1)


def test_constant_is_evenly_spaced_and_ends_with_the_duration():
    assert list(arrivals(Rates((4.0,)), "constant", duration=1.0, seed=0)) == [0.0, 0.25, 0.5, 0.75]


def test_steps_and_ramps_send_what_their_integral_says():
    steps = list(arrivals(parse_rates("10,20,40"), "constant", duration=30.0, seed=0))
    assert [sum(lo <= t < lo + 10 for t in steps) for lo in (0, 10, 20)] == [100, 200, 400]
    ramp = list(arrivals(parse_rates("0..100"), "constant", duration=10.0, seed=0))
    assert len(ramp) == 500
    assert sum(t < 5 for t in ramp) == pytest.approx(125, abs=1)
    for begin, end in ((20, 60), (60, 20)):
        ramp = list(arrivals(parse_rates(f"{begin}..{end}"), "constant", duration=10.0, seed=0))
        assert len(ramp) == pytest.approx(400, abs=1)
        assert sum(t < 5 for t in ramp) == pytest.approx((3 * begin + end) / 4 * 5, abs=1)
    poisson = list(arrivals(parse_rates("0..100"), "poisson", duration=40.0, seed=1))
    _, p = kolmogorov(poisson, lambda t: (t / 40) ** 2)
    assert p > 0.01


@given(
    rates=st.lists(st.floats(0, 200), min_size=1, max_size=4).filter(lambda values: max(values) > 0.1),
    ramp=st.booleans(),
    kind=st.sampled_from(["constant", "poisson", "gamma"]),
    seed=st.integers(0, 9),
)
def test_arrivals_are_in_order_and_within_the_duration(rates, ramp, kind, seed):
    shape = Rates(tuple(rates), ramp and len(rates) > 1)
    moments = list(arrivals(shape, kind, duration=3.0, seed=seed))
    assert moments == sorted(moments)
    assert all(0 <= moment <= 3.0 + 1e-9 for moment in moments)
    assert moments == list(arrivals(shape, kind, duration=3.0, seed=seed))


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1,,2", "1..", "inf", "nan"])
def test_rates_that_are_none(text):
    with pytest.raises(UserError, match="requests a second"):
        parse_rates(text)
