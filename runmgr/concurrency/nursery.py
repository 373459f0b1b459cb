"""A nursery to build an ``open_x()`` on: it ends with its body, and the body's exception comes out bare."""

from __future__ import annotations

from types import TracebackType

import trio

from .inside import check_in_trio

__all__ = ("BareNursery",)


class BareNursery:
    """``async with BareNursery() as nursery:`` for the tasks that serve the body of an ``open_x()`` block.

    When the body is left, however that happened, the tasks are cancelled and awaited (with ``wait=True`` only awaited, if
    the body did not raise). An exception of the body is then raised as it is, not in a group. If a task raised, a
    `RuntimeError` with the text given as ``internal`` is raised from the group of what the tasks raised, with the body's
    exception as its context. (One case is left to trio: if the tasks' scope was cancelled and the body raises a group that holds
    that cancellation and more, the rest comes out in a group.)

    Cancelling from outside cancels body and tasks; the exit does not return before the tasks have.

    Args:
        internal: what to call a failure of a task, for people.
        wait: whether leaving the body normally waits for the tasks instead of cancelling them.
    """

    __slots__ = ("_internal", "_manager", "_nursery", "_wait")

    def __init__(self, internal: str = "a background task failed", *, wait: bool = False) -> None:
        self._internal = internal
        self._wait = wait

    async def __aenter__(self) -> trio.Nursery:
        check_in_trio()
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        scope = self._nursery.cancel_scope
        ours = scope.cancel_called  # cancelled by a task's failure, or by whoever has the nursery
        if error is not None or not self._wait:
            scope.cancel()
        # Whose cancellation it is that comes out of the body, only the scopes can tell: that is passed on. Of any other
        # exception the nursery is not told: it would wrap it.
        passed_on = (trio.Cancelled, BaseExceptionGroup) if ours else (trio.Cancelled,)
        if error is None or not issubclass(type(error), passed_on):
            kind = error = traceback = None
            # Outer cancellation has nothing to add from here on, and would put a Cancelled in the exception's place.
            scope.shield = scope.cancel_called
        try:
            absorbed = await self._manager.__aexit__(kind, error, traceback)
        except ExceptionGroup as group:
            if isinstance(error, BaseExceptionGroup):
                raise
            raise RuntimeError(self._internal) from group
        return bool(absorbed) and error is not None
