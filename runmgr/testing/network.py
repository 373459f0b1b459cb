"""A network under the seed: the real HTTP client and the real decoding of answers, over connections that are only memory.

A request comes in as the bytes that the client sent, and the answer goes out as bytes in pieces, each at its time, until the
whole, a cut, a reset or nonsense. Nothing runs on the server's side: what it will send is worked out when a request is whole, and
whoever reads waits, in virtual time, for when the next piece arrives.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio

from runmgr.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from runmgr.models import Model
from runmgr.models.http.connect import network_of_run
from runmgr.models.http.errors import BrokenConnection, ConnectFailed
from runmgr.models.http.origin import Origin
from runmgr.models.http.wire import RECEIVE_SIZE, Connection
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

from .completions import completion, events
from .faults import Faults

if TYPE_CHECKING:
    from .life import Life

__all__ = ("BASE_URL", "TICKET", "SimulatedNetwork", "Ticket")

BASE_URL = "http://provider.simulated/v1"
TICKET = "x-simulated-request"
"""The header that tells which request of a model this is: bytes alone do not say what the answer should be."""

Piece: TypeAlias = tuple[float, bytes | OSError | None]
"""When something arrives, on trio's clock, and what: bytes, a reset, or (None) the end of the connection."""

_REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}
_NONSENSE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
    b"HTTP/1.1 OK\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
)


@attrs.define(eq=False)
class Ticket:
    """A request of a model, on its way through the network."""

    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters
    answer: ModelResponse | None = None
    """What the server answered last."""
    charged: list[RequestUsage] = attrs.field(factory=list[RequestUsage])
    """What it charged for, whether it arrived or not."""
    cut: bool = False
    """The answer does not arrive whole."""


class SimulatedNetwork:
    """Where connections lead to, and the server there.

    Args:
        answers: the model that knows what the server answers.
        faults: what goes wrong.
        rng: draws it.
    """

    def __init__(self, answers: Model, faults: Faults, rng: random.Random) -> None:
        self.answers = answers
        self.faults = faults
        self.rng = rng
        self.life: Life | None = None
        """The process that is connected now."""
        self.tickets: dict[str, Ticket] = {}
        self._number = 0

    def enter(self) -> None:
        """Have the connections of this ``trio.run`` lead here."""
        network_of_run.set(self.connect)

    def ticket(self, ticket: Ticket) -> str:
        """A number for a request, which its headers are to carry."""
        self._number += 1
        number = str(self._number)
        self.tickets[number] = ticket
        return number

    async def connect(self, origin: Origin, view: memoryview, generation: int) -> Connection:
        """Open a connection, or fail to.

        Raises:
            ConnectFailed: nobody listens.
        """
        await self.until(trio.current_time() + self.rng.random() * 0.05)
        if self.rng.random() < self.faults.disconnect / 4:
            raise ConnectFailed(f"cannot connect to {origin.host}: Connection refused")
        return _Wire(self, view, generation)

    async def until(self, at: float) -> None:
        """Wait; for ever where the process is gone meanwhile."""
        await trio.sleep_until(at)
        if self.life is not None and self.life.dead:
            await trio.sleep_forever()

    # ---------------------------------------------------------------- the server

    async def serve(self, request: bytes, *, reused: bool) -> list[Piece]:
        """What the server sends for a request.

        Args:
            request: all of its bytes.
            reused: on a connection that has served before: a client sends again at once what such a connection, closed, swallowed.
        """
        head, _, body = request.partition(b"\r\n\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
        }
        asked: dict[str, Any] = json.loads(body)
        ticket = self.tickets[headers[TICKET]]
        ticket.answer, ticket.cut = None, False
        rng, now = self.rng, trio.current_time()
        fault = self.faults.draw(rng)
        if fault in {"429", "500", "503"}:
            return self._refuse(now + rng.random() * 0.1, int(fault))
        if fault == "hang":
            return [(now + self.faults.hang_seconds, rng.choice((None, _reset())))]
        at = now + rng.random() * self.faults.latency
        if fault == "disconnect":
            return [(at, rng.choice((None, _reset())))]
        answer = await self._answer(ticket)
        number, created = self._number, int(now)
        name = str(asked["model"])
        streamed = bool(asked.get("stream"))
        if streamed:
            parts = events(answer, number=number, model=name, created=created, rng=rng)
            cut = fault is not None or rng.random() < self.faults.cut
        else:
            parts = [completion(answer, number=number, model=name, created=created)]
            cut = fault == "lost"
        if fault == "malformed":
            return self._garble(ticket, at, parts, streamed=streamed)
        data = self._encode(parts, streamed=streamed)
        pieces = self._split(data, at)
        if cut:
            ticket.cut = True
            # At least one byte arrives on a kept connection: without any, the client takes it for one that was closed before.
            sent = rng.randrange(1 if reused else 0, len(data))
            pieces = [*_first(pieces, sent), (pieces[-1][0], rng.choice((None, _reset())))]
        elif rng.random() < 0.1:
            pieces.append(
                (pieces[-1][0] + rng.choice((0.0, rng.random() * 4)), None)
            )  # it keeps no connections
        return pieces

    async def _answer(self, ticket: Ticket) -> ModelResponse:
        answers: list[ModelResponse] = []
        with trio.CancelScope(shield=True):  # what the server does, no client cancels
            answers.append(
                await self.answers.request_once(ticket.messages, ticket.settings, ticket.parameters)
            )
        (answer,) = answers
        ticket.answer = answer
        ticket.charged.append(answer.usage)
        return answer

    def _refuse(self, at: float, status: int) -> list[Piece]:
        rng = self.rng
        body = json.dumps(
            {"error": {"message": f"simulated {status}", "type": "simulated", "code": None}}
        ).encode()
        kind = "application/json"
        if status == 503 and rng.random() < 0.3:  # a proxy in front of it
            body, kind = (
                b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>",
                "text/html",
            )
        extra = "Retry-After: 1\r\n" if status != 500 and rng.random() < 0.5 else ""
        return self._split(_head(status, kind, len(body), extra) + body, at)

    def _garble(self, ticket: Ticket, at: float, parts: list[bytes], *, streamed: bool) -> list[Piece]:
        rng = self.rng
        ticket.cut = True
        how = rng.choice(("nonsense", "half", "empty", "inflate"))
        if how == "nonsense":
            return [(at, rng.choice(_NONSENSE)), (at, None)]
        if how == "inflate":  # said to be compressed, and is not
            body = b"".join(parts)
            return self._split(
                _head(200, "application/json", len(body), "Content-Encoding: gzip\r\n") + body, at
            )
        if streamed:
            whole = self._encode([b'data: {"id": "x", "choices": [{"delta": {"cont\n\n'], streamed=True)
        else:
            body = b'{"id": "x", "choices": []}' if how == "empty" else parts[0][: len(parts[0]) // 2]
            whole = _head(200, "application/json", len(body)) + body
        return self._split(whole, at)

    def _encode(self, parts: list[bytes], *, streamed: bool) -> bytes:
        if streamed or self.rng.random() < 0.3:
            kind = "text/event-stream" if streamed else "application/json"
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            return _head(200, kind, None, "Transfer-Encoding: chunked\r\n") + chunks + b"0\r\n\r\n"
        body, extra = b"".join(parts), ""
        if self.rng.random() < 0.3:
            body, extra = gzip.compress(body, mtime=0), "Content-Encoding: gzip\r\n"
        return _head(200, "application/json", len(body), extra) + body

    def _split(self, data: bytes, at: float) -> list[Piece]:
        """Bytes as they arrive: cut anywhere, a little apart."""
        rng = self.rng
        cuts = sorted(rng.randrange(1, len(data)) for _ in range(rng.choice((0, 0, 1, 5))))
        pieces: list[Piece] = []
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if begin < end:
                pieces.append((at, data[begin:end]))
                at += rng.random() * self.faults.latency / 20
        return pieces


class _Wire(Connection):
    """One connection, seen from the client. Parsing is `Connection`'s."""

    __slots__ = ("_closed_at", "_inbox", "_network", "_pieces")

    def __init__(self, network: SimulatedNetwork, view: memoryview, generation: int) -> None:
        super().__init__(None, view, generation)  # pyright: ignore[reportArgumentType]  there is no socket
        self._network = network
        self._inbox = b""
        self._pieces: deque[Piece] = deque()
        self._closed_at = float("inf")

    def is_alive(self) -> bool:
        return trio.current_time() < self._closed_at and not self._pieces

    async def send(self, data: bytes) -> None:
        network = self._network
        if network.life is not None and network.life.dead:
            await trio.sleep_forever()
        if trio.current_time() >= self._closed_at:
            self._closing = True
            raise BrokenConnection("the connection broke while sending: Connection reset by peer")
        self._inbox += data
        head, separator, body = self._inbox.partition(b"\r\n\r\n")
        assert separator, "the client sends a request's head in one piece"
        length = int(head.lower().rpartition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        request, self._inbox = self._inbox, b""
        if self.reused and network.rng.random() < network.faults.disconnect:
            # The server was just closing it, as this came: it never saw the request.
            self._pieces = deque([(trio.current_time(), None)])
        else:
            self._pieces = deque(await network.serve(request, reused=self.reused))

    async def receive(self) -> None:
        if not self._pieces:
            await trio.sleep_forever()  # it has said all that it has to say, and keeps the connection
        at, piece = self._pieces[0]
        await self._network.until(at)
        self._pieces.popleft()
        if isinstance(piece, bytes):
            for begin in range(0, len(piece), RECEIVE_SIZE):
                self._feed(memoryview(piece)[begin : begin + RECEIVE_SIZE])
            if self._pieces and self._pieces[0][1] is None:
                self._closed_at = self._pieces[0][0]  # whoever keeps it may see that, or may not
                if self.done:
                    self._pieces.clear()
        else:
            self._closed_at = trio.current_time()
            self._ended(piece)

    def close(self) -> None:
        self._parser = None
        self._closing = True
        self._closed_at = 0.0


def _head(status: int, kind: str, length: int | None, extra: str = "") -> bytes:
    measured = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n{measured}{extra}\r\n".encode()


def _first(pieces: list[Piece], count: int) -> list[Piece]:
    """The first bytes of what would arrive."""
    kept: list[Piece] = []
    for at, piece in pieces:
        assert isinstance(piece, bytes)
        if count <= 0:
            break
        kept.append((at, piece[:count]))
        count -= len(piece)
    return kept


def _reset() -> OSError:
    return ConnectionResetError(104, "Connection reset by peer")


def shown(response: ModelResponse) -> list[tuple[str, ...]]:
    """What must be the same at both ends of the wire."""
    parts: list[tuple[str, ...]] = []
    for part in response.parts:
        if isinstance(part, TextPart):
            parts.append(("text", part.content))
        elif isinstance(part, ToolCallPart):
            parts.append(("call", part.tool_name, part.args_as_json_str(), part.tool_call_id))
        else:
            parts.append((part.part_kind,))
    return parts
