"""A minimal provider on Starlette and hypercorn's trio worker, on a port: what `bench/sim.py` measures beside ``runmgr sim``."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

WORDS = [
    "the",
    "run",
    "keeps",
    "its",
    "place",
    "while",
    "many",
    "others",
    "wait",
    "and",
    "each",
    "one",
    "answers",
    "in",
    "turn",
]


async def chat(request):
    body = json.loads(await request.body())
    base = {"id": "x", "object": "chat.completion.chunk", "created": int(time.time()), "model": body["model"]}

    def event(**fields):
        return "data: " + json.dumps({**base, **fields}) + "\n\n"

    async def events():
        yield "".join(
            event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
            for word in [*WORDS, "again"]
        )
        usage = {"prompt_tokens": 1, "completion_tokens": 16, "total_tokens": 17}
        end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield end + event(choices=[], usage=usage) + "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def main() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.loglevel = "WARNING"
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    trio.run(partial(serve, app, config))


if __name__ == "__main__":
    main()
