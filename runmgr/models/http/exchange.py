"""One request and its answer, on a connection of a pool.

The short way: a slot (no waiting while there is one), one ``send``, one wait, one ``recv``, and one cancel scope around it all.
Nothing else is scheduled.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import trio

from runmgr.models.http.errors import BrokenConnection, HttpError, HttpTimeout, MalformedResponse
from runmgr.models.http.pool import Pool
from runmgr.models.http.reply import MAX_BODY, MAX_STREAM, Reply, read_all
from runmgr.models.http.timeouts import Timeouts
from runmgr.models.http.wire import Connection

__all__ = ("PoolStream", "exchange")


async def exchange(pool: Pool, shown: str, request: bytes, limits: Timeouts) -> Reply:
    """Send a request, and read its whole answer, whatever its status.

    Args:
        pool: the connections.
        shown: the URL as errors may show it.
        request: all of the request.
        limits: how long it may take.

    A kept connection that turns out closed before the first byte of an answer is replaced once by a new one. Cancelling closes the
    connection at once.
    """
    connection = await pool.acquire()
    start = trio.current_time()
    end = math.inf if limits.total is None else start + limits.total
    reply: Reply | None = None
    try:
        with trio.CancelScope(deadline=end) as scope:
            connection = await _first(pool, connection, request, limits, scope, end)
            if not connection.done:
                await _rest(connection, limits, scope, end)
            reply = Reply(connection.status, connection.headers, connection.take(MAX_BODY))
        if reply is None:
            raise timed_out(limits, start, connection)
    except BaseException as error:
        # What `_first` opened and could not hand over, it has closed.
        if connection is not None:
            connection.close()
        pool.release(None)
        if isinstance(error, HttpError):
            error.url = shown
        raise
    pool.release(connection)
    return reply


class PoolStream:
    """A request on a connection of a pool, whose answer is read as it arrives.

    Args:
        pool: the connections.
        shown: the URL as errors may show it.
        request: all of the request.
        limits: how long it may take.
        headless: the answer has no body, whatever its headers say (HEAD).
    """

    __slots__ = (
        "_connection",
        "_end",
        "_headless",
        "_limits",
        "_pool",
        "_request",
        "_shown",
        "_start",
        "head",
    )

    def __init__(
        self, pool: Pool, shown: str, request: bytes, limits: Timeouts, *, headless: bool = False
    ) -> None:
        self._pool = pool
        self._shown = shown
        self._request = request
        self._headless = headless
        self._limits = limits
        self._connection: Connection | None = None
        self._start = self._end = 0.0
        self.head = Reply(0, [], b"")

    async def __aenter__(self) -> Self:
        limits = self._limits
        pool = self._pool
        connection = await pool.acquire()
        self._start = trio.current_time()
        self._end = end = math.inf if limits.total is None else self._start + limits.total
        try:
            with trio.CancelScope(deadline=end) as scope:
                connection = await _first(
                    pool, connection, self._request, limits, scope, end, headless=self._headless
                )
                while not connection.head_done:
                    await connection.receive()
                self._connection = connection
                self._request = b""
                self.head = Reply(connection.status, connection.headers, b"")
                return self
            raise timed_out(limits, self._start, connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            pool.release(None)
            if isinstance(error, HttpError):
                error.url = self._shown
            raise

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
                    data = connection.take(MAX_STREAM)
                    if connection.done:
                        self._release(connection)
                    if data or connection.done:
                        return data
                elif connection.done:
                    if connection.encoded:
                        connection.take(MAX_STREAM)  # asks the decompressor whether it, too, is at its end
                    self._release(connection)
                    return b""
                end = self._end
                if limits.between is not None:
                    end = min(end, trio.current_time() + limits.between)
                with trio.CancelScope(deadline=end) as scope:
                    await connection.receive()
                if scope.cancelled_caught:
                    raise timed_out(limits, self._start, connection)
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, HttpError) and not error.url:
                error.url = self._shown
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


def timed_out(limits: Timeouts, start: float, connection: Connection | None) -> HttpTimeout:
    """The error of a scope that ended a request: which limit it was."""
    if limits.total is not None and trio.current_time() >= start + limits.total:
        return HttpTimeout(f"no whole answer within {limits.total:g} s")
    if connection is not None and connection.received:
        return HttpTimeout(f"silent for {limits.between:g} s inside an answer")
    return HttpTimeout(f"no answer within {limits.first_byte:g} s")


async def _first(
    pool: Pool,
    connection: Connection | None,
    request: bytes,
    limits: Timeouts,
    scope: trio.CancelScope,
    end: float,
    *,
    headless: bool = False,
) -> Connection:
    """Send, and read the first bytes of the answer, on ``connection`` or, where that is None or proves dead, a new one.

    When it raises, whatever it opened is closed; closing what it was given is the caller's.
    """
    while True:
        fresh = connection is None
        if connection is None:
            connection = await pool.open()
        try:
            connection.begin(headless=headless)
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
