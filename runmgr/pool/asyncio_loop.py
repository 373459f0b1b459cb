"""An asyncio event loop that waits for runs: one wake-up for all that has come, and waiters of all kinds."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .jobs import Job

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ("Host", "LoopBell", "LoopJob", "take_place")

_log = logging.getLogger("runmgr.pool")


class Host:
    """A loop, as the pool's thread sees it.

    Args:
        engine: the pool's thread.
        loop: the loop.
    """

    __slots__ = ("_awake", "_calls", "_engine", "jobs", "loop", "lost")

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lost = False
        """Whether the loop was found closed."""
        self.jobs: set[Job] = set()
        """Jobs that the loop waits for. The loop's own."""
        self._engine = engine
        self._calls: deque[Callable[[], object]] = deque()
        self._awake = False

    def post(self, call: Callable[[], object]) -> bool:
        """Have the loop do this, in order. From any thread; False where the loop is closed."""
        self._calls.append(call)
        if not self._awake:
            self._awake = True
            if not self._engine.wake_later(self):
                self.wake()
        elif self.loop.is_closed():  # it was woken, and closed before it looked
            self._lose()
        return not self.lost

    def wake(self) -> None:
        """Have the loop look."""
        try:
            self.loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            self._lose()

    def _drain(self) -> None:
        self._awake = False
        take = self._calls.popleft
        while True:
            try:
                call = take()
            except IndexError:
                return
            call()

    def _lose(self) -> None:
        """The loop is closed: nobody is left to tell."""
        self._calls.clear()
        if not self.lost:
            self.lost = True
            if self.jobs:
                _log.warning(
                    "%s: an asyncio event loop was closed while it waited for %d runs; those that have not ended are "
                    "cancelled. Leave the pool's 'async with' block, or call its aclose(), before the loop is closed",
                    self._engine.name,
                    len(self.jobs),
                )
            for job in list(self.jobs):
                job.stop("its event loop was closed")


class LoopJob(Job):
    """A job that a task waits for."""

    __slots__ = ("_host", "_waiter")

    def __init__(self, host: Host, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any]) -> None:
        super().__init__(engine, agent, prompt, options)
        self._host = host
        self._waiter: asyncio.Future[None] = host.loop.create_future()
        host.jobs.add(self)

    def deliver(self) -> None:
        self._host.post(self._settle)

    def _settle(self) -> None:
        self._host.jobs.discard(self)
        if not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> Any:
        """The run's result. Cancelling cancels the run, and waits for its end; cancelling again does not wait."""
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.stop("its task was cancelled")
            self._waiter = self._host.loop.create_future()
            if self in self._host.jobs:  # else its end has been told meanwhile
                await self._waiter
            raise
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.result


class LoopBell:
    """A `Bell` for one task at a time."""

    __slots__ = ("_host", "_waiter", "_wanted")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wanted = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._wanted:
            self._wanted = False
            self._host.post(self._wake)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait until it is so. What makes it so is done before the bell is rung."""
        while not ready():
            self._waiter = self._host.loop.create_future()
            self._wanted = True
            if not ready():
                await self._waiter
            self._wanted = False


class _LoopWaiter:
    """A task that waits for a place."""

    __slots__ = ("_host", "future", "granted")

    def __init__(self, host: Host) -> None:
        self.granted = False
        self._host = host
        self.future: asyncio.Future[None] = host.loop.create_future()

    def wake(self) -> None:
        if not self._host.post(self._wake) and self.granted:
            self._host._engine.room.put_back()

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def take_place(host: Host, engine: Engine, group: str | None = "") -> None:
    """Wait until there is room for one more run, and take it. Cancelling takes none."""
    if engine.room.take_nowait():
        return
    waiter = _LoopWaiter(host)
    engine.room.line_up(waiter, group or "")
    try:
        await waiter.future
    except asyncio.CancelledError:
        engine.room.give_up(waiter)
        raise
    if not waiter.granted:
        raise engine.refusal()
