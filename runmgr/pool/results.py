"""``pool.map``: many items in, results out, with a bounded look-ahead.

Nothing is pulled between two results: the reader's own thread pulls items when it comes for the next result, two for each
one that is ready at once, and as many as there is room for while it would have to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from runmgr.supervisor import RunSpec

from .bells import Bell, ThreadBell
from .jobs import Job

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .engine import Engine

__all__ = ("Batch", "MapJob", "Results", "unpack")

T = TypeVar("T")

_SPEC_OPTIONS = tuple(field.name for field in attrs.fields(RunSpec) if field.name not in {"prompt", "agent"})


def unpack(agent: Any, item: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Agent, prompt and options of a map's item, which may be a `RunSpec`."""
    if not isinstance(item, RunSpec):
        return agent, item, options
    own = {name: value for name in _SPEC_OPTIONS if (value := getattr(item, name)) is not None}
    return agent if item.agent is None else item.agent, item.prompt, {**options, **own}


class MapJob(Job):
    """A job of a map."""

    __slots__ = ("_batch",)

    def __init__(self, batch: Batch, agent: Any, prompt: Any, options: dict[str, Any]) -> None:
        super().__init__(batch.engine, agent, prompt, options)
        self._batch = batch

    def deliver(self) -> None:
        batch = self._batch
        batch.done.append(self)
        batch.bell.ring()


class Batch:
    """The jobs of one map, on the reader's side.

    Args:
        engine: where they run.
        agent: what to run.
        options: for each of them.
        window: how many may be unfinished, or ended and not taken, at once.
        ordered: whether they are taken in the order in which they were begun.
        bell: the reader's.
    """

    __slots__ = ("_agent", "_options", "_ordered", "bell", "done", "engine", "open", "window")

    def __init__(
        self, engine: Engine, agent: Any, options: dict[str, Any], window: int, bell: Bell, *, ordered: bool
    ) -> None:
        self.engine = engine
        self.bell = bell
        self.window = window
        self.open: dict[MapJob, None] = {}
        """Begun and not taken, oldest first."""
        self.done: deque[MapJob] = deque()
        """Ended and not taken; of an ordered map, since the beginning of this wait."""
        self._agent = agent
        self._options = options
        self._ordered = ordered

    @property
    def group(self) -> str:
        """Whose runs they are, where their items do not say otherwise."""
        return self._options.get("group") or ""

    def begin(self, item: Any) -> MapJob:
        """Begin a job. Its place in the pool's room is taken already."""
        job = MapJob(self, *unpack(self._agent, item, self._options))
        self.open[job] = None
        self.engine.post(job.begin)
        return job

    def ready(self) -> bool:
        """Whether `take` would give something."""
        if self._ordered:
            self.done.clear()
            return bool(self.open) and next(iter(self.open)).ended
        return bool(self.done)

    def take(self) -> MapJob:
        """Take a job that is ready."""
        job = next(iter(self.open)) if self._ordered else self.done.popleft()
        del self.open[job]
        return job

    def stop(self, reason: str) -> None:
        """Cancel what has not ended, the youngest first: no run that waits gets the place of one that was cancelled."""
        for job in reversed(self.open):
            job.stop(reason)

    def stopped(self) -> bool:
        """Whether everything has ended."""
        return all(job.ended for job in self.open)


class Results(Generic[T]):
    """What ``map`` and ``outcomes`` of a `RunPool` give: iterate it. One thread at a time.

    Leaving it early (``close()``, or the end of its ``with`` block) cancels what has not ended and waits for it; where it is
    only forgotten, its runs are cancelled too.
    """

    def __init__(self, batch: Batch, bell: ThreadBell, items: Iterable[Any], *, outcomes: bool) -> None:
        self._batch = batch
        self._bell = bell
        self._items = iter(items)
        self._fed = False
        self._error: BaseException | None = None
        self._outcomes = outcomes

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """The next result; blocks for it.

        Raises:
            RunFailed: of ``map``: the run failed. The map is closed then.
            RunCancelled: the same, where it was cancelled.
            Exception: whatever the iterable of items raised, after the results of the items before it.
        """
        batch = self._batch
        self._pull()
        if not batch.open:
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopIteration
        self._bell.wait_until(batch.ready)
        job = batch.take()
        if self._outcomes and job.outcome is not None:
            return job.outcome  # pyright: ignore[reportReturnType]
        if job.error is not None:
            self.close()
            raise job.error
        return job.result

    def _pull(self) -> None:
        batch = self._batch
        room = batch.engine.room
        pulled = 0
        while not self._fed and len(batch.open) < batch.window and (pulled < 2 or not batch.ready()):
            if not room.take_nowait():
                if batch.open:
                    return
                batch.engine.take_place(batch.group)
            try:
                batch.begin(next(self._items))
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

    def close(self) -> None:
        """Pull no more items, cancel what has not ended, and wait for its end. Idempotent."""
        self._fed = True
        self._error = None
        self._batch.stop("its map was left")
        self._bell.wait_until(self._batch.stopped)
        self._batch.open.clear()
        self._batch.done.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._batch.stop("its map was forgotten")
