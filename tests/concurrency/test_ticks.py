import time

import pytest
import trio

from runmgr.concurrency import ticks_of


class SystemClock:
    """Another clock of that name, which is not what trio's is."""

    offset = 5.0

    def current_time(self):
        return 12.5


async def test_trios_own_clock_is_read_by_its_counter():
    clock = trio.lowlevel.current_clock()
    ticks, ahead = ticks_of(clock)
    assert ticks is time.perf_counter
    before = trio.current_time()
    now = ahead + ticks()
    assert before <= now <= trio.current_time()


async def test_a_clock_of_tests_is_read_as_it_is(mock_clock):
    ticks, ahead = ticks_of(mock_clock)
    mock_clock.jump(3)
    assert ahead + ticks() == trio.current_time() == 3


@pytest.mark.parametrize("offset", [5.0, None, "x"])
def test_a_clock_that_only_looks_like_trios_is_read_as_it_is(offset):
    clock = SystemClock()
    clock.offset = offset
    ticks, ahead = ticks_of(clock)
    assert ahead + ticks() == 12.5
