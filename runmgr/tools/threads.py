"""Sync functions of users (tools, validators, output functions) in worker threads.

A thread cannot be killed. When a call is cancelled, its thread is waited for up to ``grace`` seconds; then it is left
behind, its name is noted, and whatever it returns later is dropped. It keeps its place in the limiter until it really
ends, so that abandoned threads count against ``total_tokens`` and their number is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Generic, TypeVar, cast

import attrs
import trio

__all__ = ("DEFAULT_GRACE", "DEFAULT_TOOL_THREADS", "ToolThreads", "run_in_thread", "tool_threads")

T = TypeVar("T")

DEFAULT_TOOL_THREADS = 40
"""Threads that sync functions of one ``trio.run`` may use at once."""

DEFAULT_GRACE = 1.0
"""Seconds that a cancelled call waits for its thread."""


@attrs.define(eq=False)
class ToolThreads:
    """The threads for sync functions within one ``trio.run``.

    Args:
        limiter: its ``total_tokens`` is the number of threads at once; may be changed at any time.
        grace: seconds on trio's clock that a cancelled or timed-out call waits for its thread before leaving it.
        inline: call sync functions in the event loop instead, one after the other: for simulations, where time is virtual
            and would jump while a thread works.
    """

    limiter: trio.CapacityLimiter
    grace: float = DEFAULT_GRACE
    inline: bool = False
    _last: Lock | None = attrs.field(default=None, init=False, repr=False)

    def line_up(self, call: _Call[Any]) -> None:
        """Put a call that has its place behind the one before it."""
        call.before, self._last = self._last, call.begun


_threads: trio.lowlevel.RunVar[ToolThreads] = trio.lowlevel.RunVar("runmgr_tool_threads")


def tool_threads() -> ToolThreads:
    """The limiter and grace time of the current ``trio.run``, to look at or to change."""
    try:
        return _threads.get()
    except LookupError:
        threads = ToolThreads(trio.CapacityLimiter(DEFAULT_TOOL_THREADS))
        _threads.set(threads)
        return threads


class _Place:
    """A call's place in the limiter, and in the line: functions begin in the order in which they were called.

    trio's limiter yields after it gave a place, and the scheduler then shuffles who goes on, so a free place is taken
    without yielding; and of two threads that are started, either may be first, so the second waits for the first to begin.
    """

    __slots__ = ("_call", "_threads")

    def __init__(self, threads: ToolThreads, call: _Call[Any]) -> None:
        self._threads = threads
        self._call = call

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        limiter = self._threads.limiter
        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await limiter.acquire_on_behalf_of(borrower)
        self._threads.line_up(self._call)

    def release_on_behalf_of(self, borrower: object) -> None:
        self._threads.limiter.release_on_behalf_of(borrower)


class _Call(Generic[T]):
    """One function on its way through a thread; lets a cancelled caller learn that it has ended after all."""

    __slots__ = ("before", "begun", "dropped", "ended", "event", "function", "started", "token")

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.token = trio.lowlevel.current_trio_token()
        self.event: trio.Event | None = None
        self.before: Lock | None = None
        self.begun = Lock()
        self.begun.acquire()
        self.started = self.dropped = self.ended = False

    def __call__(self) -> T:
        # Each side writes its own flag before it reads the other's, so at least one of them sees both.
        if (before := self.before) is not None:
            before.acquire()  # only one call is behind another
        self.started = True
        self.begun.release()
        try:
            if self.dropped:
                raise trio.RunFinishedError  # nobody waits for the result; trio drops the error with it
            return self.function()
        finally:
            self.ended = True
            event = self.event
            if event is not None:
                with suppress(trio.RunFinishedError):
                    self.token.run_sync_soon(event.set)

    async def end_or(self, seconds: float) -> bool:
        """Whether the function ends (or never starts) within so many seconds, whatever is cancelled meanwhile."""
        self.dropped = True
        if not self.started:
            return True
        event = self.event = trio.Event()
        if not self.ended:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
                await event.wait()
        return self.ended


async def run_in_thread(
    name: str, function: Callable[[], T], /, *, abandoned: list[str] | None = None, grace: float | None = None
) -> T:
    """Call a sync function in a worker thread, with the caller's context variables.

    Waits for a place in the limiter, then for the function. Cancelling waits for the function up to ``grace`` seconds
    more, drops its result, and raises ``trio.Cancelled``; a function that still runs then is left behind, and ``name``
    is appended to ``abandoned``. ``trio.from_thread`` works in the function.

    Args:
        name: names the function in ``abandoned``.
        function: takes no arguments (bind them with ``functools.partial``).
        abandoned: where to note the name of a thread that was left behind.
        grace: seconds; by default ``tool_threads().grace``.
    """
    threads = tool_threads()
    if threads.inline:
        await trio.lowlevel.checkpoint()
        return function()
    call = _Call(function)
    try:
        place = cast("trio.CapacityLimiter", _Place(threads, call))  # trio asks for these two methods only
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=place)
    except trio.Cancelled:
        ended = await call.end_or(threads.grace if grace is None else grace)
        if not ended and abandoned is not None:
            abandoned.append(name)
        raise
    except Exception:
        if not call.started:
            call.begun.release()  # there was no thread to be had: whoever is behind need not wait
        raise
