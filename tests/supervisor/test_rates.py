"""Rates: estimates that are corrected, fairness, cool-downs, and what headers teach."""

from __future__ import annotations

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.models.rate_headers import Quota, rate_headers
from runmgr.records.budgets import RateLimit
from runmgr.supervisor import open_supervisor
from runmgr.usage import RequestUsage


def talker(input_tokens=20, output_tokens=5, latency=0.05, **options):
    sent = []

    async def answer(messages, info):
        sent.append(trio.current_time())
        await trio.sleep(latency)
        return ModelResponse(
            parts=[TextPart("x")],
            usage=RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens),
        )

    model = FunctionModel(answer, model_name="talker")
    return Agent(model, **options), sent


async def run(agent, prompts, **options):
    async with open_supervisor(**options) as sup, sup.map(agent, prompts) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_few_tiny_requests_are_not_held_up_by_what_was_assumed_of_them(autojump_clock):
    agent, _ = talker()
    await run(agent, ["hi"] * 15, rate_limits=RateLimit(tokens_per_minute=100_000))
    assert trio.current_time() < 0.5


@pytest.mark.parametrize(
    "field", ["tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute"]
)
async def test_tokens_a_minute_hold_for_input_and_output_and_both(autojump_clock, field):
    agent, _ = talker(900 if "output" not in field else 0, 100 if "input" not in field else 0)
    each = 1_000 if field == "tokens_per_minute" else 900 if "input" in field else 100
    await run(agent, ["q" * 3_000] * 200, rate_limits=RateLimit(**{field: each * 60}), max_running=300)
    assert 190 <= trio.current_time() <= 205  # one a second


async def test_max_tokens_bounds_what_is_assumed(autojump_clock):
    agent, sent = talker(latency=10, model_settings={"max_tokens": 10})
    await run(agent, ["hi"] * 10, rate_limits=RateLimit(output_tokens_per_minute=6_000))
    assert sent[-1] == 0  # 100 tokens at once are there


async def test_groups_take_turns_at_the_rate(fakes, autojump_clock):
    order = []
    model = fakes.Model()

    async def ask(run):
        await run.ask(model)
        order.append(run.prompt)

    async with open_supervisor(rate_limits=RateLimit(requests_per_minute=60)) as sup:
        for _ in range(30):
            await sup.submit(fakes.Agent(ask), "large", group="large")
        await trio.sleep(0.5)
        for _ in range(5):
            await sup.submit(fakes.Agent(ask), "small", group="small")
    assert order[:12].count("small") >= 5


async def test_a_late_timer_costs_no_throughput(fakes, mock_clock):
    """500 turns a second, though the event loop comes round only every 20 ms."""
    model = fakes.Model()

    async def ask(run):
        await run.ask(model)

    async def come_round():
        while True:
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_round)
        await run(fakes.Agent(ask), range(250), rate_limits=RateLimit(requests_per_minute=30_000))
        nursery.cancel_scope.cancel()
    assert 0.49 <= trio.current_time() <= 0.54


class Told(FunctionModel):
    """A provider whose answers have rate headers."""

    base_url = "http://told"

    def __init__(self, headers):
        async def answer(messages, info):
            raise AssertionError

        super().__init__(answer, model_name="told")
        self.header_listeners = []
        self.headers = headers
        self.sent = []
        self.in_flight = self.peak = 0

    async def request_once(self, messages, settings, params):
        self.sent.append(trio.current_time())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        await trio.sleep(0.1)
        self.in_flight -= 1
        headers = self.headers(len(self.sent))
        for listener in self.header_listeners:
            listener([(name.encode(), value.encode()) for name, value in headers.items()])
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=90, output_tokens=10))


async def test_nothing_left_by_the_headers_of_a_success_stops_until_the_reset(fakes, autojump_clock):
    def headers(number):
        left = max(0, 3 - number)
        return {"X-RateLimit-Remaining-Requests": str(left), "X-RateLimit-Reset-Requests": "1m30s"}

    model = Told(headers)

    async def ask(run):
        await run.ask(model)

    async with open_supervisor(max_running=1) as sup:
        for _ in range(4):
            await sup.submit(fakes.Agent(ask))
        await trio.sleep(30)
        state = sup.snapshot()
        assert state.states["waiting"] == 1
        assert state.models["told"].cooling_until == pytest.approx(state.at + 90.3 - 30)
    assert model.sent == [0, pytest.approx(0.1), pytest.approx(0.2), pytest.approx(90.3)]
    assert model.header_listeners == []


async def test_no_more_in_flight_than_the_headers_leave(fakes, autojump_clock):
    model = Told(
        lambda number: {
            "anthropic-ratelimit-tokens-remaining": "450",
            "anthropic-ratelimit-tokens-reset": "2999-01-01T00:00:00Z",
        }
    )

    async def ask(run):
        await run.ask(model)

    async with open_supervisor() as sup:
        await (await sup.submit(fakes.Agent(ask))).outcome()
        model.peak = 0
        async with sup.map(fakes.Agent(ask), range(30)) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 30
    assert model.peak <= 45  # tokens of one request are not known without token limits: bounded by its output


async def test_a_429_with_nothing_left_rests_the_whole_quota(fakes, autojump_clock):
    headers = {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "20s",
        "x-ratelimit-remaining-requests": "9",
    }
    model = fakes.Model(fail=[ModelHTTPError(429, "m", headers=headers)])
    sent = []

    async def ask(run):
        await trio.sleep(run.prompt)
        sent.append(trio.current_time())
        await run.ask(model)
        assert trio.current_time() >= 20

    outcomes = await run(fakes.Agent(ask), range(5), rate_limits=RateLimit())
    assert all(outcome.succeeded for outcome in outcomes)
    assert trio.current_time() < 22


async def test_keys_have_quotas_of_their_own(autojump_clock):
    def keyed(key):
        agent, sent = talker()
        agent.model.client = type("Client", (), {"_headers": {"authorization": key}})()
        return agent, sent

    one, two = keyed("one"), keyed("two")
    async with open_supervisor(rate_limits=RateLimit(requests_per_minute=60)) as sup:
        for _ in range(4):
            await sup.submit(one[0], "q")
            await sup.submit(two[0], "q")
        await sup.drain()
    assert trio.current_time() < 4
    same = [keyed("same"), keyed("same")]
    began = trio.current_time()
    async with open_supervisor(rate_limits=RateLimit(requests_per_minute=60)) as sup:
        for _ in range(4):
            for agent, _ in same:
                await sup.submit(agent, "q")
        await sup.drain()
    assert trio.current_time() - began > 6


def test_rate_headers_of_several_providers():
    now = lambda: 1_700_000_000.0  # noqa: E731
    openai = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-tokens": "6m0.5s",
        "content-type": "application/json",
    }
    assert rate_headers(openai.items()) == [
        Quota("requests", 500, 499, 0.12),
        Quota("tokens", 30_000, 29_000, 360.5),
    ]
    anthropic = [
        (b"Anthropic-RateLimit-Input-Tokens-Limit", b"40000"),
        (b"Anthropic-RateLimit-Input-Tokens-Remaining", b"0"),
        (b"Anthropic-RateLimit-Input-Tokens-Reset", b"2023-11-14T22:14:00Z"),
        (b"anthropic-ratelimit-unified-remaining", b"1"),
    ]
    assert rate_headers(anthropic, now=now) == [Quota("input_tokens", 40_000, 0, 40.0)]
    plain = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "1700000007"}
    assert rate_headers(plain.items(), now=now) == [Quota("requests", None, 3, 7.0)]
    assert rate_headers({"ratelimit-remaining": "3", "ratelimit-reset": "7"}.items()) == [
        Quota("requests", None, 3, 7.0)
    ]
    nonsense = {
        "x-ratelimit-remaining-requests": "many",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-reset-tokens": "soon",
    }
    assert rate_headers(nonsense.items()) == [Quota("tokens", None, 5, None)]


async def test_the_pool_of_connections_grows_to_what_runs_at_once(fakes, autojump_clock):
    class Pool:
        limit = 100

    class Client:
        sizes = []

        def pool(self):
            return Pool

        def resize(self, limit):
            self.sizes.append(limit)
            Pool.limit = limit

    async def wait():
        await trio.sleep(1)

    model = fakes.Model(wait=wait)
    model.client = Client()

    async def ask(run):
        async with trio.open_nursery() as nursery:
            for _ in range(run.prompt):
                nursery.start_soon(run.ask, model)

    await run(fakes.Agent(ask), [1] * 10, max_running=500)
    assert model.client.sizes == [500]
    await run(fakes.Agent(ask), [600], max_running=10)  # more than runs: several requests of one run
    assert Pool.limit > 600
