"""Who gets a place: groups, limits, places that come and go, deadlines."""

from __future__ import annotations

import pytest
import trio

from runmgr.exceptions import SupervisorClosed, UserError
from runmgr.supervisor import open_supervisor


async def nap(run):
    await trio.sleep(1)


def noting(fakes, order):
    async def note(run):
        order.append(run.prompt)
        await trio.sleep(1)

    return fakes.Agent(note)


async def test_a_small_group_behind_a_large_one_gets_its_share_at_once(fakes, autojump_clock):
    order = []
    agent = noting(fakes, order)
    async with open_supervisor(max_running=2, max_queued=50) as sup, trio.open_nursery() as nursery:

        async def large():
            with pytest.raises(SupervisorClosed):
                await feed()

        async def feed():
            async with sup.map(agent, ["large"] * 300, group="large") as outcomes:
                async for _ in outcomes:
                    pass

        nursery.start_soon(large)
        await trio.sleep(10)
        began = len(order)
        for _ in range(10):
            nursery.start_soon(lambda: sup.submit(agent, "small", group="small"))
        await trio.sleep(11.5)
        assert order[began:].count("small") == 10
        sup.cancel()


async def test_weights_share_the_places(fakes, autojump_clock):
    order = []
    agent = noting(fakes, order)
    async with open_supervisor(max_running=1, max_queued=400, group_weights={"a": 3}) as sup:
        for _ in range(100):
            await sup.submit(agent, "a", group="a")
            await sup.submit(agent, "b", group="b")
        await trio.sleep(40)
        assert order[:40].count("a") == pytest.approx(30, abs=1)
        sup.set_group("b", weight=9)
        await trio.sleep(40)
        assert order[40:80].count("b") == pytest.approx(30, abs=2)
        sup.cancel()
    with pytest.raises(ValueError, match="weight"):
        sup.set_group("a", weight=0)


async def test_a_group_at_its_limit_leaves_the_other_places_to_others(fakes, autojump_clock):
    agent = fakes.Agent(nap)
    async with open_supervisor(max_running=4, max_queued=10, group_limits={"a": 1}) as sup:
        async with trio.open_nursery() as nursery:
            for _ in range(30):  # more than there are seats: they fill the queue, and stand in line
                nursery.start_soon(lambda: sup.submit(agent, group="a"))
            await trio.testing.wait_all_tasks_blocked()
            assert sup.snapshot().places_taken == 1
            for _ in range(6):
                nursery.start_soon(lambda: sup.submit(agent, group="b"))
            await trio.testing.wait_all_tasks_blocked()
            assert sup.snapshot().places_taken == 4
            await trio.sleep(2.5)
            assert sup.snapshot().states["succeeded"] == 1 + 6 + 1
            sup.set_group("a", max_running=3)
            assert sup.snapshot().places_taken == 3
            sup.set_group("a", max_running=0)
            await trio.sleep(10)
            assert sup.snapshot().places_taken == 0
            sup.set_group("a", max_running=4)
        await sup.drain()
    assert sup.snapshot().states["succeeded"] == 36


async def test_a_limit_holds_for_parents_that_wait(fakes, autojump_clock):
    """Two at a time are 20 s of work in 10 s to the dot, on every schedule: a parent whose child has ended goes before parents
    that have not begun, though it has not been scheduled yet."""
    most = 0
    begun = []

    async def watch(run):
        nonlocal most
        most = max(most, sup.snapshot().places_taken)
        await trio.sleep(1)

    async def parent(run):
        begun.append(trio.current_time())
        await (await run.supervisor.submit(fakes.Agent(watch))).outcome()
        await watch(run)

    async with open_supervisor(max_running=5, group_limits={"g": 2}) as sup:
        handles = [await sup.submit(fakes.Agent(parent), group="g") for _ in range(10)]
        for handle in handles:
            assert (await handle.outcome()).succeeded
    assert most == 2
    assert trio.current_time() == 10
    assert begun == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


async def test_max_running_may_change_and_interrupts_nobody(fakes, autojump_clock):
    agent = fakes.Agent(nap)
    async with open_supervisor(max_running=2) as sup:
        handles = [await sup.submit(agent) for _ in range(20)]
        assert sup.snapshot().places_taken == 2
        sup.max_running = 6
        assert sup.snapshot().places_taken == 6
        sup.max_running = 1
        assert sup.snapshot().places_taken == 6
        await trio.sleep(1.5)
        assert sup.snapshot().places_taken == 1
        assert sup.snapshot().states["succeeded"] == 6
        assert sup.max_running == sup.snapshot().max_running == 1
        sup.max_running = 100
        await handles[-1].outcome()
        assert trio.current_time() == 2.5
        with pytest.raises(UserError, match="max_running=0"):
            sup.max_running = 0


async def test_max_queued_may_change(fakes, autojump_clock):
    agent = fakes.Agent(nap)
    async with open_supervisor(max_running=1, max_queued=0) as sup:
        sup.submit_nowait(agent)
        with pytest.raises(trio.WouldBlock):
            sup.submit_nowait(agent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.submit, agent)
            await trio.testing.wait_all_tasks_blocked()
            assert sup.snapshot().submitting == 1
            sup.max_queued = 2
            assert sup.snapshot().submitting == 0
        sup.submit_nowait(agent)
        assert sup.snapshot().queued == 2


async def test_a_deadline_counts_in_the_queue_and_in_a_pause_too(fakes, autojump_clock):
    agent = fakes.Agent(nap, nap, nap)
    async with open_supervisor(max_running=1) as sup:
        await sup.submit(agent)
        await sup.submit(agent)
        late = await sup.submit(agent, deadline=2)
        later = await sup.submit(agent, deadline=3.5)
        held = await sup.submit(agent, deadline=1)
        held.pause()
        outcome = await held.outcome()
        assert trio.current_time() == 1
        assert (outcome.status, outcome.started_at) == ("failed", None)
        outcome = await late.outcome()
        assert trio.current_time() == 2
        assert outcome.error.type == "TimeoutError"
        assert "submission" in outcome.error.message
        assert sup.snapshot().queued == 2
        assert (await later.outcome()).status == "failed"
        assert trio.current_time() == 3.5
        in_time = [await sup.submit(agent, deadline=1_000) for _ in range(200)]
        for handle in in_time:
            handle.cancel()
        assert len(sup._runtime.deadlines._heap) < 202
    assert sup.snapshot().states == {
        "succeeded": 2,
        "failed": 3,
        "cancelled": 200,
        "queued": 0,
        "running": 0,
        "waiting": 0,
        "paused": 0,
    }
