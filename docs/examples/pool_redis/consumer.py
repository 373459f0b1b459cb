"""Jobs from a Redis stream: each at least once, and no finished one twice.

    python consumer.py redis://localhost:6379 [NAME]

Add jobs with ``XADD jobs * prompt "Why is the sky blue?"``; their results are added to the stream ``results``. Several
consumers share the work, each under a name of its own, which is also the name of its journal.

A job is acknowledged only after its result was added. A consumer that is killed in between gets the job again when it comes
back under its name; the message's id is the run's, so the journal then gives the outcome and the model is not asked again.
Jobs of a consumer that never comes back go to others after five minutes. The model is `openai:gpt-4o-mini`, or what the
variable MODEL says.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runmgr import Agent, RunCancelled, RunFailed
from runmgr.pool import AsyncioRunPool, RunPool

AT_ONCE = 16
ABANDONED_MS = 300_000
agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer briefly.")


async def work(redis: Redis, pool: AsyncioRunPool[str], job: bytes, fields: dict[bytes, bytes]) -> None:
    """One job, from the stream to the acknowledgement."""
    run_id = job.decode()
    try:
        result = await pool.run(fields[b"prompt"].decode(), run_id=run_id)
        found: dict[str, Any] = {"run_id": run_id, "output": result.output}
    except RunCancelled:  # this consumer stops: the journal keeps the run open, Redis keeps the job
        return
    except RunFailed as error:  # it has failed for good: resends are the supervisor's business
        found = {"run_id": run_id, "error": str(error)}
    async with redis.pipeline(transaction=True) as both:  # the result and the acknowledgement, or neither
        both.xadd("results", {"json": json.dumps(found)})
        both.xack("jobs", "runmgr", job)
        await both.execute()


async def jobs(redis: Redis, name: str) -> Any:
    """Jobs for this consumer: first what it did not finish last time, then what others left, then new ones."""
    after = "0"
    while True:
        if after != ">":
            reply = await redis.xreadgroup("runmgr", name, {"jobs": after}, count=AT_ONCE)
            found = reply[0][1]
            after = found[-1][0].decode() if found else ">"
        else:
            _, found, *_ = await redis.xautoclaim("jobs", "runmgr", name, ABANDONED_MS, count=1)
            if not found:
                reply = await redis.xreadgroup("runmgr", name, {"jobs": ">"}, count=1, block=500)
                found = reply[0][1] if reply else []
        for job, fields in found:
            yield job, fields


async def main(url: str, name: str = "one") -> None:
    here = asyncio.current_task()
    assert here is not None
    async with (
        Redis.from_url(url) as redis,
        RunPool(agent, max_running=AT_ONCE, journal=f"{name}.sqlite", resume=True).as_asyncio() as pool,
    ):

        def stop() -> None:
            pool.cancel("the consumer stops")  # before its tasks are: what the pool cancels can be resumed
            here.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            await redis.xgroup_create("jobs", "runmgr", id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        free = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            await free.acquire()
            async for job, fields in jobs(redis, name):
                task = group.create_task(work(redis, pool, job, fields))
                task.add_done_callback(lambda _: free.release())
                await free.acquire()  # no job is taken before there is room for it


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(*sys.argv[1:]))
