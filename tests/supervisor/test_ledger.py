"""Accounting: by run, attempt, group, agent, model, provider, status and in total, equal at every instant."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Price, RestartPolicy
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.ledger import BY
from runmgr.usage import RequestUsage, RunUsage


def asker(*models):
    async def ask(run):
        for model in models:
            await run.ask(model)

    return ask


def total(usages):
    return sum(usages.values(), RunUsage())


async def test_the_same_sum_by_everything(fakes, autojump_clock):
    cheap, dear = fakes.Model(3, 2, name="cheap"), fakes.Model(30, 20, name="dear")
    one, two = fakes.Agent(asker(cheap)), fakes.Agent(asker(cheap, dear))
    one.name, two.name = "one", "two"
    prices = {"cheap": Price(input=1, output=2), "dear": Price(input="10", output="20")}
    async with open_supervisor(prices=prices) as sup:
        for number in range(4):
            await sup.submit(one, run_id=f"a{number}", group="g")
            await sup.submit(two, run_id=f"b{number}", group="h" if number % 2 else "g")
        await sup.drain()
        for by in BY:
            assert total(sup.usage(by)) == sup.usage(), by
            assert sum(sup.cost(by).values()) == sup.cost(), by
        assert sup.usage().requests == 12
        assert sup.usage("agent")["two"].requests == 8
        assert sup.usage("group")["h"].requests == 4
        assert sup.usage("model")["dear"] == RunUsage(requests=4, input_tokens=120, output_tokens=80)
        assert sup.usage("provider").keys() == {"function"}
        assert sup.usage("run")["b0"].requests == 2
        assert sup.usage("attempt")["b0#1"].requests == 2
        assert sup.usage("status").keys() == {"succeeded"}
        assert sup.cost("run")["a0"] == Decimal("0.000007")
        with pytest.raises(UserError, match="by='colour'.*'provider'"):
            sup.usage("colour")


async def test_what_failed_and_cancelled_and_restarted_runs_paid_stays_counted_and_says_so(
    fakes, autojump_clock
):
    model = fakes.Model(3, 2)

    async def fail(run):
        await run.ask(model)
        raise ValueError

    async def hang(run):
        await run.ask(model)
        await trio.sleep_forever()

    crashes = [ModelHTTPError(503, "m")]

    async def crash_once(run):
        await run.ask(model)
        await run.ask(model)
        if crashes:
            raise crashes.pop()

    restart = RestartPolicy(max_restarts=1, resume="start")
    async with open_supervisor(restart=restart) as sup:
        failed = await sup.submit(fakes.Agent(fail))
        cancelled = await sup.submit(fakes.Agent(hang))
        again = await sup.submit(fakes.Agent(crash_once), run_id="again")
        live = await sup.submit(fakes.Agent(hang))
        await trio.sleep(30)
        cancelled.cancel()
        await cancelled.outcome()
        assert (await failed.outcome()).usage.requests == 1
        assert (await again.outcome()).usage.requests == 4
        by_status = sup.usage("status")
        assert {name: usage.requests for name, usage in by_status.items()} == {
            "failed": 1,
            "cancelled": 1,
            "restarted": 2,
            "succeeded": 2,
            "live": 1,
        }
        assert {
            name: usage.requests for name, usage in sup.usage("attempt").items() if name.startswith("again")
        } == {"again#1": 2, "again#2": 2}
        assert sup.snapshot().of_no_avail.requests == 4
        live.cancel()


async def test_an_unknown_price_makes_the_cost_unknown(fakes, autojump_clock):
    known, unknown = fakes.Model(name="known"), fakes.Model(name="unknown")
    async with open_supervisor(prices={"known": Price(input=1, output=1)}) as sup:
        await (await sup.submit(fakes.Agent(asker(known)), group="k")).outcome()
        await (await sup.submit(fakes.Agent(asker(unknown)), group="u")).outcome()
        assert sup.cost() is None
        assert sup.cost("group") == {"k": Decimal("0.000005"), "u": None}
        assert sup.snapshot().unpriced_requests == 1


@given(st.integers(0, 2**32), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_sums_are_equal_at_every_instant(seed, remember):
    rng = random.Random(seed)

    async def answer(messages, info):
        await trio.sleep(rng.random())
        if rng.random() < 0.2:
            raise ModelHTTPError(500, "m")
        return ModelResponse(
            parts=[TextPart("x")],
            usage=RequestUsage(
                input_tokens=rng.randint(0, 9), output_tokens=1, details={"d": rng.randint(0, 2)}
            ),
        )

    agents = [Agent(FunctionModel(answer, model_name=f"m{n}"), name=f"agent{n % 2}") for n in range(3)]

    async def main():
        restart = RestartPolicy(max_restarts=1, backoff=0.1, resume=rng.choice(["node", "start"]))
        async with open_supervisor(
            max_running=10, retries=rng.randint(0, 2), restart=restart, remember=remember, rng=rng
        ) as sup:
            for _ in range(30):
                handle = await sup.submit(rng.choice(agents), "q", group=f"g{rng.randint(0, 2)}")
                if rng.random() < 0.1:
                    handle.cancel()
                await trio.sleep(rng.random() / 3)
                for by in BY:
                    assert total(sup.usage(by)) == sup.usage()
            await sup.drain()
            for by in BY:
                assert total(sup.usage(by)) == sup.usage()
            assert "live" not in sup.usage("status")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
