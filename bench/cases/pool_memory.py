"""Memory of a pool whose queue is full all the time: resident size every so many jobs, and whether any was lost.

8 threads and 100 asyncio tasks submit as fast as they get room, which is 500 places; one more thread tries `submit_nowait`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time

import trio

from runmgr import Agent, ModelResponse, TextPart
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.pool import PoolFull, RunPool

from common import rss_kib

parser = argparse.ArgumentParser()
parser.add_argument("--runs", type=int, default=100_000)
parser.add_argument("--marks", type=int, default=5)
args = parser.parse_args()


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    await trio.lowlevel.checkpoint()
    return ModelResponse(parts=[TextPart("the answer is 42")])


def main() -> None:
    agent = Agent(FunctionModel(answer), name="bench")
    stop = threading.Event()
    lock = threading.Lock()
    done = refused = 0

    def told(_: object) -> None:
        nonlocal done
        with lock:
            done += 1

    with RunPool(agent, max_running=100, max_queued=400) as pool:

        def submit() -> None:
            while not stop.is_set():
                pool.submit("prompt").add_done_callback(told)

        async def tasks() -> None:
            mine = pool.as_asyncio()

            async def one() -> None:
                while not stop.is_set():
                    await mine.run("prompt")
                    told(None)

            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(one())

        threads = [threading.Thread(target=submit) for _ in range(8)]
        threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
        for thread in threads:
            thread.start()
        marks: list[tuple[int, float]] = []
        while len(marks) < args.marks:
            try:
                pool.submit_nowait("prompt").add_done_callback(told)
            except PoolFull:
                refused += 1
                time.sleep(0.01)
            if done >= args.runs * (len(marks) + 1) // args.marks:
                marks.append((done, rss_kib()))
        stop.set()
        for thread in threads:
            thread.join()
    counted = pool._engine.supervisor._runtime.counts["succeeded"]
    json.dump({"marks": marks, "refused": refused, "done": done, "counted": counted}, sys.stdout)


if __name__ == "__main__":
    main()
