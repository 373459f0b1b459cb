"""Whose context variables a run sees; the supervisor behind a pool used from both sides; `as_worker`."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
import trio
from opentelemetry import trace

from runmgr import Agent, RunContext, RunSpec, open_supervisor
from runmgr.models.test import TestModel
from runmgr.pool import RunPool, as_worker

SECONDS = 10
request_id = contextvars.ContextVar("request_id", default=None)


@pytest.fixture
def looking():
    """An agent whose tool says what it sees of its submitter."""
    agent = Agent(TestModel(), deps_type=str)
    agent.seen = {}

    @agent.tool
    async def look(ctx: RunContext[str]) -> str:
        await trio.sleep(0)
        span = trace.get_current_span().get_span_context()
        agent.seen[ctx.deps] = (request_id.get(), span.trace_id)
        request_id.set("changed by a run")
        return "seen"

    return agent


def span(number):
    return trace.NonRecordingSpan(trace.SpanContext(number, number, is_remote=False))


def test_a_run_sees_its_submitters_context_from_threads(looking):
    with RunPool(looking, max_running=1) as pool:

        def work(number):
            request_id.set(number)
            with trace.use_span(span(number + 1)):
                for again in range(5):
                    pool.submit("x", deps=f"{number} {again}")
            assert request_id.get() == number

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert looking.seen == {
        f"{number} {again}": (number, number + 1) for number in range(8) for again in range(5)
    }


def test_a_run_sees_its_submitters_context_from_tasks(looking):
    async def main():
        async with RunPool(looking, max_running=2, max_queued=2).as_asyncio() as pool:

            async def work(number):
                request_id.set(number)
                with trace.use_span(span(number + 1)):
                    await pool.run("x", deps=str(number))
                assert request_id.get() == number

            await asyncio.gather(*(work(number) for number in range(20)))

    asyncio.run(main())
    assert looking.seen == {str(number): (number, number + 1) for number in range(20)}


async def test_a_run_in_trio_sees_its_submitters_context_whoever_frees_its_place(looking, autojump_clock):
    async with open_supervisor(max_running=1) as supervisor:
        for number in range(5):
            request_id.set(number)
            await supervisor.submit(looking, "x", deps=str(number))
        request_id.set(None)
    assert looking.seen == {str(number): (number, 0) for number in range(5)}


def test_where_others_fill_the_supervisor_nobody_is_lost_and_context_holds(looking, gated):
    """Runs that others submit take room that the pool counts as its own: its jobs stand in line then, in order."""
    with RunPool(looking, max_running=2, max_queued=3) as pool:
        pool.ask(lambda supervisor: [supervisor.submit_nowait(gated.agent, "foreign") for _ in range(5)])
        futures = []
        for number in range(5):
            request_id.set(number)
            futures.append(pool.submit("x", deps=str(number)))
        pool.snapshot()
        assert len(pool._engine.line) + (pool._engine._line_job is not None) == 5
        gated.open = True
        for number in range(5, 25):
            request_id.set(number)
            futures.append(pool.submit("x", deps=str(number)))
        assert len([future.result(SECONDS) for future in futures]) == 25
    assert {key: seen for key, (seen, _) in looking.seen.items()} == {str(n): n for n in range(25)}
    assert list(looking.seen)[:3] == ["0", "1", "2"]
    assert pool._engine.jobs == {}
    assert pool._engine.room._free == 5


def test_a_job_that_stands_in_line_can_be_cancelled(gated):
    with RunPool(gated.agent, max_running=1, max_queued=1) as pool:
        engine = pool._engine
        pool.ask(lambda supervisor: [supervisor.submit_nowait(gated.agent, "foreign") for _ in range(2)])
        futures = [pool.submit(str(number)) for number in range(2)]
        while engine._line_job is None:
            pool.snapshot()
        assert engine._line_job is futures[0]._job
        assert list(engine.line) == [futures[1]._job]
        assert futures[1].cancel()
        assert futures[0].cancel()
        pool.snapshot()
        third = pool.submit("third")
        gated.open = True
        assert third.result(SECONDS).output == "third"
    assert gated.began == 3


async def test_as_worker_is_a_stage_of_a_pipeline(echo, autojump_clock):
    jobs, receive_jobs = trio.open_memory_channel(0)
    send_outcomes, outcomes = trio.open_memory_channel(0)
    async with open_supervisor(max_running=4) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(as_worker, supervisor, echo, receive_jobs, send_outcomes)

        async def feed():
            async with jobs:
                for number in range(100):
                    await jobs.send(RunSpec(prompt=str(number), run_id=f"r{number}"))
                await jobs.send("fail")

        nursery.start_soon(feed)
        got = [outcome async for outcome in outcomes]
    assert sorted(int(outcome.output) for outcome in got if outcome.succeeded) == list(range(100))
    assert [outcome.error.type for outcome in got if not outcome.succeeded] == ["ValueError"]


async def test_as_worker_takes_no_more_than_can_go_on(echo, autojump_clock):
    jobs, receive_jobs = trio.open_memory_channel(0)
    send_outcomes, outcomes = trio.open_memory_channel(0)
    fed = 0
    async with open_supervisor(max_running=3) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(as_worker, supervisor, echo, receive_jobs, send_outcomes)

        async def feed():
            nonlocal fed
            async with jobs:
                for number in range(100):
                    await jobs.send(str(number))
                    fed += 1

        nursery.start_soon(feed)
        await trio.sleep(10)
        assert fed <= 2 * 3 + 2
        async with outcomes:
            assert (await outcomes.receive()).succeeded
            await trio.sleep(10)
            assert fed <= 2 * 3 + 3
            async for _ in outcomes:
                pass
    assert fed == 100


async def test_as_worker_ends_where_nobody_takes_outcomes_any_more(gated, autojump_clock):
    jobs, receive_jobs = trio.open_memory_channel(10)
    send_outcomes, outcomes = trio.open_memory_channel(0)
    gated.open = True
    async with open_supervisor() as supervisor:
        await jobs.send("a")
        await outcomes.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await as_worker(supervisor, gated.agent, receive_jobs, send_outcomes)
        with pytest.raises(trio.BrokenResourceError):
            await jobs.send("b")
