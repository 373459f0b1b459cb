"""Hard budgets: nested, never passed, spent to the last request that fits; raised while runs go on."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import MalformedResponseError, ModelHTTPError, UserError
from runmgr.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models.base import Model
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, Price, RateLimit
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition
from runmgr.supervisor import RunSpec, open_supervisor
from runmgr.supervisor.bounds import PART_BYTES, Sizes
from runmgr.usage import RequestUsage


def asker(model, times=1):
    async def ask(run):
        for _ in range(times):
            await run.ask(model)

    return ask


def statuses(outcomes):
    return [outcome.status.value for outcome in outcomes]


async def test_a_group_and_a_run_have_budgets_of_their_own(fakes, autojump_clock):
    model = fakes.Model()
    async with open_supervisor(
        budget=Budget(requests=9), group_budgets={"small": Budget(requests=3)}, run_budget=Budget(requests=2)
    ) as sup:
        greedy = await sup.submit(fakes.Agent(asker(model, 3)), group="large", run_id="greedy")
        rich = await sup.submit(fakes.Agent(asker(model, 3)), group="large", budget=Budget(requests=3))
        small = [await sup.submit(fakes.Agent(asker(model, 2)), group="small") for _ in range(2)]
        outcomes = [await handle.outcome() for handle in (greedy, rich, *small)]
        outcomes[2:] = sorted(outcomes[2:], key=lambda outcome: not outcome.succeeded)
        assert statuses(outcomes) == ["failed", "succeeded", "succeeded", "failed"]
        assert (
            "budget of the run greedy is exhausted: requests=2 allowed, 2 spent" in outcomes[0].error.message
        )
        assert "budget of the group 'small' is exhausted: requests=3" in outcomes[3].error.message
        assert sup.snapshot().group_budgets["small"].spent == {"requests": 3}
        assert sup.snapshot().budget.spent == {"requests": 8}
        last = await (await sup.submit(fakes.Agent(asker(model, 2)))).outcome()
        assert "budget of the supervisor is exhausted: requests=9" in last.error.message


async def test_all_levels_are_reserved_at_once_or_none(fakes, autojump_clock):
    async def wait():
        await trio.sleep(1)

    model = fakes.Model(wait=wait)
    async with open_supervisor(budget=Budget(requests=100), group_budgets=Budget(output_tokens=5_000)) as sup:
        handles = [await sup.submit(fakes.Agent(asker(model)), group="g") for _ in range(4)]
        other = await sup.submit(fakes.Agent(asker(model)), group="h")
        await trio.sleep(0.5)
        state = sup.snapshot()
        assert state.budget.reserved == {
            "requests": 2
        }  # what waits at its group's budget holds nothing of the other
        assert state.group_budgets["g"].reserved == {"output_tokens": 4096}
        assert state.group_budgets["g"].waiting == 3
        assert (await other.outcome()).succeeded
        assert trio.current_time() == 1  # nobody of another group waits behind them
        assert statuses([await handle.outcome() for handle in handles]) == ["succeeded"] * 4
    assert trio.current_time() == 4


async def test_a_large_request_is_not_starved_by_small_ones(autojump_clock):
    sizes = []

    async def answer(messages, info):
        await trio.sleep(1)
        sizes.append(info.model_settings["max_tokens"])
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=1, output_tokens=1))

    agent = Agent(FunctionModel(answer))
    async with open_supervisor(budget=Budget(output_tokens=1_000), max_running=100) as sup:
        handles = []
        for most in (400, 400, 900, *[100] * 20):
            handles.append(await sup.submit(agent, "q", model_settings={"max_tokens": most}))
            await trio.sleep(0.01)
        assert statuses([await handle.outcome() for handle in handles]) == ["succeeded"] * 23
    assert sizes.index(900) == 2


async def test_a_budget_is_raised_while_runs_wait_for_it(fakes, autojump_clock):
    async def wait():
        await trio.sleep(10)

    model = fakes.Model(wait=wait)
    async with open_supervisor(budget=Budget(output_tokens=4_096)) as sup:
        first = await sup.submit(fakes.Agent(asker(model)))
        second = await sup.submit(fakes.Agent(asker(model)))
        await trio.sleep(1)
        assert {first.state, second.state} == {"running", "waiting"}
        sup.set_budget(Budget(output_tokens=10_000))
        await trio.testing.wait_all_tasks_blocked()
        assert {first.state, second.state} == {"running"}
        assert statuses([await first.outcome(), await second.outcome()]) == ["succeeded"] * 2
        assert trio.current_time() == 11
        with pytest.raises(UserError, match="no live run"):
            sup.set_budget(Budget(), run_id="nobody")


async def test_a_budget_that_comes_later_counts_what_was_spent(fakes, autojump_clock):
    model = fakes.Model()
    async with open_supervisor() as sup:
        await (await sup.submit(fakes.Agent(asker(model, 3)), group="g")).outcome()
        sup.set_budget(Budget(requests=4))
        sup.set_budget(Budget(requests=4), group="g")
        outcome = await (await sup.submit(fakes.Agent(asker(model, 2)), group="g")).outcome()
        assert outcome.error.type == "BudgetExhausted"
        assert outcome.usage.requests == 1
        sup.set_budget(Budget(requests=10))
        sup.set_budget(Budget(requests=6), group="g")
        assert (await (await sup.submit(fakes.Agent(asker(model, 2)), group="g")).outcome()).succeeded


async def test_budgets_of_groups_and_runs_count_over_resumes(tmp_path, autojump_clock):
    async def answer(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=60, output_tokens=40))

    agent = Agent(FunctionModel(answer), model_settings={"max_tokens": 50})
    path = tmp_path / "j.sqlite"

    async def run(most, **options):
        async with open_supervisor(
            journal=path, group_budgets={"g": Budget(requests=most)}, **options
        ) as sup:
            handles = [await sup.submit(agent, "q", run_id=f"r{n}", group="g") for n in range(5)]
            return statuses([await handle.outcome() for handle in handles])

    assert (await run(2)).count("succeeded") == 2
    assert (await run(4, resume=True)).count("succeeded") == 4
    assert (await run(9, resume=True)).count("succeeded") == 5


async def test_a_soft_budget_says_so_and_by_how_much(fakes, autojump_clock):
    model = fakes.Model(10, 9_000)
    async with open_supervisor(budget=Budget(output_tokens=20_000), max_running=1) as sup:
        async with sup.map(fakes.Agent(asker(model)), range(3)) as outcomes:
            assert statuses([outcome async for outcome in outcomes]) == ["succeeded", "succeeded", "failed"]
        state = sup.snapshot().budget
        assert (state.soft, state.unbounded, state.largest_output, state.overshot) == (True, 2, 9_000, {})
    async with open_supervisor(budget=Budget(output_tokens=5_000)) as sup:
        await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        assert sup.snapshot().budget.overshot == {"output_tokens": 4_000}


async def test_the_providers_count_is_asked_where_bytes_do_not_fit(autojump_clock):
    class Counting(FunctionModel):
        asked = 0
        base_url = "http://provider"

        async def count_tokens(self, messages, settings, params):
            self.asked += 1
            return RequestUsage(input_tokens=100)

    async def answer(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=100, output_tokens=5))

    model = Counting(answer)
    agent = Agent(model, model_settings={"max_tokens": 10})
    assert Model.count_tokens is not Counting.count_tokens
    async with open_supervisor(budget=Budget(tokens=350), max_running=1) as sup:
        async with sup.map(agent, ["word " * 100] * 4) as outcomes:
            assert statuses([outcome async for outcome in outcomes]) == ["succeeded"] * 3 + ["failed"]
        assert sup.usage().total_tokens == 315
    assert model.asked >= 4


async def test_what_is_refused_holds_no_permit(fakes, autojump_clock):
    model = fakes.Model()
    limit = RateLimit(max_in_flight=1, requests_per_minute=60)
    async with open_supervisor(budget=Budget(cost=1), rate_limits=limit) as sup:
        unpriced = [await sup.submit(fakes.Agent(asker(model))) for _ in range(3)]
        for handle in unpriced:
            assert "what 'counting' costs is unknown" in (await handle.outcome()).error.message
        assert sup.snapshot().models["counting"].in_flight == 0
    prices = {"counting": Price(input=1, output=1)}
    async with open_supervisor(budget=Budget(cost=0), rate_limits=limit, prices=prices) as sup:
        for _ in range(3):
            assert (
                await (await sup.submit(fakes.Agent(asker(model)))).outcome()
            ).error.type == "BudgetExhausted"
    assert model.sent == 0


@pytest.mark.parametrize("ends", ["whole", "broken", "left"])
async def test_a_stream_that_does_not_come_to_its_end_has_spent_all_that_it_may_have_cost(
    fakes, autojump_clock, ends
):
    async def words(messages, info):
        yield "one "
        if ends == "broken":
            raise ModelHTTPError(500, "m")
        yield "two"

    agent = Agent(FunctionModel(stream_function=words), model_settings={"max_tokens": 1_000})

    async def read(run):
        async with agent.run_stream("q") as result:
            async for _ in result.stream_text(debounce_by=None):
                if ends == "left":
                    return None
        return "whole"

    async with open_supervisor(budget=Budget(output_tokens=10_000)) as sup:
        outcome = await (await sup.submit(fakes.Agent(read))).outcome()
        assert outcome.succeeded == (ends != "broken")
        state = sup.snapshot()
        assert not any(state.budget.reserved.values())
        if ends == "whole":
            assert state.budget.spent["output_tokens"] < 100
            assert not state.lost
        else:
            assert state.budget.spent == {"output_tokens": 1_000}
            assert state.lost["output_tokens"] + sup.usage().output_tokens == 1_000


def answering(*usages):
    told = iter(usages)

    async def answer(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=next(told))

    return Agent(FunctionModel(answer, model_name="m"), model_settings={"max_tokens": 50})


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(10**18, 0), (0, 2**60), (10**30, 5), (-7, 5), (5, -(10**18)), (3.0, 5.5), (None, 5)],
)
async def test_counts_that_no_request_can_have_are_no_counts(autojump_clock, inputs, outputs):
    agent = answering(
        RequestUsage(input_tokens=inputs, output_tokens=outputs),
        *[RequestUsage(input_tokens=10, output_tokens=5)] * 2,
    )
    async with open_supervisor(
        budget=Budget(requests=5, output_tokens=1_000, cost=1),
        rate_limits=RateLimit(tokens_per_minute=60_000),
        prices={"m": Price(input=2, output=8)},
        max_running=1,
    ) as sup:
        sup.set_group("g", rate=RateLimit(output_tokens_per_minute=60_000))
        async with sup.map(agent, [RunSpec(prompt="q", group="g") for _ in range(3)]) as outcomes:
            costs = [outcome.cost async for outcome in outcomes]
        assert [str(cost) for cost in costs] == ["None", "0.00006", "0.00006"]
        used, state = sup.usage(), sup.snapshot()
        assert (used.requests, used.input_tokens, used.output_tokens) == (3, 20, 10)
        assert state.budget.spent["output_tokens"] == 50 + 10  # what it may have been
        assert (state.budget.spent["requests"], state.lost["output_tokens"]) == (3, 50)
    assert trio.current_time() < 60


async def test_tokens_of_caches_that_are_told_apart_from_input_are_input_too(autojump_clock):
    agent = answering(RequestUsage(input_tokens=10, output_tokens=5, cache_read_tokens=1_000))
    prices = {"m": Price(input=2, output=8, cache_read="0.2")}
    async with open_supervisor(prices=prices, budget=Budget(cost=1)) as sup:
        outcome = await (await sup.submit(agent, "q")).outcome()
        assert str(outcome.cost) == "0.00026"  # 10, 1,000 and 5 tokens
        assert outcome.usage.input_tokens == 1_010
        assert sup.snapshot().budget.spent == {"cost": "0.00026"}


@pytest.mark.parametrize(
    ("most", "ends", "soft"),
    [
        (10**18, "failed", False),
        (10**20, "failed", False),
        (-1, "succeeded", True),
        (50.0, "succeeded", False),
    ],
)
async def test_what_max_tokens_may_be(autojump_clock, most, ends, soft):
    agent = answering(RequestUsage(input_tokens=10, output_tokens=5))
    async with open_supervisor(budget=Budget(tokens=5_000)) as sup:
        handle = await sup.submit(agent, "q", model_settings={"max_tokens": most})
        outcome = await handle.outcome()
        assert outcome.status.value == ends
        assert outcome.error is None or outcome.error.type == "BudgetExhausted"
        assert sup.snapshot().budget.soft is soft


async def test_limits_that_no_sum_comes_near_hold_with_a_journal_too(tmp_path, autojump_clock):
    agent = answering(*[RequestUsage(input_tokens=10, output_tokens=5)] * 2)
    for number, budget in enumerate((Budget(tokens=10**30, cost="1e30"), Budget(tokens=1e6))):
        async with open_supervisor(
            journal=tmp_path / f"{number}", budget=budget, prices={"m": Price(input=2, output=8)}
        ) as sup:
            assert (await (await sup.submit(agent, "q")).outcome()).succeeded
            assert sup._runtime.journal.claimed()


async def test_what_an_answer_of_unknown_price_may_have_cost_stays_spent_over_resumes(
    tmp_path, autojump_clock
):
    class Renamed(FunctionModel):
        system = "openai"

        async def request_once(self, *asked):
            response = await super().request_once(*asked)
            response.model_name = "not in any table"
            return response

    async def answer(messages, info):
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=10, output_tokens=5))

    agent = Agent(Renamed(answer, model_name="gpt-4o"), model_settings={"max_tokens": 50})
    budget = Budget(cost=1)
    async with open_supervisor(journal=tmp_path / "j", budget=budget) as sup:
        assert (await (await sup.submit(agent, "q")).outcome()).cost is None
        spent, lost = sup.snapshot().budget.spent, sup.snapshot().lost
        assert float(spent["cost"]) > 50 * 8 / 1e6
        assert lost == spent
    async with open_supervisor(journal=tmp_path / "j", resume=True, budget=budget) as sup:
        assert sup.snapshot().budget.spent == spent


def test_a_runs_messages_are_counted_once():
    from runmgr.messages import ModelRequest, UserPromptPart

    messages = [ModelRequest(parts=[UserPromptPart(content="word " * n)]) for n in range(1, 6)]
    sizes = Sizes()
    for count in (1, 3, 3, 5, 2, 4):
        assert sizes.of(messages[:count]) == Sizes().of(messages[:count])
    other = [*messages[:2], ModelRequest(parts=[UserPromptPart(content="else " * 50)]), *messages[3:]]
    assert sizes.of(other) == Sizes().of(other)


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_a_thousand_at_once_never_pass_any_budget_and_leave_little(data):
    seed = data.draw(st.integers(0, 2**32))
    rng = random.Random(seed)
    limit = data.draw(st.integers(0, 400_000))
    of_group = data.draw(st.integers(0, 200_000))
    watched, over = [], [0]
    now = trio.testing.MockClock(autojump_threshold=0)

    async def main():
        async def answer(messages, info):
            over.extend(
                meter.spent.tokens + meter.reserved.tokens - meter.limits["tokens"] for meter in watched
            )
            await trio.sleep(rng.random())
            chance = rng.random()
            if chance < 0.1:
                raise ModelHTTPError(rng.choice([500, 429]), "m")
            if chance < 0.15:
                raise MalformedResponseError("m", "cut")
            text = messages[-1].parts[0].content
            return ModelResponse(
                parts=[TextPart("x")],
                usage=RequestUsage(
                    input_tokens=rng.randint(0, len(text)),
                    output_tokens=rng.randint(0, info.model_settings["max_tokens"]),
                ),
            )

        agent = Agent(FunctionModel(answer))
        specs = []
        for number in range(1_000):
            most = rng.randint(1, 300)
            text = "q" * rng.randint(1, 500)
            group = "g" if number % 3 else "h"
            specs.append(RunSpec(prompt=text, group=group, model_settings={"max_tokens": most}))
        async with open_supervisor(
            budget=Budget(tokens=limit),
            group_budgets={"g": Budget(tokens=of_group)},
            max_running=1_000,
            retries=2,
            rng=rng,
        ) as sup:
            purse = sup._runtime.gates.purse
            watched.extend((purse.root, purse.group("g")))
            async with sup.map(agent, specs) as outcomes:
                ended = [outcome async for outcome in outcomes]
            assert len(ended) == 1_000
            assert max(over) == 0
            largest = max(len(spec.prompt) + PART_BYTES + spec.model_settings["max_tokens"] for spec in specs)
            assert sup.usage().total_tokens <= limit
            assert sup.usage("group").get("g", RequestUsage()).total_tokens <= of_group
            root, group = purse.root, purse.group("g")
            assert root.reserved.tokens == group.reserved.tokens == root.reserved.requests == 0
            refused = [o for o in ended if o.error is not None and o.error.type == "BudgetExhausted"]
            if any("of the supervisor" in o.error.message for o in refused):
                assert limit - root.spent.tokens < largest
            if any("of the group" in o.error.message for o in refused):
                assert of_group - group.spent.tokens < largest

    trio.run(main, clock=now)


def words(text):
    return len(text.split())


def test_a_tokenizer_bounds_more_closely():
    said = [ModelRequest(parts=[UserPromptPart(content="five words are in here")], instructions="be brief")]
    by_words = Sizes(words).of(said)
    assert by_words == 5 + 16 + 2 + 16
    assert by_words < Sizes().of(said) / 3
    said.append(ModelResponse(parts=[ToolCallPart("look", {"where": "under the bed"}, "c1")]))
    said.append(ModelRequest(parts=[ToolReturnPart("look", "dust", "c1")]))
    params = ModelRequestParameters(
        function_tools=[ToolDefinition(name="look", description="look some where")]
    )
    sizes = Sizes(words)
    whole = sizes.of(said)
    assert whole == sizes.of(said) == Sizes(words).of(said)
    assert by_words < whole < Sizes().of(said)
    assert 0 < sizes.of_tools(params) < Sizes().of_tools(params)


async def test_with_a_tokenizer_more_requests_fit_at_once(autojump_clock):
    async def answer(messages, info):
        await trio.sleep(1)
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=110, output_tokens=5))

    agent = Agent(FunctionModel(answer, model_name="m"), model_settings={"max_tokens": 10})
    took = []
    for tokenizers in (None, {"m": words}, {"function:m": words}, {"another": words}):
        began = trio.current_time()
        async with open_supervisor(budget=Budget(tokens=2_000), tokenizers=tokenizers) as sup:
            async with sup.map(agent, ["word " * 100] * 10) as outcomes:
                assert statuses([outcome async for outcome in outcomes]) == ["succeeded"] * 10
            assert sup.usage().total_tokens == 1_150
        took.append(trio.current_time() - began)
    assert took[1] == took[2] == 1
    assert took[0] == took[3] > 2
    with pytest.raises(UserError, match=r"tokenizers\['m'\] must be a function"):
        async with open_supervisor(tokenizers={"m": "tiktoken"}):
            pass
