"""Whole runs over HTTP through the supervisor: ``map`` over prompts with ``OpenAIChatModel``."""

from __future__ import annotations

import trio
from http_common import PROMPT, Server, arguments

from runmgr import Agent, open_supervisor
from runmgr.models.openai import OpenAIChatModel
from runmgr.providers.openai import OpenAIProvider

args = arguments()


async def main() -> None:
    server = Server(args.delay, args.python)
    provider = OpenAIProvider(f"http://127.0.0.1:{server.port}/v1", "key", max_connections=args.connections)
    model = OpenAIChatModel("bench", provider=provider)
    agent = Agent(
        model,
        system_prompt=PROMPT[0]["content"],
        model_settings={"max_tokens": 100, "temperature": 0.0},
        name="bench",
    )
    latencies: list[float] = []
    errors = 0
    async with open_supervisor(max_running=args.connections, max_queued=args.connections) as supervisor:

        async def everybody(count: int) -> None:
            nonlocal errors
            async with supervisor.map(agent, (PROMPT[1]["content"] for _ in range(count))) as outcomes:
                async for outcome in outcomes:
                    if outcome.status != "succeeded":
                        errors += 1
                        print(outcome.error)
                    latencies.append(outcome.finished_at - (outcome.started_at or 0))

        await everybody(args.connections)
        latencies.clear()
        server.start()
        await everybody(args.requests)
        server.stop(args.requests, errors, latencies)


trio.run(main)
