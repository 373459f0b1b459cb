"""``OpenAIChatModel.request_once``: message to request, over our pool, answer to parts."""

from __future__ import annotations

import time

import trio
from http_common import PROMPT, Server, arguments

from runmgr.messages import ModelRequest, SystemPromptPart, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.openai import OpenAIChatModel
from runmgr.providers.openai import OpenAIProvider

args = arguments()


async def main() -> None:
    server = Server(args.delay, args.python)
    provider = OpenAIProvider(f"http://127.0.0.1:{server.port}/v1", "key", max_connections=args.connections)
    model = OpenAIChatModel("bench", provider=provider)
    params = ModelRequestParameters()
    messages = [ModelRequest([SystemPromptPart(PROMPT[0]["content"]), UserPromptPart(PROMPT[1]["content"])])]
    settings = {"max_tokens": 100, "temperature": 0.0}
    errors = 0
    latencies: list[float] = []

    async def worker(count: int) -> None:
        nonlocal errors
        for _ in range(count):
            begun = time.perf_counter()
            try:
                response = await model.request_once(messages, settings, params)
                assert response.usage.output_tokens == 60
            except Exception as error:
                errors += 1
                print(repr(error)[:300])
            latencies.append(time.perf_counter() - begun)

    async def everybody(count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(args.connections):
                nursery.start_soon(worker, count)

    async with model:
        await everybody(1)
        latencies.clear()
        count = max(1, args.requests // args.connections)
        server.start()
        await everybody(count)
        server.stop(count * args.connections, errors, latencies)


trio.run(main)
