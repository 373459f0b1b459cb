"""One HTTP/1.1 connection: a socket, a parser, and the answer that is arriving.

The socket is the standard library's, non-blocking, waited for with ``trio.lowlevel``: a request costs one ``send``, one
wait and one ``recv`` where trio's stream classes add a checkpoint and a conflict detector to each. Nothing here times
anything out; whoever calls holds the cancel scope.

A connection is in one of four states, and only the first may be reused::

    idle      no request sent, or the last answer read to its end and the server keeps the connection
    busy      request sent, answer not whole
    spent     answer whole, but the server closes or sent more than it announced
    closed
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable
from typing import Any

import httptools
from trio.lowlevel import wait_readable, wait_writable

from runmgr.models.http.errors import BrokenConnection, MalformedResponse

__all__ = ("RECEIVE_SIZE", "Connection")

RECEIVE_SIZE = 65_536
"""Bytes asked of the kernel at a time; the buffer is one for all connections of a pool."""

_MAX_HEAD = 262_144
AGAIN = (BlockingIOError, InterruptedError)


class Connection:
    """A plain-text connection.

    Attributes:
        reused: an answer has been read from it before.
        idle_since: when it was given back, on trio's clock.
        received: whether any byte of the present answer has arrived.
        status: the answer's status, once ``head_done``.
        headers: names and values as sent.
        chunks: body bytes that arrived and nobody has taken yet.
        done: the answer is whole.
    """

    __slots__ = (
        "_closing",
        "_decoder",
        "_headless",
        "_parser",
        "_view",
        "chunks",
        "done",
        "generation",
        "head_done",
        "headers",
        "idle_since",
        "received",
        "reused",
        "sock",
        "status",
    )

    def __init__(self, sock: socket.socket, view: memoryview, generation: int = 0) -> None:
        self.sock = sock
        self.generation = generation
        self.reused = False
        self.idle_since = 0.0
        self.received = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.head_done = False
        self.done = False
        self._view = view
        self._closing = False
        self._headless = False
        self._decoder: Any = None
        self._parser: Any = httptools.HttpResponseParser(self)

    # -------------------------------------------------------------- what the parser calls

    def on_message_begin(self) -> None:
        if (
            self.done
        ):  # bytes after the end of the answer: nobody asked for them, so nothing after them can be trusted
            self._closing = True
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_done:
            return  # a trailer
        self.headers.append((name, value))
        if len(name) == 16 and name.lower() == b"content-encoding":
            self._decoder = _decoder(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            self.headers = []
            self._decoder = None
            return
        self.status = status
        self.head_done = True
        if self._headless:
            self.done = self._closing = True

    def on_body(self, data: bytes) -> None:
        self.chunks.append(data)

    def on_message_complete(self) -> None:
        if self.head_done and not self.done:
            self.done = True
            if not self._parser.should_keep_alive():
                self._closing = True

    # -------------------------------------------------------------- what the pool and client call

    def begin(self, *, headless: bool = False) -> None:
        """Forget the last answer. ``headless``: the answer has no body whatever its headers say (HEAD)."""
        self.received = 0
        self.headers = []
        self.chunks = []
        self.head_done = self.done = False
        self._headless = headless
        self._decoder = None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the answer was whole and the server keeps the connection."""
        return self.done and not self._closing

    @property
    def encoded(self) -> bool:
        """Whether the body is compressed."""
        return self._decoder is not None

    def is_alive(self) -> bool:
        """Whether an idle connection still looks open. One system call, no waiting."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except AGAIN:
            return True
        except OSError:
            return False
        return False  # closed by the server, or it talks out of turn

    async def send(self, data: bytes) -> None:
        """Send all of a request. Waits only while the kernel's buffer is full.

        Raises:
            BrokenConnection: the connection is gone. An answer may still be there to be read.
        """
        try:
            sent = self.sock.send(data)
        except AGAIN:
            sent = 0
        except OSError as error:
            self._closing = True
            raise BrokenConnection(f"the connection broke while sending: {error}") from error
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, view: memoryview) -> None:
        while view:
            await wait_writable(self.sock)
            try:
                view = view[self.sock.send(view) :]
            except AGAIN:
                continue
            except OSError as error:
                self._closing = True
                raise BrokenConnection(f"the connection broke while sending: {error}") from error

    async def receive(self) -> None:
        """Wait for bytes and parse them; look at ``head_done``, ``chunks`` and ``done`` afterwards.

        Raises:
            BrokenConnection: it ended before the first byte of the answer.
            MalformedResponse: it ended inside the answer, or what came is not HTTP.
        """
        sock = self.sock
        while True:
            await wait_readable(sock)
            try:
                count = sock.recv_into(self._view)
            except AGAIN:
                continue
            except OSError as error:
                self._ended(error)
                return
            if count:
                self._feed(self._view[:count])
            else:
                self._ended(None)
            return

    def _feed(self, data: memoryview) -> None:
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except Exception as error:
            self._closing = True
            if self.done:
                return  # garbage behind a whole answer: the answer stands, the connection does not
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            raise MalformedResponse(f"the answer is not HTTP/1.1: {cause or error}") from error
        if not self.head_done and self.received > _MAX_HEAD:
            self._closing = True
            raise MalformedResponse(f"the answer's headers are larger than {_MAX_HEAD} bytes")

    def _ended(self, error: OSError | None) -> None:
        self._closing = True
        why = f": {error}" if error else ""
        if not self.received:
            raise BrokenConnection(f"the server closed the connection without an answer{why}") from error
        if self.head_done and error is None and not self._announced():
            self.done = True  # an answer that ends where the connection does
            return
        raise MalformedResponse(
            f"the answer was cut short after {self.received} bytes, by the end of the connection{why}"
        ) from error

    def _announced(self) -> bool:
        return any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def take(self, limit: int) -> bytes:
        """The body bytes that have arrived, decompressed; empties ``chunks``.

        Raises:
            MalformedResponse: they do not decompress, or to more than ``limit`` bytes.
        """
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.chunks = []
        if self._decoder is None:
            return data
        try:
            data = self._decoder(data, limit, self.done)
        except zlib.error as error:
            raise MalformedResponse(f"the answer does not decompress: {error}") from error
        if data is None:
            raise MalformedResponse(f"the answer is larger than {limit} bytes when decompressed")
        return data

    def close(self) -> None:
        """Close at once. Idempotent, never waits."""
        self._parser = None  # parser and connection refer to each other
        self._closing = True
        self.sock.close()


def _decoder(encoding: bytes) -> Callable[[bytes, int, bool], bytes | None] | None:
    """Decompression of a content encoding that we ask for (gzip, deflate); None for what needs none.

    The returned function gives None when more than ``limit`` bytes come out.
    """
    name = encoding.strip().lower()
    if name in {b"", b"identity"}:
        return None
    if name in {b"gzip", b"x-gzip"}:
        return _Inflate(16 + zlib.MAX_WBITS)
    if name == b"deflate":
        return _Inflate(zlib.MAX_WBITS)
    raise ValueError(f"content encoding {encoding!r} was not asked for")


class _Inflate:
    __slots__ = ("_engine", "_produced", "_started", "_wbits")

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._engine = zlib.decompressobj(wbits)
        self._produced = 0
        self._started = False

    def __call__(self, data: bytes, limit: int, end: bool) -> bytes | None:
        room = limit - self._produced + 1
        try:
            out = self._engine.decompress(data, room)
        except zlib.error:
            if self._started or self._wbits < 0 or self._wbits > zlib.MAX_WBITS:
                raise
            self._wbits = -zlib.MAX_WBITS  # some servers send raw deflate, which RFC 9110 8.4.1.2 warns of
            self._engine = zlib.decompressobj(self._wbits)
            out = self._engine.decompress(data, room)
        self._started = self._started or bool(data)
        self._produced += len(out)
        if self._produced > limit:
            return None
        if end and self._started and not self._engine.eof:
            raise zlib.error("the compressed data ends too early")
        return out
