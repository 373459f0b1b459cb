import math
import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from runmgr.concurrency import open_timers


async def test_wakes_at_the_right_times_in_order(autojump_clock):
    woken = []

    async def sleeper(seconds):
        await timers.sleep(seconds)
        woken.append((seconds, trio.current_time()))

    async with open_timers() as timers, trio.open_nursery() as nursery:
        for seconds in (5, 1, 3, 1000, 0.5):
            nursery.start_soon(sleeper, seconds)
            await wait_all_tasks_blocked()  # each earlier one has to move the shared deadline
        assert timers.statistics().sleeping == 5
        assert timers.statistics().next_deadline == 0.5
    assert woken == [(seconds, seconds) for seconds in (0.5, 1, 3, 5, 1000)]
    assert timers.statistics().next_deadline == math.inf


async def test_equal_deadlines_wake_together(autojump_clock):
    woken = []

    async def sleeper(number):
        await timers.sleep_until(7.0)
        woken.append(number)

    async with open_timers() as timers, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(sleeper, number)
            await wait_all_tasks_blocked()
    assert sorted(woken) == list(range(20))
    assert trio.current_time() == 7


async def test_same_as_trio_sleep(autojump_clock):
    rng, woken = random.Random(0), {"trio": [], "ours": []}

    async def sleeper(name, sleep, number, seconds):
        for again in range(3):
            await sleep(seconds)
            woken[name].append((trio.current_time(), number, again))

    async with open_timers() as timers, trio.open_nursery() as nursery:
        for number in range(200):
            seconds = rng.choice([0, 0.25, rng.uniform(0, 10)])
            nursery.start_soon(sleeper, "trio", trio.sleep, number, seconds)
            nursery.start_soon(sleeper, "ours", timers.sleep, number, seconds)
    assert sorted(woken["ours"]) == sorted(woken["trio"])
    assert woken["ours"] == sorted(woken["ours"], key=lambda entry: entry[0])


async def test_cancelled_sleepers_leave_little_behind(autojump_clock):
    async with open_timers() as timers:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(timers.sleep, 50)
            for _ in range(1_000):
                with trio.move_on_after(0) as scope:
                    await timers.sleep(100)
                assert scope.cancelled_caught
            await wait_all_tasks_blocked()
            assert timers.statistics().sleeping == 10
            assert timers.statistics().cancelled < 100
        assert trio.current_time() == 50


async def test_past_deadlines_and_zero_are_checkpoints(autojump_clock):
    async with open_timers() as timers:
        await timers.sleep_until(-5)
        await timers.sleep(0)
        for sleep in (timers.sleep(0), timers.sleep_until(-5)):
            with trio.CancelScope() as scope:
                scope.cancel()
                await sleep
            assert scope.cancelled_caught
    assert trio.current_time() == 0


async def test_a_sleeper_that_wakes_and_is_cancelled_at_once(autojump_clock):
    async with open_timers() as timers:
        with trio.move_on_after(2):  # same deadline as the sleep
            await timers.sleep(2)
        await timers.sleep(1)
    assert trio.current_time() == 3


async def test_leaving_the_block_wakes_everyone_with_an_error():
    async def sleeper():
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            await timers.sleep(1_000)
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            await timers.sleep(1)

    async with trio.open_nursery() as nursery:
        async with open_timers() as timers:
            nursery.start_soon(sleeper)
            await wait_all_tasks_blocked()


async def test_the_body_may_sleep_while_it_is_cancelled(autojump_clock):
    with trio.move_on_after(1):
        async with open_timers() as timers:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(100, shield=True) as cleanup:
                    await timers.sleep(2)
    assert not cleanup.cancelled_caught
    assert trio.current_time() == 3


async def test_exceptions_of_the_body_come_out_bare():
    with pytest.raises(KeyError, match="mine"):
        async with open_timers():
            raise KeyError("mine")


@pytest.mark.parametrize("seconds", [-1, math.nan])
async def test_nonsense_is_refused(seconds):
    async with open_timers() as timers:
        with pytest.raises(ValueError, match="negative"):
            await timers.sleep(seconds)


def test_leaves_no_task_behind():
    async def main():
        before = trio.lowlevel.current_statistics().tasks_living
        async with open_timers() as timers:
            await timers.sleep(1)
        assert trio.lowlevel.current_statistics().tasks_living == before

    trio.run(main, clock=MockClock(autojump_threshold=0))
