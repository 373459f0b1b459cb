import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runmgr.concurrency import Mailbox


async def test_in_order_and_bounded():
    mailbox = Mailbox(3)
    for item in "abc":
        mailbox.put_nowait(item)
    with pytest.raises(trio.WouldBlock):
        mailbox.put_nowait("d")
    assert len(mailbox) == 3
    assert mailbox.receive_nowait() == "a"
    mailbox.put_nowait("d")
    assert mailbox.drain_nowait() == ["b", "c", "d"]
    assert mailbox.drain_nowait() == []
    with pytest.raises(trio.WouldBlock):
        mailbox.receive_nowait()


async def test_receive_waits():
    mailbox, got = Mailbox(2), []

    async def read():
        got.append(await mailbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert mailbox.statistics().receivers_waiting == 2
        mailbox.put_nowait(1)
        mailbox.put_nowait(2)
    assert got == [1, 2]


async def test_a_receiver_whose_item_was_taken_goes_on_waiting():
    mailbox, got = Mailbox(2), []

    async def read():
        got.append(await mailbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.put_nowait(1)
        assert mailbox.receive_nowait() == 1
        await wait_all_tasks_blocked()
        assert got == []
        mailbox.put_nowait(2)
    assert got == [2]


async def test_closed_is_read_to_the_end_and_written_no_more():
    mailbox = Mailbox(2)
    mailbox.put_nowait(1)
    mailbox.close()
    mailbox.close()
    with pytest.raises(trio.BrokenResourceError, match="closed"):
        mailbox.put_nowait(2)
    assert await mailbox.receive() == 1
    with pytest.raises(trio.EndOfChannel):
        await mailbox.receive()
    with pytest.raises(trio.EndOfChannel):
        mailbox.receive_nowait()
    assert mailbox.statistics().closed


async def test_closing_wakes_receivers():
    mailbox = Mailbox(1)

    async def read():
        with pytest.raises(trio.EndOfChannel):
            await mailbox.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.close()


@pytest.mark.parametrize("filled", [False, True])
async def test_cancelled_takes_nothing(filled):
    mailbox = Mailbox(1)
    if filled:
        mailbox.put_nowait(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.receive()
    assert scope.cancelled_caught
    assert len(mailbox) == filled
    assert mailbox.statistics().receivers_waiting == 0


async def test_receiving_what_is_there_gives_others_a_turn():
    mailbox, turns = Mailbox(1), 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10):
            mailbox.put_nowait(1)
            await mailbox.receive()
        assert turns >= 9
        nursery.cancel_scope.cancel()


def test_capacity_of_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        Mailbox(0)
