"""Waiting in a thread for what happens in the pool's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ("Bell", "ThreadBell")


class Bell(Protocol):
    """Rung by the pool's thread when something has come."""

    def ring(self) -> None:
        """Wake the one who waits; cheap where nobody does. From any thread; never blocks."""
        ...


class ThreadBell:
    """A bell for one thread at a time."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        if not self._event.is_set():
            self._event.set()

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Block until it is so. What makes it so is done before the bell is rung."""
        event = self._event
        while not ready():
            event.clear()
            if not ready():
                event.wait()
