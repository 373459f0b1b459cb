"""Ways in which money could slip past the books, or never come back to them."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError
from runmgr.journal import open_journal
from runmgr.models.openai import OpenAIChatModel
from runmgr.models.rate_headers import rate_headers
from runmgr.models.retry import NO_RETRY
from runmgr.providers.openai import OpenAIProvider
from runmgr.records.budgets import Budget, Hedge, Price, RateLimit
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.amounts import Amount
from runmgr.supervisor.breaker import BreakerPolicy
from runmgr.supervisor.budget import Meter
from runmgr.supervisor.journaling import RunJournal
from runmgr.supervisor.pricing import Prices


def asker(model, times=1, settings=None):
    async def ask(run):
        for _ in range(times):
            response = await run.host.request(model, [], settings, None)
        return response

    return ask


@pytest.mark.parametrize("whose", ["group", "run"])
async def test_a_budget_that_comes_while_requests_are_in_flight_counts_them(fakes, autojump_clock, whose):
    async def slow():
        await trio.sleep(5)

    model = fakes.Model(input_tokens=0, output_tokens=10, wait=slow)
    async with open_supervisor(budget=Budget(tokens=10**9)) as sup:
        first = await sup.submit(fakes.Agent(asker(model, 2, {"max_tokens": 10})), group="late")
        await trio.sleep(1)
        scope = {"group": "late"} if whose == "group" else {"run_id": first.run_id}
        sup.set_budget(Budget(output_tokens=15), **scope)
        outcome = await first.outcome()
        assert "output_tokens=15 allowed, 10 spent" in outcome.error.message
        assert model.sent == 1


async def test_ones_own_price_is_of_what_is_asked_whatever_name_it_answers_by(fakes, autojump_clock):
    class Dated(fakes.Model):
        async def request_once(self, messages, settings, params):
            response = await super().request_once(messages, settings, params)
            response.model_name = f"{self.model_name}-2026-11-30"
            return response

    async with open_supervisor(prices={"mine": Price(input=1, output=1)}, budget=Budget(cost=1)) as sup:
        for model in (Dated(1_000, 0, name="mine"), Dated(1_000, 0, name="mine")):
            await (await sup.submit(fakes.Agent(asker(model, 1, {"max_tokens": 10})))).outcome()
        assert sup.usage(by="model")["mine"].requests == 2
        snapshot = sup.snapshot()
        assert snapshot.models["mine"].cost == "0.002"
        assert snapshot.budget.spent == {"cost": "0.002"}
        assert not snapshot.lost


def test_resets_that_are_times_whatever_the_clocks_say():
    def reset(**more):
        headers = {"x-ratelimit-remaining": "0", **more}
        (quota,) = rate_headers(headers.items(), now=lambda: 1_741_305_590.0)
        return quota.reset

    assert reset(**{"x-ratelimit-reset": "1741305600"}) == 10
    assert reset(**{"x-ratelimit-reset": "1741305600000"}) == 10
    date = {"date": "Fri, 07 Mar 2025 00:00:00 GMT"}  # ten minutes and ten seconds before
    assert reset(**{"x-ratelimit-reset": "1741305600"}, **date) == 0
    headers = [
        (b"Date", b"Thu, 06 Mar 2025 23:49:50 GMT"),
        (b"anthropic-ratelimit-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-tokens-reset", b"2025-03-06T23:50:00Z"),
    ]
    assert rate_headers(headers, now=lambda: 1e9 + 1)[0].reset == 10


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "max_in_flight"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, "many"])
def test_rates_that_are_no_numbers_are_refused_where_they_are_written(field, value):
    with pytest.raises(ValueError, match=field):
        RateLimit(**{field: value})


def test_no_half_request_is_in_flight():
    with pytest.raises(ValueError, match="whole"):
        RateLimit(max_in_flight=2.5)


def test_money_is_exact_whatever_a_program_does_to_decimals():
    with decimal.localcontext(prec=3):
        price = Prices({"m": Price(input="1.23456", output="2.34567")}).of(None, "m")
        cost = Amount.of(price.at_most(1_000_000, 0)).cost
        amount = Amount(cost=Decimal("12.3456"))
        amount.add(Amount(cost=Decimal("0.00004")))
        meter = Meter(Budget(cost="12345.67"))
        over = Amount(cost=Decimal("12345.68"))
        fits, missing = meter.fits(over.packed), meter.missing(over.packed)
    assert cost == Decimal("1.23456")
    assert amount.cost == Decimal("12.34564")
    assert not fits
    assert missing


def test_what_never_fits_is_never_waited_for():
    meter = Meter(Budget(cost=10_000))
    meter.paid = Amount(cost=Decimal("9999." + "9" * 24)).packed
    meter.room -= meter.paid
    need = Amount(cost=Decimal("0." + "0" * 23 + "2")).packed
    assert not meter.fits(need)
    assert meter.missing(need)


async def test_the_copy_is_claimed_in_the_journal_before_it_is_sent(fakes, tmp_path, autojump_clock):
    claimed = []

    async def wait():
        with open_journal(tmp_path / "j") as reader:
            claimed.append(reader.meta("spent")["claimed"][2])
        await trio.sleep(5)

    model = fakes.Model(wait=wait)
    async with open_supervisor(
        journal=tmp_path / "j", hedge=Hedge(after=2), budget=Budget(output_tokens=10_000)
    ) as sup:
        await (await sup.submit(fakes.Agent(asker(model)))).outcome()
    assert len(claimed) == 2
    assert claimed[0] >= 4_096
    assert claimed[1] >= 2 * 4_096


async def test_a_copy_that_was_answered_with_an_error_costs_nothing(fakes, autojump_clock):
    waits = [5, 1]

    async def wait():
        await trio.sleep(waits.pop(0))

    model = fakes.Model(wait=wait, fail=[ModelHTTPError(500, "second")])
    async with open_supervisor(hedge=Hedge(after=1), budget=Budget(output_tokens=100_000)) as sup:
        await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        assert sup.snapshot().budget.spent == {"output_tokens": 2}


async def test_a_request_that_never_left_costs_nothing(autojump_clock):
    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url="http://127.0.0.1:9/v1", api_key="k"))
    async with open_supervisor(budget=Budget(tokens=10_000, requests=100)) as sup:
        outcome = await (await sup.submit(Agent(model), "q")).outcome()
        assert outcome.error.type == "ModelConnectionError"
        assert sup.snapshot().budget.spent == {"tokens": 0, "requests": 9}


async def test_a_probe_that_cannot_be_asked_lets_another_go(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(503, "dead")] * 5)
    async with open_supervisor(
        breaker=BreakerPolicy(sample=5, cooldown=5), retries=NO_RETRY, max_running=1
    ) as sup:
        for _ in range(5):
            await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        assert sup.snapshot().models["counting"].taken_for_dead
        sup.set_budget(Budget(cost=1))  # of a model without a price
        bad = await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        assert "costs is unknown" in bad.error.message
        sup.set_budget(Budget())
        with trio.fail_after(30):
            assert (await (await sup.submit(fakes.Agent(asker(model)))).outcome()).succeeded


@pytest.mark.parametrize(
    ("status", "falls"), [(408, True), (503, True), (504, True), (529, True), (500, False)]
)
async def test_statuses_of_overload_lower_what_may_be_in_flight(fakes, autojump_clock, status, falls):
    async def wait():
        await trio.sleep(1)

    model = fakes.Model(wait=wait)
    async with open_supervisor(max_running=40, rate_limits=RateLimit(), retries=NO_RETRY) as sup:

        async def all_of(count):
            handles = [await sup.submit(fakes.Agent(asker(model))) for _ in range(count)]
            for handle in handles:
                await handle.outcome()
            return sup.snapshot().models["counting"].in_flight_limit

        before = await all_of(200)
        model.fail = [ModelHTTPError(status, "m")] * 10
        assert (await all_of(40) < before) == falls


@pytest.mark.parametrize("budget", [Budget(tokens=10**9), Budget(cost=1_000), Budget(requests=10**6)])
async def test_requests_seldom_wait_for_the_journal_to_hold_what_they_may_spend(
    fakes, tmp_path, autojump_clock, monkeypatch, budget
):
    waits = []
    claim = RunJournal.claim
    monkeypatch.setattr(RunJournal, "claim", lambda self: waits.append(1) or claim(self))

    async def wait():
        await trio.sleep(0.05)

    model = fakes.Model(wait=wait)
    async with open_supervisor(
        journal=tmp_path / "j", budget=budget, prices={"counting": Price(input=1, output=1)}, max_running=10
    ) as sup:
        for handle in [await sup.submit(fakes.Agent(asker(model, 5, {"max_tokens": 10}))) for _ in range(20)]:
            await handle.outcome()
        assert model.sent == 100
        assert (
            len(waits) <= 20
        )  # the first ones; it was each of them, where anything but requests was limited
        sup.set_budget(Budget(output_tokens=10**6, requests=10**6))  # what was not limited was not claimed
        before = len(waits)
        await (await sup.submit(fakes.Agent(asker(model, 1, {"max_tokens": 10})))).outcome()
        assert len(waits) == before + 1


async def test_the_first_run_with_a_budget_of_its_own_is_claimed_too(fakes, tmp_path, autojump_clock):
    seen = []

    async def wait():
        with open_journal(tmp_path / "j") as reader:
            seen.append(reader.meta("spent")["runs"])

    model = fakes.Model(wait=wait)
    async with open_supervisor(journal=tmp_path / "j", budget=Budget(requests=10**6)) as sup:
        await (await sup.submit(fakes.Agent(asker(model)))).outcome()
        await trio.sleep(1)
        own = await sup.submit(fakes.Agent(asker(model)), run_id="own", budget=Budget(requests=2))
        await own.outcome()
    assert seen[0] == {}
    assert seen[1]["own"][0] == 1
