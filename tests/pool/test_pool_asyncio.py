"""The pool from asyncio, with a real event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from runmgr import AgentRunResultEvent, RunSpec
from runmgr.exceptions import RunCancelled, RunFailed, SupervisorClosed, UserError
from runmgr.pool import PoolFull, RunPool

SECONDS = 10


async def until(condition):
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


def test_run_map_and_outcomes(echo):
    async def main():
        async with RunPool(echo).as_asyncio() as pool:
            assert (await pool.run("a")).output == "a"
            assert [result.output async for result in pool.map("abc")] == ["a", "b", "c"]
            statuses = {outcome.input: outcome.status async for outcome in pool.outcomes(["a", "fail"])}
            assert statuses == {"a": "succeeded", "fail": "failed"}
            with pytest.raises(RunFailed, match="ValueError: fail"):
                await pool.run("fail")
            assert (await pool.usage()).requests == 5
            assert (await pool.snapshot()).states["failed"] == 2

    asyncio.run(main())


def test_ten_thousand_runs_from_a_thousand_tasks_lose_nothing(echo):
    async def main():
        work = iter(range(10_000))
        results = []

        async def worker():
            for number in work:
                result = await pool.run(str(number))
                results.append((number, result.output))

        async with RunPool(echo, max_queued=300).as_asyncio() as pool:
            async with asyncio.TaskGroup() as group:
                for _ in range(1_000):
                    group.create_task(worker())
            assert sorted(results) == [(number, str(number)) for number in range(10_000)]
            engine = pool._engine
            assert engine.jobs == {}
            assert pool._host.jobs == set()
            assert engine.room._free == engine.room.capacity == 400

    asyncio.run(main())


def test_cancelling_a_task_cancels_the_run_and_waits_for_its_end(gated):
    async def main():
        async with RunPool(gated.agent).as_asyncio() as pool:
            task = asyncio.create_task(pool.run("x"))
            await until(lambda: gated.began)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert gated.cancelled == 1
            assert (await pool.snapshot()).states["cancelled"] == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await pool.run("x")
            assert gated.cancelled == 2

    asyncio.run(main())


def test_cancelling_at_every_moment_loses_no_place(echo):
    async def main():
        async with RunPool(echo, max_running=2, max_queued=2).as_asyncio() as pool:
            for wait in range(60):
                tasks = [asyncio.create_task(pool.run(str(number))) for number in range(8)]
                for _ in range(wait % 12):
                    await asyncio.sleep(0)
                if wait >= 30:
                    await asyncio.sleep(wait / 30_000)
                for task in tasks[::2]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert [result.output for result in results[1::2]] == ["1", "3", "5", "7"]
            await until(lambda: pool._engine.room._free == 4)

    asyncio.run(main())


def test_full_queue_tasks_wait_and_nowait_raises(gated):
    async def main():
        async with RunPool(gated.agent, max_running=1, max_queued=1).as_asyncio() as pool:
            tasks = [asyncio.create_task(pool.run(str(number))) for number in range(20)]
            await until(lambda: gated.began)
            assert pool._engine.room.waiting == 18
            with pytest.raises(PoolFull):
                await pool.run_nowait("x")
            tasks[10].cancel()
            await asyncio.wait([tasks[10]])
            assert pool._engine.room.waiting == 17
            gated.open = True
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [result.output for result in results if not isinstance(result, BaseException)] == [
                str(number) for number in range(20) if number != 10
            ]
            assert gated.most == 1

    asyncio.run(main())


def test_map_over_an_async_iterable_does_not_hold_up_results(echo):
    async def main():
        more = asyncio.Event()

        async def items():
            yield "a"
            await more.wait()
            yield RunSpec(prompt="b", run_id="second")
            raise ZeroDivisionError

        async with RunPool(echo).as_asyncio() as pool, pool.outcomes(items()) as outcomes:
            assert (await anext(outcomes)).input == "a"
            more.set()
            assert (await anext(outcomes)).run_id == "second"
            with pytest.raises(ZeroDivisionError):
                await anext(outcomes)

    asyncio.run(main())


def test_leaving_a_map_cancels_its_runs(gated):
    async def main():
        async def endless():
            while True:
                yield "x"
                await asyncio.sleep(0)

        async with RunPool(gated.agent, max_running=4).as_asyncio() as pool:
            async with pool.map(endless()) as results:
                task = asyncio.create_task(anext(results))
                await until(lambda: gated.began == 4)
                task.cancel()
                await asyncio.wait([task])
            assert gated.cancelled == 4
            assert (await pool.snapshot()).places_taken == 0

    asyncio.run(main())


def test_leaving_a_map_begins_none_of_the_runs_that_wait(gated):
    async def main():
        async with RunPool(gated.agent, max_running=4).as_asyncio() as pool:
            async with pool.map(map(str, range(1_000)), window=1_000) as results:
                task = asyncio.create_task(anext(results))
                await until(lambda: gated.began == 4)
                task.cancel()
                await asyncio.wait([task])
            assert gated.began == gated.cancelled == 4

    asyncio.run(main())


def test_a_pool_shared_by_threads_and_a_loop_stays_open(gated):
    async def main(pool):
        async with pool.as_asyncio() as mine:
            task = asyncio.create_task(mine.run("x"))
            await until(lambda: gated.began)
            gated.open = True
        assert (await task).output == "x"

    with RunPool(gated.agent) as pool:
        asyncio.run(main(pool))
        assert pool.submit("y").result(SECONDS).output == "y"


def test_an_exception_in_the_block_cancels_every_run(gated):
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with RunPool(gated.agent).as_asyncio() as pool:
                task = asyncio.create_task(pool.run("x"))
                await until(lambda: gated.began)
                raise ZeroDivisionError
        with pytest.raises(RunCancelled, match="the block raised ZeroDivisionError"):
            await task
        with pytest.raises(SupervisorClosed):
            await pool.run("y")

    asyncio.run(main())


def test_without_a_block_as_in_a_notebook(echo):
    async def main():
        pool = RunPool(echo).as_asyncio()
        assert (await pool.run("a")).output == "a"
        thread = pool._engine._thread
        await pool.aclose()
        await pool.aclose()
        assert not thread.is_alive()

    asyncio.run(main())


def test_one_facade_belongs_to_one_loop(echo):
    with RunPool(echo) as pool:
        facade = pool.as_asyncio()
        asyncio.run(facade.run("a"))
        with pytest.raises(UserError, match="belongs to another event loop"):
            asyncio.run(facade.run("b"))


def test_a_loop_that_is_closed_has_its_runs_cancelled_and_says_so(gated, echo, caplog):
    with RunPool(gated.agent) as pool:
        loop = asyncio.new_event_loop()
        facade = pool.as_asyncio()
        task = loop.create_task(facade.run("x"))
        while not gated.began:
            loop.run_until_complete(asyncio.sleep(0.002))
        ends_too_late = loop.create_task(facade.run("y", agent=echo))
        loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
        loop.run_forever()
        time.sleep(0.05)
        loop.close()
        assert pool.submit("z", agent=echo).result(SECONDS).output == "z"
        gated.open = True
        deadline = time.monotonic() + SECONDS
        while pool.snapshot().places_taken:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for each in (task, ends_too_late):
            each._log_destroy_pending = False  # asyncio's own complaint of tasks that were forgotten
    assert "event loop was closed while" in caplog.text


def test_stream_tells_tokens_and_ends_with_the_result(talker):
    async def main():
        async with RunPool(talker.agent).as_asyncio() as pool:
            async with pool.stream("x", run_id="mine") as stream:
                events = [event async for event in stream]
                assert stream.run_id == "mine"
            assert isinstance(events[-1], AgentRunResultEvent)
            assert events[-1].result.output == "".join(f"{number} " for number in range(20))
            assert stream.result is events[-1].result
            deltas = [event for event in events if event.event_kind == "part_delta"]
            assert len(deltas) >= 18
            assert not pool._host.jobs  # what has ended is not kept

    asyncio.run(main())


def test_a_slow_reader_holds_its_own_run_up_and_nobody_else(talker, echo):
    talker.pieces = 10_000

    async def main():
        async with RunPool(echo).as_asyncio() as pool:
            async with pool.stream("x", agent=talker.agent, buffer=16) as stream:
                await anext(stream)
                await asyncio.sleep(0.05)
                held = talker.sent
                assert held < 40
                assert (await pool.run("b")).output == "b"
                assert talker.sent == held
                count = 1
                async for _ in stream:
                    count += 1
            assert count >= 10_000

    asyncio.run(main())


def test_leaving_a_stream_cancels_the_model_request_at_once(talker):
    talker.pieces, talker.pause = 10_000, 0.001

    async def main():
        async with RunPool(talker.agent).as_asyncio() as pool:
            async with pool.stream("x") as stream:
                await anext(stream)
                began = time.monotonic()
            assert talker.cancelled.is_set()
            assert time.monotonic() - began < 0.5
            task = asyncio.create_task(_read(pool))
            await until(lambda: talker.sent > 3)
            talker.cancelled.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert talker.cancelled.is_set()

    async def _read(pool):
        async for _ in pool.stream("x"):
            pass

    asyncio.run(main())


def test_cancelling_a_stream_from_elsewhere(talker):
    talker.pieces, talker.pause = 10_000, 0.001

    async def main():
        async with RunPool(talker.agent).as_asyncio() as pool, pool.stream("x") as stream:
            await anext(stream)
            asyncio.get_running_loop().call_later(0.02, stream.cancel, "the client is gone")
            with pytest.raises(RunCancelled, match="the client is gone"):
                async for _ in stream:
                    pass
            assert talker.cancelled.is_set()

    asyncio.run(main())


def test_stream_from_a_thread(talker):
    with RunPool(talker.agent) as pool:
        with pool.stream("x", buffer=4) as stream:
            *_, last = stream
        assert last.result.output.startswith("0 1 2")
        talker.pieces, talker.pause = 10_000, 0.001
        with pool.stream("x") as stream:
            next(stream)
        assert talker.cancelled.is_set()
        assert list(stream) == []


def test_a_stream_of_a_failing_run_raises(echo):
    async def main():
        async with RunPool(echo).as_asyncio() as pool:
            with pytest.raises(RunFailed):
                async for _ in pool.stream("fail"):
                    pass

    asyncio.run(main())


def test_the_loop_is_not_blocked_by_the_pools_start_or_end(gated):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        async with RunPool(gated.agent).as_asyncio() as pool:
            task = asyncio.create_task(pool.run("x"))
            await until(lambda: gated.began)
            asyncio.get_running_loop().call_later(0.1, setattr, gated, "open", True)
        assert ticks >= 8
        assert task.done() or (await task)
        ticking.cancel()

    asyncio.run(main())


def test_wrapped_futures_cancel_their_runs(gated):
    async def main(pool):
        future = pool.submit("x")
        task = asyncio.wrap_future(future)
        await until(lambda: gated.began)
        task.cancel()
        await until(lambda: gated.cancelled)
        assert future.cancelled()

    with RunPool(gated.agent) as pool:
        asyncio.run(main(pool))
