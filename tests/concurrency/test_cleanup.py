import math

import pytest
import trio

from runmgr.concurrency import shielded_cleanup


async def test_cleanup_goes_on_in_a_cancelled_task(autojump_clock):
    cleaned = False
    with trio.move_on_after(1):
        try:
            await trio.sleep_forever()
        finally:
            with shielded_cleanup(5):
                await trio.sleep(4)
                cleaned = True
    assert cleaned
    assert trio.current_time() == 5


async def test_cleanup_that_hangs_is_ended(autojump_clock):
    with trio.move_on_after(1) as outer:
        try:
            await trio.sleep_forever()
        finally:
            with shielded_cleanup(5) as scope:
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert outer.cancelled_caught
    assert trio.current_time() == 6


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
async def test_a_bound_is_needed(seconds):
    with pytest.raises(ValueError, match="bound"):
        shielded_cleanup(seconds)
