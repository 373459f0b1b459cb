import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.concurrency import Gcra


def test_a_burst_then_the_rate():
    rate = Gcra(rate=2, burst=3)
    assert [rate.take(10.0) for _ in range(3)] == [0, 0, 0]
    assert rate.take(10.0) == pytest.approx(0.5, abs=1e-5)
    assert rate.take(10.4) == pytest.approx(0.1, abs=1e-5)
    assert rate.take(10.5) == 0
    assert rate.take(10.5) == pytest.approx(0.5, abs=1e-5)


def test_a_rest_saves_up_no_more_than_the_burst():
    rate = Gcra(rate=100, burst=2)
    assert rate.available(0.0) == 2
    assert rate.take(1_000.0, 2) == 0
    assert rate.available(1_000.0) == pytest.approx(0, abs=1e-6)
    assert rate.available(2_000.0) == 2


def test_what_exceeds_the_burst_is_never_possible():
    rate = Gcra(rate=1, burst=5)
    assert rate.take(0.0, 5.5) == math.inf
    assert rate.take(0.0, 5) == 0


def test_force_makes_a_debt_that_time_pays():
    rate = Gcra(rate=10, burst=10)
    rate.force(0.0, 30)
    assert rate.available(0.0) == pytest.approx(-20)
    assert rate.take(0.0) == pytest.approx(2.1, abs=1e-4)


def test_give_back_returns_what_was_taken_but_never_more_than_the_burst():
    rate = Gcra(rate=1, burst=10)
    rate.take(0.0, 8)
    rate.give_back(0.0, 5)
    assert rate.available(0.0) == pytest.approx(7)
    rate.give_back(0.0, 50)
    assert rate.available(0.0) == pytest.approx(10)
    rate.give_back(100.0, 50)
    assert rate.available(100.0) == pytest.approx(10)


def test_configure_keeps_what_is_there():
    rate = Gcra(rate=1, burst=10)
    rate.take(0.0, 4)
    rate.configure(0.0, rate=100)
    assert rate.available(0.0) == pytest.approx(6)
    rate.configure(0.0, burst=2)
    assert rate.available(0.0) == pytest.approx(-2)  # 4 are out of 2: what is out stays out
    assert (rate.rate, rate.burst) == (100, 2)


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0), (-1, 1), (math.inf, 1), (1, math.nan)])
def test_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match="over 0"):
        Gcra(*arguments)


@pytest.mark.parametrize("method", ["force", "give_back"])
def test_negative_costs_are_refused(method):
    with pytest.raises(ValueError, match="negative"):
        getattr(Gcra(1, 1), method)(0.0, -1)


positive = st.floats(0.01, 1_000)


@given(
    rate=positive,
    burst=positive,
    steps=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1_000)), max_size=60),
)
def test_between_any_two_times_at_most_burst_plus_rate_times_time(rate, burst, steps):
    gcra, now, taken = Gcra(rate, burst), 0.0, []
    for pause, cost in steps:
        now += pause
        if gcra.take(now, cost) == 0:
            taken.append((now, cost))
    for first in range(len(taken)):
        total = 0.0
        for when, cost in taken[first:]:
            total += cost
            assert total <= (burst + rate * (when - taken[first][0])) * (1 + 1e-9) + 1e-6


@given(
    rate=positive,
    burst=positive,
    start=st.floats(0, 1e9),
    costs=st.lists(st.floats(0, 1), min_size=1, max_size=40),
)
def test_whoever_waits_as_long_as_told_gets_it(rate, burst, start, costs):
    gcra, now = Gcra(rate, burst), start
    for cost in costs:
        wait = gcra.take(now, cost * burst)
        assert wait < math.inf
        if wait:
            now += wait
            assert gcra.take(now, cost * burst) == 0


def test_whoever_waits_early_on_a_clock_gets_it_too():
    # Near zero `now + (then - now)` is often less than `then`: that is what the microsecond in `delay` is for.
    rng = random.Random(0)
    for _ in range(2_000):
        gcra, now = Gcra(rng.uniform(0.01, 10), 50), rng.random()
        for _ in range(3):
            cost = rng.uniform(0, 50)
            if wait := gcra.take(now, cost):
                now += wait
                assert gcra.take(now, cost) == 0
