"""A fallback in a supervisor: each of its models is learned of, limited, rested and probed by itself."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import FallbackExceptionGroup, ModelConnectionError, ModelHTTPError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.fallback import FallbackModel
from runmgr.models.function import FunctionModel
from runmgr.models.wrapper import WrapperModel
from runmgr.records.budgets import Budget, Price, RateLimit
from runmgr.records.events import RequestFailed, RequestSent
from runmgr.supervisor import open_supervisor
from runmgr.usage import RequestUsage


class Provider(FunctionModel):
    """Takes a second; fails with what ``failing`` holds."""

    base_url = "http://provider"

    def __init__(self, name):
        async def answer(messages, info):
            raise AssertionError

        async def stream(messages, info):
            yield "streamed by "
            yield self.model_name

        super().__init__(answer, stream_function=stream, model_name=name)
        self.failing = None
        self.sent = 0
        self.at_once = self.most = 0

    async def request_once(self, messages, settings, params):
        self.sent += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await trio.sleep(1)
        finally:
            self.at_once -= 1
        if self.failing is not None:
            raise self.failing()
        usage = RequestUsage(input_tokens=10, output_tokens=5)
        return ModelResponse(parts=[TextPart(self.model_name)], usage=usage, model_name=self.model_name)

    request = request_once

    @asynccontextmanager
    async def request_stream_once(self, messages, settings, params, run_context=None):
        self.sent += 1
        await trio.sleep(1)
        if self.failing is not None:
            raise self.failing()
        async with super().request_stream(messages, settings, params, run_context) as stream:
            yield stream


class Passing(WrapperModel):
    """A wrapper that overrides what everybody calls."""

    async def request(self, messages, settings, params):
        return await self.wrapped.request(messages, settings, params)


@pytest.fixture
def pair():
    return Provider("first"), Provider("second")


def dead():
    return ModelConnectionError("first", "nobody there")


def refusing():
    return ModelHTTPError(429, "first", headers={"retry-after": "60"})


async def outputs(sup, agent, count):
    async with sup.map(agent, ["q"] * count, ordered=True) as outcomes:
        return [outcome.output async for outcome in outcomes]


async def test_each_model_has_its_own_limits_and_accounts(pair, autojump_clock):
    first, second = pair
    first.failing = dead
    agent = Agent(FallbackModel(first, second))
    async with open_supervisor(
        max_running=30,
        rate_limits={"first": RateLimit(max_in_flight=3), "second": RateLimit(max_in_flight=2)},
        prices={"second": Price(input=1, output=1)},
        breaker=None,
    ) as sup:
        assert await outputs(sup, agent, 30) == ["second"] * 30
        assert (first.most, second.most) == (3, 2)
        assert (first.sent, second.sent) == (30, 30)
        assert set(sup.usage(by="model")) == {"second"}
        assert sup.usage().requests == 30
        assert float(sup.cost()) == pytest.approx(30 * 15e-6)
        models = sup.snapshot().models
        assert set(models) == {"first", "second"}
        assert (models["first"].failed, models["second"].failed) == (30, 0)
        assert models["second"].in_flight_limit == 2


async def test_a_dead_model_is_passed_over_and_probed_until_it_lives(pair, autojump_clock):
    first, second = pair
    first.failing = dead
    agent = Agent(FallbackModel(first, second))
    async with open_supervisor(max_running=10) as sup:
        await outputs(sup, agent, 60)
        assert sup.snapshot().models["first"].taken_for_dead
        before = first.sent
        began = trio.current_time()
        assert await outputs(sup, agent, 100) == ["second"] * 100
        assert trio.current_time() - began < 15  # ten at a time, a second each, and a probe now and then
        assert first.sent - before <= 3
        first.failing = None
        await trio.sleep(100)
        assert "first" in await outputs(sup, agent, 10)
        assert not sup.snapshot().models["first"].taken_for_dead
        assert await outputs(sup, agent, 10) == ["first"] * 10


async def test_while_a_quota_rests_the_next_model_is_asked_at_once(pair, autojump_clock):
    first, second = pair
    first.failing = refusing
    agent = Agent(FallbackModel(first, second))
    async with open_supervisor(max_running=10) as sup:
        assert await outputs(sup, agent, 200) == ["second"] * 200
        assert first.sent <= 30
        assert trio.current_time() < 30
        first.failing = None
        assert (await outputs(sup, agent, 1)) == ["second"]
        await trio.sleep(70)
        assert (await outputs(sup, agent, 5)) == ["first"] * 5


async def test_what_is_learned_is_shared_with_those_who_ask_without_a_fallback(pair, autojump_clock):
    first, second = pair
    first.failing = refusing
    alone = Agent(first)
    async with open_supervisor(max_running=10) as sup:
        await outputs(sup, Agent(FallbackModel(first, second)), 30)
        first.failing = None
        began = trio.current_time()
        assert await outputs(sup, alone, 1) == ["first"]
        assert trio.current_time() - began > 30  # it waited for the quota


async def test_where_all_fail_all_are_asked_again(pair, autojump_clock):
    first, second = pair
    first.failing = second.failing = dead
    agent = Agent(FallbackModel(first, second))
    seen = []
    async with trio.open_nursery() as nursery, open_supervisor(retries=2) as sup:

        async def listen(task_status):
            async with sup.subscribe() as events:
                task_status.started()
                kinds = RequestSent | RequestFailed
                seen.extend(
                    [(type(event), event.model) async for event in events if isinstance(event, kinds)]
                )

        await nursery.start(listen)
        handle = await sup.submit(agent, "q")
        outcome = await handle.outcome()
        assert outcome.error.type == "FallbackExceptionGroup"
        assert isinstance(handle._exception, FallbackExceptionGroup)
        assert "after 3 tries" in handle._exception.__notes__
        assert (first.sent, second.sent) == (3, 3)
        first.failing = None
        assert (await (await sup.submit(agent, "q")).result()).output == "first"
    one = [(kind, name) for name in ("first", "second") for kind in (RequestSent, RequestFailed)]
    assert seen[:12] == one * 3


async def test_a_budget_is_reserved_for_the_model_that_is_asked(pair, autojump_clock):
    first, second = pair
    first.failing = lambda: ModelHTTPError(500, "first")
    agent = Agent(FallbackModel(first, second), model_settings={"max_tokens": 10})
    async with open_supervisor(budget=Budget(output_tokens=30), retries=0) as sup:
        async with sup.map(agent, ["q"] * 8) as outcomes:
            ended = [outcome async for outcome in outcomes]
        assert sum(outcome.succeeded for outcome in ended) == 5
        assert {outcome.error.type for outcome in ended if not outcome.succeeded} == {"BudgetExhausted"}
        assert sup.snapshot().budget.reserved == {"output_tokens": 0}
        assert sup.usage().requests == 5


@pytest.mark.parametrize("wrap", [lambda model: model, WrapperModel, Passing, lambda m: FallbackModel(m)])
async def test_however_it_is_wrapped(pair, autojump_clock, wrap):
    first, second = pair
    first.failing = dead
    agent = Agent(wrap(FallbackModel(first, second)))
    async with open_supervisor() as sup:
        assert await outputs(sup, agent, 3) == ["second"] * 3
        assert set(sup.usage(by="model")) == {"second"}
        assert sup.snapshot().models["first"].failed == 3


async def test_streams_fall_back_through_the_same_doors(pair, fakes, autojump_clock):
    first, second = pair
    first.failing = dead
    inner = Agent(FallbackModel(first, second))

    async def stream(run):
        async with inner.run_stream("q") as result:
            return [text async for text in result.stream_text(debounce_by=None)]

    async with open_supervisor(retries=1) as sup:
        outcome = await (await sup.submit(fakes.Agent(stream))).outcome()
        assert outcome.output[-1] == "streamed by second"
        assert set(sup.usage(by="model")) == {"second"}
        models = sup.snapshot().models
        assert (models["first"].failed, models["second"].failed) == (1, 0)
        assert models["first"].in_flight == models["second"].in_flight == 0
        second.failing = dead
        outcome = await (await sup.submit(fakes.Agent(stream))).outcome()
        assert outcome.error.type == "FallbackExceptionGroup"
        assert (first.sent, second.sent) == (3, 3)


async def test_a_group_has_one_rate_whichever_model_answers(pair, autojump_clock):
    """Its permits count requests over all models, and one that failed at the first model gives its permit back before the next."""
    first, second = pair
    both_at_once = most = 0
    for provider in pair:
        request_once = provider.request_once

        async def count(*args, request_once=request_once):
            nonlocal both_at_once, most
            both_at_once += 1
            most = max(most, both_at_once)
            try:
                return await request_once(*args)
            finally:
                both_at_once -= 1

        provider.request_once = count
    first.failing = dead
    async with open_supervisor(max_running=20) as sup:
        sup.set_group("acme", rate=RateLimit(max_in_flight=2))
        agent = Agent(FallbackModel(first, second))
        handles = [await sup.submit(agent, str(number), group="acme") for number in range(8)]
        for handle in handles:
            assert (await handle.outcome()).output == "second"
        group = sup._runtime.gates.group_rates["acme"]
        assert (group.used, group.waiting) == (0, 0)
    assert most == 2
    assert first.sent >= 1
    assert second.sent == 8
    assert trio.current_time() >= 8 / 2


async def test_a_group_asks_no_more_a_minute_over_the_models_of_a_fallback(pair, autojump_clock):
    first, second = pair
    first.failing = refusing
    async with open_supervisor(max_running=20, breaker=None) as sup:
        sup.set_group("acme", rate=RateLimit(requests_per_minute=60))
        agent = Agent(FallbackModel(first, second))
        handles = [await sup.submit(agent, str(number), group="acme") for number in range(6)]
        for handle in handles:
            assert (await handle.outcome()).output == "second"
    assert second.sent == 6
    # One a second, and what was sent to the first in vain counts as well.
    assert trio.current_time() >= first.sent + second.sent - 1
