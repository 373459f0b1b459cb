"""What the asyncio form of a pool gives for many items, and for the events of one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .asyncio_loop import Host, LoopBell, take_place
from .results import Batch
from .streams import StreamJob, next_event

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .engine import Engine

__all__ = ("AsyncioResults", "AsyncioRunStream")

T = TypeVar("T")


class AsyncioResults(Generic[T]):
    """What ``map`` and ``outcomes`` of an `AsyncioRunPool` give: iterate it, best as an ``async with`` block.

    Leaving the block, or `aclose`, cancels what has not ended and waits for it; where it is only forgotten, its runs are
    cancelled too. One task at a time.
    """

    def __init__(
        self,
        host: Host,
        batch: Batch,
        bell: LoopBell,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        begin: Callable[[], Awaitable[object]],
        outcomes: bool,
    ) -> None:
        self._host = host
        self._begin = begin
        self._batch = batch
        self._bell = bell
        self._items: Any = items
        self._iterator: Any = None
        self._pull: asyncio.Task[Any] | None = None
        self._fed = False
        self._error: BaseException | None = None
        self._outcomes = outcomes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next result; waits for it. Cancelling the wait loses none.

        Raises:
            RunFailed: of ``map``: the run failed. The map is closed then.
            RunCancelled: the same, where it was cancelled.
            Exception: whatever the iterable of items raised, after the results of the items before it.
        """
        batch = self._batch
        if not self._fed:
            await self._begin()
        if isinstance(self._items, AsyncIterable):
            await self._pull_async()
        else:
            await self._pull_sync()
        if not batch.open:
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopAsyncIteration
        await self._bell.wait_until(batch.ready)
        job = batch.take()
        self._host.jobs.discard(job)
        if self._outcomes and job.outcome is not None:
            return job.outcome  # pyright: ignore[reportReturnType]
        if job.error is not None:
            await self.aclose()
            raise job.error
        return job.result

    async def _pull_sync(self) -> None:
        batch = self._batch
        room = batch.engine.room
        if self._iterator is None:
            self._iterator = iter(self._items)
        pulled = 0
        while not self._fed and len(batch.open) < batch.window and (pulled < 2 or not batch.ready()):
            if not room.take_nowait():
                if batch.open:
                    return
                await take_place(self._host, batch.engine, batch.group)
            try:
                self._host.jobs.add(batch.begin(next(self._iterator)))
            except StopIteration:
                self._fed = True
                room.put_back()
            except BaseException as error:
                self._fed = True
                room.put_back()
                if not isinstance(error, Exception):
                    raise
                self._error = error
            pulled += 1

    async def _pull_async(self) -> None:
        """Pull while no result is ready. The wait for an item does not hold up results, and is not lost to them."""
        batch = self._batch
        room = batch.engine.room
        if self._iterator is None:
            self._iterator = aiter(self._items)
        pulled = 0
        while not self._fed and len(batch.open) < batch.window and (pulled < 2 or not batch.ready()):
            pull = self._pull
            if pull is None:
                pull = self._pull = asyncio.ensure_future(_item(self._iterator))
                pull.add_done_callback(self._rang)
            await self._bell.wait_until(lambda pull=pull: pull.done() or (batch.open and batch.ready()))
            if not pull.done():
                return
            if not room.take_nowait():
                if batch.open:
                    return
                await take_place(self._host, batch.engine, batch.group)
            self._pull = None
            try:
                item = pull.result()
            except Exception as error:  # noqa: BLE001  raised after the results of the items before it
                self._fed = True
                self._error = error
                room.put_back()
                return
            if item is _END:
                self._fed = True
                room.put_back()
                return
            self._host.jobs.add(batch.begin(item))
            pulled += 1

    def _rang(self, _: object) -> None:
        self._bell.ring()

    async def aclose(self) -> None:
        """Pull no more items, cancel what has not ended, and wait for its end. Idempotent."""
        self._fed = True
        self._error = None
        batch = self._batch
        batch.stop("its map was left")
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.cancel()
            await asyncio.wait([pull])
            if not pull.cancelled():
                pull.exception()
        await self._bell.wait_until(batch.stopped)
        self._host.jobs.difference_update(batch.open)
        batch.open.clear()
        batch.done.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._batch.stop("its map was forgotten")


_END = object()


async def _item(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


class AsyncioRunStream:
    """One run's events, for a task: iterate it, best as an ``async with`` block. The last is an `AgentRunResultEvent`.

    Leaving the block before the end, or `aclose`, cancels the run and waits for its end; so does cancelling the task that
    waits for an event. Where it is only forgotten, its run is cancelled too. One task at a time.
    """

    def __init__(
        self,
        host: Host,
        engine: Engine,
        agent: Any,
        prompt: Any,
        options: dict[str, Any],
        buffer: int,
        *,
        begin: Callable[[], Awaitable[object]],
    ) -> None:
        self._start = begin
        self._host = host
        self._engine = engine
        self._bell = LoopBell(host)
        self._job = StreamJob(engine, agent, prompt, options, self._bell, buffer)
        self._begun = self._told = False

    @property
    def run_id(self) -> str | None:
        """The run's identity; None until the pool has taken it up, unless it was given."""
        return self._job.run_id if self._job.handle is None else self._job.handle.run_id

    @property
    def result(self) -> Any:
        """The run's result; None until its last event was read."""
        return self._job.result if self._told else None

    async def _begin(self) -> None:
        if not self._begun:
            await self._start()
            await take_place(self._host, self._engine, self._job.group)
            self._begun = True
            self._host.jobs.add(self._job)
            self._engine.post(self._job.begin)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next event; waits for it.

        Raises:
            RunFailed: the run failed.
            RunCancelled: it was cancelled.
        """
        if self._told:
            raise StopAsyncIteration
        await self._begin()
        job, waiting = self._job, self._job.events.waiting
        if not waiting:
            try:
                await self._bell.wait_until(lambda: waiting or job.ended)
            except asyncio.CancelledError:
                await self.aclose()
                raise
        event = next_event(self)
        if self._told:
            self._host.jobs.discard(job)
        return event

    def cancel(self, reason: str = "its stream was cancelled") -> None:
        """Cancel the run, from any task or thread: the reader gets `RunCancelled`. Returns at once; no effect after the end."""
        self._job.stop(reason)

    async def aclose(self) -> None:
        """Cancel the run, if it has not ended, and wait for its end. Idempotent."""
        job = self._job
        self._told = True
        if self._begun:
            job.stop("its stream was left")
            await self._bell.wait_until(lambda: job.ended)
            self._host.jobs.discard(job)

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._begun:
            self._job.stop("its stream was forgotten")
            self._host.jobs.discard(self._job)
