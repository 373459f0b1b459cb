"""A run's events while they happen, handed from the pool's thread to a reader that may be slower.

The run is driven as any other, except that at each node its events are put into a bounded buffer; where the reader does not
keep up, the run stands still there, and so does the provider's stream behind it. Other runs do not notice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio

from runmgr.agent import AgentRunResultEvent, CallToolsNode, ModelRequestNode

from .bells import Bell, ThreadBell
from .jobs import Job

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .engine import Engine

__all__ = ("Events", "RunStream", "StreamJob", "StreamedAgent")

BUFFER = 256
"""Events that may wait for their reader."""


class Events:
    """A bounded buffer between a run and one reader in another thread.

    Args:
        engine: whose run it is.
        bell: the reader's.
        limit: how many events may wait.
    """

    __slots__ = ("_asked", "_bell", "_engine", "_limit", "_low", "_room", "waiting")

    def __init__(self, engine: Engine, bell: Bell, limit: int = BUFFER) -> None:
        self.waiting: deque[Any] = deque()
        self._engine = engine
        self._bell = bell
        self._limit = limit
        self._low = limit // 2
        self._room: trio.Event | None = None
        self._asked = False

    async def put(self, event: Any) -> None:
        """In the pool's thread: hand an event on; waits while the buffer is full."""
        waiting = self.waiting
        waiting.append(event)
        self._bell.ring()
        if len(waiting) >= self._limit:
            self._asked = False
            room = self._room = trio.Event()
            if len(waiting) > self._low:  # else the reader emptied it before it could know that we wait
                await room.wait()
            self._room = None

    def take(self) -> Any:
        """The reader's: the oldest event. There must be one."""
        event = self.waiting.popleft()
        if self._room is not None and not self._asked and len(self.waiting) <= self._low:
            self._asked = True
            self._engine.post(self._let_go)
        return event

    def _let_go(self) -> None:
        if self._room is not None:
            self._room.set()


class StreamedAgent:
    """Stands in for an agent whose runs are to tell their events."""

    __slots__ = ("_agent", "_events")

    def __init__(self, agent: Any, events: Events) -> None:
        self._agent = agent
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    @asynccontextmanager
    async def iter(self, *args: Any, **options: Any) -> AsyncGenerator[_StreamedRun]:
        async with self._agent.iter(*args, **options) as run:
            yield _StreamedRun(run, self._events)


class _StreamedRun:
    """The run, with the events of each step told before the step is done."""

    __slots__ = ("_events", "_run")

    def __init__(self, run: Any, events: Events) -> None:
        self._run = run
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    async def next(self, node: Any) -> Any:
        if isinstance(node, (ModelRequestNode, CallToolsNode)):
            put = self._events.put
            stream = cast("Any", node).stream  # of several kinds of nodes
            async with stream(self._run.ctx) as events:
                async for event in events:
                    await put(event)
        return await self._run.next(node)

    async def _step(self, node: Any) -> Any:
        """What a supervisor calls of a run of ours."""
        return await self.next(node)


class StreamJob(Job):
    """A job whose events a thread reads."""

    __slots__ = ("_bell", "events")

    def __init__(
        self, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any], bell: Bell, limit: int
    ) -> None:
        self._bell = bell
        self.events = Events(engine, bell, limit)
        super().__init__(engine, StreamedAgent(agent, self.events), prompt, options)

    def deliver(self) -> None:
        self._bell.ring()


class RunStream:
    """One run's events, for a thread: iterate it. The last one is an `AgentRunResultEvent`.

    Use it as a block: leaving that before the end cancels the run and waits for its end. One thread at a time.
    """

    def __init__(self, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any], buffer: int) -> None:
        self._engine = engine
        self._bell = ThreadBell()
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

    def _begin(self) -> None:
        if not self._begun:
            self._engine.take_place(self._job.group)
            self._begun = True
            self._engine.post(self._job.begin)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next event; blocks for it.

        Raises:
            RunFailed: the run failed.
            RunCancelled: it was cancelled.
        """
        if self._told:
            raise StopIteration
        self._begin()
        job, waiting = self._job, self._job.events.waiting
        self._bell.wait_until(lambda: waiting or job.ended)
        return next_event(self)

    def cancel(self, reason: str = "its stream was cancelled") -> None:
        """Cancel the run, from any thread: the reader gets `RunCancelled`. Returns at once; no effect after the end."""
        self._job.stop(reason)

    def close(self) -> None:
        """Cancel the run, if it has not ended, and wait for its end. Idempotent."""
        job = self._job
        self._told = True
        if self._begun:
            job.stop("its stream was left")
            self._bell.wait_until(lambda: job.ended)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._begun:
            self._job.stop("its stream was forgotten")


def next_event(stream: Any) -> Any:
    """What a stream gives next: an event that waits, or the end of a run that has ended."""
    job: StreamJob = stream._job
    if job.events.waiting:
        return job.events.take()
    stream._told = True
    error, job.error = job.error, None
    if error is not None:
        raise error
    return AgentRunResultEvent(job.result)
