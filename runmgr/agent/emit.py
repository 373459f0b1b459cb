"""Events of a step that is under way, for readers in the same task or in another."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar

from runmgr.messages import HandleResponseEvent

__all__ = ("Collected", "Emit", "HostEmit", "StepEmit", "Stepwise")

T = TypeVar("T")


class Emit(Protocol):
    """Where a step's events go. There is none unless somebody listens, and then no event is built."""

    from_tasks: bool
    """Whether it may be called from tasks that the step starts."""

    async def __call__(self, event: HandleResponseEvent, /) -> None:
        """Tell of an event; may wait until it is read."""
        ...


class _Handed:
    """What travels from the step to its reader, past trio."""

    __slots__ = ("event",)

    def __init__(self, event: Any) -> None:
        self.event = event


@types.coroutine
def _hand(item: _Handed) -> Generator[_Handed]:
    yield item


class Stepwise(Generic[T]):
    """Runs a coroutine in the caller's task from event to event, without a task or scope of its own.

    The coroutine calls `emit`, and stands still there until the reader asks for the next event: like an async generator,
    for code that is an ordinary coroutine otherwise. It must not stand still inside a nursery, which is why ``from_tasks``
    is false: what tasks have to tell is told when they have ended.
    """

    __slots__ = ("_ended", "_work", "result")

    result: T

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._ended = False

    def __aiter__(self) -> Stepwise[T]:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        handed = await self._step()
        if handed is None:
            raise StopAsyncIteration
        return handed.event

    @types.coroutine
    def _step(self) -> Generator[Any, Any, _Handed | None]:
        # What trio's traps yield goes on to trio, and what trio answers goes back in; only our own kind stops here.
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                trap = self._work.send(answer) if error is None else self._work.throw(error)
            except StopIteration as stop:
                self._ended = True
                self.result = stop.value
                return None
            except BaseException:
                self._ended = True
                raise
            if type(trap) is _Handed:
                return trap
            answer = error = None
            try:
                answer = yield trap
            except BaseException as raised:  # noqa: BLE001 (trio cancels by raising here: it is the coroutine's to see)
                error = raised

    def close(self) -> None:
        """Give up: the coroutine sees ``GeneratorExit`` where it stands."""
        self._ended = True
        self._work.close()


class StepEmit:
    """`Emit` for a coroutine that `Stepwise` runs."""

    __slots__ = ()
    from_tasks = False

    async def __call__(self, event: HandleResponseEvent, /) -> None:
        await _hand(_Handed(event))


class HostEmit:
    """`Emit` to a supervisor."""

    __slots__ = ("_emit",)
    from_tasks = True

    def __init__(self, emit: Callable[[Any], None]) -> None:
        self._emit = emit

    async def __call__(self, event: HandleResponseEvent, /) -> None:
        self._emit(event)


class Collected:
    """`Emit` that keeps events until they can be told; bounded by the calls of one response."""

    __slots__ = ("events",)
    from_tasks = True

    def __init__(self) -> None:
        self.events: deque[HandleResponseEvent] = deque()

    async def __call__(self, event: HandleResponseEvent, /) -> None:
        self.events.append(event)
