import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from runmgr.concurrency import ResizableLimiter


async def test_no_more_than_the_limit_at_once_and_first_come_first_served(autojump_clock):
    limiter, order, most = ResizableLimiter(3), [], 0

    async def work(number):
        nonlocal most
        async with limiter:
            order.append(number)
            most = max(most, limiter.used)
            await trio.sleep(1 + number / 100)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(work, number)
            await wait_all_tasks_blocked()
    assert order == list(range(10))
    assert most == 3
    assert limiter.used == 0
    assert trio.current_time() == pytest.approx(4.18)


async def test_nowait_takes_one_or_says_so_and_does_not_push_in():
    limiter = ResizableLimiter(1)
    limiter.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        limiter.release()
        with pytest.raises(trio.WouldBlock):  # it is the waiting task's, though that has not run yet
            limiter.acquire_nowait()
    assert limiter.used == 1


async def test_lowering_interrupts_nobody_and_raising_wakes_those_who_wait():
    limiter, inside, go = ResizableLimiter(4), [], trio.Event()

    async def work(number):
        async with limiter:
            inside.append(number)
            await go.wait()

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(work, number)
            await wait_all_tasks_blocked()
        limiter.limit = 1
        await wait_all_tasks_blocked()
        assert sorted(inside) == [0, 1, 2, 3]
        statistics = limiter.statistics()
        assert (statistics.limit, statistics.used, statistics.waiting) == (1, 4, 4)
        limiter.limit = 6
        await wait_all_tasks_blocked()
        assert sorted(inside) == [0, 1, 2, 3, 4, 5]
        limiter.limit = 2
        go.set()
    assert sorted(inside) == list(range(8))


async def test_a_limit_of_zero_hands_out_none_until_it_is_raised():
    limiter = ResizableLimiter(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        assert limiter.used == 0
        limiter.limit = 1
    assert limiter.used == 1


async def test_after_lowering_release_hands_out_nothing_until_fewer_are_out():
    limiter = ResizableLimiter(3)
    for _ in range(3):
        limiter.acquire_nowait()
    limiter.limit = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        limiter.release()
        limiter.release()
        assert limiter.statistics().waiting == 1
        limiter.release()
        assert (limiter.statistics().waiting, limiter.used) == (0, 1)


async def test_cancelled_while_waiting_takes_nothing():
    limiter = ResizableLimiter(1)
    limiter.acquire_nowait()
    with trio.move_on_after(0) as scope:
        await limiter.acquire()
    assert scope.cancelled_caught
    assert limiter.statistics().waiting == 0
    limiter.release()
    assert limiter.used == 0


async def test_acquire_is_a_checkpoint():
    with trio.CancelScope() as scope:
        scope.cancel()
        await ResizableLimiter(1).acquire()
    assert scope.cancelled_caught


async def test_mistakes():
    with pytest.raises(RuntimeError, match="without acquire"):
        ResizableLimiter(1).release()
    with pytest.raises(ValueError, match="-1"):
        ResizableLimiter(-1)
    limiter = ResizableLimiter(2)
    with pytest.raises(ValueError, match="-5"):
        limiter.limit = -5
    assert limiter.limit == 2


steps = st.lists(st.one_of(st.sampled_from(["start", "end", "cancel"]), st.integers(0, 5)), max_size=40)


@given(steps)
def test_any_program_of_starts_ends_cancels_and_resizes(program):
    async def main():
        limiter, holding, scopes, started = ResizableLimiter(2), [], {}, 0

        async def work(number):
            with trio.CancelScope() as scopes[number]:
                await limiter.acquire()
                holding.append(number)
            scopes.pop(number)

        async with trio.open_nursery() as nursery:
            for step in program:
                if step == "start":
                    nursery.start_soon(work, started)
                    started += 1
                elif step == "end" and holding:
                    holding.pop(0)
                    limiter.release()
                elif step == "cancel" and scopes:
                    next(iter(scopes.values())).cancel()
                elif isinstance(step, int):
                    before = limiter.used
                    limiter.limit = step
                    assert limiter.used >= before
                await wait_all_tasks_blocked()
                assert limiter.used == len(holding)
                assert limiter.statistics().waiting == len(scopes)
                assert not scopes or limiter.used >= limiter.limit  # nobody waits beside a free permit
            nursery.cancel_scope.cancel()

    trio.run(main)
