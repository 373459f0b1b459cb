"""The short way through the doors, where nothing waits, decides as the long one does."""

from __future__ import annotations

import random

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, Price, RateLimit
from runmgr.structs import replace
from runmgr.supervisor import RunSpec, doors, open_supervisor
from runmgr.testing.schedule import run_in_virtual_time
from runmgr.usage import RequestUsage

optional = st.none() | st.sampled_from([1, 5, 30, 1_000])
a_rate = st.none() | st.builds(
    RateLimit,
    requests_per_minute=st.none() | st.sampled_from([300, 6_000]),
    tokens_per_minute=st.none() | st.sampled_from([60_000, 10_000_000]),
    output_tokens_per_minute=st.none() | st.sampled_from([6_000, 10_000_000]),
    max_in_flight=optional,
    adaptive=st.booleans(),
)
a_budget = st.none() | st.builds(
    Budget,
    requests=st.none() | st.integers(0, 60),
    tokens=st.none() | st.integers(0, 20_000),
    cost=st.none() | st.sampled_from(["0.001", "0.01", 5]),
)


def play(seed, rate, group_rate, root, group, each):
    """Sixty runs of up to three turns; gives all that can be seen of them."""
    rng = random.Random(seed)
    sent = []

    async def answer(messages, info):
        prompt = messages[0].parts[0].content
        sent.append((round(trio.current_time(), 6), prompt))
        dice = random.Random(f"{prompt} {len(messages)} {len(sent) if len(messages) > 3 else 0} {seed}")
        await trio.sleep(dice.choice([0, 0.05, 0.3]))
        if dice.random() < 0.05:
            raise ModelHTTPError(dice.choice([500, 429, 503]), "m")
        text = TextPart("x" * dice.randint(0, 40))
        usage = RequestUsage(input_tokens=dice.randint(0, 50), output_tokens=dice.randint(0, 40))
        return ModelResponse(parts=[text], usage=usage)

    agent = Agent(FunctionModel(answer, model_name="m"))
    budgets = {"budget": root, "group_budgets": None if group is None else {"g": group}, "run_budget": each}

    async def main():
        specs = []
        for number in range(60):
            most = rng.choice([None, 40, 60])
            settings = {} if most is None else {"max_tokens": most}
            name = "g" if number % 2 else "h"
            specs.append(
                RunSpec(
                    run_id=f"r{number}",
                    prompt=f"{number} " + "q" * rng.randint(0, 60),
                    group=name,
                    model_settings=settings,
                )
            )
        async with open_supervisor(
            rate_limits=rate,
            prices={"m": Price(input=2, output=8)},
            max_running=40,
            retries=2,
            rng=random.Random(seed),
            **budgets,
        ) as sup:
            if group_rate is not None:
                sup.set_group("g", rate=group_rate)
            async with sup.map(agent, specs) as outcomes:
                ended = [outcome async for outcome in outcomes]
            state = sup.snapshot()
            return (
                [
                    (
                        o.index,
                        o.status,
                        None if o.error is None else o.error.message,
                        round(o.finished_at - state.at, 6),
                    )
                    for o in ended
                ],
                sent,
                (
                    state.budget,
                    state.group_budgets,
                    state.lost,
                    replace(state.models["m"], cooling_until=None),
                ),
                trio.current_time(),
            )

    return run_in_virtual_time(main, seed=seed)


@given(st.integers(0, 2**32), a_rate, st.none() | a_rate, a_budget, a_budget, a_budget)
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_both_ways_decide_the_same(seed, rate, group_rate, root, group, each):
    short = doors._enter_nowait
    one = play(seed, rate, group_rate, root, group, each)
    try:
        doors._enter_nowait = lambda *_: False
        assert play(seed, rate, group_rate, root, group, each) == one
    finally:
        doors._enter_nowait = short


def test_the_short_way_is_gone_where_nothing_waits(monkeypatch):
    short, passed = doors._enter_nowait, []

    def counted(*asked):
        passed.append(short(*asked))
        return passed[-1]

    monkeypatch.setattr(doors, "_enter_nowait", counted)
    plenty = Budget(tokens=10**9, cost=10**6)
    rate = RateLimit(tokens_per_minute=10**9, max_in_flight=100, adaptive=False)
    play(1, rate, None, plenty, plenty, plenty)
    assert len(passed) >= 60
    assert all(passed)
