"""A Django service on threads: each request's thread waits for its own run.

    gunicorn --threads 16 app:application

The pool's thread starts with the first request: so every worker has its own, with `--preload` too. In a project of yours, the
pool goes into a module beside the views, and the first lines here into the settings.
The model is `openai:gpt-4o-mini`, or what the variable MODEL says.
"""

import os
from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from runmgr import Agent, RunFailed
from runmgr.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from runmgr.pool import PoolFull, RunPool

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"], SECRET_KEY=os.urandom(32).hex()
    )

agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer briefly.")
pool = RunPool(agent, max_running=16, max_queued=100)  # what runs when the process ends is cancelled


def ask(request: HttpRequest) -> JsonResponse:
    try:
        future = pool.submit_nowait(request.GET["question"], timeout=60)
    except PoolFull:
        return JsonResponse({"error": "try again later"}, status=503)
    try:
        result = future.result()
    except RunFailed as error:
        return JsonResponse({"error": str(error)}, status=502)
    return JsonResponse({"answer": result.output, "tokens": result.usage().total_tokens})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces(question: str) -> Iterator[str]:
        with pool.stream(question, timeout=60) as events:  # a client that goes away closes this generator
            for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    yield event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    yield event.delta.content_delta

    return StreamingHttpResponse(pieces(request.GET["question"]), content_type="text/plain")


def health(request: HttpRequest) -> JsonResponse:
    snapshot = pool.snapshot()
    return JsonResponse({"states": snapshot.states, "queued": snapshot.queued})


urlpatterns = [path("ask", ask), path("stream", stream), path("health", health)]
application = get_wsgi_application()
