"""The same runs through several doors: the supervisor itself, a `RunPool` from asyncio and from threads, and ``trio.from_thread``.

``--in-flight`` runs are outstanding all the time (submitted, and their results not taken); 100 of them run at once.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import trio

from runmgr import Agent, ModelResponse, TextPart, open_supervisor
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.pool import RunPool

from common import Clock, report

parser = argparse.ArgumentParser()
parser.add_argument(
    "--door", choices=("supervisor", "asyncio", "threads", "map", "from_thread"), required=True
)
parser.add_argument("--runs", type=int, default=10_000)
parser.add_argument("--in-flight", type=int, default=1_000)
parser.add_argument("--threads", type=int, default=8)
args = parser.parse_args()
OPTIONS = {"max_running": 100, "max_queued": args.in_flight}


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    await trio.lowlevel.checkpoint()
    return ModelResponse(parts=[TextPart("the answer is 42")])


agent = Agent(FunctionModel(answer), name="bench")


def prompts(runs: int):
    return (f"prompt {index}" for index in range(runs))


def supervisor(runs: int) -> None:
    async def main() -> None:
        async with open_supervisor(**OPTIONS) as sup:
            async with sup.map(agent, prompts(runs), window=args.in_flight) as outcomes:
                done = 0
                async for outcome in outcomes:
                    assert outcome.succeeded
                    done += 1
                assert done == runs

    trio.run(main)


def from_asyncio(runs: int) -> None:
    async def main() -> None:
        async with RunPool(agent, **OPTIONS).as_asyncio() as pool:
            work = prompts(runs)
            done = 0

            async def worker() -> None:
                nonlocal done
                for prompt in work:
                    result = await pool.run(prompt)
                    assert result.output
                    done += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(args.in_flight):
                    group.create_task(worker())
            assert done == runs

    asyncio.run(main())


def in_threads(worker) -> None:
    threads = [threading.Thread(target=worker) for _ in range(args.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def from_threads(runs: int) -> None:
    done: list[int] = []
    with RunPool(agent, **OPTIONS) as pool:

        def worker() -> None:
            outstanding: deque = deque()
            mine = 0
            for prompt in prompts(runs // args.threads):
                if len(outstanding) >= args.in_flight // args.threads:
                    mine += bool(outstanding.popleft().result().output)
                outstanding.append(pool.submit(prompt))
            mine += sum(bool(future.result().output) for future in outstanding)
            done.append(mine)

        in_threads(worker)
    assert sum(done) == runs // args.threads * args.threads


def mapped(runs: int) -> None:
    with RunPool(agent, **OPTIONS) as pool:
        assert sum(1 for _ in pool.outcomes(prompts(runs), window=args.in_flight)) == runs


def from_thread(runs: int) -> None:
    """A thread for each outstanding run, each calling into trio for it and waiting there."""

    async def one(sup, prompt: str):
        handle = await sup.submit(agent, prompt)
        return await handle.result()

    async def main() -> None:
        async with open_supervisor(**OPTIONS) as sup:
            token = trio.lowlevel.current_trio_token()

            def call(prompt: str) -> bool:
                return bool(trio.from_thread.run(one, sup, prompt, trio_token=token).output)

            def feed() -> int:
                with ThreadPoolExecutor(args.in_flight) as executor:
                    return sum(executor.map(call, prompts(runs)))

            assert await trio.to_thread.run_sync(feed) == runs

    trio.run(main)


DOORS = {
    "supervisor": supervisor,
    "asyncio": from_asyncio,
    "threads": from_threads,
    "map": mapped,
    "from_thread": from_thread,
}
door = DOORS[args.door]
door(min(200, args.runs))
clock = Clock()
door(args.runs)
report(clock.figures(args.runs))
