"""A queue that is full all the time: everybody waits as they should, nobody loses a job, and memory does not grow."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

from runmgr.pool import PoolFull, RunPool

SECONDS = 30


def test_memory_is_flat_while_the_queue_is_full_and_no_job_is_lost(echo):
    """Threads and tasks submit more than there is room for; a block kept for each run would be thousands of them."""
    first, more = 500, 2_500
    done = [0, 0, 0]  # by threads, by tasks, at once
    refused = marks = 0
    blocks = []

    def mark():
        gc.collect()
        blocks.append(sys.getallocatedblocks())

    with RunPool(echo, max_running=2, max_queued=6, remember=100) as pool:
        room = pool._engine.room
        stop = threading.Event()
        lock = threading.Lock()

        def told(future, place):
            assert future.result().output == "x"
            with lock:
                done[place] += 1

        def submit():
            while not stop.is_set():
                pool.submit("x").add_done_callback(lambda future: told(future, 0))

        async def tasks():
            mine = pool.as_asyncio()

            async def one():
                while not stop.is_set():
                    assert (await mine.run("x")).output == "x"
                    done[1] += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(one())

        threads = [threading.Thread(target=submit) for _ in range(8)]
        threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
        for thread in threads:
            thread.start()
        try:
            while marks < 2:
                try:
                    pool.submit_nowait("x").add_done_callback(lambda future: told(future, 2))
                except PoolFull:
                    refused += 1
                    assert room._free <= 0 or room.waiting
                    stop.wait(0.002)
                if sum(done) >= (first, first + more)[marks]:
                    marks += 1
                    mark()
        finally:
            stop.set()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert pool._engine.room._free == 8
    assert not pool._engine.jobs
    assert refused > 0
    assert done[0] > first / 10
    assert done[1] > first / 10
    assert pool._engine.supervisor._runtime.counts["succeeded"] == sum(done)
    assert blocks[1] - blocks[0] < 0.8 * more, blocks


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_those_who_give_up_waiting_leave_the_line_whole(gated, kind):
    """Of those who wait, every other one goes away: a task is cancelled, a thread's pool is shut down under it."""
    with RunPool(gated.agent, max_running=1, max_queued=1) as pool:
        if kind == "tasks":

            async def main():
                mine = pool.as_asyncio()
                tasks = [asyncio.create_task(mine.run(str(number))) for number in range(200)]
                while pool._engine.room.waiting < 198:
                    await asyncio.sleep(0.001)
                for task in tasks[2::2]:
                    task.cancel()
                gated.open = True
                return await asyncio.gather(*tasks, return_exceptions=True)

            ended = asyncio.run(main())
            kept = [result.output for result in ended if not isinstance(result, BaseException)]
            assert kept == ["0", *(str(number) for number in range(1, 200, 2))]
        else:
            told = []

            def submit(number):
                try:
                    pool.submit(str(number))
                except Exception as error:
                    told.append(type(error).__name__)
                else:
                    told.append("submitted")

            threads = [threading.Thread(target=submit, args=(number,)) for number in range(20)]
            for thread in threads:
                thread.start()
            while pool._engine.room.waiting < 18:
                stop = threading.Event()
                stop.wait(0.001)
            pool.shutdown(wait=False)
            for thread in threads:
                thread.join(SECONDS)
            assert sorted(told) == ["SupervisorClosed"] * 18 + ["submitted"] * 2
            gated.open = True
    assert pool._engine.room.waiting == 0
