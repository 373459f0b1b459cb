"""Sending a request and reading its answer, over a pool of our own.

The short way of a request: a slot (no waiting while there is one), one ``send``, one wait, one ``recv``, and one cancel scope
around it all. Nothing else is scheduled.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import trio

from runmgr.exceptions import UserError
from runmgr.models.http.errors import BrokenConnection, HttpError, HttpTimeout, MalformedResponse
from runmgr.models.http.local import PoolKey, existing_pool, pool_of_run
from runmgr.models.http.origin import parse_url, shown_url
from runmgr.models.http.pool import IDLE_EXPIRY, Pool
from runmgr.models.http.timeouts import Timeouts
from runmgr.models.http.wire import Connection

__all__ = (
    "MAX_BODY",
    "HttpClient",
    "PoolClient",
    "PoolStream",
    "Reply",
    "ReplyStream",
    "checked_headers",
    "default_limit",
    "read_all",
    "user_agent",
)

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that is read whole, before and after decompression; a larger one is an error."""

_MAX_STREAM = 1024 * 1024 * 1024


class Reply:
    """An answer, or the head of one.

    Args:
        status: the HTTP status.
        raw_headers: names and values as sent.
        body: the whole body, decompressed; empty for the head of a stream.
    """

    __slots__ = ("body", "raw_headers", "status")

    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.body = body

    @property
    def headers(self) -> dict[str, str]:
        """Headers with lower-case names; values of repeated ones joined by commas."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def __repr__(self) -> str:
        return f"<Reply {self.status}, {len(self.body)} bytes>"


class ReplyStream(Protocol):
    """An answer that is read as it arrives. Leaving its block early closes the connection."""

    @property
    def head(self) -> Reply:
        """Status and headers."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, never empty ones; ``b''`` at the end."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class HttpClient(Protocol):
    """What models send through."""

    @property
    def base_url(self) -> str: ...
    @property
    def timeouts(self) -> Timeouts: ...

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply: ...

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> ReplyStream: ...

    def resize(self, max_connections: int) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def default_limit() -> int:
    """Connections to one origin where nothing else is said: 1,000, or what three quarters of the process's limit of open files allow."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000 if soft == resource.RLIM_INFINITY else max(1, min(1_000, soft * 3 // 4))


class PoolClient:
    """Requests to one base URL.

    Holds settings and no connection; those belong to the running ``trio.run`` (see ``local``), so a client may be a
    global, and be used in one run after another or in several threads.

    Args:
        base_url: what paths are appended to.
        headers: sent with every request. Never shown in errors or ``repr``.
        max_connections: connections to the origin, shared with clients of the same settings.
        timeouts: where a request says nothing else.
        ssl_context: TLS settings; httpx2's defaults where None.
        idle_expiry: seconds an idle connection is kept.

    Raises:
        UserError: the URL or a header cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        ssl_context: ssl.SSLContext | None = None,
        idle_expiry: float = IDLE_EXPIRY,
    ) -> None:
        origin, target = parse_url(base_url)
        self._base_url = base_url
        self._shown = shown_url(base_url).rstrip("/")
        path, _, query = target.partition("?")
        self._path = path.rstrip("/")
        self._query = "?" + query if query else ""
        self._key = PoolKey(
            origin, ssl_context, timeouts.connect, max_connections or default_limit(), idle_expiry
        )
        self.timeouts = timeouts
        self._headers = {
            "host": origin.authority,
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "connection": "keep-alive",
            "user-agent": user_agent(),
            "content-type": "application/json",
        } | checked_headers(headers or {})
        self._prefixes: dict[str, bytes] = {}

    @property
    def base_url(self) -> str:
        """What paths are appended to."""
        return self._base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    # -------------------------------------------------------------- sending

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply:
        """POST and read the whole answer, whatever its status.

        Args:
            path: appended to the base URL, with a leading slash.
            body: sent as it is.
            headers: replace or add to the client's own.
            timeouts: instead of the client's own.

        A kept connection that turns out closed before the first byte of an answer is replaced once by a new one. Cancelling
        closes the connection at once.

        Raises:
            HttpError: one of its subclasses, with the URL.
            UserError: a header cannot be sent.
        """
        request = self._request(path, body, headers)
        limits = timeouts or self.timeouts
        pool = pool_of_run(self._key)
        start = trio.current_time()
        end = math.inf if limits.total is None else start + limits.total
        connection: Connection | None = None
        try:
            with trio.CancelScope(deadline=end) as scope:
                connection = await pool.acquire()
                try:
                    connection = await _first(pool, connection, request, limits, scope, end)
                    if not connection.done:
                        await _rest(connection, limits, scope, end)
                    reply = Reply(connection.status, connection.headers, connection.take(MAX_BODY))
                except BaseException:
                    # What was opened after `connection` was set has been closed where it failed.
                    if connection is not None:
                        connection.close()
                    pool.release(None)
                    raise
                pool.release(connection)
                return reply
        except HttpError as error:
            error.url = self._shown + path
            raise
        raise self._timeout(path, limits, start, connection)

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> PoolStream:
        """POST and read the answer as it comes: ``async with client.stream(...) as answer``, where entering waits for the
        answer's head. Arguments and errors as of ``post``.
        """
        return PoolStream(self, path, self._request(path, body, headers), timeouts or self.timeouts)

    def _request(self, path: str, body: bytes, headers: Mapping[str, str] | None) -> bytes:
        if headers:
            prefix = self._head(path, self._headers | checked_headers(headers))
        else:
            prefix = self._prefixes.get(path)
            if prefix is None:
                prefix = self._prefixes[path] = self._head(path, self._headers)
        return b"%b%d\r\n\r\n%b" % (prefix, len(body), body)

    def _head(self, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"POST {self._path}{path}{self._query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append("content-length: ")
        return "\r\n".join(lines).encode("latin-1")

    def _timeout(
        self, path: str, limits: Timeouts, start: float, connection: Connection | None
    ) -> HttpTimeout:
        if limits.total is not None and trio.current_time() >= start + limits.total:
            where = "" if connection is not None else ", spent waiting for a connection"
            error = HttpTimeout(f"no whole answer within {limits.total:g} s{where}")
        elif connection is not None and connection.received:
            error = HttpTimeout(f"silent for {limits.between:g} s inside an answer")
        else:
            error = HttpTimeout(f"no answer within {limits.first_byte:g} s")
        error.url = self._shown + path
        return error

    # -------------------------------------------------------------- connections

    def pool(self) -> Pool:
        """The running ``trio.run``'s connections for these settings."""
        return pool_of_run(self._key)

    def resize(self, max_connections: int) -> None:
        """Change how many connections the running ``trio.run`` may have open to this origin. Lowering interrupts nobody."""
        pool_of_run(self._key).resize(max_connections)

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when their answers are read. The client stays usable. Idempotent."""
        pool = existing_pool(self._key)
        if pool is not None:
            pool.close_idle()

    async def __aenter__(self) -> Self:
        """Be a user of the pool until the block ends; the last one to leave closes its idle connections."""
        pool_of_run(self._key).users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool = pool_of_run(self._key)
        pool.users -= 1
        if not pool.users:
            pool.close_idle()


class PoolStream:
    """The answer of ``PoolClient.stream``."""

    __slots__ = ("_client", "_connection", "_end", "_limits", "_path", "_pool", "_request", "_start", "head")

    def __init__(self, client: PoolClient, path: str, request: bytes, limits: Timeouts) -> None:
        self._client = client
        self._path = path
        self._request = request
        self._limits = limits
        self._connection: Connection | None = None
        self._start = self._end = 0.0
        self.head = Reply(0, [], b"")

    async def __aenter__(self) -> Self:
        limits = self._limits
        self._pool = pool = self._client.pool()
        self._start = trio.current_time()
        self._end = end = math.inf if limits.total is None else self._start + limits.total
        connection: Connection | None = None
        try:
            with trio.CancelScope(deadline=end) as scope:
                connection = await pool.acquire()
                try:
                    connection = await _first(pool, connection, self._request, limits, scope, end)
                    while not connection.head_done:
                        await connection.receive()
                except BaseException:
                    if connection is not None:
                        connection.close()
                    pool.release(None)
                    raise
                self._connection = connection
                self._request = b""
                self.head = Reply(connection.status, connection.headers, b"")
                return self
        except HttpError as error:
            error.url = self._client._shown + self._path
            raise
        raise self._client._timeout(self._path, limits, self._start, connection)

    async def receive(self) -> bytes:
        """The next bytes; ``b''`` at the end. Cancelling closes the connection.

        Raises:
            HttpTimeout: silent for too long, or the whole took too long.
            MalformedResponse: cut short.
        """
        connection = self._connection
        if connection is None:
            return b""
        limits = self._limits
        try:
            while True:
                if connection.chunks:
                    data = connection.take(_MAX_STREAM)
                    if connection.done:
                        self._release(connection)
                    if data or connection.done:
                        return data
                elif connection.done:
                    if connection.encoded:
                        connection.take(_MAX_STREAM)  # asks the decompressor whether it, too, is at its end
                    self._release(connection)
                    return b""
                end = self._end
                if limits.between is not None:
                    end = min(end, trio.current_time() + limits.between)
                with trio.CancelScope(deadline=end) as scope:
                    await connection.receive()
                if scope.cancelled_caught:
                    raise self._client._timeout(self._path, limits, self._start, connection)
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, HttpError) and not error.url:
                error.url = self._client._shown + self._path
            raise

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """Everything that is left, up to ``limit`` bytes; what is more is cut off."""
        return await read_all(self, limit)

    def _release(self, connection: Connection) -> None:
        self._connection = None
        self._pool.release(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connection is not None:
            self._connection = None
            connection.close()
            self._pool.release(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._drop(self._connection)


async def read_all(stream: ReplyStream, limit: int = MAX_BODY) -> bytes:
    """Everything that is left of a stream, up to ``limit`` bytes; what is more is cut off."""
    parts: list[bytes] = []
    while limit > 0 and (data := await stream.receive()):
        parts.append(data[:limit])
        limit -= len(data)
    return b"".join(parts)


async def _first(
    pool: Pool,
    connection: Connection | None,
    request: bytes,
    limits: Timeouts,
    scope: trio.CancelScope,
    end: float,
) -> Connection:
    """Send, and read the first bytes of the answer, on ``connection`` or, where that is None or proves dead, a new one.

    When it raises, whatever it opened is closed; closing what it was given is the caller's.
    """
    while True:
        fresh = connection is None
        if connection is None:
            connection = await pool.open()
        try:
            connection.begin()
            try:
                await connection.send(request)
            except BrokenConnection:
                # A server that refuses a large body may answer and close before all of it is sent: look for its answer.
                if len(request) < 65_536:
                    raise
            if limits.first_byte is not None:
                scope.deadline = min(end, trio.current_time() + limits.first_byte)
            await connection.receive()
        except BrokenConnection:
            connection.close()
            if fresh:
                raise
            connection = None
            scope.deadline = end
        except BaseException:
            connection.close()
            raise
        else:
            if limits.between is not None or limits.first_byte is not None:
                _push(scope, limits, end)
            return connection


async def _rest(connection: Connection, limits: Timeouts, scope: trio.CancelScope, end: float) -> None:
    """Read until the answer is whole."""
    between = limits.between
    while not connection.done:
        await connection.receive()
        if connection.received > MAX_BODY:
            raise MalformedResponse(f"the answer is larger than {MAX_BODY} bytes")
        if between is not None and scope.deadline - trio.current_time() < between:
            _push(scope, limits, end)


def _push(scope: trio.CancelScope, limits: Timeouts, end: float) -> None:
    if limits.between is None:
        scope.deadline = end
    else:
        scope.deadline = min(end, trio.current_time() + limits.between * 1.125)


def user_agent() -> str:
    """How we introduce ourselves."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"runmgr/{version('runmgr')}"
    except PackageNotFoundError:
        return "runmgr"


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names, refused where they would break out of their line. Never shows a value."""
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not name or not name.isascii() or any(character <= " " or character == ":" for character in name):
            raise UserError(f"{name!r} is not the name of an HTTP header")
        text = str(value).strip(" \t")
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            raise UserError(f"The value of header {name!r} has characters that HTTP cannot carry.") from None
        if any(character < " " and character != "\t" for character in text):
            raise UserError(f"The value of header {name!r} has a line break or control character.")
        if name.lower() != "content-length":
            checked[name.lower()] = text
    return checked
