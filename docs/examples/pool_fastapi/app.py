"""A FastAPI service: whole answers, streamed answers, and a health check. A client that goes away cancels its run.

    uvicorn app:app

The model is `openai:gpt-4o-mini`, or what the variable MODEL says.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from runmgr import Agent, RunCancelled, RunFailed
from runmgr.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from runmgr.pool import PoolFull, RunPool

T = TypeVar("T")
agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer briefly.")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RunPool(agent, max_running=64, max_queued=1_000).as_asyncio() as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def gone(request: Request) -> None:
    """Wait until the client has gone away. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives; cancelled when the client goes away, for nobody would read it."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client has gone away")
        return await working
    finally:
        working.cancel()  # cancels the run, where it has not ended
        leaving.cancel()


@app.get("/ask")
async def ask(request: Request, question: str, tenant: str = "") -> dict[str, Any]:
    """The whole answer. Waits while the queue is full; 503 where that is better than waiting: `run_nowait`."""
    try:
        result = await unless_gone(request, app.state.pool.run_nowait(question, group=tenant, timeout=60))
    except PoolFull:
        raise HTTPException(503, "try again later", headers={"retry-after": "5"}) from None
    except RunFailed as error:
        raise HTTPException(502, str(error)) from error
    return {"answer": result.output, "tokens": result.usage().total_tokens}


@app.get("/stream")
async def stream(request: Request, question: str, tenant: str = "") -> StreamingResponse:
    """The answer while it comes, as plain text."""

    async def pieces() -> AsyncIterator[str]:
        async with app.state.pool.stream(question, group=tenant, timeout=60) as events:
            # A server tells of a client that went away only when it is asked, or when something is sent.
            leaving = asyncio.ensure_future(gone(request))
            leaving.add_done_callback(lambda _: events.cancel("the client has gone away"))
            try:
                async for event in events:
                    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                        yield event.part.content
                    elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                        yield event.delta.content_delta
            except (RunFailed, RunCancelled) as error:
                yield f"\n[{error}]"
            finally:
                leaving.cancel()

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/health")
async def health() -> dict[str, Any]:
    """How the pool stands. Fails where its thread does not answer within a second."""
    snapshot = await app.state.pool.snapshot()
    return {"states": snapshot.states, "queued": snapshot.queued, "cost": snapshot.cost}
