"""Tenants of a pool: groups with a weight, a rate and a budget of their own, made and dropped at run time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from runmgr import Budget, RateLimit
from runmgr.exceptions import BudgetExhausted, RunCancelled, RunFailed, UserError
from runmgr.pool import RunPool

SECONDS = 10


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_tenant_has_its_own_budget_and_rate_and_shows_in_the_snapshot(gated):
    with RunPool(gated.agent) as pool:
        pool.set_group(
            "acme", weight=2, max_running=5, rate=RateLimit(max_in_flight=2), budget=Budget(requests=3)
        )
        futures = [pool.submit("x", group="acme") for _ in range(4)]
        others = [pool.submit("x", group="other") for _ in range(3)]
        until(lambda: gated.now == 5)
        state = pool.snapshot().groups["acme"]
        assert (state.weight, state.max_running, state.running) == (2, 5, 4)
        assert (state.in_flight, state.waiting) == (2, 2)
        assert state.rate == RateLimit(max_in_flight=2)
        assert state.budget.limits == {"requests": 3}
        assert pool.snapshot().groups.keys() == {"acme"}
        gated.open = True
        ended = [future.exception(SECONDS) for future in futures]
        assert sum(error is None for error in ended) == 3
        (refused,) = (error for error in ended if error is not None)
        assert isinstance(refused, RunFailed)
        assert isinstance(refused.__cause__, BudgetExhausted)
        assert [future.exception(SECONDS) for future in others] == [None] * 3
        pool.set_group("acme", budget=Budget(requests=10))
        assert pool.submit("y", group="acme").result(SECONDS).output == "y"
        assert pool.drop_group("acme")
        assert pool.snapshot().groups == {}
        assert pool.usage("group")["(dropped)"].requests == 4


def test_dropping_a_tenant_cancels_its_runs_where_asked(gated):
    with RunPool(gated.agent, max_running=2, max_queued=10) as pool:
        pool.set_group("acme", weight=1)
        futures = [pool.submit("x", group="acme") for _ in range(6)]
        mine = pool.submit("x", group="mine")
        until(lambda: gated.began == 2)
        assert not pool.drop_group("acme", cancel="it did not pay")
        for future in futures:
            with pytest.raises(RunCancelled, match="it did not pay"):
                future.result(SECONDS)
        until(lambda: pool.snapshot().groups == {})
        gated.open = True
        assert mine.result(SECONDS).output == "x"


def test_from_asyncio(gated):
    gated.open = True

    async def main():
        async with RunPool(gated.agent).as_asyncio() as pool:
            await pool.set_group("acme", budget=Budget(requests=1))
            await pool.run("x", group="acme")
            with pytest.raises(RunFailed):
                await pool.run("x", group="acme")
            assert (await pool.snapshot()).groups["acme"].usage.requests == 1
            assert await pool.drop_group("acme")
            await pool.run("x", group="acme")
            with pytest.raises(ValueError, match="the weight"):
                await pool.set_group("acme", weight=-1)

    asyncio.run(main())


def test_mistakes_are_raised_where_they_are_made(gated):
    with RunPool(gated.agent) as pool:
        with pytest.raises(ValueError, match="the weight of a group"):
            pool.set_group("acme", weight=0)
        with pytest.raises(UserError, match="max_running"):
            pool.set_group("acme", max_running=-1)
        assert pool.drop_group("nobody")


@pytest.mark.parametrize("weight", [1, 3])
def test_a_tenant_that_submits_without_end_keeps_nobody_out(gated, weight):
    """Threads that wait for room get it by turns of their groups, not in the order in which they came."""
    with RunPool(gated.agent, max_running=1, max_queued=1) as pool:
        pool.set_group("small", weight=weight)
        first = [pool.submit("x", group="big") for _ in range(2)]
        room = pool._engine.room
        threads = []
        for number, group in enumerate(["big"] * 30 + ["small"] * 6, 1):
            threads.append(
                threading.Thread(target=pool.submit, args=(group,), kwargs={"group": group}, daemon=True)
            )
            threads[-1].start()
            until(lambda number=number: room.waiting == number)
        gated.open = True
        for thread in threads:
            thread.join(SECONDS)
        assert all(future.result(SECONDS) for future in first)
    order = gated.prompts[2:]
    assert len(order) == 36
    last = max(place for place, group in enumerate(order) if group == "small")
    assert last < (16 if weight == 1 else 11)
