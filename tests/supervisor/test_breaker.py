"""The breaker: when a provider is taken for dead, and when it is tried again."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from runmgr.exceptions import MalformedResponseError, ModelConnectionError, ModelHTTPError
from runmgr.models.retry import RetryPolicy
from runmgr.records.budgets import Budget
from runmgr.supervisor import BreakerPolicy, open_supervisor
from runmgr.supervisor.breaker import Breaker, verdict


def test_it_opens_above_the_share_and_not_before_the_sample():
    breaker = Breaker(BreakerPolicy())
    for _ in range(49):
        breaker.failed(0.0)
    assert not breaker.is_open
    breaker.failed(0.0)
    assert breaker.is_open
    assert breaker.until == 5.0


@given(st.lists(st.booleans(), max_size=500), st.integers(1, 60), st.floats(0, 1))
def test_at_or_below_the_share_it_never_opens(ends, sample, share):
    """However failures are spread: as long as no 80 % of any stretch failed, it stays closed."""
    breaker = Breaker(BreakerPolicy(share=share, sample=sample))
    failed = 0
    for number, end in enumerate(ends, 1):
        failed += not end
        if end:
            breaker.succeeded()
        else:
            breaker.failed(1.0)
        if breaker.is_open:
            assert number >= sample
            return
        if number < 2 * sample:  # nothing is forgotten yet
            assert number < sample or end or failed <= share * number


def test_one_answer_in_four_keeps_it_closed_for_ever():
    breaker = Breaker(BreakerPolicy())
    for number in range(10_000):
        if number % 4 == 0:
            breaker.succeeded()
        else:
            breaker.failed(0.0)
        assert not breaker.is_open


def test_one_probe_at_a_time_and_longer_waits():
    breaker = Breaker(BreakerPolicy(sample=1, cooldown=1, max_cooldown=3))
    breaker.failed(0.0)
    waits = []
    now = 0.0
    for _ in range(4):
        assert not breaker.probe(breaker.until - 0.01)
        waits.append(breaker.until - now)
        now = breaker.until
        assert breaker.probe(now)
        assert not breaker.probe(now)
        breaker.failed(now)
    assert waits == [1, 2, 3, 3]
    assert breaker.probe(now + 3)
    breaker.succeeded()
    assert not breaker.is_open
    breaker.failed(100.0)
    assert breaker.until == 101.0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, True),
        (ModelHTTPError(400, "m"), True),
        (ModelHTTPError(409, "m"), True),
        (ModelHTTPError(429, "m"), None),
        (ModelHTTPError(503, "m"), False),
        (ModelConnectionError("m", "gone"), False),
        (MalformedResponseError("m", "cut"), False),
        (ValueError("ours"), True),
        (KeyboardInterrupt(), None),
    ],
)
def test_what_an_end_says(error, says):
    assert verdict(error) is says


class Provider:
    """Dead between two times; says when it was asked."""

    def __init__(self, fakes, dead_from, dead_until):
        provider = self
        self.asked = []

        class Model(fakes.Model):
            async def request_once(self, messages, settings, params):
                now = trio.current_time()
                provider.asked.append(now)
                await trio.sleep(0.1)
                if dead_from <= now < dead_until:
                    raise ModelHTTPError(503, "m")
                return await super().request_once(messages, settings, params)

        self.model = Model()

        async def ask(run):
            await run.ask(self.model)

        self.agent = fakes.Agent(ask)


@pytest.mark.parametrize("budget", [None, Budget(requests=10_000)])
async def test_a_provider_that_dies_and_comes_back_is_waited_for(fakes, autojump_clock, budget):
    provider = Provider(fakes, 5, 60)
    async with open_supervisor(
        max_running=20, budget=budget, retries=RetryPolicy(max_retries=8, share=None)
    ) as sup:
        async with sup.map(provider.agent, range(2_000)) as outcomes:
            count = 0
            dead = False
            async for outcome in outcomes:
                assert outcome.succeeded, outcome.error
                count += 1
                if count == 1_100:
                    dead = sup.snapshot().models["counting"].taken_for_dead
        assert not sup.snapshot().models["counting"].taken_for_dead
    assert count == 2_000
    assert not dead
    while_dead = [time for time in provider.asked if 5 <= time < 60]
    assert len(while_dead) < 150  # 80 and a few, then probes; without a breaker 20 runs would send some 300
    assert len([time for time in while_dead if time > 20]) <= 4
    probed = [time for time in provider.asked if time >= 60][0]
    assert probed < 60 + 45
    assert trio.current_time() < 60 + 60


async def test_a_provider_that_stays_dead_fails_its_runs(fakes, autojump_clock):
    provider = Provider(fakes, 0, 1e9)
    policy = BreakerPolicy(max_cooldown=10)
    async with open_supervisor(max_running=100, retries=3, breaker=policy) as sup:
        handles = [await sup.submit(provider.agent) for _ in range(150)]
        outcomes = [await handle.outcome() for handle in handles]
    assert {outcome.status for outcome in outcomes} == {"failed"}
    errors = [outcome.error for outcome in outcomes]
    assert any("taken for dead" in error.message and "503" in error.message for error in errors)
    assert len(provider.asked) < 150


async def test_a_faulty_provider_is_survived(fakes, autojump_clock):
    """Three of four requests fail: nothing opens, everything is done."""
    number = 0

    class Faulty(fakes.Model):
        async def request_once(self, messages, settings, params):
            nonlocal number
            number += 1
            await trio.sleep(0.01)
            if number % 4:
                raise ModelHTTPError(500, "m")
            return await super().request_once(messages, settings, params)

    model = Faulty()

    async def ask(run):
        await run.ask(model)

    async with open_supervisor(retries=RetryPolicy(max_retries=60, share=None)) as sup:
        async with sup.map(fakes.Agent(ask), range(500)) as outcomes:
            assert all([outcome.succeeded async for outcome in outcomes])
        door = next(iter(sup._runtime.gates.doors.values()))
        assert door.breaker.breaker.tripped == 0


async def test_cancelling_the_probe_lets_another_one_go(fakes, autojump_clock):
    provider = Provider(fakes, 0, 3)
    policy = BreakerPolicy(sample=5, cooldown=5)
    async with open_supervisor(max_running=5, breaker=policy) as sup:
        handles = [await sup.submit(provider.agent) for _ in range(5)]
        await trio.sleep(1)
        assert len(provider.asked) == 5
        assert sup.snapshot().models["counting"].taken_for_dead
        assert sup.snapshot().states["waiting"] == 5
        while len(provider.asked) == 5:
            await trio.sleep(0.01)
        probing = next(handle for handle in handles if handle.state == "running")
        probing.cancel()
        outcomes = [await handle.outcome() for handle in handles]
        assert sum(outcome.succeeded for outcome in outcomes) == 4
    assert trio.current_time() < 8


async def test_requests_that_are_cancelled_meanwhile_let_no_second_probe_go(fakes, autojump_clock):
    at_once = 0

    class Dead(fakes.Model):
        async def request_once(self, messages, settings, params):
            nonlocal at_once
            if messages[0].parts[0].content == "sent before":
                await trio.sleep_forever()
            at_once += 1
            try:
                await trio.sleep(0.1 if trio.current_time() < 1 else 50)
            finally:
                at_once -= 1
            raise ModelHTTPError(500, "m")

    model = Dead()

    def asking(text):
        async def ask(run):
            await run.ask(model, text)

        return fakes.Agent(ask)

    async with open_supervisor(breaker=BreakerPolicy(sample=10, cooldown=1)) as sup:
        before = [await sup.submit(asking("sent before")) for _ in range(20)]
        await trio.sleep(0.5)
        for _ in range(20):
            await sup.submit(asking("sent now"))
        await trio.sleep(3)
        assert at_once == 1  # the probe
        for handle in before:
            handle.cancel()
            await handle.outcome()
        await trio.testing.wait_all_tasks_blocked()
        assert at_once == 1
        sup.cancel()
