"""As much of an HTTP/1.1 server as a simulated provider needs: one task a connection, keep-alive, chunked answers.

Not for the open internet: no TLS, no pipelining, no upgrade. It exists because a simulated provider must not be what a
load test measures: it parses with httptools, and a plain answer costs one ``recv`` and one ``send``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httptools
import trio

__all__ = ("BadRequest", "Disconnected", "Exchange", "serve_connection")

MAX_BODY: Final = 32 * 1024 * 1024
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class BadRequest(Exception):
    """The request cannot be understood; its text goes back as a 400."""


class Disconnected(Exception):
    """The client went away while it was being answered."""


class Exchange:
    """One request and the ways to answer it. Exactly one of `send`, `start` (with `chunk` and `end`) or `abort`."""

    __slots__ = ("_stream", "body", "headers", "method", "path", "started")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.started = False

    async def send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer whole: JSON of ``value``, or bytes as they are."""
        self.started = True
        body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        kind = (
            "application/json"
            if not isinstance(value, bytes)
            else (headers or {}).get("content-type", "application/json")
        )
        extra = "".join(
            f"{name}: {text}\r\n" for name, text in (headers or {}).items() if name != "content-type"
        )
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n{extra}\r\n"
        )
        await self._write(head.encode("latin-1") + body)

    async def send_cut(self, body: bytes) -> None:
        """Announce the whole answer, send half of it, and drop the connection."""
        self.started = True
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        await self._write(head.encode("latin-1") + body[: len(body) // 2])
        await self.abort()

    async def start(self, headers: Mapping[str, str] | None = None, first: bytes = b"") -> None:
        """Begin a chunked answer of server-sent events; ``first`` is its first chunk, in the same write."""
        self.started = True
        extra = "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items())
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            f"transfer-encoding: chunked\r\n{extra}\r\n"
        )
        await self._write(head.encode("latin-1") + (_chunk(first) if first else b""))

    async def chunk(self, data: bytes) -> None:
        """One more chunk."""
        await self._write(_chunk(data))

    async def end(self, data: bytes = b"") -> None:
        """The end of a chunked answer, with a last chunk where there is one."""
        await self._write((_chunk(data) if data else b"") + b"0\r\n\r\n")

    async def abort(self) -> None:
        """Drop the connection without an answer, or in the middle of one."""
        self.started = True
        raise Disconnected

    async def _write(self, data: bytes) -> None:
        try:
            # Straight to the kernel, which has room nearly always: a token costs one system call and no checkpoint. Whoever
            # streams sleeps between tokens; whoever does not ends with the next read.
            sent = os.write(self._stream.socket.fileno(), data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            raise Disconnected from None
        if sent == len(data):
            return
        try:
            await self._stream.send_all(data[sent:])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Disconnected from None


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Reader:
    """Collects one request at a time from what httptools calls back."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._begin()

    def _begin(self) -> None:
        self.exchange = Exchange(self._stream)
        self.whole = False
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.exchange.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            raise BadRequest(f"the body is larger than {MAX_BODY} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.exchange.path = self._url.decode("latin-1").partition("?")[0]
        self.exchange.body = b"".join(self._body)
        self.whole = True


async def serve_connection(stream: trio.SocketStream, answer: Callable[[Exchange], Awaitable[None]]) -> None:
    """Read requests from one connection and answer them in order, until either side closes. Closes the stream."""
    stream.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY: tokens go out as they come
    reader = _Reader(stream)
    parser = httptools.HttpRequestParser(reader)
    async with stream:
        try:
            while True:
                while not reader.whole:
                    data = await stream.receive_some(65_536)
                    if not data:
                        return
                    parser.feed_data(data)
                exchange = reader.exchange
                exchange.method = parser.get_method().decode("ascii")
                reader.whole = False
                await answer(exchange)
                if not parser.should_keep_alive():
                    return
        except (trio.BrokenResourceError, Disconnected):
            # Linger of zero: the client sees a reset, as from a crashed provider, rather than a polite end.
            stream.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SOL_SOCKET, SO_LINGER
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, BadRequest) as error:
            body = json.dumps(
                {"error": {"message": f"bad request: {error}", "type": "invalid_request_error"}}
            ).encode()
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)
