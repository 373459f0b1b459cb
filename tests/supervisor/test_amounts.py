"""Amounts as one number: that it decides and sums as plain numbers do."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import BudgetExhausted
from runmgr.records.budgets import Budget, Price
from runmgr.supervisor.amounts import (
    GUARDS,
    OPEN,
    Amount,
    counted,
    dollars,
    pack,
    raised,
    units,
    with_cost_of,
)
from runmgr.supervisor.budget import Meter, Purse
from runmgr.supervisor.pricing import Prices
from runmgr.usage import RequestUsage

counts = st.integers(-(2**55), 2**55)
money = st.decimals(0, 10**9, places=18)
small = st.integers(0, 40)


@given(counts, counts, counts, st.integers(-(10**40), 10**40), counts)
def test_every_lane_comes_back_whatever_its_sign(requests, inputs, outputs, cost, unbounded):
    lanes = (requests, unbounded, inputs, outputs, inputs + outputs, cost)
    assert counted(pack(requests, inputs, outputs, cost, unbounded)) == lanes
    other = pack(1, 2, 3, 4, 5)
    assert counted(pack(requests, inputs, outputs, cost, unbounded) - other) == tuple(
        one - two for one, two in zip(lanes, (1, 5, 2, 3, 5, 4), strict=True)
    )


@given(money, money)
def test_dollars_are_exact_and_look_plain(one, two):
    assert dollars(units(one)) == one
    assert dollars(units(one) + units(two)) == one + two
    assert dollars(units(one) - units(two)) == one - two
    assert "E+" not in str(dollars(units(one)))


def test_dollars_as_they_are_written():
    written = {"0.0000060": "0.000006", "100.00": "100", "1.5E-7": "1.5E-7", "0": "0", "12": "12"}
    assert {given: str(dollars(units(Decimal(given)))) for given in written} == written
    assert units(Decimal("1E-30")) == 1  # finer than a unit: rounded up
    assert dollars(units(Decimal("123456789012345.123456789012345678901234"))) == Decimal(
        "123456789012345.123456789012345678901234"
    )


def test_limits_that_are_large_or_no_whole_numbers():
    most = Meter(Budget(requests=10**30, output_tokens=7.0, cost="1e40"))
    assert most.fits(pack(10**12, 10**12, 7, units(Decimal(10**12))))
    assert not most.fits(pack(0, 0, 8))
    assert not Meter(Budget(cost="1E-30")).fits(pack(cost=1))  # a limit is rounded down


def test_an_amount_raised_to_another():
    more, by = raised(pack(1, 5, 5, 70), pack(9, 7, 3, 100))
    assert (more, by) == (pack(1, 7, 5, 100), pack(0, 2, 0, 30))
    assert with_cost_of(pack(1, 2, 3), pack(4, 5, 6, 7)) == pack(1, 2, 3, 7)


class Plain:
    """A budget in plain numbers, to compare with."""

    def __init__(self, budget):
        self.spent, self.reserved, self.budget = Amount(), Amount(), budget

    def fits(self, need):
        names = ("requests", "input_tokens", "output_tokens", "tokens")
        limits = [(getattr(self.budget, name), name) for name in names] + [(self.budget.cost_limit, "cost")]
        return all(
            limit is None
            or getattr(self.spent, name) + getattr(self.reserved, name) + getattr(need, name) <= limit
            for limit, name in limits
        )


limit = st.none() | st.integers(0, 200)
a_budget = st.builds(
    Budget,
    requests=limit,
    tokens=limit,
    input_tokens=limit,
    output_tokens=limit,
    cost=st.none() | st.decimals(0, 2, places=4),
)
an_amount = st.builds(Amount, st.just(1), small, small, st.decimals(0, 1, places=4))
a_step = st.tuples(st.just("reserve"), an_amount) | st.tuples(st.just("settle"), an_amount)


@given(st.lists(a_budget, min_size=1, max_size=3), st.lists(a_step | st.tuples(st.just("set"), a_budget)))
@settings(deadline=None)
def test_budgets_decide_as_plain_numbers_do(budgets, steps):
    purse = Purse(lambda _: Amount())
    meters, plain = tuple(Meter(budget) for budget in budgets), [Plain(budget) for budget in budgets]
    held = []
    for what, value in steps:
        if what == "set":
            meters[-1].set(value)
            plain[-1].budget = value
        elif what == "reserve":
            try:
                taken = purse.reserve_nowait(meters, value.packed)
            except BudgetExhausted:
                taken = False
            assert taken == all(one.fits(value) for one in plain)
            if taken:
                held.append(value)
                for one in plain:
                    one.reserved.add(value)
        elif held:  # of what it really used, more than was reserved too
            need = held.pop(0)
            purse.settle(meters, need.packed, value.packed)
            for one in plain:
                one.reserved.take(need)
                one.spent.add(value)
    for meter, one in zip(meters, plain, strict=True):
        assert meter.spent.to_list() == Amount.of(one.spent.packed).to_list()
        assert meter.reserved.to_list() == Amount.of(one.reserved.packed).to_list()
        assert Amount.of(meter.bound).tokens == one.spent.tokens + one.reserved.tokens


def test_what_has_no_proven_bound_is_a_lane_too():
    meter, purse = Meter(Budget(requests=5)), Purse(lambda _: Amount())
    assert purse.reserve_nowait((meter,), pack(1, 2, 3) + OPEN)
    assert purse.reserve_nowait((meter,), pack(1, 2, 3) + OPEN)
    purse.settle((meter,), pack(1, 2, 3) + OPEN, pack(1, 1, 1) + OPEN)
    assert (meter.state().unbounded, meter.state().open_ended) == (2, 1)
    purse.settle((meter,), pack(1, 2, 3) + OPEN, 0)  # it was not sent
    assert (meter.state().unbounded, meter.state().open_ended) == (1, 0)


@given(
    st.builds(
        Price,
        input=st.decimals(0, 100, places=5),
        output=st.decimals(0, 100, places=5),
        cache_read=st.none() | st.decimals(0, 100, places=5),
        cache_write=st.none() | st.decimals(0, 100, places=5),
    ),
    *[st.integers(0, 10**6)] * 4,
    st.sampled_from([None, Decimal("0.5"), Decimal("0.125")]),
)
def test_a_price_is_exact_and_never_over_its_bound(price, inputs, outputs, read, written, share):
    read = min(read, inputs)
    written = min(written, inputs - read)
    usage = RequestUsage(
        input_tokens=inputs, output_tokens=outputs, cache_read_tokens=read, cache_write_tokens=written
    )
    model = Prices({"m": price}).of("p", "m", share)
    used, known = model.used(usage)
    assert known
    plain = (
        (inputs - read - written) * price.input
        + outputs * price.output
        + read * (price.input if price.cache_read is None else price.cache_read)
        + written * (price.input if price.cache_write is None else price.cache_write)
    ) / Decimal(10**6)
    assert Amount.of(used).cost == plain * (1 if share is None else share)
    assert Amount.of(used).to_list()[:3] == [1, inputs, outputs]
    if price.cache_read is None or price.cache_read <= price.input:
        assert (model.at_most(inputs, outputs) + GUARDS - used) & GUARDS == GUARDS
