"""Connections to one origin: bounded, reused, first come first served, every step O(1).

Rules:

* A *slot* is the right to have one connection in use. At most ``limit`` slots are out; idle connections and slots
  together never exceed ``limit``.
* While anybody waits, a slot that comes back goes straight to who has waited longest, with its connection. Handing over
  is one synchronous step: whoever is cancelled before it leaves the queue, whoever is cancelled after it owns the slot and
  gives it back, so no slot is lost.
* Idle connections wait on a stack, so that what is not needed grows old at the bottom, and are dropped after ``expiry``
  seconds. Nobody watches them: age is looked at when a connection is taken or given back, and all of them are closed when the
  last user leaves, at ``close_idle``, and when ``trio.run`` ends.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from runmgr.models.http.connect import Dialer
from runmgr.models.http.wire import RECEIVE_SIZE, Connection

__all__ = ("IDLE_EXPIRY", "Pool")

IDLE_EXPIRY = 4.0
"""Seconds an idle connection is kept. Servers close theirs after 5 s in Node.js and uvicorn (so vLLM), later elsewhere;
ours go first, so that a request does not meet a connection that is just being closed."""


class Pool:
    """The connections of one ``trio.run`` to one origin.

    Args:
        dialer: opens connections.
        limit: how many may be open at once.
        expiry: seconds that an idle one is kept.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_expiry",
        "_generation",
        "_idle",
        "_in_use",
        "_limit",
        "_waiters",
        "dialer",
        "users",
    )

    def __init__(self, dialer: Dialer, limit: int, expiry: float = IDLE_EXPIRY) -> None:
        self.dialer = dialer
        self.users = 0
        self._limit = limit
        self._expiry = expiry
        self._generation = 0
        self._in_use = 0
        self._idle: deque[Connection] = deque()
        self._waiters: OrderedDict[Task, None] = OrderedDict()
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))

    @property
    def limit(self) -> int:
        """How many connections may be open at once."""
        return self._limit

    def resize(self, limit: int) -> None:
        """Change the limit. Raising it lets waiters in at once; lowering it interrupts nobody.

        Raises:
            ValueError: ``limit`` is under 1.
        """
        if limit < 1:
            raise ValueError(f"a pool needs room for at least one connection, not {limit}")
        self._limit = limit
        while self._waiters and self._in_use < limit:
            self._in_use += 1
            self._hand_over(None)
        while self._idle and self._in_use + len(self._idle) > limit:
            self._idle.popleft().close()

    def statistics(self) -> dict[str, int]:
        """Counts of what is ``in_use``, ``idle`` and ``waiting``, and the ``limit``."""
        return {
            "in_use": self._in_use,
            "idle": len(self._idle),
            "waiting": len(self._waiters),
            "limit": self._limit,
        }

    # -------------------------------------------------------------- slots

    def acquire_nowait(self) -> Connection | None:
        """Take a slot: an idle connection that looks alive, or None, with which to ``open`` one.

        Raises:
            trio.WouldBlock: no slot is free.
        """
        if self._in_use >= self._limit or self._waiters:
            raise trio.WouldBlock
        self._in_use += 1
        return self._pop_idle()

    async def acquire(self) -> Connection | None:
        """As ``acquire_nowait``, waiting for a slot in order of arrival. Cancelling leaves nothing behind."""
        if self._in_use < self._limit and not self._waiters:
            self._in_use += 1
            return self._pop_idle()
        task = current_task()
        self._waiters[task] = None

        def abort(_: RaiseCancelT) -> Abort:
            del self._waiters[task]
            return Abort.SUCCEEDED

        connection: Connection | None = await wait_task_rescheduled(abort)
        if connection is not None and not connection.is_alive():
            connection.close()
            return None
        return connection

    def _pop_idle(self) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if trio.current_time() - connection.idle_since >= self._expiry:
                connection.close()
                self._close_all_idle()  # the rest is older still
            elif connection.is_alive():
                return connection
            else:
                connection.close()
        return None

    def _hand_over(self, connection: Connection | None) -> None:
        task, _ = self._waiters.popitem(last=False)
        reschedule(task, outcome.Value(connection))

    async def open(self) -> Connection:
        """Open a connection for a slot that is held.

        Raises:
            ConnectFailed: the slot is still held then, and to be given back.
        """
        return await self.dialer.open(self._buffer, self._generation)

    def release(self, connection: Connection | None) -> None:
        """Give a slot back, with its connection where there is one. Closes one that cannot be reused. Never waits."""
        if connection is not None:
            if (
                connection.reusable
                and connection.generation == self._generation
                and self._in_use <= self._limit
            ):
                connection.reused = True
            else:
                connection.close()
                connection = None
        if self._waiters and self._in_use <= self._limit:
            self._hand_over(connection)
            return
        self._in_use -= 1
        idle = self._idle
        if connection is not None:
            connection.idle_since = now = trio.current_time()
            idle.append(connection)
            oldest = idle[0]
            while now - oldest.idle_since >= self._expiry:
                idle.popleft().close()
                oldest = idle[0]

    # -------------------------------------------------------------- closing

    def close_idle(self) -> None:
        """Close what is idle now, and what is in use as it comes back. The pool stays usable. Idempotent."""
        self._generation += 1
        self._close_all_idle()

    def _close_all_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        for connection in self._idle:
            connection.close()
