"""In-flight limits found from answers, against simulated providers in virtual time; and the decisions themselves."""

from __future__ import annotations

import random
from collections import deque

import pytest
import trio

from runmgr.exceptions import ModelHTTPError, ModelTimeoutError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import RateLimit
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.adaptive import Adaptive, first_limit
from runmgr.supervisor.refusals import LearnedQuota, Refusals
from runmgr.testing import deterministic_trio
from runmgr.usage import RequestUsage


@pytest.fixture(autouse=True)
def one_schedule():
    """Time is virtual, all randomness seeded, and trio's order of tasks too: what passes here passes everywhere."""
    with deterministic_trio(0):
        yield


class Provider(FunctionModel):
    """A provider with limits, and what it saw: ``served`` and ``refused`` are times."""

    base_url = "http://simulated"

    def __init__(
        self,
        *,
        latency=0.2,
        most=None,
        rpm=None,
        faults=0.0,
        slots=None,
        spread=0.0,
        retry_after=True,
        seed=0,
    ):
        async def answer(messages, info):
            raise AssertionError

        super().__init__(answer, model_name="provider")
        self.latency = latency
        self.most = most
        self.rpm = rpm
        self.faults = faults
        self.spread = spread
        self.retry_after = retry_after
        self.slots = None if slots is None else trio.Semaphore(slots)
        self.rng = random.Random(seed)
        self.now = self.peak = 0
        self.window = deque()
        self.served = []
        self.refused = []

    def _refuse(self, wait):
        self.refused.append(trio.current_time())
        headers = {"retry-after": str(wait)} if self.retry_after else {}
        raise ModelHTTPError(429, "provider", headers=headers)

    async def request_once(self, messages, settings, params):
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            time = trio.current_time()
            while self.window and time - self.window[0] >= 60:
                self.window.popleft()
            await trio.sleep(0.001)
            if self.rpm is not None and len(self.window) >= self.rpm:
                self._refuse(max(1, round(60 - (time - self.window[0]))))
            if self.most is not None and self.now > self.most:
                self._refuse(1)
            self.window.append(time)
            if self.rng.random() < self.faults:
                raise ModelHTTPError(
                    self.rng.choice([429, 503, 500]), "provider", headers={"retry-after": "0.2"}
                )
            if self.slots is not None:
                async with self.slots:
                    await trio.sleep(self.latency)
            else:
                await trio.sleep(self.latency * self.rng.uniform(1 - self.spread, 1 + self.spread))
        finally:
            self.now -= 1
        self.served.append(trio.current_time())
        return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(input_tokens=1, output_tokens=1))

    def rate(self, begin, end):
        return sum(begin <= time < end for time in self.served) / (end - begin)


async def drive(fakes, provider, runs, *, rate_limits=None, max_running=200, rng=None, **options):
    async def ask(run):
        await run.ask(provider)

    async with open_supervisor(
        rate_limits=rate_limits, max_running=max_running, rng=rng or random.Random(1), **options
    ) as sup:
        async with sup.map(fakes.Agent(ask), range(runs)) as outcomes:
            failed = [outcome async for outcome in outcomes if not outcome.succeeded]
        return failed, sup.snapshot().models["provider"]


async def test_it_finds_the_limit_in_flight(fakes, autojump_clock):
    provider = Provider(most=40)
    failed, state = await drive(fakes, provider, 3_600)
    assert not failed
    assert provider.rate(10, 17) >= 0.9 * 200 * 0.2 / 0.201
    assert len(provider.refused) < 0.03 * 3_600
    assert state.refused == state.failed == len(provider.refused)
    assert state.sent == 3_600 + len(provider.refused)


@pytest.mark.parametrize("latency", [0.02, 2.0, 20.0])
async def test_whatever_the_latency(fakes, autojump_clock, latency):
    provider = Provider(most=40, latency=latency, spread=0.3)
    failed, _ = await drive(fakes, provider, 3_500)
    assert not failed
    ideal = 40 / latency
    end = provider.served[3_300]
    assert provider.rate(end * 0.3, end) >= 0.85 * ideal
    assert len(provider.refused) < 0.03 * 3_500


async def test_a_limit_that_falls_and_rises_again_is_followed(fakes, autojump_clock):
    provider = Provider(most=30)
    async with trio.open_nursery() as nursery:

        async def change():
            await trio.sleep(10)
            provider.most = 8
            await trio.sleep(15)
            provider.most = 30

        nursery.start_soon(change)
        failed, _ = await drive(fakes, provider, 4_200)
    assert not failed
    assert provider.rate(6, 10) >= 0.85 * 150
    assert provider.rate(14, 25) >= 0.85 * 40
    assert provider.rate(35, 39) >= 0.8 * 150


async def test_without_any_limit_it_grows_to_what_is_asked(fakes, autojump_clock):
    provider = Provider(latency=1.0)
    failed, _ = await drive(fakes, provider, 2_000, max_running=200)
    assert not failed
    assert provider.peak == 200
    assert trio.current_time() < 12  # ten round trips, and the first ones on the way up


async def test_latency_that_grows_without_throughput_ends_the_growth(fakes, autojump_clock):
    """A server that queues instead of refusing: 20 at once, the rest wait there."""
    provider = Provider(slots=20, latency=0.5)
    failed, state = await drive(fakes, provider, 4_000, max_running=1_000)
    assert not failed
    assert provider.peak < 300
    assert state.in_flight_limit < 150  # of 1,000 that would be; it began with 100
    assert provider.rate(10, 90) >= 0.95 * 40


@pytest.mark.parametrize("seed", [1, 28])
async def test_a_faulty_provider_is_not_taken_for_a_full_one(fakes, autojump_clock, seed):
    """Also where failures come before the first answers do."""
    provider = Provider(faults=0.1, latency=0.2, seed=seed)
    failed, _ = await drive(fakes, provider, 2_500, max_running=50)
    assert not failed
    assert provider.rate(5, 10) >= 0.75 * 50 / 0.2  # a tenth fails, and waits before it is sent again


@pytest.mark.parametrize(("faults", "seed"), [(0.2, 0), (0.3, 0), (0.3, 1)])
async def test_not_even_a_very_faulty_one(fakes, autojump_clock, faults, seed):
    """Two thirds of the faults look like fullness, and come before the first answers do: having fewer in flight does not help."""
    rates = []
    for rate_limits in (None, RateLimit(adaptive=False)):
        provider = Provider(faults=faults, latency=0.2, seed=seed)
        began = trio.current_time()
        with trio.move_on_after(8):
            await drive(fakes, provider, 5_000, max_running=50, rate_limits=rate_limits)
        rates.append(provider.rate(began + 4, began + 8))
    assert rates[0] >= 0.8 * rates[1]


async def test_a_full_one_that_is_faulty_too_is_followed(fakes, autojump_clock):
    provider = Provider(faults=0.1, latency=0.2, most=20, seed=3)
    with trio.move_on_after(12):
        await drive(fakes, provider, 5_000, max_running=100)
    assert provider.rate(4, 12) >= 0.7 * 20 / 0.2
    assert len(provider.refused) <= 0.2 * len(provider.served)


async def test_a_quota_a_minute_that_nobody_told(fakes, autojump_clock):
    provider = Provider(rpm=600)
    failed, state = await drive(fakes, provider, 1_319, max_running=100)
    assert not failed
    assert trio.current_time() < 130
    assert (
        len(provider.refused) < 150
    )  # what is in flight, at each of two times: all are sent at one moment here
    assert state.cooling_until is None


async def test_a_quota_without_retry_after(fakes, autojump_clock):
    provider = Provider(rpm=100, retry_after=False)
    failed, _ = await drive(fakes, provider, 250, max_running=100)
    assert not failed
    assert trio.current_time() < 260
    assert len(provider.refused) < 150


async def test_told_a_quota_it_is_used_and_kept(fakes, autojump_clock):
    provider = Provider(rpm=600)
    failed, _ = await drive(fakes, provider, 1_319, rate_limits=RateLimit(requests_per_minute=600))
    assert not failed
    assert trio.current_time() < 1_319 / 10 / 0.95
    assert len(provider.refused) <= 13


async def test_an_isolated_refusal_delays_only_its_own_request(fakes, autojump_clock):
    provider = Provider(latency=0.1)
    request_once = provider.request_once
    first = True

    async def refuse_one(*args):
        nonlocal first
        if first:
            first = False
            provider._refuse(50)
        return await request_once(*args)

    provider.request_once = refuse_one
    async with trio.open_nursery() as nursery:

        async def look():
            await trio.sleep(5)
            assert len(provider.served) == 99

        nursery.start_soon(look)
        failed, _ = await drive(fakes, provider, 100)
    assert not failed
    assert 50 <= trio.current_time() < 52


# -------------------------------------------------------------------- decisions


class Bench:
    """Answers a second after they are asked for, one after the other."""

    def __init__(self, adaptive):
        self.adaptive = adaptive
        self.now = 0.0

    def answers(self, count, *, full=True, bad=0):
        """So many answers within a second, among them so many refusals, evenly."""
        for number in range(count):
            self.now += 1 / count
            if bad and number % (count // bad) == 0:
                self.adaptive.pushed_back(self.now, self.now - 0.01, self.adaptive.limit - 1)
            else:
                self.adaptive.succeeded(self.now, self.now - 1, full=full)


def test_growth_needs_use():
    bench = Bench(Adaptive(initial=20))
    for _ in range(50):
        bench.answers(5, full=False)
    assert bench.adaptive.limit == 20


def test_it_doubles_within_a_round_trip_and_stops_at_the_ceiling():
    bench = Bench(Adaptive(initial=20))
    bench.answers(20)
    assert bench.adaptive.limit == 40
    bench = Bench(Adaptive(ceiling=30, initial=20))
    bench.answers(100)
    assert bench.adaptive.limit == 30
    assert Adaptive(ceiling=3).limit == 3


def test_the_first_refusals_set_it_to_what_is_served():
    adaptive = Adaptive(initial=60)
    adaptive.succeeded(1.0, 0.8, full=True)
    for others in range(59, 39, -1):  # one burst: twenty too many
        adaptive.pushed_back(1.2, 1.19, others)
    assert adaptive.limit == 40


def test_a_trial_that_fails_is_taken_back_and_the_next_one_comes_later():
    bench = Bench(Adaptive(initial=40))
    adaptive = bench.adaptive
    adaptive.succeeded(0.0, -1.0, full=True)
    adaptive.pushed_back(0.0, 0.0, 40)
    trials = []
    for _ in range(200):
        bench.answers(40)
        assert adaptive.limit in {40, 41}
        if adaptive.limit == 41:
            trials.append(bench.now)
            adaptive.pushed_back(bench.now + 0.1, bench.now + 0.05, 40)
            assert adaptive.limit == 40
    gaps = [later - earlier for earlier, later in zip(trials, trials[1:], strict=False)]
    assert all(later >= earlier - 1e-6 for earlier, later in zip(gaps, gaps[1:], strict=False))
    assert 20 <= gaps[-1] <= 23  # at round trips of a second


def test_trials_that_work_grow():
    bench = Bench(Adaptive(initial=40))
    bench.adaptive.succeeded(0.0, -1.0, full=True)
    bench.adaptive.pushed_back(0.0, 0.0, 40)
    for _ in range(40):
        bench.answers(bench.adaptive.limit)
    assert bench.adaptive.limit > 400


def test_noise_is_learned_and_does_not_stop_growth():
    bench = Bench(Adaptive(initial=40))
    for _ in range(45):
        bench.answers(bench.adaptive.limit // 20 * 20, bad=bench.adaptive.limit // 20)
    assert bench.adaptive.limit > 100


def test_a_window_that_goes_badly_halves_it_at_most():
    adaptive = Adaptive(initial=100)
    adaptive.succeeded(0.0, -1.0, full=True)
    for number in range(30):
        adaptive.pushed_back(1 + number / 10, 0.5 + number / 10, None)
    assert 10 < adaptive.limit < 70


def test_failures_before_the_first_answer_are_no_window_each():
    adaptive = Adaptive(initial=50)
    for number in range(5):  # of fifty that are sent at once
        adaptive.pushed_back(0.001, 0.0, None if number % 2 else 49 - number)
    assert adaptive.limit >= 44
    adaptive.succeeded(0.2, 0.0, full=True)
    for number in range(50):  # and the pause before a trial is not for ever
        adaptive.succeeded(1.1 + number / 40, 0.9 + number / 40, full=True)
    assert adaptive.limit > 44


def test_refusals_of_a_round_trip_without_success_are_a_spent_quota():
    refusals = Refusals()
    ask = {"told": None, "spent": False}
    assert refusals.refused(0.0, -0.1, 0.2, 40, **ask) is None
    assert refusals.withheld == 1
    assert refusals.refused(0.1, 0.05, 0.2, 39, **ask) is None
    assert refusals.withheld == 3
    assert not refusals.succeeded(-0.05)  # sent before the first refusal
    assert refusals.refused(0.45, 0.4, 0.2, 38, **ask) == 1.0
    assert refusals.withheld > 10**6  # one goes first
    assert refusals.refused(1.3, 1.29, 0.2, 0, **ask) == 2.0
    assert refusals.refused(3.5, 3.4, 0.2, 0, told=7.0, spent=False) == 7.0
    assert refusals.succeeded(11.0)
    assert refusals.withheld == 0
    assert refusals.refused(12.0, 11.9, 0.2, 5, told=3.0, spent=True) == 3.0  # its headers say so


def test_a_success_among_refusals_makes_them_isolated():
    refusals = Refusals()
    for time in range(100):
        assert refusals.refused(time, time - 0.1, 0.2, 40, told=None, spent=False) is None
        assert refusals.succeeded(time + 0.1)


async def test_timeouts_lower_it_too(fakes, autojump_clock):
    provider = Provider(latency=1.0)
    original = provider.request_once

    async def overloaded(*args):
        if provider.now >= 10:
            await trio.sleep(5)
            raise ModelTimeoutError("provider", "too slow")
        return await original(*args)

    provider.request_once = overloaded
    failed, state = await drive(fakes, provider, 400, max_running=100)
    assert not failed
    assert provider.peak == 10
    assert state.in_flight_limit < 20


async def test_a_quota_that_was_spent_once_is_met_softly_the_next_time(fakes, autojump_clock):
    """No header tells of it, only 429: the first time all in flight are refused, and then one or two each minute."""
    provider = Provider(rpm=300, latency=0.05)
    failed, _ = await drive(fakes, provider, 1_500, max_running=100)
    assert not failed
    minutes = [sum(60 * n <= time < 60 * (n + 1) for time in provider.refused) for n in range(6)]
    assert minutes[0] <= 100
    assert max(minutes[1:]) <= 4
    assert trio.current_time() < 4 * 60 + 30


async def test_a_quota_that_grows_is_noticed(fakes, autojump_clock):
    provider = Provider(rpm=300, latency=0.05)
    async with trio.open_nursery() as nursery:

        async def grow():
            await trio.sleep(100)
            provider.rpm = 1_500

        nursery.start_soon(grow)
        failed, _ = await drive(fakes, provider, 3_000, max_running=100)
    assert not failed
    assert provider.rate(120, 130) > 100  # 1,200 more at once


def test_a_short_rest_is_no_quota():
    quota = LearnedQuota()
    for number in range(10):
        quota.answered(number / 10)
    quota.spent(1.0, 1.0)
    assert quota.room(2.0) is None
    quota.spent(1.0, 30.0)
    assert quota.known
    assert quota.room(40.0) == 10
    for number in range(9):
        quota.answered(40.0 + number / 10)
    assert quota.room(41.0) == 1
    quota.answered(41.0)
    assert quota.room(41.0) == 1
    quota.answered(41.0)
    assert quota.room(41.0) == 2
    assert quota.room(80.0) == 10  # another period


@pytest.mark.parametrize(("at_once", "first"), [(1, 20), (100, 50), (200, 100), (5_000, 100)])
def test_where_it_begins(at_once, first):
    assert first_limit(at_once) == first


async def test_a_batch_that_nothing_limits_loses_half_a_round_trip(fakes, autojump_clock):
    provider = Provider(latency=5.0)
    failed, state = await drive(fakes, provider, 1_400, max_running=200)
    assert not failed
    assert trio.current_time() <= 5.01 * 8  # at 200 from the first: 7 round trips; from 20: 10
    assert state.in_flight_limit >= 200


async def test_a_provider_that_serves_few_refuses_few_at_the_start(fakes, autojump_clock):
    provider = Provider(most=40)
    failed, _ = await drive(fakes, provider, 1_319)
    assert not failed
    assert len(provider.refused) <= 13  # sent all at once, the first hundred were 60 of them
    assert trio.current_time() <= 1.05 * 1_319 / 199
