"""Groups with settings of their own, made and dropped while runs go on."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from runmgr import (
    Agent,
    Budget,
    ModelResponse,
    RateLimit,
    RequestUsage,
    SupervisorClosed,
    TextPart,
    open_supervisor,
)
from runmgr.exceptions import BudgetExhausted, UserError
from runmgr.models.function import FunctionModel


class Slow:
    """An agent whose requests take ``seconds``; knows when each was sent, and how many were in flight at most."""

    def __init__(self, seconds=1.0):
        self.seconds = seconds
        self.sent = []
        self.now = self.most = 0
        self.agent = Agent(FunctionModel(self.answer, model_name="slow"))

    async def answer(self, messages, info):
        self.sent.append(trio.current_time())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.now -= 1
        return ModelResponse(parts=[TextPart("yes")], usage=RequestUsage(input_tokens=10, output_tokens=1))


@pytest.fixture
def slow():
    return Slow()


def outcomes_of(handles):
    return [handle.outcome_nowait().status.value for handle in handles]


async def test_a_groups_rate_holds_over_all_models_and_for_nobody_else(slow, autojump_clock):
    other, free_one = Slow(), Slow()
    async with open_supervisor() as sup:
        sup.set_group("acme", rate=RateLimit(requests_per_minute=60))
        for number in range(5):
            await sup.submit((slow, other)[number % 2].agent, "x", group="acme")
        free = [await sup.submit(free_one.agent, "x", group="b") for _ in range(20)]
        await trio.sleep(1.5)
        assert set(outcomes_of(free)) == {"succeeded"}
        assert sup.snapshot().groups["acme"].waiting > 0
        assert "b" not in sup.snapshot().groups
    times = sorted(slow.sent + other.sent)
    assert len(times) == 5
    assert min(later - time for time, later in zip(times, times[1:], strict=False)) > 0.999


async def test_a_groups_requests_in_flight_and_raising_it_lets_those_go_who_wait(slow, autojump_clock):
    async with open_supervisor() as sup:
        sup.set_group("acme", rate=RateLimit(max_in_flight=2))
        handles = [await sup.submit(slow.agent, "x", group="acme") for _ in range(10)]
        await trio.sleep(0.5)
        assert slow.now == 2
        assert (sup.snapshot().groups["acme"].in_flight, sup.snapshot().groups["acme"].waiting) == (2, 8)
        handles[9].cancel()  # one that waits
        handles[0].cancel()  # one in flight
        await trio.sleep(0.1)
        assert slow.now == 2
        sup.set_group("acme", rate=RateLimit(max_in_flight=100))
        await trio.sleep(0.1)
        assert slow.now == 8
    assert sorted(outcomes_of(handles)) == ["cancelled"] * 2 + ["succeeded"] * 8
    assert slow.most == 8


async def test_permits_of_a_group_come_back_however_requests_end(autojump_clock):
    calls = 0

    async def answer(messages, info):
        nonlocal calls
        calls += 1
        await trio.sleep(1)
        if calls % 3 == 0:
            raise ValueError("no")
        return ModelResponse(parts=[TextPart("yes")])

    agent = Agent(FunctionModel(answer))
    async with open_supervisor(rate_limits=RateLimit(max_in_flight=3), budget=Budget(requests=25)) as sup:
        sup.set_group(
            "acme", rate=RateLimit(max_in_flight=2, tokens_per_minute=10_000_000), budget=Budget(requests=20)
        )
        handles = [await sup.submit(agent, "x", group="acme") for _ in range(40)]
        for handle in handles[::7]:
            handle.cancel()
        async with sup.map(agent, ["x"] * 10, group="other") as outcomes:
            async for _ in outcomes:
                pass
        for handle in handles:
            await handle.outcome()
        state = sup.snapshot().groups["acme"]
        assert (state.in_flight, state.waiting, state.running) == (0, 0, 0)
        assert state.budget.spent["requests"] <= 20
        assert sup.snapshot().budget.spent["requests"] <= 25


async def test_a_groups_budget_made_late_counts_what_was_spent(slow, autojump_clock):
    async with open_supervisor(budget=Budget(requests=100)) as sup:
        for _ in range(3):
            await (await sup.submit(slow.agent, "x", group="acme")).outcome()
        sup.set_group("acme", budget=Budget(requests=5))
        assert sup.snapshot().groups["acme"].budget.spent["requests"] == 3
        outcomes = [await (await sup.submit(slow.agent, "x", group="acme")).outcome() for _ in range(3)]
    assert [outcome.status.value for outcome in outcomes] == ["succeeded", "succeeded", "failed"]
    assert outcomes[2].error.type == BudgetExhausted.__name__


async def test_a_dropped_group_is_forgotten_when_its_last_run_has_ended(slow, autojump_clock):
    async with open_supervisor(max_running=10) as sup:
        sup.set_group(
            "acme", weight=3, max_running=2, budget=Budget(requests=4), rate=RateLimit(max_in_flight=1)
        )
        handles = [await sup.submit(slow.agent, "x", group="acme") for _ in range(4)]
        await trio.sleep(0.1)
        state = sup.snapshot().groups["acme"]
        assert (state.weight, state.max_running, state.running, state.queued) == (3, 2, 2, 2)
        assert not sup.drop_group("acme")
        late = await sup.submit(slow.agent, "x", group="acme")
        assert sup.snapshot().groups["acme"].leaving
        for handle in handles:
            assert (await handle.outcome()).succeeded
        assert (await late.outcome()).error.type == BudgetExhausted.__name__  # its settings held to the end
        assert sup.snapshot().groups == {}
        assert slow.most == 1
        before = sup.usage()
        assert sup.usage(by="group") == {"(dropped)": before}
        again = [await sup.submit(slow.agent, "x", group="acme") for _ in range(6)]
        await trio.sleep(0.1)
        assert slow.now == 6
        assert {(await handle.outcome()).status.value for handle in again} == {"succeeded"}
        assert sup.usage(by="group")["acme"].requests == 6
        assert sum(usage.requests for usage in sup.usage(by="group").values()) == sup.usage().requests == 10
        assert sup.drop_group("acme")
        assert sup.drop_group("nobody")


async def test_dropping_may_cancel_its_runs_and_sends_away_who_waits(slow, autojump_clock):
    async with open_supervisor(max_running=2, max_queued=2) as sup, trio.open_nursery() as nursery:
        sup.set_group("acme", weight=2)
        handles = [await sup.submit(slow.agent, "x", group="acme") for _ in range(4)]
        refused = []

        async def submit():
            with pytest.raises(
                SupervisorClosed, match="its group 'acme' was dropped: it did not pay"
            ) as caught:
                await sup.submit(slow.agent, "x", group="acme")
            refused.append(caught)

        nursery.start_soon(submit)
        await trio.sleep(0.1)
        assert not sup.drop_group("acme", cancel="it did not pay")
        for handle in handles:
            outcome = await handle.outcome()
            assert (outcome.status.value, outcome.error.message) == ("cancelled", "it did not pay")
        await trio.sleep(0)
        assert len(refused) == 1
        assert sup.snapshot().groups == {}


async def test_a_group_that_is_made_again_while_it_leaves_stays(slow, autojump_clock):
    async with open_supervisor() as sup:
        sup.set_group("acme", weight=2)
        await sup.submit(slow.agent, "x", group="acme")
        sup.drop_group("acme")
        sup.set_group("acme", max_running=1)
        await trio.sleep(2)
        state = sup.snapshot().groups["acme"]
        assert (state.weight, state.max_running, state.leaving) == (2, 1, False)


async def test_one_who_waits_in_line_keeps_a_group_until_it_goes(slow, autojump_clock):
    async with open_supervisor(max_running=1, max_queued=0) as sup, trio.open_nursery() as nursery:
        sup.set_group("acme", weight=2)
        await sup.submit(slow.agent, "x")
        nursery.start_soon(sup.submit, slow.agent, "x")  # waits too, ahead of it

        async def submit():
            await sup.submit(slow.agent, "x", group="acme")

        nursery.start_soon(submit)
        await trio.testing.wait_all_tasks_blocked()
        assert not sup.drop_group("acme")
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
            assert sup.snapshot().groups == {}


async def test_tenants_come_and_go_and_leave_nothing(autojump_clock):
    slow = Slow(0)
    async with open_supervisor(journal=None, remember=0) as sup:
        for number in range(2_000):
            name = f"tenant {number}"
            sup.set_group(name, weight=2, rate=RateLimit(max_in_flight=5), budget=Budget(requests=5))
            await (await sup.submit(slow.agent, "x", group=name)).outcome()
            assert sup.drop_group(name)
        runtime = sup._runtime
        assert sup.usage(by="group").keys() == {"(dropped)"}
        assert sup.usage(by="group")["(dropped)"].requests == 2_000
        for kept in (
            runtime.ledger._accounts, runtime.gates.group_rates, runtime.gates.purse._groups,
            runtime.gates.purse._group_budgets, runtime.admission._limits, runtime.admission._in_group,
            runtime.admission._held, runtime.admission._roots.queue._weights, runtime.tenants.leaving,
        ):  # fmt: skip
            assert len(kept) <= 1


async def test_mistakes(slow, autojump_clock):
    async with open_supervisor() as sup:
        with pytest.raises(ValueError, match="the weight of a group"):
            sup.set_group("acme", weight=0)
        with pytest.raises(UserError, match="max_running"):
            sup.set_group("acme", max_running=-1)
        assert sup.snapshot().groups == {}
