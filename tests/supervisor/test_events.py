"""Events: complete, in order, bounded, and free where nobody listens."""

from __future__ import annotations

import pytest
import trio

from runmgr.exceptions import ModelHTTPError
from runmgr.records.events import (
    EventsMissed,
    RequestFailed,
    RequestSent,
    RequestSettled,
    RunAdmitted,
    RunEnded,
    RunNode,
    RunStarted,
    RunStateChanged,
)
from runmgr.supervisor import open_supervisor


async def nap(run):
    await trio.sleep(1)


async def collect(sup, into, **options):
    async with sup.subscribe(**options) as events:
        async for event in events:
            into.append(event)


async def test_one_run_from_its_admission_to_its_end(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(503, "counting"), None])

    async def ask(run):
        await run.ask(model)

    seen = []
    async with trio.open_nursery() as nursery, open_supervisor() as sup:
        nursery.start_soon(collect, sup, seen)
        await trio.testing.wait_all_tasks_blocked()
        handle = await sup.submit(fakes.Agent(ask), group="g")
    assert [type(event) for event in seen] == [
        RunAdmitted,
        RunStateChanged,
        RunStarted,
        RunNode,
        RequestSent,
        RequestFailed,
        RunStateChanged,
        RunStateChanged,
        RequestSent,
        RequestSettled,
        RunStateChanged,
        RunEnded,
    ]
    assert {event.run_id for event in seen} == {handle.run_id}
    assert [(event.before, event.after) for event in seen if isinstance(event, RunStateChanged)] == [
        ("queued", "running"),
        ("running", "waiting"),
        ("waiting", "running"),
        ("running", "succeeded"),
    ]
    assert seen[5].retry_in >= 0
    assert "503" in seen[5].error
    assert seen[9].usage.input_tokens == 3
    assert seen[9].cost is None
    assert seen[-1].outcome == await handle.outcome()
    assert [event.at for event in seen] == sorted(event.at for event in seen)


async def test_a_subscriber_that_does_not_read_is_told_what_it_missed(fakes, autojump_clock):
    async with open_supervisor() as sup:
        async with sup.subscribe(buffer=5) as events:
            for _ in range(20):
                await (await sup.submit(fakes.Agent(nap))).outcome()
            first = await events.__anext__()
            assert isinstance(first, EventsMissed)
            rest = [await events.__anext__() for _ in range(5)]
            assert isinstance(rest[-1], RunEnded)
            assert first.count == 20 * 6 - 5
    assert trio.current_time() == 20


async def test_filters_choose(fakes, autojump_clock):
    seen = []
    async with trio.open_nursery() as nursery, open_supervisor() as sup:
        nursery.start_soon(lambda: collect(sup, seen, filter=lambda event: type(event) is RunEnded))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            await sup.submit(fakes.Agent(nap))
    assert [type(event) for event in seen] == [RunEnded] * 3


async def test_a_subscriber_that_asks_to_be_waited_for_stalls_runs_and_misses_nothing(fakes, autojump_clock):
    ended = []

    async def slow(sup, task_status):
        async with sup.subscribe(buffer=2, overflow="wait") as events:
            task_status.started()
            async for event in events:
                await trio.sleep(10)
                if isinstance(event, RunEnded):
                    ended.append(event.run_id)

    async with trio.open_nursery() as nursery, open_supervisor(max_running=2) as sup:
        await nursery.start(slow, sup)
        for _ in range(4):
            await sup.submit(fakes.Agent(nap, nap))
        await trio.sleep(5)
        assert sup.snapshot().states["waiting"] == 2
        assert sup.snapshot().states["succeeded"] == 0
        await sup.drain()
        await trio.sleep(1_000)
    assert len(ended) == 4
    assert trio.current_time() > 200


async def test_coalescing_keeps_the_newest_of_each(fakes, autojump_clock):
    async with open_supervisor() as sup:
        async with sup.subscribe(overflow="coalesce", key=lambda event: event.run_id) as events:
            for _ in range(3):
                await (await sup.submit(fakes.Agent(nap))).outcome()
            seen = [await events.__anext__() for _ in range(3)]
        assert [type(event) for event in seen] == [RunEnded] * 3


async def test_nothing_is_built_without_a_subscriber(fakes, autojump_clock, monkeypatch):
    async with open_supervisor() as sup:
        monkeypatch.setattr("runmgr.supervisor.runtime.RunAdmitted", None)
        monkeypatch.setattr("runmgr.supervisor.actor.RunNode", None)
        outcome = await (await sup.submit(fakes.Agent(nap))).outcome()
        assert outcome.succeeded


async def test_one_runs_own_events(fakes, autojump_clock):
    async with open_supervisor() as sup:
        mine = await sup.submit(fakes.Agent(nap, nap))
        await sup.submit(fakes.Agent(nap, nap))
        async with mine.events() as events:
            seen = []
            async for event in events:
                seen.append(event)
                if isinstance(event, RunEnded):
                    break
    assert {event.run_id for event in seen} == {mine.run_id}
    assert sum(isinstance(event, RunNode) for event in seen) == 2


async def test_a_filter_that_raises_hurts_only_its_subscriber(fakes, autojump_clock):
    def wrong(event):
        raise KeyError("filter")

    async with open_supervisor() as sup:
        async with sup.subscribe(filter=wrong) as events:
            outcome = await (await sup.submit(fakes.Agent(nap))).outcome()
            assert outcome.succeeded
            with pytest.raises(KeyError):
                await events.__anext__()


async def test_a_subscriber_that_never_reads_neither_grows_nor_stalls(fakes, autojump_clock):
    """1,000 runs at once, ten rounds: the buffers hold what they may, and the runs take what they take without it."""
    agent = fakes.Agent(nap, nap)
    async with open_supervisor(max_running=1_000, remember=0) as sup:
        async with (
            sup.subscribe(buffer=100) as dropping,
            sup.subscribe(buffer=100, overflow="coalesce", key=lambda event: event.run_id) as coalescing,
        ):
            held = []
            for _ in range(10):
                async with sup.map(agent, range(1_000)) as outcomes:
                    async for _ in outcomes:
                        pass
                held.append((dropping.statistics().buffered, coalescing.statistics().buffered))
                assert len(sup._runtime.events._gathered) == 0
            assert trio.current_time() == 20
            assert set(held) == {(100, 100)}
            assert dropping.statistics().missed == 10_000 * 7 - 100
            first = await dropping.receive()
            assert (type(first), first.count) == (EventsMissed, 10_000 * 7 - 100)


async def test_subscribers_that_come_and_go_see_everything_once_and_in_order(fakes, autojump_clock):
    first, second, patient = [], [], []

    async def walk(run):
        for _ in range(3):
            await trio.sleep(1)

    async with open_supervisor() as sup:
        async with sup.subscribe() as events:
            await (await sup.submit(fakes.Agent(walk), run_id="a")).outcome()
            async with sup.subscribe() as others, sup.subscribe(overflow="wait", buffer=1) as waited_for:
                handle = await sup.submit(fakes.Agent(walk), run_id="b")
                with trio.move_on_after(2):
                    await handle.outcome()
                assert handle.state != "succeeded"  # the third subscriber has no room
                patient += waited_for.drain_nowait()
                second += others.drain_nowait()
            await handle.outcome()
            first += events.drain_nowait()
            events.close()  # before its block ends: it is given no more
            await (await sup.submit(fakes.Agent(walk), run_id="c")).outcome()
            assert events.drain_nowait() == []
    whole = [RunAdmitted, RunStateChanged, RunStarted, RunNode, RunStateChanged, RunEnded]
    assert [(event.run_id, type(event)) for event in first[: len(whole)]] == [("a", kind) for kind in whole]
    assert {type(event) for event in first[len(whole) :]} == set(whole)
    states = [event for event in first if type(event) is RunStateChanged and event.run_id == "b"]
    assert [event.after for event in states] == ["running", "waiting", "running", "succeeded"]
    assert [event.before for event in states[1:]] == [event.after for event in states[:-1]]
    assert [event.run_id for event in first if type(event) is RunEnded] == ["a", "b"]
    assert second == first[len(whole) : len(whole) + len(second)]
    assert patient == first[len(whole) : len(whole) + len(patient)]


async def test_a_listener_hears_each_once_alone_and_beside_a_subscriber(fakes, autojump_clock):
    heard, read = [], []
    async with open_supervisor() as sup:
        sup.listen(heard.append)
        await (await sup.submit(fakes.Agent(nap), run_id="a")).outcome()
        async with sup.subscribe() as events:
            await (await sup.submit(fakes.Agent(nap), run_id="b")).outcome()
            read += events.drain_nowait()
        await (await sup.submit(fakes.Agent(nap), run_id="c")).outcome()
    whole = [RunAdmitted, RunStateChanged, RunStarted, RunNode, RunStateChanged, RunEnded]
    assert [(event.run_id, type(event)) for event in heard] == [
        (name, kind) for name in "abc" for kind in whole
    ]
    assert read == heard[len(whole) : 2 * len(whole)]


async def test_a_listener_hears_all_in_order_when_a_subscriber_that_is_waited_for_leaves(
    fakes, autojump_clock
):
    heard = []
    async with open_supervisor() as sup:
        sup.listen(heard.append)
        async with sup.subscribe(buffer=1, overflow="wait"):
            handle = await sup.submit(
                fakes.Agent(nap), run_id="a"
            )  # more than there is room for: the rest gathers
        late = await sup.submit(fakes.Agent(nap), run_id="b")
        await handle.outcome()
        await late.outcome()
    told = [(event.run_id, type(event)) for event in heard]
    # What had gathered of the first run when the subscriber left came before the second was admitted.
    assert told[:3] == [("a", RunAdmitted), ("a", RunStateChanged), ("b", RunAdmitted)]


async def test_a_reader_of_many_runs_at_once_misses_nothing_that_its_buffer_holds(fakes):
    """By the real clock, as it is where programs run: its turn comes after each of theirs."""
    seen = []
    async with trio.open_nursery() as nursery, open_supervisor(max_running=100) as sup:
        nursery.start_soon(lambda: collect(sup, seen, buffer=4_000))
        await trio.testing.wait_all_tasks_blocked()

        async def step(run):
            await trio.lowlevel.checkpoint()

        async with sup.map(fakes.Agent(step, step), range(1_000)) as outcomes:
            async for _ in outcomes:
                pass
    assert len(seen) == 7_000
    assert sum(type(event) is EventsMissed for event in seen) == 0
    assert [event.at for event in seen] == sorted(event.at for event in seen)
