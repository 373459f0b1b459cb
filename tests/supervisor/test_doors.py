"""The doors of a request: rates, budgets, prices."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import MalformedResponseError, ModelHTTPError, RunFailed
from runmgr.graph import BaseNode, End, Graph, GraphRunContext
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, Price, RateLimit
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.bounds import Sizes
from runmgr.supervisor.pricing import Prices
from runmgr.usage import RequestUsage


def asker(model, times=1):
    async def ask(run):
        for _ in range(times):
            await run.ask(model)

    return ask


# -------------------------------------------------------------------- rates


async def test_requests_a_minute_are_spread_evenly(fakes, autojump_clock):
    sent = []

    async def note():
        sent.append(trio.current_time())

    model = fakes.Model(wait=note)
    async with open_supervisor(rate_limits=RateLimit(requests_per_minute=600)) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(101)) as outcomes:
            async for outcome in outcomes:
                assert outcome.succeeded
    assert trio.current_time() == pytest.approx(10.0, rel=1e-4)
    gaps = [later - earlier for earlier, later in zip(sent, sent[1:], strict=False)]
    assert min(gaps) == pytest.approx(0.1, rel=1e-3)
    assert max(gaps) == pytest.approx(0.1, rel=1e-3)


async def test_turns_come_in_the_order_of_asking(fakes, autojump_clock):
    order = []
    model = fakes.Model()

    async def ask(run):
        await trio.sleep(run.prompt / 1000)
        await run.ask(model)
        order.append(run.prompt)

    async with open_supervisor(rate_limits={"counting": RateLimit(requests_per_minute=60)}) as sup:
        for number in range(10):
            await sup.submit(fakes.Agent(ask), number)
    assert order == list(range(10))


async def test_a_cancelled_turn_goes_to_others(fakes, autojump_clock):
    model = fakes.Model()
    async with open_supervisor(rate_limits=RateLimit(requests_per_minute=6)) as sup:
        handles = [await sup.submit(fakes.Agent(asker(model))) for _ in range(10)]
        await trio.sleep(1)
        assert sup.snapshot().states["waiting"] == 9
        for handle in handles:
            handle.cancel()
        await trio.sleep(0)
        late = await sup.submit(fakes.Agent(asker(model)))
        await late.outcome()
    assert trio.current_time() <= 20


async def test_tokens_a_minute_hold_on_average(fakes, autojump_clock):
    model = fakes.Model(input_tokens=900, output_tokens=100)
    async with open_supervisor(rate_limits=RateLimit(tokens_per_minute=60_000), max_running=50) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(120)) as outcomes:
            async for _ in outcomes:
                pass
    assert 110 <= trio.current_time() <= 125  # 120,000 tokens at 1,000 a second


async def test_no_more_in_flight_than_allowed_and_none_held_while_backing_off(fakes, autojump_clock):
    now = most = 0

    async def count():
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await trio.sleep(1)
        finally:
            now -= 1

    model = fakes.Model(wait=count, fail=[ModelHTTPError(503, "m", headers={"retry-after": "50"})])
    async with open_supervisor(rate_limits=RateLimit(max_in_flight=2)) as sup:
        for _ in range(11):
            await sup.submit(fakes.Agent(asker(model)))
        await trio.sleep(0.5)
        state = sup.snapshot().models["counting"]
        assert (state.in_flight, state.in_flight_limit) == (2, 2)
        await trio.sleep(10)
        assert sup.snapshot().states["succeeded"] == 10  # the one that backs off holds no permit
    assert most == 2


async def test_another_model_is_not_limited(fakes, autojump_clock):
    slow, fast = fakes.Model(name="slow"), fakes.Model(name="fast")
    async with open_supervisor(rate_limits={"function:slow": RateLimit(requests_per_minute=1)}) as sup:
        first = await sup.submit(fakes.Agent(asker(slow, 3)))
        second = await sup.submit(fakes.Agent(asker(fast, 3)))
        await second.outcome()
        assert trio.current_time() == 0
        await first.outcome()
        assert trio.current_time() == pytest.approx(120)


# -------------------------------------------------------------------- budgets


async def test_a_budget_of_requests_counts_resends(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(503, "m"), ModelHTTPError(503, "m"), None, None])
    async with open_supervisor(budget=Budget(requests=4), max_running=1) as sup:
        handles = [await sup.submit(fakes.Agent(asker(model))) for _ in range(4)]
        outcomes = [await handle.outcome() for handle in handles]
        state = sup.snapshot().budget
    assert [outcome.status for outcome in outcomes] == ["succeeded", "succeeded", "failed", "failed"]
    assert outcomes[2].error.type == "BudgetExhausted"
    assert "requests=4 allowed, 4 spent" in outcomes[2].error.message
    assert model.sent == 4
    assert (state.spent, state.reserved) == ({"requests": 4}, {"requests": 0})


async def test_an_exhausted_budget_leaves_the_run_open_and_a_larger_one_goes_on(tmp_path, autojump_clock):
    async def answer(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=60, output_tokens=40))

    agent = Agent(FunctionModel(answer), model_settings={"max_tokens": 50})
    path = tmp_path / "j.sqlite"

    async def run(budget, **options):
        async with open_supervisor(journal=path, budget=budget, max_running=1, **options) as sup:
            handles = [await sup.submit(agent, f"q{number}", run_id=f"r{number}") for number in range(10)]
            outcomes = [await handle.outcome() for handle in handles]
            return [outcome.status.value for outcome in outcomes], sup.snapshot().budget, outcomes

    statuses, state, outcomes = await run(Budget(tokens=1_000))
    succeeded = statuses.count("succeeded")
    assert 1 <= succeeded < 10
    assert statuses.count("failed") == 10 - succeeded
    assert state.spent == {"tokens": succeeded * 100}
    statuses, state, outcomes = await run(Budget(tokens=2_000), resume=True)
    assert statuses == ["succeeded"] * 10
    assert [outcome.replayed for outcome in outcomes].count(True) == succeeded
    assert state.spent == {"tokens": 1_000}  # over both


async def test_a_request_waits_while_others_may_still_leave_room(fakes, autojump_clock):
    async def wait():
        await trio.sleep(1)

    model = fakes.Model(wait=wait, input_tokens=10, output_tokens=10)
    async with open_supervisor(
        budget=Budget(output_tokens=50_000)
    ) as sup:  # no max_tokens: 4,096 are assumed
        handles = [await sup.submit(fakes.Agent(asker(model))) for _ in range(30)]
        await trio.sleep(0.5)
        state = sup.snapshot().budget
        assert state.waiting == 18
        assert state.reserved == {"output_tokens": 12 * 4096}
        assert (state.unbounded, state.open_ended, state.soft) == (12, 12, True)
        assert sup.snapshot().states["waiting"] == 18
        assert {(await handle.outcome()).status for handle in handles} == {"succeeded"}
    assert trio.current_time() == 3


async def test_lost_answers_stay_spent_in_the_budget(fakes, autojump_clock):
    model = fakes.Model(fail=[MalformedResponseError("m", "cut short")])
    async with open_supervisor(budget=Budget(output_tokens=10_000)) as sup:
        await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        assert sup.snapshot().budget.spent == {"output_tokens": 4096 + 2}
        assert sup.usage().output_tokens == 2
        cancelled = fakes.Model(wait=trio.sleep_forever)
        handle = await sup.submit(fakes.Agent(asker(cancelled)))
        await trio.sleep(1)
        handle.cancel()
        await handle.outcome()
        assert sup.snapshot().budget.spent == {"output_tokens": 2 * 4096 + 2}


async def test_a_budget_of_cost_needs_a_price(fakes, autojump_clock):
    model = fakes.Model(input_tokens=1_000_000, output_tokens=100_000)
    async with open_supervisor(budget=Budget(cost=5)) as sup:
        with pytest.raises(RunFailed, match="what 'counting' costs is unknown"):
            await (await sup.submit(fakes.Agent(asker(model)))).result()
    prices = {"counting": Price(input=1, output="10")}
    async with open_supervisor(budget=Budget(cost=5), prices=prices, max_running=1) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(4)) as outcomes:
            seen = [outcome async for outcome in outcomes]
        assert [outcome.cost for outcome in seen[:2]] == [Decimal(2), Decimal(2)]
        assert sup.snapshot().cost == "6.0" or Decimal(sup.snapshot().cost) == Decimal(
            2 * sum(o.succeeded for o in seen)
        )


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_sum_never_exceeds_a_hard_budget(data):
    limit = data.draw(st.integers(0, 40_000))
    seed = data.draw(st.integers(0, 2**32))
    rng = random.Random(seed)
    over = []

    async def main():
        async def answer(messages, info):
            await trio.sleep(rng.random())
            if rng.random() < 0.2:
                raise ModelHTTPError(500, "m")
            if rng.random() < 0.1:
                raise MalformedResponseError("m", "cut")
            text = messages[-1].parts[0].content
            return ModelResponse(
                parts=[TextPart("x")],
                usage=RequestUsage(input_tokens=rng.randint(0, len(text)), output_tokens=rng.randint(0, 300)),
            )

        agent = Agent(FunctionModel(answer), model_settings={"max_tokens": 300})
        async with open_supervisor(budget=Budget(tokens=limit), max_running=30, rng=rng) as sup:
            async with sup.map(agent, ("q" * rng.randint(1, 500) for _ in range(60))) as outcomes:
                async for _ in outcomes:
                    state = sup.snapshot().budget
                    over.append(state.spent["tokens"] + state.reserved["tokens"] - limit)
            assert sup.snapshot().budget.reserved == {"tokens": 0}
            assert sup.usage().total_tokens <= limit

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert max(over) <= 0


def test_the_bound_is_above_what_text_can_be():
    from runmgr.messages import BinaryContent, ModelRequest, UserPromptPart

    text = "äöü€ word " * 50
    request = ModelRequest(parts=[UserPromptPart(content=text)])
    assert Sizes().of([request]) > len(text.encode())
    picture = ModelRequest(
        parts=[UserPromptPart(content=["see", BinaryContent(b"x" * 5_000_000, media_type="image/png")])]
    )
    assert 16_384 <= Sizes().of([picture]) < 20_000


# -------------------------------------------------------------------- prices


def test_prices_known_unknown_and_ones_own():
    prices = Prices({"mine": Price(input="0.5", output=2, cache_read="0.1")})
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=500_000)
    assert prices.price("openai", "gpt-4o", usage) == Decimal("2.5") + Decimal(5)
    assert prices.price("openai", "no-such-model-at-all", usage) is None
    assert prices.price("function", "gpt-4o", usage) is None  # answered in-process: nobody was paid
    assert prices.price("whoever", "mine", usage) == Decimal("1.5")
    cached = RequestUsage(input_tokens=1_000_000, cache_read_tokens=400_000)
    assert prices.price("whoever", "mine", cached) == Decimal("0.34")
    from genai_prices import calc_price

    for provider, model in (
        ("openai", "gpt-4o"),
        ("anthropic", "claude-3-5-sonnet-latest"),
        ("openai", "gpt-4o-mini"),
    ):
        usage = RequestUsage(input_tokens=12_345, cache_read_tokens=1_234, output_tokens=678)
        assert (
            prices.price(provider, model, usage) == calc_price(usage, model, provider_id=provider).total_price
        )


# -------------------------------------------------------------------- graphs


async def test_any_graph_is_an_actor_too(autojump_clock):
    from dataclasses import dataclass

    @dataclass
    class Count(BaseNode[list, float, int]):
        left: int

        async def run(self, ctx: GraphRunContext[list, float]) -> Count | End[int]:  # noqa: F821
            await trio.sleep(ctx.deps)
            ctx.state.append(self.left)
            return Count(self.left - 1) if self.left else End(len(ctx.state))

    graph = Graph(nodes=[Count], state_type=list, run_end_type=int)
    async with open_supervisor(max_running=1) as sup:
        first = await sup.submit_graph(graph, Count(3), state=[], deps=1.0, group="g")
        second = await sup.submit_graph(graph, Count(0), state=[], deps=1.0)
        first.pause()
        await trio.sleep(5)
        assert first.state == "paused"
        assert second.state == "succeeded"
        first.resume()
        outcome = await first.outcome()
        assert outcome.output == 4
        assert outcome.group == "g"
        assert (await second.result()).output == 1
