"""Resends: by class, within a budget, and hedged copies; all counted."""

from __future__ import annotations

import random

import pytest
import trio

from runmgr.exceptions import (
    MalformedResponseError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
)
from runmgr.models.retry import RetryPolicy
from runmgr.records.budgets import Budget, Hedge, RateLimit
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.hedge import Hedging
from runmgr.supervisor.retry_budget import A_SECOND, RESERVE, RetryBudget


def asker(model):
    async def ask(run):
        await run.ask(model)

    return ask


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ModelConnectionError("m", "no"), True),
        (ModelTimeoutError("m", "slow"), True),
        (ModelHTTPError(408, "m"), True),
        (ModelHTTPError(409, "m"), True),
        (ModelHTTPError(429, "m"), True),
        (ModelHTTPError(500, "m"), True),
        (ModelHTTPError(529, "m"), True),
        (MalformedResponseError("m", "cut"), True),
        (ModelHTTPError(400, "m"), False),
        (ModelHTTPError(401, "m"), False),
        (ModelHTTPError(404, "m"), False),
        (ModelHTTPError(422, "m"), False),
    ],
    ids=str,
)
async def test_what_is_sent_again(fakes, autojump_clock, error, again):
    model = fakes.Model(fail=[error])
    async with open_supervisor(rate_limits=RateLimit()) as sup:
        outcome = await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        state = sup.snapshot().models["counting"]
    assert outcome.succeeded is again
    assert (model.sent, state.sent, state.failed, state.resent) == (1 + again, 1 + again, 1, int(again))
    assert state.refused == (error == model.fail or getattr(error, "status_code", 0) == 429)


async def test_resends_are_at_most_a_part_of_first_sends(fakes, autojump_clock):
    class Dying(fakes.Model):
        async def request_once(self, *args):
            self.sent += 1
            await trio.sleep(0.1)
            raise ModelHTTPError(500, "m")

    model = Dying()
    async with open_supervisor(retries=8, max_running=50, rng=random.Random(0), breaker=None) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(200)) as outcomes:
            seen = [outcome async for outcome in outcomes]
        state = sup.snapshot().models["counting"]
    assert not any(outcome.succeeded for outcome in seen)
    seconds = trio.current_time()
    assert state.sent - state.resent == 200
    assert state.resent <= 0.5 * 200 + RESERVE + A_SECOND * seconds + 1
    assert seconds > 1_000  # 1,600 resends; what is beyond the share waits


async def test_a_faulty_provider_is_survived_without_waiting_for_the_budget(fakes, autojump_clock):
    rng = random.Random(3)

    class Faulty(fakes.Model):
        async def request_once(self, *args):
            await trio.sleep(0.1)
            if rng.random() < 0.3:
                raise ModelHTTPError(500, "m")
            return await super().request_once(*args)

    async with open_supervisor(rng=rng) as sup:
        async with sup.map(fakes.Agent(asker(Faulty())), range(1_000)) as outcomes:
            assert all([outcome.succeeded async for outcome in outcomes])
    assert trio.current_time() < 60


async def test_the_share_can_be_lifted(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(500, "m")] * 300)
    policy = RetryPolicy(max_retries=400, base=0.1, cap=0.1, share=None)
    async with open_supervisor(retries=policy, breaker=None) as sup:
        assert (await (await sup.submit(fakes.Agent(asker(model)))).outcome()).succeeded
    assert trio.current_time() < 40


def test_the_budget_of_resends():
    budget = RetryBudget(0.5)
    assert [budget.resend(0.0) for _ in range(int(RESERVE))] == [0.0] * 10
    assert [budget.resend(0.0) for _ in range(3)] == [1.0, 2.0, 3.0]
    for _ in range(10):
        budget.sent()
    assert budget.resend(0.0) == 0.0
    assert RetryBudget(None).resend(0.0) == 0.0


# -------------------------------------------------------------------- hedging


async def test_a_second_copy_saves_the_tail_and_is_counted(fakes, autojump_clock):
    rng = random.Random(1)

    class Tail(fakes.Model):
        async def request_once(self, *args):
            await trio.sleep(60 if rng.random() < 0.02 else rng.uniform(0.5, 1.5))
            return await super().request_once(*args)

    model = Tail()
    async with open_supervisor(hedge=Hedge(quantile=0.95), max_running=10, rate_limits=RateLimit()) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(1_000)) as outcomes:
            seen = [outcome async for outcome in outcomes]
        state = sup.snapshot().models["counting"]
        assert sup.usage().requests == 1_000
    took = sorted(outcome.finished_at - outcome.started_at for outcome in seen)
    assert took[989] < 5
    assert 5 <= state.hedged <= 100
    assert state.in_flight == 0


async def test_the_copy_that_lost_stays_spent_and_holds_nothing(fakes, autojump_clock):
    waits = [60, 1]

    async def wait():
        await trio.sleep(waits.pop(0))

    model = fakes.Model(wait=wait)
    async with open_supervisor(
        hedge=Hedge(after=2), budget=Budget(output_tokens=10_000), rate_limits=RateLimit(max_in_flight=2)
    ) as sup:
        assert (await (await sup.submit(fakes.Agent(asker(model)))).outcome()).succeeded
        assert trio.current_time() == 3
        state = sup.snapshot()
        assert state.budget.spent == {"output_tokens": 4_096 + 2}
        assert state.budget.reserved == {"output_tokens": 0}
        assert sup._runtime.gates.doors[id(model)].rate.used == 0
        assert state.lost["output_tokens"] == 4_096


async def test_no_copy_where_the_doors_are_closed_and_the_first_error_where_both_fail(fakes, autojump_clock):
    async def slow():
        await trio.sleep(5)

    model = fakes.Model(wait=slow)
    async with open_supervisor(hedge=Hedge(after=1), budget=Budget(requests=1)) as sup:
        assert (await (await sup.submit(fakes.Agent(asker(model)))).outcome()).succeeded
    assert model.sent == 1
    model = fakes.Model(wait=slow, fail=[ModelHTTPError(400, "first"), ModelHTTPError(401, "second")])
    async with open_supervisor(hedge=Hedge(after=1)) as sup:
        outcome = await (await sup.submit(fakes.Agent(asker(model)))).outcome()
    assert outcome.error.status_code == 400
    assert model.sent == 2


def test_when_a_copy_is_sent():
    hedging = Hedging(Hedge(quantile=0.9, max_share=0.1))
    assert hedging.after() is None
    for number in range(300):
        hedging.took(number)
    assert hedging.after() == 280  # of the last 200
    hedging.sent, hedging.copies = 100, 9
    assert hedging.may()
    hedging.copies = 10
    assert not hedging.may()
    with pytest.raises(ValueError, match="quantile"):
        Hedge(quantile=1.5)
