import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.concurrency import backoff_ceiling, full_jitter


def test_ceiling_doubles_up_to_the_cap():
    assert [backoff_ceiling(n, base=0.5, cap=5) for n in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_any_number_of_attempts_stays_at_the_cap():
    assert backoff_ceiling(100_000, base=0.5, cap=30) == 30
    assert backoff_ceiling(100_000, base=0, cap=30) == 0


@given(st.integers(0, 5_000), st.floats(0, 1e6), st.floats(0, 1e6), st.integers())
def test_jitter_lies_between_zero_and_the_ceiling(attempt, base, cap, seed):
    wait = full_jitter(attempt, base=base, cap=cap, rng=random.Random(seed))
    assert 0 <= wait <= backoff_ceiling(attempt, base=base, cap=cap)


def test_jitter_is_spread_over_the_whole_range_and_repeats_with_the_seed():
    rng = random.Random(1)
    waits = [full_jitter(3, base=1, cap=100, rng=rng) for _ in range(4_000)]
    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert abs(sum(waits) / len(waits) - 4) < 0.2
    again = random.Random(1)
    assert waits == [full_jitter(3, base=1, cap=100, rng=again) for _ in range(4_000)]


@pytest.mark.parametrize("wrong", [{"attempt": -1}, {"base": -1.0}, {"cap": float("nan")}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="must not be negative"):
        full_jitter(**{"attempt": 0, "base": 1.0, "cap": 1.0, "rng": random.Random(0), **wrong})
