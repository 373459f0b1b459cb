"""A web service on trio: handlers share one supervisor; no pool, no second thread. Plain ASGI, for hypercorn.

    hypercorn --worker-class trio app:app

The model is `openai:gpt-4o-mini`, or what the variable MODEL says.
"""

import json
import os
from typing import Any
from urllib.parse import parse_qs

import trio

from runmgr import Agent, RunFailed, Supervisor, open_supervisor

agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer briefly.")
supervisor: Supervisor


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["path"] == "/health":
        await answer(send, 200, {"states": supervisor.snapshot().states})
    else:
        await ask(scope, receive, send)


async def live(receive: Any, send: Any) -> None:
    """From start-up to shutdown: this task owns the supervisor, and every run is its child."""
    global supervisor
    await receive()
    async with open_supervisor(max_running=64, max_queued=1_000) as supervisor:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def ask(scope: dict[str, Any], receive: Any, send: Any) -> None:
    question = parse_qs(scope["query_string"].decode())["question"][0]
    try:
        handle = supervisor.submit_nowait(agent, question, timeout=60)
    except trio.WouldBlock:
        await answer(send, 503, {"error": "try again later"})
        return
    async with trio.open_nursery() as nursery:

        async def cancel_when_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            handle.cancel("the client has gone away")

        nursery.start_soon(cancel_when_gone)
        outcome = await handle.outcome()
        nursery.cancel_scope.cancel()
    if outcome.succeeded:
        await answer(send, 200, {"answer": outcome.output, "tokens": outcome.usage.total_tokens})
    elif outcome.status == "failed":
        await answer(send, 502, {"error": str(RunFailed(outcome))})


async def answer(send: Any, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
