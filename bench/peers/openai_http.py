"""The same requests by ``AsyncOpenAI`` on asyncio, as released and as it comes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "cases"))

from http_common import PROMPT, Server, arguments  # noqa: E402
from openai import AsyncOpenAI  # noqa: E402

args = arguments()


async def main() -> None:
    server = Server(args.delay, args.python)
    client = AsyncOpenAI(api_key="key", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
    errors = 0
    latencies: list[float] = []

    async def worker(count: int) -> None:
        nonlocal errors
        for _ in range(count):
            begun = time.perf_counter()
            try:
                answer = await client.chat.completions.create(
                    model="bench", messages=PROMPT, max_completion_tokens=100, temperature=0.0
                )
                assert answer.usage.completion_tokens == 60
            except Exception as error:
                errors += 1
                print(repr(error)[:300])
            latencies.append(time.perf_counter() - begun)

    async def everybody(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(args.connections):
                group.create_task(worker(count))

    async with client:
        await everybody(1)
        latencies.clear()
        count = max(1, args.requests // args.connections)
        server.start()
        await everybody(count)
        server.stop(count * args.connections, errors, latencies)


asyncio.run(main())
