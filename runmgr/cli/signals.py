"""Ctrl-C and SIGTERM: the first stops a batch, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from runmgr.batch.state import BatchState

__all__ = ("GRACE_SECONDS", "Signals")

GRACE_SECONDS = 1.7
"""How long results, journal, summary and report may take to be written after the first signal."""


class Signals:
    """Takes SIGINT and SIGTERM while its ``with`` block runs.

    The first asks the batch to stop; the second, or the end of the grace time, ends the process with 130. Plain handlers and a
    thread, because the event loop may be held by the very code that somebody wants to stop. What is in the journal is
    safe: a process that ends here resumes like one that was killed.

    Args:
        resume_line: the command to go on with, for when there is no time to finish.
    """

    def __init__(self, resume_line: str) -> None:
        self._resume_line = resume_line
        self._seen = False
        self._state: BatchState | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._before: dict[int, Any] = {}
        self._last_resort = threading.Timer(GRACE_SECONDS, self._exit_now)
        self._last_resort.daemon = True

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # signals are the main thread's
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._taken)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._last_resort.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def watch(self, state: BatchState) -> None:
        """Says which batch to stop; runs beside it."""
        self._state = state
        self._token = trio.lowlevel.current_trio_token()
        if self._seen:
            state.stop("interrupted")
        await trio.sleep_forever()

    def _taken(self, _number: int, _frame: FrameType | None) -> None:
        if self._seen:
            self._exit_now()
        self._seen = True
        os.write(2, b"\nrunmgr: stopping; once more to stop at once\n")
        self._last_resort.start()
        if self._token is not None and self._state is not None:
            self._token.run_sync_soon(self._state.stop, "interrupted")

    def _exit_now(self) -> None:
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live display hides it
        os.write(2, f"{show_cursor}\nrunmgr: interrupted; go on with:\n{self._resume_line}\n".encode())
        os._exit(130)
