"""A group's own rate: taken together with the model's or not at all, fair between models, and nobody waits for ever."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
import trio.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runmgr import Agent, Budget, ModelResponse, RateLimit, RequestUsage, TextPart, open_supervisor
from runmgr.exceptions import ModelHTTPError
from runmgr.models.function import FunctionModel
from runmgr.supervisor.group_rates import PATIENCE
from runmgr.testing.schedule import run_in_virtual_time


def limit(number, **options):
    return RateLimit(max_in_flight=number, adaptive=False, **options)


class World:
    """Models whose requests say in their prompts who sends them and how long they take; knows what was sent, and how many at once."""

    def __init__(self):
        self.sent = []
        self.now, self.most = Counter(), Counter()
        self.agents = {name: Agent(FunctionModel(self.answer(name), model_name=name)) for name in "abcf"}

    def answer(self, name):
        async def answer(messages, info):
            group, seconds, *fails = messages[0].parts[0].content.split()
            self.sent.append((trio.current_time(), group, name))
            self.now.update((group, name))
            self.most |= self.now
            try:
                await trio.sleep(float(seconds))
            finally:
                self.now.subtract((group, name))
            if fails:
                raise ModelHTTPError(int(fails[0]), name)
            usage = RequestUsage(input_tokens=10, output_tokens=10)
            return ModelResponse(parts=[TextPart("yes")], usage=usage)

        return answer

    def times(self, group, name):
        return [at for at, *who in self.sent if who == [group, name]]

    async def submit(self, sup, group, name, seconds=1.0):
        handle = await sup.submit(self.agents[name], f"{group} {seconds}", group=group)
        await trio.testing.wait_all_tasks_blocked()
        return handle


@pytest.fixture
def world():
    return World()


async def test_no_permit_of_the_group_is_held_while_its_request_waits_for_its_model(world, autojump_clock):
    async with open_supervisor(rate_limits={"a": limit(1), "b": limit(5)}) as sup:
        sup.set_group("g", rate=limit(1))
        await world.submit(sup, "other", "a", 10)
        await world.submit(sup, "g", "a")  # its model is busy for ten seconds
        await trio.sleep(0.5)
        assert sup.snapshot().groups["g"].in_flight == 0
        assert sup.snapshot().models["a"].waiting == 1
        for _ in range(3):
            await world.submit(sup, "g", "b")
        await world.submit(sup, "g", "f")  # a model without a rate
    assert world.times("g", "b") == [0.5, 1.5, 3.5]
    assert world.times("g", "f") == [2.5]
    assert world.times("g", "a") == [10]


async def test_nor_one_of_the_model_while_it_waits_for_the_group(world, autojump_clock):
    async with open_supervisor(rate_limits={"a": limit(1)}) as sup:
        sup.set_group("g", rate=limit(1))
        await world.submit(sup, "g", "f", 10)
        await world.submit(sup, "g", "a")
        await trio.sleep(0.5)
        assert sup.snapshot().models["a"].in_flight == 0
        assert sup.snapshot().groups["g"].waiting == 1
        for _ in range(3):
            await world.submit(sup, "other", "a")
    assert world.times("other", "a") == [0.5, 1.5, 2.5]
    assert world.times("g", "a") == [10]


async def test_a_groups_models_take_turns(world, autojump_clock):
    async with open_supervisor(rate_limits={"a": limit(5), "b": limit(5)}) as sup:
        sup.set_group("g", rate=limit(1))
        for name in "aaaabbbff":
            await world.submit(sup, "g", name)
    names = [name for *_, name in sorted(world.sent)]
    assert sorted(names[1:4]) == sorted(names[4:7]) == ["a", "b", "f"]


async def test_a_request_that_is_unlucky_at_both_gets_its_turn(world, autojump_clock):
    """Its model has room when its group has none, and the other way round: others are always quicker."""
    async with open_supervisor(rate_limits={"a": limit(1), "b": limit(5)}, max_running=1_000) as sup:
        sup.set_group("g", rate=limit(1))
        await world.submit(
            sup, "g", "b", 0.5
        )  # so that one has room at the half seconds, the other at the full ones
        for _ in range(30):
            await world.submit(sup, "other", "a")
        await world.submit(sup, "g", "a")
        for _ in range(30):
            await world.submit(sup, "g", "b")
    assert world.times("g", "a") == [PATIENCE + 2]
    assert PATIENCE + 1.5 not in world.times("g", "b")  # the permit was kept for half a second
    assert max(world.times("other", "a")) == 30  # its model had something to do all the time


async def test_a_model_that_rests_keeps_nobody_else_waiting(world, autojump_clock):
    async with open_supervisor(rate_limits={"a": limit(1), "b": limit(5)}, max_running=1_000) as sup:
        sup.set_group("g", rate=limit(1))
        runtime = sup._runtime
        await world.submit(sup, "g", "b", 1)
        await world.submit(sup, "g", "a", 1)
        await trio.sleep(0.5)
        own = runtime.gates.group_rates["g"]
        door = next(door.rate for door in runtime.gates.doors.values() if door.name == "a")
        own._turns[door] = PATIENCE  # as if it had been unlucky for long
        door.cool_down(60.0)
        for _ in range(3):
            await world.submit(sup, "g", "b", 1)
    assert world.times("g", "b") == [0, 1, 2, 3]
    assert world.times("g", "a") == [60]


async def test_the_group_waits_a_while_for_a_model_that_begins_to_rest(world, autojump_clock):
    async with open_supervisor(rate_limits={"a": limit(1), "b": limit(5)}, max_running=1_000) as sup:
        sup.set_group("g", rate=limit(1))
        gates = sup._runtime.gates
        await world.submit(sup, "other", "a", 5)
        await world.submit(sup, "g", "b", 1)
        await world.submit(sup, "g", "a", 1)
        await trio.sleep(0.5)
        door = next(door.rate for door in gates.doors.values() if door.name == "a")
        gates.group_rates["g"]._turns[door] = PATIENCE
        await world.submit(sup, "g", "b", 1)
        await trio.sleep(2)
        assert len(world.times("g", "b")) == 1  # the permit is kept
        door.cool_down(60.0)
        await trio.sleep(2)
        assert len(world.times("g", "b")) == 2
    assert world.times("g", "a") == [60]


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_limits_hold_and_all_come_through_and_nothing_stays(seed, data):
    rates = {
        name: data.draw(
            st.sampled_from(
                [limit(1), limit(3), limit(20, requests_per_minute=300), limit(5, tokens_per_minute=60_000)]
            )
        )
        for name in "abc"
    }
    of_groups = {
        name: data.draw(
            st.sampled_from(
                [
                    None,
                    limit(1),
                    limit(4),
                    limit(9, requests_per_minute=240),
                    limit(2, output_tokens_per_minute=60_000),
                ]
            )
        )
        for name in "gh"
    }
    rng = random.Random(seed)
    world = World()

    async def main():
        async with open_supervisor(
            rate_limits=rates,
            budget=Budget(tokens=60_000),
            retries=1,
            rng=random.Random(seed),
            max_running=200,
        ) as sup:
            for name, rate in of_groups.items():
                if rate is not None:
                    sup.set_group(name, rate=rate)
            handles = []
            for _ in range(80):
                group, name = rng.choice("ghi"), rng.choice("abcf")
                fails = rng.choice(["", "", "", " 500"])
                prompt = f"{group} {rng.choice([0, 0.1, 0.5])}{fails}"
                handles.append(await sup.submit(world.agents[name], prompt, group=group))
                if rng.random() < 0.3:
                    await trio.sleep(rng.random() / 5)
                if rng.random() < 0.15:
                    rng.choice(handles).cancel()
            await sup.drain()
            gates = sup._runtime.gates
            for own in gates.group_rates.values():
                assert (own.used, own.waiting, len(own._turns), len(own._line)) == (0, 0, 0, 0)
            for door in gates.doors.values():
                if door.rate is not None:
                    assert (door.rate.used, door.rate.waiting, door.rate._line._held) == (0, 0, {})
            assert not any(sup.snapshot().budget.reserved.values())
        assert trio.current_time() < 60

    run_in_virtual_time(main, seed=seed)
    for name, rate in (rates | of_groups).items():
        if rate is not None:
            assert world.most[name] <= rate.max_in_flight
    for group, rate in of_groups.items():
        if rate is not None and rate.requests_per_minute:
            times = sorted(at for at, who, _ in world.sent if who == group)
            for number, at in enumerate(times):  # smooth, but for what a late turn may catch up
                allowed = 2 + (at - times[0] + 0.5) * rate.requests_per_minute / 60
                assert number + 1 <= allowed
