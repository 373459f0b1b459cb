"""A Flask service on threads: each request's thread waits for its own run.

    flask --app app run

The pool's thread starts with the first request: so every worker of a server that forks (gunicorn, uWSGI) has its own.
The model is `openai:gpt-4o-mini`, or what the variable MODEL says.
"""

import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from runmgr import Agent, RunFailed
from runmgr.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from runmgr.pool import PoolFull, RunPool

agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer briefly.")
pool = RunPool(agent, max_running=16, max_queued=100)  # what runs when the process ends is cancelled
app = Flask(__name__)


@app.get("/ask")
def ask() -> tuple[dict[str, Any], int]:
    try:
        future = pool.submit_nowait(request.args["question"], timeout=60)
    except PoolFull:
        return {"error": "try again later"}, 503
    try:
        result = future.result()
    except RunFailed as error:
        return {"error": str(error)}, 502
    return {"answer": result.output, "tokens": result.usage().total_tokens}, 200


@app.get("/stream")
def stream() -> Response:
    question = request.args["question"]

    def pieces() -> Iterator[str]:
        with pool.stream(question, timeout=60) as events:  # a client that goes away closes this generator
            for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    yield event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    yield event.delta.content_delta

    return Response(pieces(), mimetype="text/plain")


@app.get("/health")
def health() -> dict[str, Any]:
    snapshot = pool.snapshot()
    return {"states": snapshot.states, "queued": snapshot.queued}
