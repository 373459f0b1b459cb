import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runmgr.concurrency import PauseGate


async def test_open_lets_through_without_giving_others_a_turn():
    gate, turns = PauseGate(), []

    async def other():
        turns.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await gate.wait()
        assert turns == []


async def test_closed_keeps_everyone_until_opened():
    gate, through = PauseGate(is_open=False), []

    async def pass_through(number):
        await gate.wait()
        through.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(pass_through, number)
            await wait_all_tasks_blocked()
        assert (through, gate.waiting, gate.is_open) == ([], 3, False)
        gate.open()
        gate.close()  # those who waited pass all the same
        await wait_all_tasks_blocked()
        assert (sorted(through), gate.waiting) == ([0, 1, 2], 0)
        with trio.move_on_after(0) as scope:
            await gate.wait()
        assert scope.cancelled_caught
        assert gate.waiting == 0


async def test_waiting_can_be_cancelled_even_if_open():
    with trio.CancelScope() as scope:
        scope.cancel()
        await PauseGate().wait()
        pytest.fail("passed")
    assert scope.cancelled_caught
