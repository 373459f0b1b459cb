"""For the blocking form of something async that stays open: an event loop in a thread that does what it is asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar

import trio

__all__ = ("LoopThread",)

T = TypeVar("T")
ResultT = TypeVar("ResultT")


class LoopThread(Generic[T]):
    """A ``trio.run`` in a thread of its own that holds a block open and does in it, one after the other, what it is asked.

    To be used by one thread at a time. The caller's context variables reach into the loop's thread, as they are when
    it begins. The thread is a daemon: a program that forgets to close does not hang at its end.

    Args:
        opened: the block.
        name: the thread's.

    Attributes:
        value: what entering the block gave.

    Raises:
        Exception: whatever entering the block raises.
    """

    def __init__(self, opened: AbstractAsyncContextManager[T], *, name: str) -> None:
        self._opened = opened
        self._answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._ask, self._asked = trio.open_memory_channel[Callable[[], Awaitable[Any]]](1)
        self._token: trio.lowlevel.TrioToken | None = None
        # One for everything: what is asked may open scopes and nurseries of its own and leave them open for later.
        self._scope = trio.CancelScope()
        self._busy = True
        self._error: Exception | None = None
        self._failure: BaseException | None = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run, started), name=name, daemon=True
        )
        self._thread.start()
        try:
            started.wait()
            self.value: T = self._answer()
        except BaseException as error:
            self._stop(error)
            raise

    def do(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Do this in the block, and wait for it.

        Raises:
            RuntimeError: it is closed.
            Exception: whatever the work raises; the block stays open.
        """
        if self._token is None:
            raise RuntimeError(f"The {self._thread.name} is closed.")
        try:
            self._token.run_sync_soon(self._ask.send_nowait, work)
        except trio.RunFinishedError:
            # The block ended by itself, between two questions.
            raise self._failure or RuntimeError(f"The {self._thread.name} has ended.") from None
        return self._answer()

    def close(self, error: BaseException | None = None) -> None:
        """Leave the block, and wait for the thread to end. Idempotent.

        Where work is still under way, because somebody interrupted the wait for it, the block is cancelled.

        Args:
            error: what the caller leaves for: an ``Exception`` is raised in the block, as if that were the caller's.

        Raises:
            Exception: whatever leaving the block raises, unless there is an error already.
        """
        self._stop(error)
        failure, self._failure = self._failure, None
        if failure is not None and error is None:
            raise failure

    def _stop(self, error: BaseException | None) -> None:
        token, self._token = self._token, None
        if token is not None:
            self._error = error if isinstance(error, Exception) else None
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._end)
        self._thread.join()

    def _answer(self) -> Any:
        worked, answer = self._answers.get()
        if not worked:
            raise answer
        return answer

    # ------------------------------------------------------------- the thread

    def _end(self) -> None:
        self._ask.close()
        if self._busy:
            self._scope.cancel()

    def _run(self, started: threading.Event) -> None:
        try:
            trio.run(self._serve, started)
        except BaseException as failure:  # noqa: BLE001 (raised where somebody waits for it)
            self._failure = failure
            self._answers.put((False, failure))
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        started.set()
        with self._scope:
            async with self._opened as value:
                self._busy = False
                self._answers.put((True, value))
                async for work in self._asked:
                    self._busy = True
                    try:
                        report = True, await work()
                    except Exception as error:  # noqa: BLE001 (raised where somebody waits for it)
                        report = False, error
                    self._busy = False
                    self._answers.put(report)
                if self._error is not None:
                    raise self._error
