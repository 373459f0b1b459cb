"""What `Metrics` records, by OpenTelemetry's API alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from decimal import Decimal

import pytest
import trio
import trio.testing

from runmgr import (
    Agent,
    Budget,
    ModelHTTPError,
    ModelResponse,
    Price,
    RateLimit,
    RequestUsage,
    TextPart,
    open_supervisor,
)
from runmgr.models.function import FunctionModel
from runmgr.models.instrumented import InstrumentationSettings
from runmgr.pool import RunPool
from runmgr.telemetry import Metrics, gauges

SECONDS = 10


@pytest.fixture
def agent():
    """Answers after a second; ``refuse`` is answered with 429 the first time, ``fail`` never."""
    refused = set()

    async def answer(messages, info):
        prompt = messages[-1].parts[-1].content
        await trio.sleep(1)
        if prompt.startswith("fail"):
            raise ValueError(prompt)
        if prompt.startswith("refuse") and prompt not in refused:
            refused.add(prompt)
            raise ModelHTTPError(429, "m", "slow down")
        return ModelResponse(parts=[TextPart(prompt)], usage=RequestUsage(input_tokens=10, output_tokens=3))

    return Agent(FunctionModel(answer, model_name="m"))


async def test_everything_is_counted_once_and_adds_up(agent, provider, autojump_clock):
    metrics = Metrics(meter_provider=provider)
    async with open_supervisor(
        max_running=4, prices={"m": Price(input=1_000, output=2_000)}, budget=Budget(requests=100)
    ) as sup:
        metrics.watch(sup)
        for prompt in ["x"] * 6 + ["fail", "refuse me"]:
            await sup.submit(agent, prompt, group="acme")
        await sup.submit(agent, "x", group="other")
        late = await sup.submit(agent, "x", group="other")
        await trio.sleep(0.5)
        assert provider.total("runmgr.runs.live", runmgr__state="running") == 4
        assert provider.total("runmgr.runs.live", runmgr__state="queued") == 6
        assert provider.total("runmgr.places.taken") == provider.total("runmgr.places.limit") == 4
        assert provider.total("runmgr.requests.in_flight", gen_ai__request__model="m") == 4
        assert provider.total("runmgr.budget.limit", runmgr__budget__kind="requests") == 100
        late.cancel("not wanted")
    # What ended after the block's body was left is counted too.
    runs = "runmgr.runs"
    assert provider.total(runs) == 10
    assert provider.total(runs, runmgr__outcome="succeeded", runmgr__group="acme") == 7
    assert provider.total(runs, runmgr__outcome="succeeded", runmgr__group="other") == 1
    assert provider.total(runs, runmgr__outcome="cancelled", error__type="Cancelled") == 1
    assert provider.total(runs, runmgr__outcome="failed", error__type="ValueError", runmgr__group="acme") == 1
    usage = sup.usage()
    assert usage.requests == 8
    assert provider.total("runmgr.requests") == 10  # with one that failed, and one that was refused
    assert provider.total("runmgr.requests.retried") == provider.total("runmgr.requests.rate_limited") == 1
    assert provider.total("runmgr.tokens", gen_ai__token__type="input") == usage.input_tokens == 80
    assert provider.total("runmgr.tokens", gen_ai__token__type="output") == usage.output_tokens == 24
    assert Decimal(str(round(provider.total("runmgr.cost"), 9))) == sup.cost() == Decimal("0.128")
    assert provider.total("runmgr.requests.unpriced") == 0
    assert provider.count("gen_ai.client.token.usage") == 16
    assert provider.total("gen_ai.client.token.usage") == 104
    seconds = "gen_ai.client.operation.duration"
    about = {
        "gen_ai__operation__name": "chat",
        "gen_ai__request__model": "m",
        "gen_ai__provider__name": "function",
    }
    assert provider.count(seconds) == 10
    assert provider.total(seconds, **about) == pytest.approx(10)
    assert provider.total(seconds, runmgr__group="acme", error__type="429") == pytest.approx(1)
    assert provider.total(seconds, runmgr__group="acme", error__type="ValueError") == pytest.approx(1)
    assert provider.total("runmgr.run.duration", runmgr__outcome="succeeded") >= 8
    assert provider.count("runmgr.run.queue_time") == 9
    assert provider.total("runmgr.run.queue_time") > 5
    assert provider.total("runmgr.runs.live") == 0


async def test_groups_with_settings_are_gauges_of_their_own(agent, provider, autojump_clock):
    metrics = Metrics(meter_provider=provider)
    async with open_supervisor() as sup:
        metrics.watch(sup)
        sup.set_group(
            "acme",
            max_running=1,
            budget=Budget(requests=3),
            rate=RateLimit(max_in_flight=1),
        )
        for _ in range(2):
            await sup.submit(agent, "x", group="acme")
        await trio.sleep(0.5)
        assert provider.total("runmgr.group.running", runmgr__group="acme") == 1
        assert provider.total("runmgr.group.queued", runmgr__group="acme") == 1
        limit = {"runmgr__group": "acme", "runmgr__budget__kind": "requests"}
        assert provider.total("runmgr.budget.limit", **limit) == 3


async def test_label_values_are_bounded(provider, autojump_clock):
    metrics = Metrics(meter_provider=provider, max_groups=3, max_models=2)
    agents = [Agent(FunctionModel(instant, model_name=f"m{number}")) for number in range(10)]
    async with open_supervisor() as sup:
        metrics.watch(sup)
        for number in range(200):
            await (await sup.submit(agents[number % 10], "x", group=f"tenant {number}")).outcome()
    for name in ("runmgr.runs", "runmgr.requests", "gen_ai.client.operation.duration"):
        groups = provider.label_values(name, "runmgr.group")
        assert groups.keys() == {"tenant 0", "tenant 1", "tenant 2", "(other)"}
    assert provider.label_values("runmgr.requests", "gen_ai.request.model").keys() == {"m0", "m1", "(other)"}
    assert provider.total("runmgr.runs", runmgr__group="(other)") == 197
    assert provider.total("runmgr.requests") == 200


async def instant(messages, info):
    return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=1, output_tokens=1))


async def test_supervisors_are_summed_and_forgotten_when_they_end(agent, provider, autojump_clock):
    metrics = Metrics(meter_provider=provider)
    for _ in range(5):
        async with open_supervisor() as one, open_supervisor() as two:
            for sup in (one, two):
                metrics.watch(sup)
                await sup.submit(agent, "x")
            await trio.sleep(0.5)
            time.sleep(gauges._FRESH)
            assert provider.total("runmgr.runs.live") == 2
            assert provider.total("runmgr.places.limit") == 200
    assert metrics._gauges._watched == {}
    assert provider.total("runmgr.runs") == 10
    time.sleep(gauges._FRESH)
    assert provider.total("runmgr.places.limit") == 0
    assert provider.series("runmgr.requests.cached") == {(("gen_ai.request.model", "m"),): [0]}


async def test_an_instrumented_agents_requests_are_not_measured_twice(provider, autojump_clock):
    settings = InstrumentationSettings(meter_provider=Silent())
    agent = Agent(FunctionModel(instant, model_name="m"), instrument=settings)
    metrics = Metrics(meter_provider=provider)
    async with open_supervisor() as sup:
        metrics.watch(sup)
        await sup.submit(agent, "x")
    assert provider.total("runmgr.requests") == 1
    assert provider.total("runmgr.tokens") == 2
    assert provider.count("gen_ai.client.operation.duration") == 0
    assert provider.count("gen_ai.client.token.usage") == 0


class Silent:
    def get_meter(self, *_):
        return self

    def create_histogram(self, *_, **__):
        return self

    def record(self, *_):
        pass


async def test_a_listener_that_fails_stops_nobody(agent, caplog, autojump_clock):
    seen = []

    def told(event):
        seen.append(event)
        raise ValueError("mine")

    async with open_supervisor() as sup:
        sup.listen(told, ended=lambda: seen.append("ended"))
        await sup.submit(agent, "x")
    assert len(seen) > 3
    assert seen[-1] == "ended"
    assert "a listener failed at RunAdmitted" in caplog.text


def test_a_pool_is_watched_from_the_thread_that_collects(provider):
    gate = threading.Event()

    async def answer(messages, info):
        await trio.to_thread.run_sync(gate.wait)
        return ModelResponse(parts=[TextPart("x")])

    metrics = Metrics(meter_provider=provider)
    with RunPool(Agent(FunctionModel(answer)), metrics=metrics) as pool:
        futures = [pool.submit("x", group="acme") for _ in range(3)]
        deadline = time.monotonic() + SECONDS
        while provider.total("runmgr.runs.live", runmgr__state="running") != 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gate.set()
        for future in futures:
            future.result(SECONDS)
    assert provider.total("runmgr.runs", runmgr__outcome="succeeded", runmgr__group="acme") == 3
    time.sleep(gauges._FRESH)
    assert provider.total("runmgr.runs.live") == 0


def test_a_blocked_supervisor_holds_a_collecting_thread_up_for_a_bounded_time(provider, monkeypatch):
    monkeypatch.setattr(gauges, "PATIENCE", 0.05)
    blocked, free = threading.Event(), threading.Event()

    async def answer(messages, info):
        blocked.set()
        free.wait(SECONDS)
        return ModelResponse(parts=[TextPart("x")])

    with RunPool(Agent(FunctionModel(answer)), metrics=Metrics(meter_provider=provider)) as pool:
        future = pool.submit("x")
        assert blocked.wait(SECONDS)
        began = time.monotonic()
        assert provider.total("runmgr.places.limit") == 100  # as it last said
        assert time.monotonic() - began < 5
        free.set()
        future.result(SECONDS)


def test_nothing_of_opentelemetry_is_imported_where_nobody_measures():
    code = """
    import sys
    from runmgr import Agent
    from runmgr.models.test import TestModel
    from runmgr.pool import RunPool
    with RunPool(Agent(TestModel())) as pool:
        pool.submit("x").result()
        assert not pool.ask(lambda supervisor: supervisor._runtime.events.listening)
    print([name for name in sys.modules if name.startswith(("opentelemetry", "runmgr.telemetry"))])
    from runmgr.telemetry import Metrics
    Metrics()
    print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")
