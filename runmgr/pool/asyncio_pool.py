"""`AsyncioRunPool`: a pool for asyncio programs. Beside `asyncio_loop` and `asyncio_results` the one place that knows asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from runmgr.exceptions import UserError

from .asyncio_loop import Host, LoopBell, LoopJob, take_place
from .asyncio_results import AsyncioResults, AsyncioRunStream
from .errors import PoolFull
from .streams import BUFFER

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from runmgr.agent import AbstractAgent, AgentRunResult
    from runmgr.records.budgets import Budget, RateLimit
    from runmgr.records.outcomes import RunOutcome
    from runmgr.records.snapshots import SupervisorSnapshot
    from runmgr.supervisor import Supervisor
    from runmgr.usage import RunUsage

    from .pool import RunPool

__all__ = ("AsyncioRunPool",)

OutputT = TypeVar("OutputT")
T = TypeVar("T")


class AsyncioRunPool(Generic[OutputT]):
    """A `RunPool` for one asyncio event loop: waiting is awaiting, and cancelling a task cancels its run.

    ``async with RunPool(agent).as_asyncio() as pool`` starts the pool's thread, and waits at the end until every run has
    ended; an exception or a cancellation in the block cancels them first. A pool that had been started before stays open.
    Without a block (in a notebook) the thread starts with the first call, and `aclose` ends it.

    It belongs to the event loop that uses it first.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: RunPool[OutputT]) -> None:
        self._pool = pool
        self._engine = pool._engine
        self._owns = not pool._engine.started
        self._host: Host | None = None
        self._ready = False

    # ---------------------------------------------------------------- runs

    async def run(
        self, prompt: Any = None, *, agent: AbstractAgent[Any, Any] | None = None, **options: Any
    ) -> AgentRunResult[OutputT]:
        """Run, and wait for the result; first for room, while the queue is full.

        The run sees the caller's context variables. Cancelling cancels the run and waits for its end; cancelling again
        does not wait any longer.

        Args:
            prompt: text or a list of content parts.
            agent: another agent than the pool's.
            options: as in `Supervisor.submit`: ``run_id``, ``group``, ``priority``, ``timeout``, ``deadline``,
                ``metadata``, ``deps``, ``model``, ``message_history``, ...

        Raises:
            RunFailed: the run failed; the exception is its ``__cause__``.
            RunCancelled: the run was cancelled otherwise: the pool was, or another run's tool did it.
            SupervisorClosed: the pool was shut down, or is in another process.
        """
        host = await self._begin()
        engine = self._engine
        if not engine.room.take_nowait():
            await take_place(host, engine, options.get("group"))
        return await self._submit(host, agent, prompt, options).wait()

    async def run_nowait(
        self, prompt: Any = None, *, agent: AbstractAgent[Any, Any] | None = None, **options: Any
    ) -> AgentRunResult[OutputT]:
        """As `run`, but does not wait for room.

        Raises:
            PoolFull: the queue is full.
        """
        host = await self._begin()
        room = self._engine.room
        if not room.take_nowait():
            raise PoolFull(
                f"{self._engine.name} is full: {room.capacity} runs (max_running + max_queued) have not ended"
            )
        return await self._submit(host, agent, prompt, options).wait()

    def _submit(self, host: Host, agent: Any, prompt: Any, options: dict[str, Any]) -> LoopJob:
        engine = self._engine
        try:
            job = LoopJob(host, engine, self._pool._agent_for(agent), prompt, options)
            engine.post(job.begin)
        except BaseException:
            engine.room.put_back()
            raise
        return job

    def map(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        agent: AbstractAgent[Any, Any] | None = None,
        **options: Any,
    ) -> AsyncioResults[AgentRunResult[OutputT]]:
        """Run every item; iterate what this gives for the results.

        Items are pulled lazily. The first run that fails is raised, and cancels the others; use `outcomes` for runs that
        may fail.

        Args:
            items: prompts or `RunSpec` values, sync or async.
            ordered: give results in the order of the items instead of as they come.
            window: how many runs may be unfinished, or ended and not taken, at once; twice ``max_running`` when left out.
            agent: another agent than the pool's.
            options: for every item that does not say otherwise, as in `run`.
        """
        return self._map(items, window, agent, options, ordered=ordered, outcomes=False)

    def outcomes(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = False,
        window: int | None = None,
        agent: AbstractAgent[Any, Any] | None = None,
        **options: Any,
    ) -> AsyncioResults[RunOutcome]:
        """As `map`, but gives a `RunOutcome` for every run, whether it succeeded or not, as they come."""
        return self._map(items, window, agent, options, ordered=ordered, outcomes=True)

    def _map(
        self,
        items: Any,
        window: int | None,
        agent: Any,
        options: dict[str, Any],
        *,
        ordered: bool,
        outcomes: bool,
    ) -> AsyncioResults[Any]:
        host = self._bound()
        bell = LoopBell(host)
        batch = self._pool._batch(bell, window, agent, options, ordered=ordered)
        return AsyncioResults(host, batch, bell, items, begin=self._begin, outcomes=outcomes)

    def stream(
        self,
        prompt: Any = None,
        *,
        agent: AbstractAgent[Any, Any] | None = None,
        buffer: int = BUFFER,
        **options: Any,
    ) -> AsyncioRunStream:
        """Run one prompt and read its events while they happen: iterate what this gives, best as an ``async with`` block.

        Args:
            prompt: text or a list of content parts.
            agent: another agent than the pool's.
            buffer: events that may wait to be read; beyond it the run stands still.
            options: as in `run`.
        """
        host = self._bound()
        return AsyncioRunStream(
            host, self._engine, self._pool._agent_for(agent), prompt, options, buffer, begin=self._begin
        )

    # ---------------------------------------------------------------- watching

    async def ask(self, question: Callable[[Supervisor], T], *, timeout: float | None = 1.0) -> T:
        """Call a function with the supervisor, in the pool's thread, and wait for what it returns; see `RunPool.ask`.

        Raises:
            TimeoutError: the pool's thread did not answer: something blocks it.
            SupervisorClosed: it has ended.
        """
        host = await self._begin()
        answer = self._engine.ask(question)
        try:
            async with asyncio.timeout(timeout):
                await _done(host, answer)
        except TimeoutError:
            answer.cancel()
            raise TimeoutError(
                f"{self._engine.name} did not answer within {timeout} s: something blocks its thread, such as an async "
                "tool that does blocking work (make it a plain 'def')"
            ) from None
        return answer.result()

    async def snapshot(self, *, timeout: float | None = 1.0) -> SupervisorSnapshot:
        """How the pool stands, for health checks: see `RunPool.snapshot`."""
        return await self.ask(lambda supervisor: supervisor.snapshot(), timeout=timeout)

    @overload
    async def usage(self, by: None = None) -> RunUsage: ...
    @overload
    async def usage(self, by: Literal["model", "group", "run"]) -> dict[str, RunUsage]: ...
    async def usage(self, by: Literal["model", "group", "run"] | None = None) -> Any:
        """What was used so far: see `Supervisor.usage`."""
        return await self.ask(lambda supervisor: supervisor.usage(by))

    # ---------------------------------------------------------------- tenants

    async def set_group(
        self,
        group: str,
        *,
        weight: float | None = None,
        max_running: int | None = None,
        rate: RateLimit | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Make a group, or change one while its runs go on: see `RunPool.set_group`."""
        await self.ask(
            partial(
                self._engine.set_group,
                group,
                weight=weight,
                max_running=max_running,
                rate=rate,
                budget=budget,
            )
        )

    async def drop_group(self, group: str, *, cancel: str | None = None) -> bool:
        """Forget a group as soon as none of its runs is left: see `RunPool.drop_group`."""
        return await self.ask(partial(self._engine.drop_group, group, cancel))

    # ---------------------------------------------------------------- its life

    def _bound(self) -> Host:
        loop = asyncio.get_running_loop()
        host = self._host
        if host is None:
            host = self._host = Host(self._engine, loop)
        elif host.loop is not loop:
            raise UserError(
                f"{self._engine.name}: this as_asyncio() belongs to another event loop. Call pool.as_asyncio() once in each "
                "loop; they share the pool"
            )
        return host

    async def _begin(self) -> Host:
        host = self._bound()
        engine = self._engine
        engine.check_open()
        if not self._ready:
            engine.launch()
            await _done(host, engine.opened)
            engine.opened.result()
            self._ready = True
        return host

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(None if kind is None else f"the block raised {kind.__name__}")
        if kind is None and self._owns:
            self._engine.raise_error()

    async def aclose(self) -> None:
        """Take no more submissions, and wait until every run has ended. Cancelling cancels them. Idempotent.

        A pool that others started stays open; only this loop's runs are waited for.

        Raises:
            TooManyFailures: see ``max_failures``.
            JournalError: the journal could not be written.
        """
        await self._leave(None)
        if self._owns:
            self._engine.raise_error()

    def cancel(self, reason: str = "the pool was cancelled") -> None:
        """Take no more submissions and cancel every run; see `RunPool.cancel`."""
        self._engine.cancel(reason)

    async def _leave(self, reason: str | None) -> None:
        engine = self._engine
        host = self._bound()
        if self._owns:
            if reason is not None:
                engine.cancel(reason)
            else:
                engine.close()
            if not engine.started or engine.is_child:
                return
            end = engine.ended
        else:
            end = None
            if reason is not None:
                for job in host.jobs:
                    job.stop(reason)
        try:
            await self._ended(host, end)
        except asyncio.CancelledError:
            if self._owns:
                engine.cancel("its block was cancelled")
            else:
                for job in host.jobs:
                    job.stop("its block was cancelled")
            await self._ended(host, end)
            raise

    async def _ended(self, host: Host, end: Future[None] | None) -> None:
        if end is not None:
            await _done(host, end)
            self._engine.join(1.0)  # it has done everything but return
            return
        bell = LoopBell(host)
        while jobs := [job for job in host.jobs if not job.ended]:
            for job in jobs:
                job.bells = (*job.bells, bell)
            await bell.wait_until(lambda jobs=jobs: all(job.ended for job in jobs))

    def __repr__(self) -> str:
        return f"<AsyncioRunPool of {self._pool!r}>"


async def _done(host: Host, future: Future[Any]) -> None:
    """Wait for a thread's future without having it cancelled."""
    waiter: asyncio.Future[None] = host.loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(lambda _: host.post(wake))
    await waiter
