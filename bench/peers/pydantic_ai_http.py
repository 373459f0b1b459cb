"""Whole runs by Pydantic AI over HTTP: ``Agent.run`` with ``OpenAIChatModel``, under as many workers as there are connections."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "cases"))

from http_common import PROMPT, Server, arguments  # noqa: E402
from openai import AsyncOpenAI  # noqa: E402
from pydantic_ai import Agent  # noqa: E402
from pydantic_ai.models.openai import OpenAIChatModel  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402

args = arguments()


async def main() -> None:
    server = Server(args.delay, args.python)
    client = AsyncOpenAI(api_key="key", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
    model = OpenAIChatModel("bench", provider=OpenAIProvider(openai_client=client))
    agent = Agent(
        model,
        system_prompt=PROMPT[0]["content"],
        model_settings={"max_tokens": 100, "temperature": 0.0},
        name="bench",
    )
    errors = 0
    latencies: list[float] = []

    async def worker(count: int) -> None:
        nonlocal errors
        for _ in range(count):
            begun = time.perf_counter()
            try:
                result = await agent.run(PROMPT[1]["content"])
                assert result.output
            except Exception as error:
                errors += 1
                print(repr(error)[:300])
            latencies.append(time.perf_counter() - begun)

    async def everybody(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(args.connections):
                group.create_task(worker(count))

    await everybody(1)
    latencies.clear()
    count = max(1, args.requests // args.connections)
    server.start()
    await everybody(count)
    server.stop(count * args.connections, errors, latencies)


asyncio.run(main())
