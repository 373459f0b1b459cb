"""What was opened on entering a toolset, until the task that entered it leaves."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import trio

__all__ = ("EnteredByTask",)

T = TypeVar("T")


class EnteredByTask(Generic[T]):
    """What each entering opened: several tasks may be inside, each several times, and what a task opened it closes itself."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: dict[Any, list[T]] = {}

    def push(self, opened: T) -> None:
        """Keep what the running task has opened."""
        self._opened.setdefault(trio.lowlevel.current_task(), []).append(opened)

    def pop(self) -> T:
        """What the running task opened last, for it to close.

        Raises:
            KeyError: the task is not inside.
        """
        task = trio.lowlevel.current_task()
        opened = self._opened[task]
        last = opened.pop()
        if not opened:
            del self._opened[task]
        return last
