"""One request whose answer's bytes are handed on as they arrive: for who times them.

What a stream's reader pays for each piece (a scope of its own, a loop between two objects) is paid here once a request, so that
whoever measures a server measures less of itself.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio

from runmgr.models.http.errors import BrokenConnection, HttpError
from runmgr.models.http.exchange import timed_out
from runmgr.models.http.gather import Gather
from runmgr.models.http.pool import Pool
from runmgr.models.http.reply import MAX_STREAM
from runmgr.models.http.timeouts import Timeouts
from runmgr.models.http.wire import Connection

__all__ = ("Sink", "timed_exchange")


class Sink(Protocol):
    """What is told of a request as it goes. Neither may wait.

    Attributes:
        gather: reads the answer for it, with those of others; None: the request's own task does.
    """

    gather: Gather | None

    def sent(self) -> None:
        """The request has its place among the connections: it is sent now, after connecting where that is needed."""
        ...

    def arrived(self, status: int, data: bytes) -> None:
        """Bytes of the answer's body, never empty."""
        ...


async def timed_exchange(pool: Pool, shown: str, request: bytes, limits: Timeouts, sink: Sink) -> int:
    """Send a request and hand its answer on as it arrives; gives the status.

    Args:
        pool: the connections.
        shown: the URL as errors may show it.
        request: all of the request.
        limits: how long connecting and the whole may take; the others are not looked at.
        sink: is told.

    Nothing is sent twice: a kept connection that looked open and then ended without a byte of an answer is a failure, for who measures
    must see what the server saw. Cancelling closes the connection at once.

    Raises:
        HttpError: one of its subclasses, with the URL.
    """
    connection = await pool.acquire()
    sink.sent()
    start = trio.current_time()
    end = math.inf if limits.total is None else start + limits.total
    status = 0
    try:
        with trio.CancelScope(deadline=end):
            if connection is None:
                connection = await pool.open()
            connection.begin()
            try:
                await connection.send(request)
            except BrokenConnection:
                # A server that refuses a large body may answer and close before all of it is sent: look for its answer.
                if len(request) < 65_536:
                    raise
            arrived, gather = sink.arrived, sink.gather
            if gather is not None and type(connection) is Connection:
                await gather.read(connection, arrived)
            while not connection.done:
                await connection.receive()
                if connection.chunks and (data := connection.take(MAX_STREAM)):
                    arrived(connection.status, data)
            status = connection.status
        if not status:
            raise timed_out(limits, start, connection)
    except BaseException as error:
        if connection is not None:
            connection.close()
        pool.release(None)
        if isinstance(error, HttpError):
            error.url = shown
        raise
    pool.release(connection)
    return status
