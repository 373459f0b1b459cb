"""The simulated provider: routes, faults, limits, and what it saw.

``POST /v1/chat/completions``, ``/v1/responses`` and ``/v1/messages`` (plain and streamed, any model name), ``GET /v1/models``,
``GET /metrics``, ``GET /stats``, ``POST /reset``. Limits as providers enforce them: over one of them a request gets a 429 with
``Retry-After``; what is left of those a minute is in the headers of every answer.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import attrs
import trio

from runmgr.concurrency import open_timers
from runmgr.exceptions import UserError
from runmgr.models.sim_config import SimConfig
from runmgr.models.sim_engine import Engine, Offer, Plan
from runmgr.sim.anthropic import MESSAGES
from runmgr.sim.chat import CHAT
from runmgr.sim.engine import EngineQueue, Request, open_engine_queue
from runmgr.sim.http import BadRequest, Disconnected, Exchange, serve_connection
from runmgr.sim.limits import Limits, retry_after
from runmgr.sim.metrics import CONTENT_TYPE, Metrics
from runmgr.sim.options import SimEntry, SimOptions
from runmgr.sim.prefix import PrefixCache
from runmgr.sim.responses import RESPONSES
from runmgr.sim.wire import Asked, Stamp, Wire, openai_error

__all__ = ("SimServer", "open_sim_server", "serve")

_WIRES = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/messages": MESSAGES}


class _Answer:
    """What became of one request so far."""

    __slots__ = (
        "arrived",
        "cached",
        "fault",
        "input",
        "number",
        "output",
        "queued",
        "reason",
        "route",
        "status",
        "tokens",
    )

    def __init__(self, number: int, route: str) -> None:
        self.number = number
        self.route = route
        self.status = 0
        self.fault: str | None = None
        self.arrived = trio.current_time()
        self.tokens: array[float] = array("d")
        self.queued = 0.0
        self.input = 0
        self.cached: int | None = None
        self.output = 0
        self.reason = ""


class SimServer:
    """What answers. ``url`` is its base URL (ends in ``/v1``); ``stats()`` what it saw. Made by `open_sim_server`.

    Tokens are counted once a response was written whole.
    """

    def __init__(self, config: SimConfig | None = None, options: SimOptions | None = None) -> None:
        self.options = options = options or SimOptions()
        self.engine = Engine(config, options.answers, options.scripts)
        if options.queue is not None and (self.engine.config.ttft.mean or self.engine.config.itl.mean):
            raise UserError(
                "--ttft and --itl are what the queue makes: leave them out, or leave out its options"
            )
        self.url = ""
        self.sleep_until: Callable[[float], Awaitable[None]] = trio.sleep_until
        self.cache = PrefixCache(options.cache_tokens, options.block_tokens) if options.cache_tokens else None
        self.queue: EngineQueue | None = None
        self._limits = Limits(options.max_in_flight, options.rpm, options.tpm)
        self.reset()

    def reset(self) -> None:
        """Forget what was seen; what is cached stays."""
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0
        self._limits.clear()
        self._metrics = Metrics()

    def stats(self) -> dict[str, int]:
        """Requests, completed, limited, disconnected, faults by kind, tokens of whole responses, most in flight."""
        return {**self._counts, "max_in_flight": self._most_in_flight}

    def metrics(self) -> bytes:
        """As ``GET /metrics`` gives it."""
        waiting = 0 if self.queue is None else len(self.queue.batcher.waiting)
        cache = self.cache
        return self._metrics.text(
            running=self._in_flight - waiting,
            waiting=waiting,
            cache=None if cache is None else (cache.asked, cache.hits, cache.used),
        )

    async def answer(self, exchange: Exchange) -> None:
        """One request."""
        wire = _WIRES.get(exchange.path)
        if wire is not None and exchange.method == "POST":
            await self._model(exchange, wire)
            return
        match exchange.method, exchange.path:
            case "GET", "/v1/models":
                model = {"id": "sim", "object": "model", "created": 0, "owned_by": "runmgr"}
                await exchange.send(200, {"object": "list", "data": [model]})
            case "GET", "/metrics":
                await exchange.send(200, self.metrics(), {"content-type": CONTENT_TYPE})
            case "GET", "/stats" | "/v1/stats":
                await exchange.send(200, self.stats())
            case "POST", "/reset" | "/v1/reset":
                self.reset()
                await exchange.send(200, {"ok": True})
            case method, path:
                await exchange.send(404, openai_error(404, f"no route {method} {path}", "not_found"))

    async def _model(self, exchange: Exchange, wire: Wire) -> None:
        self._counts["requests"] += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        seen = _Answer(self._counts["requests"], exchange.path)
        try:
            asked = wire.decode(exchange.body)
            seen.input = asked.offer.input_tokens
            if not await self._limited(exchange, wire, seen):
                await self._complete(exchange, wire, asked, seen)
        except BadRequest as error:
            seen.status = 400
            await exchange.send(400, wire.error(400, str(error), "invalid_request_error"))
        except Disconnected:
            self._counts["disconnected"] += 1
            raise
        finally:
            self._in_flight -= 1
            if self.options.log is not None:
                self.options.log(_entry(seen))

    async def _limited(self, exchange: Exchange, wire: Wire, seen: _Answer) -> bool:
        """Whether the request was over a limit, and answered so."""
        now = trio.current_time()
        refusal = self._limits.take(now, self._in_flight, seen.input)
        if refusal is None:
            return False
        self._counts["limited"] += 1
        seen.status = 429
        headers = {"retry-after": retry_after(refusal.after), **self._limits.headers(now, wire)}
        await exchange.send(429, wire.error(429, refusal.message, "rate_limit_exceeded"), headers)
        return True

    async def _complete(self, exchange: Exchange, wire: Wire, asked: Asked, seen: _Answer) -> None:
        plan = self.engine.plan(asked.offer)
        if plan.fault is not None:
            seen.fault = plan.fault
            if await self._fault(exchange, wire, plan, seen):
                return
        words = _words(asked.offer) if self.cache is not None or self.queue is not None else []
        place = nullcontext() if self.queue is None else self.queue.request(words, plan.output_tokens)
        if self.cache is not None and self.queue is None:
            seen.cached = self.cache.look_up(words)
        stamp = Stamp(seen.number, asked.model, int(time.time()), seen.cached)
        headers = self._limits.headers(seen.arrived, wire)
        with place as request:
            if asked.stream:
                await self._stream(exchange, wire, plan, stamp, seen, request, headers, usage=asked.usage)
            else:
                await self._plain(exchange, wire, plan, stamp, seen, request, headers)
        finished = trio.current_time()
        seen.status, seen.output = 200, plan.output_tokens
        seen.reason = "tool_calls" if plan.call is not None else "length" if plan.cut else "stop"
        if self.cache is not None:
            self.cache.add([*words, *(plan.text or "").encode().split()])
        self._limits.spend(finished, plan.output_tokens)
        self._counts["completed"] += 1
        self._counts["prompt_tokens"] += plan.input_tokens
        self._counts["completion_tokens"] += plan.output_tokens
        if seen.cached is not None:
            self._counts["cached_tokens"] += seen.cached
        self._metrics.add(
            seen.tokens,
            seen.arrived,
            finished,
            seen.queued,
            plan.input_tokens,
            plan.output_tokens,
            seen.reason,
        )

    async def _fault(self, exchange: Exchange, wire: Wire, plan: Plan, seen: _Answer) -> bool:
        """Act a fault out; False where the answer must begin first (a cut stream or body)."""
        fault = plan.fault
        self._counts[f"fault {fault}"] += 1
        match fault:
            case "429" | "500" | "503":
                seen.status = int(fault)
                headers = {} if fault == "500" else {"retry-after": "0.2"}
                await exchange.send(
                    int(fault), wire.error(int(fault), f"simulated {fault}", "server_error"), headers
                )
            case "disconnect":
                if plan.ttft > 0:
                    await trio.sleep(plan.ttft)
                await exchange.abort()
            case "hang":
                await trio.sleep(self.engine.config.hang)
                await exchange.abort()
            case "garbage":
                seen.status = 200
                await exchange.send(200, b'{"id": "chatcmpl-x", "choices": [{"mess')
            case _:
                return False
        return True

    async def _plain(
        self,
        exchange: Exchange,
        wire: Wire,
        plan: Plan,
        stamp: Stamp,
        seen: _Answer,
        request: Request | None,
        headers: dict[str, str],
    ) -> None:
        if request is not None:
            await request.upto(plan.output_tokens)
            stamp = self._admitted(request, stamp, seen)
        elif plan.seconds > 0:
            await trio.sleep(plan.seconds)
        data = wire.whole(plan, stamp)
        if plan.fault == "truncate":
            await exchange.send_cut(data)
        await exchange.send(200, data, headers)

    def _admitted(self, request: Request, stamp: Stamp, seen: _Answer) -> Stamp:
        """What the engine knows of a request that it has taken."""
        seen.queued = (request.admitted or request.arrived) - request.arrived
        if self.cache is None:
            return stamp
        seen.cached = request.cached
        return attrs.evolve(stamp, cached=request.cached)

    async def _stream(
        self,
        exchange: Exchange,
        wire: Wire,
        plan: Plan,
        stamp: Stamp,
        seen: _Answer,
        request: Request | None,
        headers: dict[str, str],
        *,
        usage: bool,
    ) -> None:
        """Stream an answer; ``seen.tokens`` says when each token went out."""
        moments = seen.tokens
        clock = trio.current_time
        if request is not None:
            await request.upto(plan.output_tokens // len(plan.calls) if plan.calls else 1)
            stamp = self._admitted(request, stamp, seen)
        tokens, tail = wire.events(plan, stamp, usage)
        pieces = len(tokens)
        if plan.fault == "truncate":
            tokens = tokens[: len(tokens) // 2]
        due = seen.arrived + plan.ttft
        await self._until(due)
        if request is None and not plan.gaps and plan.gap == 0:
            await exchange.start(headers, first=b"".join(tokens))
            moments.extend([clock()] * len(tokens))
        else:
            await exchange.start(headers, first=tokens[0] if tokens else b"")
            moments.append(clock())
            for number, token in enumerate(tokens[1:]):
                if request is not None:
                    await request.upto(max(1, plan.output_tokens * (number + 2) // pieces))
                else:
                    due += plan.gaps[number] if plan.gaps else plan.gap
                    await self._until(due)
                await exchange.chunk(token)
                moments.append(clock())
        if plan.fault == "truncate":
            await exchange.abort()
        await exchange.end(tail)

    async def _until(self, deadline: float) -> None:
        """Sleep to a point on the plan's own timeline, so that lateness does not add up from token to token."""
        if deadline > trio.current_time():
            await self.sleep_until(deadline)


def _words(offer: Offer) -> list[bytes]:
    """The prompt's tokens: a word each."""
    return offer.digest_of.replace(b"\0", b" ").split()


def _entry(seen: _Answer) -> SimEntry:
    return SimEntry(
        number=seen.number,
        route=seen.route,
        status=seen.status,
        fault=seen.fault,
        arrived=seen.arrived,
        tokens=seen.tokens,
        finished=trio.current_time(),
        queued=seen.queued,
        input_tokens=seen.input,
        cached_tokens=seen.cached or 0,
        output_tokens=seen.output,
    )


@asynccontextmanager
async def open_sim_server(
    config: SimConfig | None = None,
    options: SimOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    **more: Any,
) -> AsyncGenerator[SimServer]:
    """A server that listens while the block runs; its ``url`` is set on entry. Leaving drops every connection.

    Args:
        config: latencies, lengths and faults.
        options: everything else that it is.
        host: the address to listen on.
        port: 0 takes a free one.
        more: fields of `SimOptions`, instead of ``options``.

    Raises:
        UserError: the address cannot be listened on, or two options exclude each other.
    """
    server = SimServer(config, options or SimOptions(**more))
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=4096)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from None
    bound = listeners[0].socket.getsockname()
    server.url = f"http://{host}:{bound[1]}/v1"
    async with AsyncExitStack() as stack:
        # Tokens are many and each is slept for: one timer for all.
        timers = await stack.enter_async_context(open_timers())
        server.sleep_until = timers.sleep_until
        if server.options.queue is not None:
            server.queue = await stack.enter_async_context(
                open_engine_queue(server.options.queue, server.cache)
            )
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(partial(trio.serve_listeners, partial(_serve, server), listeners))
        yield server
        nursery.cancel_scope.cancel()


async def _serve(server: SimServer, stream: trio.SocketStream) -> None:
    await serve_connection(stream, server.answer)


async def serve(
    config: SimConfig | None = None,
    options: SimOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listening: Callable[[str], None] = print,
) -> None:
    """Serve until cancelled; ``listening`` is told the base URL once connections are taken."""
    async with open_sim_server(config, options, host=host, port=port) as server:
        listening(server.url)
        await trio.sleep_forever()
