"""`Supervisor.map`."""

from __future__ import annotations

import pytest
import trio

from runmgr.exceptions import SupervisorClosed
from runmgr.supervisor import RunSpec, open_supervisor


async def wait_prompt(run):
    await trio.sleep(run.prompt)
    return run.prompt


async def echo(run):
    return run.prompt


async def test_outcomes_come_as_runs_end(fakes, autojump_clock):
    async with open_supervisor() as sup, sup.map(fakes.Agent(wait_prompt), [3, 1, 2]) as outcomes:
        seen = [(outcome.index, outcome.output) async for outcome in outcomes]
    assert seen == [(1, 1), (2, 2), (0, 3)]


async def test_ordered_keeps_the_order_of_the_items(fakes, autojump_clock):
    async with open_supervisor(max_running=2, max_queued=2) as sup:
        async with sup.map(fakes.Agent(wait_prompt), [3, 1, 2, 1, 1, 5, 0], ordered=True) as outcomes:
            seen = [outcome.output async for outcome in outcomes]
    assert seen == [3, 1, 2, 1, 1, 5, 0]


async def test_items_may_be_async_and_specs_override(fakes, autojump_clock):
    async def items():
        for number in range(4):
            await trio.sleep(1)
            if number % 2:
                yield RunSpec(
                    prompt=f"spec {number}",
                    run_id=f"id{number}",
                    group="odd",
                    metadata={"n": number},
                    input={"line": number},
                    deps=7,
                )
            else:
                yield f"plain {number}"

    async def show(run):
        return run.prompt, run.options

    async with (
        open_supervisor() as sup,
        sup.map(fakes.Agent(show), items(), group="even", deps=1) as outcomes,
    ):
        seen = {outcome.index: outcome async for outcome in outcomes}
    assert seen[1].run_id == "id1"
    assert seen[1].group == "odd"
    assert seen[1].metadata == {"n": 1}
    assert seen[1].input == {"line": 1}
    assert seen[1].output == ("spec 1", {"deps": 7})
    assert seen[0].group == "even"
    assert seen[0].output == ("plain 0", {"deps": 1})
    assert seen[0].input == "plain 0"


async def test_items_are_pulled_only_as_there_is_room(fakes, autojump_clock):
    pulled = 0

    def items():
        nonlocal pulled
        while True:
            pulled += 1
            yield 1

    async with open_supervisor(max_running=2, max_queued=3) as sup:
        async with sup.map(fakes.Agent(wait_prompt), items()) as outcomes:
            await trio.sleep(50)  # nobody takes an outcome
            assert pulled <= 5 + 1
            for _ in range(10):
                await outcomes.__anext__()
            await trio.sleep(50)
            assert pulled <= 15 + 1


async def test_leaving_early_cancels_what_is_left(fakes, autojump_clock):
    async with open_supervisor(max_running=2, max_queued=2) as sup:
        other = await sup.submit(fakes.Agent(wait_prompt), 20)
        async with sup.map(fakes.Agent(wait_prompt), [1, 100, 100, 100], group="m") as outcomes:
            async for _ in outcomes:
                break
        assert trio.current_time() == 1
        assert other.state == "running"
    assert trio.current_time() == 20


async def test_an_error_of_the_items_comes_after_their_outcomes(fakes, autojump_clock):
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    seen = []
    async with open_supervisor() as sup:
        with pytest.raises(OSError, match="the disk is gone"):
            async with sup.map(fakes.Agent(wait_prompt), items()) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.output)  # noqa: PERF401  what came before the error
    assert seen == [1, 2]


async def test_an_error_of_the_body_comes_out_bare(fakes, autojump_clock):
    async with open_supervisor() as sup:
        with pytest.raises(KeyError):
            async with sup.map(fakes.Agent(wait_prompt), [1, 2, 3]) as outcomes:
                async for _ in outcomes:
                    raise KeyError


async def test_a_stopped_supervisor_says_that_items_are_left(fakes, autojump_clock):
    seen = []
    async with open_supervisor(max_running=1, max_queued=1) as sup:
        with pytest.raises(SupervisorClosed):
            async with sup.map(fakes.Agent(wait_prompt), [1] * 10) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.status)
                    sup.cancel()
    assert seen[0] == "succeeded"
    assert set(seen[1:]) == {"cancelled"}


async def test_equal_ids_among_the_items_are_run_once_and_told_twice(fakes, autojump_clock):
    runs = 0

    async def count(run):
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        return run.prompt

    specs = [RunSpec(prompt=number, run_id="same") for number in range(3)]
    async with open_supervisor() as sup, sup.map(fakes.Agent(count), specs) as outcomes:
        seen = [outcome.output async for outcome in outcomes]
    assert runs == 1
    assert seen == [0, 0, 0]


async def test_many_items_in_a_small_window(fakes, autojump_clock):
    async with open_supervisor(max_running=10, max_queued=5) as sup:
        async with sup.map(fakes.Agent(echo), range(2_000)) as outcomes:
            seen = [outcome.output async for outcome in outcomes]
    assert sorted(seen) == list(range(2_000))


async def test_one_task_at_a_time_iterates(fakes, autojump_clock):
    async with (
        open_supervisor() as sup,
        sup.map(fakes.Agent(wait_prompt), [5]) as outcomes,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(outcomes.__anext__)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await outcomes.__anext__()


async def test_the_first_runs_go_on_while_the_rest_are_submitted(fakes, autojump_clock):
    pulled, begun = [], []

    def items():
        for number in range(300):
            pulled.append(number)
            yield number

    async def note(run):
        begun.append(len(pulled))

    async with open_supervisor(max_running=300) as sup, sup.map(fakes.Agent(note), items()) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 300
    assert min(begun) < 100


async def test_where_others_are_busy_the_rest_is_submitted_at_once(fakes, mock_clock):
    """Runs that go on already would be served first each time: who begins last would end last."""
    pulled, turns = [], []

    def items():
        for number in range(1_000):
            pulled.append(number)
            yield number

    async def others():
        while len(pulled) < 1_000:
            turns.append(len(pulled))
            mock_clock.jump(0.001 if len(turns) < 4 else 1)
            await trio.lowlevel.checkpoint()

    async def wait(run):
        await trio.sleep(0)

    async with open_supervisor(max_running=1_000) as sup, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        async with sup.map(fakes.Agent(wait), items()) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 1_000
    assert 3 <= len(turns) < 8
