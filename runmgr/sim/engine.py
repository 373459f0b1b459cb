"""The queueing model in trio's time, real or virtual: one task computes the steps and wakes who gets a token."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import trio

from runmgr.sim.prefix import PrefixCache
from runmgr.sim.queueing import Batcher, QueueConfig, Waiting

__all__ = ("EngineQueue", "Request", "open_engine_queue")

_Sleep = Callable[[float], Awaitable[None]]


class Request(Waiting):
    """A request whose task waits for its tokens."""

    __slots__ = ("_task", "taken")

    def __init__(self, words: Sequence[bytes], wanted: int, arrived: float) -> None:
        super().__init__(words, wanted, arrived)
        self._task: Any = None
        self.taken = 0

    async def token(self) -> None:
        """Wait until the next token is there. Cancellable."""
        self.taken += 1
        await self.upto(self.taken)

    async def upto(self, number: int) -> None:
        """Wait until this many tokens are there. Cancellable."""
        while self.produced < number:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self.taken = number

    def wake(self) -> None:
        """There is a token more."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class EngineQueue:
    """An engine that runs. Made by `open_engine_queue`.

    Attributes:
        batcher: what waits and what is computed.
        steps: how many there were.
    """

    def __init__(self, config: QueueConfig, cache: PrefixCache | None, sleep_until: _Sleep) -> None:
        self.batcher = Batcher(config, cache)
        self.steps = 0
        self._sleep_until = sleep_until
        self._idle: Any = None

    @contextmanager
    def request(self, words: Sequence[bytes], wanted: int) -> Generator[Request]:
        """A request that is in the engine while the block runs.

        Args:
            words: the prompt's tokens.
            wanted: tokens of the answer.
        """
        request = Request(words, max(1, wanted), trio.current_time())
        self.batcher.submit(request)
        task, self._idle = self._idle, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        try:
            yield request
        finally:
            if request.produced < request.wanted:
                self.batcher.drop(request)

    async def run(self) -> None:
        """Compute until cancelled."""
        batcher, clock = self.batcher, trio.current_time
        at = clock()
        while True:
            seconds = batcher.begin(at)
            if seconds is None:
                self._idle = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
                at = clock()
                continue
            # Steps follow a timeline of their own, so that a loop that is late does not make the engine slower.
            at += seconds
            if at > clock():
                await self._sleep_until(at)
            else:
                await trio.lowlevel.checkpoint()
            self.steps += 1
            for request in batcher.finish():
                cast("Request", request).wake()  # nothing else is submitted

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._idle = None
        return trio.lowlevel.Abort.SUCCEEDED


@asynccontextmanager
async def open_engine_queue(
    config: QueueConfig, cache: PrefixCache | None = None, *, sleep_until: _Sleep = trio.sleep_until
) -> AsyncGenerator[EngineQueue]:
    """An engine that computes while the block runs. Leaving it drops what waits.

    Args:
        config: how fast it is.
        cache: of prefixes, where it has one.
        sleep_until: how it sleeps.
    """
    queue = EngineQueue(config, cache, sleep_until)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        yield queue
        nursery.cancel_scope.cancel()
