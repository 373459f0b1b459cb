"""Answers of many connections read by one task: for who measures many streams at once.

A task that waits for its own socket costs a system call, a reschedule and a switch for each piece of each stream. Here the sockets are
registered once a request in one epoll of their own, one task waits for that, reads whatever is there and hands it on; the request's own
task wakes when its answer is whole. Linux only, plain connections only; `timed_exchange` does without it elsewhere.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

import outcome
from trio.lowlevel import Abort, current_task, reschedule, wait_readable, wait_task_rescheduled

from runmgr.models.http.reply import MAX_STREAM
from runmgr.models.http.wire import AGAIN, Connection

__all__ = ("Gather",)

_AT_ONCE = 64
"""Sockets that are read before others have their turn: some hundred microseconds."""


class _Arrived(Protocol):
    def __call__(self, status: int, data: bytes, /) -> None: ...


class Gather:
    """Reads for all requests that ask it to. ``run`` has to be running in a nursery of whoever owns it."""

    available = hasattr(select, "epoll")
    """Whether this machine has what it takes."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = (
            None  # opened when it is first wanted: many a plan is never carried out
        )
        self._reading: dict[int, tuple[Connection, _Arrived, Any]] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        epoll, reading = self._opened(), self._reading
        try:
            while True:
                await wait_readable(epoll.fileno())
                for fd, _ in epoll.poll(0, _AT_ONCE):
                    one = reading.get(fd)
                    if one is not None:
                        self._read(fd, *one)
        finally:
            epoll.close()

    async def read(self, connection: Connection, arrived: _Arrived) -> None:
        """Wait until the answer is whole, its bytes having been handed to ``arrived``. Cancelling leaves the connection in the middle of it.

        Raises:
            HttpError: as `Connection.receive` does, and what ``arrived`` raises.
        """
        fd = connection.sock.fileno()
        self._reading[fd] = (connection, arrived, current_task())
        self._opened().register(fd, select.EPOLLIN)

        def abort(_: object) -> Abort:
            self._forget(fd)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def _read(self, fd: int, connection: Connection, arrived: _Arrived, task: Any) -> None:
        try:
            try:
                count = connection.sock.recv_into(connection._view)
            except AGAIN:
                return
            except OSError as error:
                connection._ended(error)
            else:
                if count:
                    connection._feed(connection._view[:count])
                else:
                    connection._ended(None)
            if connection.chunks and (data := connection.take(MAX_STREAM)):
                arrived(connection.status, data)
        except Exception as error:  # noqa: BLE001  it is the request's, and raised there
            self._forget(fd)
            reschedule(task, outcome.Error(error))
            return
        if connection.done:
            self._forget(fd)
            reschedule(task)

    def _forget(self, fd: int) -> None:
        del self._reading[fd]
        epoll = self._opened()
        if not epoll.closed:
            epoll.unregister(fd)

    def _opened(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
        return self._epoll
