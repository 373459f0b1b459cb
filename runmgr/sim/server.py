"""The simulated provider: routes, faults, limits, and what it saw.

``POST /v1/chat/completions`` (plain and streamed, any model name), ``GET /v1/models``, ``GET /stats``, ``POST /reset``.
Limits as providers enforce them: over ``max_in_flight`` or ``rpm`` a request gets a 429 with ``Retry-After`` and the
``x-ratelimit-*`` headers.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from runmgr.concurrency import open_timers
from runmgr.exceptions import UserError
from runmgr.models.sim_config import SimConfig
from runmgr.models.sim_engine import Engine, Plan
from runmgr.sim.chat import chunks, completion, decode, offer_of
from runmgr.sim.http import BadRequest, Disconnected, Exchange, serve_connection

__all__ = ("SimEntry", "SimServer", "open_sim_server", "serve")


@attrs.frozen
class SimEntry:
    """What the server did with one streamed request: the truth that a measurement can be held against. Seconds on trio's clock.

    Args:
        number: of the request, from 1.
        arrived: when all of it had been read.
        tokens: when each token was given to the kernel.
        finished: when the end was.
        input_tokens: of the prompt.
    """

    number: int
    arrived: float
    tokens: array[float]
    finished: float
    input_tokens: int


class SimServer:
    """What answers. ``url`` is its base URL (ends in ``/v1``); ``stats()`` what it saw.

    Tokens are counted once a response was written whole.
    """

    def __init__(
        self,
        config: SimConfig | None = None,
        *,
        answers: Mapping[str, str] | None = None,
        max_in_flight: int | None = None,
        rpm: int | None = None,
        log: Callable[[SimEntry], None] | None = None,
    ) -> None:
        self.engine = Engine(config, answers)
        self._log = log
        self.max_in_flight = max_in_flight
        self.rpm = rpm
        self.url = ""
        self.sleep_until: Callable[[float], Awaitable[None]] = trio.sleep_until
        self._window: deque[float] = deque()  # at most rpm sending times of the last minute
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0
        self._window.clear()

    def stats(self) -> dict[str, int]:
        """Requests, completed, limited, disconnected, faults by kind, tokens of whole responses, most in flight."""
        return {**self._counts, "max_in_flight": self._most_in_flight}

    async def answer(self, exchange: Exchange) -> None:
        """One request."""
        match exchange.method, exchange.path:
            case "POST", "/v1/chat/completions":
                await self._chat(exchange)
            case "GET", "/v1/models":
                model = {"id": "sim", "object": "model", "created": 0, "owned_by": "runmgr"}
                await exchange.send(200, {"object": "list", "data": [model]})
            case "GET", "/stats" | "/v1/stats":
                await exchange.send(200, self.stats())
            case "POST", "/reset" | "/v1/reset":
                self.reset()
                await exchange.send(200, {"ok": True})
            case method, path:
                await exchange.send(404, _error(f"no route {method} {path}", "not_found"))

    async def _chat(self, exchange: Exchange) -> None:
        self._counts["requests"] += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        try:
            if not await self._limited(exchange):
                await self._complete(exchange)
        except BadRequest as error:
            await exchange.send(400, _error(str(error), "invalid_request_error"))
        except Disconnected:
            self._counts["disconnected"] += 1
            raise
        finally:
            self._in_flight -= 1

    async def _limited(self, exchange: Exchange) -> bool:
        """Whether the request was over a limit, and answered so."""
        headers = {"retry-after": "1"}
        if self.rpm:
            now = trio.current_time()
            while self._window and now - self._window[0] >= 60:
                self._window.popleft()
            if len(self._window) >= self.rpm:
                wait = max(1, math.ceil(60 - (now - self._window[0])))
                headers = {
                    "retry-after": str(wait),
                    "x-ratelimit-limit-requests": str(self.rpm),
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": f"{wait}s",
                }
                self._counts["limited"] += 1
                await exchange.send(
                    429, _error("Rate limit reached for requests", "rate_limit_exceeded"), headers
                )
                return True
            self._window.append(now)
        if self.max_in_flight and self._in_flight > self.max_in_flight:
            self._counts["limited"] += 1
            await exchange.send(429, _error("Too many requests in flight", "rate_limit_exceeded"), headers)
            return True
        return False

    async def _complete(self, exchange: Exchange) -> None:
        began = trio.current_time()
        request = decode(exchange.body)
        plan = self.engine.plan(offer_of(request))
        number, model, created = self._counts["requests"], request.model, int(time.time())
        if plan.fault is not None and await self._fault(exchange, plan):
            return
        if not request.stream:
            if plan.seconds > 0:
                await trio.sleep(plan.seconds)
            data = completion(plan, number=number, model=model, created=created)
            if plan.fault == "truncate":
                await exchange.send_cut(data)
            await exchange.send(200, data)
        else:
            wants_usage = request.stream_options is not None and request.stream_options.include_usage
            tokens, tail = chunks(plan, number=number, model=model, created=created, usage=wants_usage)
            moments = await self._stream(exchange, plan, tokens, tail, began)
            if self._log is not None:
                self._log(SimEntry(number, began, moments, trio.current_time(), plan.input_tokens))
        self._counts["completed"] += 1
        self._counts["prompt_tokens"] += plan.input_tokens
        self._counts["completion_tokens"] += plan.output_tokens

    async def _fault(self, exchange: Exchange, plan: Plan) -> bool:
        """Act a fault out; False where the answer must begin first (a cut stream or body)."""
        fault = plan.fault
        self._counts[f"fault {fault}"] += 1
        match fault:
            case "429" | "500" | "503":
                headers = {} if fault == "500" else {"retry-after": "0.2"}
                await exchange.send(int(fault), _error(f"simulated {fault}", "server_error"), headers)
            case "disconnect":
                if plan.ttft > 0:
                    await trio.sleep(plan.ttft)
                await exchange.abort()
            case "hang":
                await trio.sleep(self.engine.config.hang)
                await exchange.abort()
            case "garbage":
                await exchange.send(200, b'{"id": "chatcmpl-x", "choices": [{"mess')
            case _:
                return False
        return True

    async def _stream(
        self, exchange: Exchange, plan: Plan, tokens: list[bytes], tail: list[bytes], began: float
    ) -> array[float]:
        """Stream an answer; gives when each token went out."""
        if plan.fault == "truncate":
            tokens = tokens[: len(tokens) // 2]
        due = began + plan.ttft
        await self._until(due)
        if not plan.gaps and plan.gap == 0:
            await exchange.start(first=b"".join(tokens))
            moments = array("d", [trio.current_time()] * len(tokens))
        else:
            await exchange.start(first=tokens[0] if tokens else b"")
            moments = array("d", [trio.current_time()])
            for number, token in enumerate(tokens[1:]):
                due += plan.gaps[number] if plan.gaps else plan.gap
                await self._until(due)
                await exchange.chunk(token)
                moments.append(trio.current_time())
        if plan.fault == "truncate":
            await exchange.abort()
        await exchange.end(b"".join(tail))
        return moments

    async def _until(self, deadline: float) -> None:
        """Sleep to a point on the plan's own timeline, so that lateness does not add up from token to token."""
        if deadline > trio.current_time():
            await self.sleep_until(deadline)


def _error(message: str, code: str) -> dict[str, object]:
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


@asynccontextmanager
async def open_sim_server(
    config: SimConfig | None = None,
    *,
    answers: Mapping[str, str] | None = None,
    max_in_flight: int | None = None,
    rpm: int | None = None,
    log: Callable[[SimEntry], None] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncGenerator[SimServer]:
    """A server that listens while the block runs; its ``url`` is set on entry. Leaving drops every connection.

    Args:
        config: latencies, lengths and faults.
        answers: known questions and answers.
        max_in_flight: more than these at once get a 429.
        rpm: more than these in a sliding minute get a 429.
        log: is told of each streamed answer that went out whole.
        host: the address to listen on.
        port: 0 takes a free one.

    Raises:
        UserError: the address cannot be listened on.
    """
    server = SimServer(config, answers=answers, max_in_flight=max_in_flight, rpm=rpm, log=log)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=4096)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from None
    bound = listeners[0].socket.getsockname()
    server.url = f"http://{host}:{bound[1]}/v1"
    # Tokens are many and each is slept for: one timer for all.
    async with open_timers() as timers, trio.open_nursery() as nursery:
        server.sleep_until = timers.sleep_until
        nursery.start_soon(partial(trio.serve_listeners, partial(_serve, server), listeners))
        yield server
        nursery.cancel_scope.cancel()


async def _serve(server: SimServer, stream: trio.SocketStream) -> None:
    await serve_connection(stream, server.answer)


async def serve(
    config: SimConfig | None = None,
    *,
    answers: Mapping[str, str] | None = None,
    max_in_flight: int | None = None,
    rpm: int | None = None,
    log: Callable[[SimEntry], None] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    listening: Callable[[str], None] = print,
) -> None:
    """Serve until cancelled; ``listening`` is told the base URL once connections are taken."""
    async with open_sim_server(
        config, answers=answers, max_in_flight=max_in_flight, rpm=rpm, log=log, host=host, port=port
    ) as server:
        listening(server.url)
        await trio.sleep_forever()
