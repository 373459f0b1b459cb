"""The pool's thread: a supervisor under ``trio.run``, and the door through which other threads reach it.

The door is a queue of calls and one wake-up: whoever finds the thread asleep wakes it, everybody else only appends. The
same holds in the other direction, for an event loop that waits for results. So a thousand submissions at once cost one
wake-up, and none of them waits for the other thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio

from runmgr.exceptions import RunmgrError, SupervisorClosed, UserError
from runmgr.records.outcomes import RunState
from runmgr.supervisor import Supervisor, open_supervisor

from . import process
from .room import Room, ThreadWaiter

if TYPE_CHECKING:
    from runmgr.records.budgets import Budget, RateLimit
    from runmgr.telemetry import Metrics

    from .jobs import Job

__all__ = ("Engine",)


class Sleeper(Protocol):
    """Another thread's event loop."""

    def wake(self) -> None:
        """Have it look for what has come. Must not block or raise."""
        ...


T = TypeVar("T")

AT_A_TIME = 256
"""Calls that are taken from the door before the thread's other tasks get their turn."""
_numbers = itertools.count(1)


class _Question(Generic[T]):
    """Something to be answered by the pool's thread."""

    __slots__ = ("_engine", "_question", "future")

    def __init__(self, engine: Engine, question: Callable[[Supervisor], T]) -> None:
        self._engine = engine
        self._question = question
        self.future: Future[T] = Future()

    def answer(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return  # nobody waits any more
        try:
            value = self._question(self._engine.supervisor)
        except Exception as error:  # noqa: BLE001  the one who asked is told
            self.future.set_exception(error)
        else:
            self.future.set_result(value)

    def end(self, _: None, error: BaseException) -> None:
        """There is nobody to answer."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Engine:
    """A supervisor on a thread of its own.

    Args:
        options: the arguments of `open_supervisor`.
        capacity: how many runs may be submitted and not ended.
        name: the thread's name; a number is added.
        metrics: what watches the supervisor.
    """

    def __init__(
        self, options: dict[str, Any], capacity: int, name: str, metrics: Metrics | None = None
    ) -> None:
        self.name = f"{name}-{next(_numbers)}"
        self.room = Room(capacity, options.get("group_weights"))
        self.jobs: dict[Job, None] = {}
        """Jobs that have not ended, oldest first. The pool's thread's own."""
        self.line: deque[Job] = deque()
        """Jobs for which the supervisor has no room: others submit to it too, or it is paused."""
        self.shared: Counter[str] = Counter()
        """By ``run_id`` that submitters gave: how many jobs wait for it."""
        self.closed: str | None = None
        """Why nothing is submitted any more."""
        self.error: BaseException | None = None
        """What ended the thread, where it was not closed."""
        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        self.supervisor: Supervisor
        self._options = options
        self._metrics = metrics
        self._inbox: deque[Callable[[], object]] = deque()
        self._awake = False
        self._finished = False
        self._is_child = False
        self._token: trio.lowlevel.TrioToken
        self._closing: trio.Event
        self._line_grew: trio.Event
        self._line_served: trio.Event
        self._line_scope: trio.CancelScope | None = None
        self._line_job: Job | None = None
        self._sleepers: list[Sleeper] = []
        self._waker: trio.lowlevel.Task | None = None
        self._wakes = 0  # the thread in which `_wake` runs, while it does
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------- its life, from any thread

    def launch(self) -> None:
        """Start the thread, once. Does not wait for it."""
        if self._thread is None:
            with self._start_lock:
                if self._thread is None:
                    self.check_open()
                    thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                    process.enter(self)
                    thread.start()
                    self._thread = thread

    def start(self) -> None:
        """Start the thread, once, and wait until the supervisor is open.

        Raises:
            UserError: one of its arguments is wrong.
            JournalError: its journal cannot be opened.
        """
        self.launch()
        self.opened.result()

    @property
    def started(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    @property
    def busy(self) -> int:
        """How many jobs have not ended."""
        return len(self.jobs)

    def check_open(self) -> None:
        """Raise where nothing can be submitted."""
        if self.closed is not None or self._finished or self._is_child:
            raise self.refusal()

    def refusal(self, reason: str | None = None) -> SupervisorClosed:
        """What those are told who come too late."""
        if self._is_child:
            return SupervisorClosed(
                f"{self.name} belongs to the process that this one was forked from: a fork has none of its threads. "
                "Make a RunPool in each process, after the fork"
            )
        error = SupervisorClosed(f"{self.name}: {reason or self.closed or 'its thread has ended'}")
        error.__cause__ = self.error
        return error

    def close(self) -> None:
        """Take no more submissions; the thread ends when every run has. Returns at once."""
        if self.closed is None:
            self.closed = "it was shut down"
        self.room.close()
        if self._thread is not None:
            self.post(self._close)

    def cancel(self, reason: str) -> None:
        """`close`, and cancel every run. Returns at once."""
        if self.closed is None:
            self.closed = reason
        self.room.close()
        if self._thread is not None:
            self.post(partial(self._cancel, reason))

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; False where that takes longer.

        Raises:
            UserError: this is the pool's own thread.
        """
        thread = self._thread
        if thread is None or self._is_child:
            return True
        if thread is threading.current_thread():
            raise UserError(
                f"{self.name}: its own thread cannot wait for its end: shutdown(wait=True) was called from a run, or "
                "from a future's callback. Use shutdown(wait=False) there"
            )
        thread.join(timeout)
        return not thread.is_alive()

    def raise_error(self) -> None:
        """Raise what ended the thread, if that was an error.

        Raises:
            Exception: what it was; a `RunmgrError` from it where it is no ``Exception``.
        """
        error = self.error
        if error is None:
            return
        if isinstance(error, Exception):
            raise error
        raise RunmgrError(
            f"{self.name}: {type(error).__name__} was raised in a run and ended its thread"
        ) from error

    def forked(self) -> None:
        """This is a child process, and has no such thread."""
        self._is_child = True
        self.closed = "its thread is in another process"

    @property
    def is_child(self) -> bool:
        """Whether the thread is in the process that this one was forked from."""
        return self._is_child

    # ---------------------------------------------------------------- the door

    def post(self, call: Callable[[], object]) -> None:
        """Have the pool's thread do this, in order. Never blocks; also for signal handlers."""
        self._inbox.append(call)
        if not self._awake:
            try:
                self._awake = True
                self._token.run_sync_soon(self._drain)
            except trio.RunFinishedError:
                self._refuse_rest()
            except BaseException:  # interrupted: somebody must wake it, perhaps twice
                self._awake = False
                raise
        if self._finished:
            self._refuse_rest()

    def ask(self, question: Callable[[Supervisor], T]) -> Future[T]:
        """Have the pool's thread answer."""
        self.check_started()
        asked = _Question(self, question)
        self.post(asked.answer)
        return asked.future

    def check_started(self) -> None:
        """Raise where there is nobody to ask.

        Raises:
            UserError: it has not been started.
            SupervisorClosed: it has ended, or is another process's.
        """
        if self._thread is None:
            raise UserError(f"{self.name} has not been started: enter 'with RunPool(...)', or submit a run")
        if self._finished or self._is_child:
            raise self.refusal()

    def take_place(self, group: str | None = "") -> None:
        """Block until there is room for one more run of this group, and take it.

        Raises:
            SupervisorClosed: there will be none.
            UserError: this is the pool's own thread, and there is none now.
        """
        if self.room.take_nowait():
            return
        if self._thread is threading.current_thread():
            raise UserError(
                f"{self.name}: submit() was called in its own thread (from a tool, or from a future's callback) with its "
                "queue full: waiting there would stop every run. Use submit_nowait(), or in a tool "
                "'await ctx.supervisor.submit(...)'"
            )
        waiter = ThreadWaiter()
        self.room.line_up(waiter, group or "")
        try:
            waiter.wait()
        except BaseException:
            self.room.give_up(waiter)
            raise
        if not waiter.granted:
            raise self.refusal()

    def wake_later(self, sleeper: Sleeper) -> bool:
        """Wake this once the tasks that can run now have run: so that all they have for it costs one wake-up. False where that
        cannot be: in another thread than the pool's, or at its end.
        """
        if self._wakes != threading.get_ident():
            return False
        self._sleepers.append(sleeper)
        waker = self._waker
        if waker is not None:
            self._waker = None
            trio.lowlevel.reschedule(waker)
        return True

    # ---------------------------------------------------------------- in the pool's thread

    async def _wake(self) -> None:
        """Wake those who are to be woken."""

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._waker = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._wakes = threading.get_ident()
        try:
            while True:
                if not self._sleepers:
                    self._waker = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(leave)
                sleepers, self._sleepers = self._sleepers, []
                for sleeper in sleepers:
                    sleeper.wake()
        finally:
            self._wakes = 0
            for sleeper in self._sleepers:
                sleeper.wake()
            self._sleepers.clear()

    def _drain(self) -> None:
        self._awake = False
        take = self._inbox.popleft
        for _ in range(AT_A_TIME):
            try:
                call = take()
            except IndexError:
                return
            call()
        self._awake = True
        self._token.run_sync_soon(self._drain)

    def line_up(self, job: Job) -> None:
        """The job waits for the supervisor to have room."""
        self.line.append(job)
        self._line_grew.set()

    def leave_line(self, job: Job) -> None:
        """The job waits no longer."""
        if job is self._line_job:
            assert self._line_scope is not None
            self._line_scope.cancel()
        elif self.line[-1] is job:  # a map is left from its youngest on
            self.line.pop()
        else:
            self.line.remove(job)

    def unshare(self, run_id: str) -> None:
        """One job less waits for this run."""
        self.shared[run_id] -= 1
        if not self.shared[run_id]:
            del self.shared[run_id]

    def set_group(
        self,
        name: str,
        supervisor: Supervisor,
        *,
        weight: float | None,
        max_running: int | None,
        rate: RateLimit | None,
        budget: Budget | None,
    ) -> None:
        """Make or change a group, here and in the supervisor."""
        supervisor.set_group(name, weight=weight, max_running=max_running, rate=rate, budget=budget)
        if weight is not None:
            self.room.set_weight(name, weight)

    def drop_group(self, name: str, reason: str | None, supervisor: Supervisor) -> bool:
        """Drop a group, here and in the supervisor."""
        self.room.set_weight(name, None)
        if reason is not None:
            for job in list(self.jobs):
                if job.handle is None and job.group == name:
                    job.stop(reason)
        return supervisor.drop_group(name, cancel=reason)

    def withdraw_queued(self) -> None:
        """Cancel the jobs whose run has not begun."""
        for job in list(self.jobs):
            if job.handle is None or job.handle.state == RunState.QUEUED:
                job.withdraw()

    def _close(self) -> None:
        self._closing.set()

    def _cancel(self, reason: str) -> None:
        self.supervisor.cancel(reason)
        self._closing.set()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001  told to all who wait, and raised by shutdown()
            self.error = error
        self._finished = True
        if not self.opened.done():
            self.opened.set_exception(self.error or self.refusal())
        self.room.close()
        self._refuse_rest()
        for job in list(self.jobs):
            job.end(None, self.refusal())
        process.leave(self)
        self.ended.set_result(None)

    def _refuse_rest(self) -> None:
        """What came too late: calls of jobs end them, others have nobody to answer."""
        while True:
            try:
                call = self._inbox.popleft()
            except IndexError:
                return
            job: Job | None = getattr(call, "__self__", None)
            end = getattr(job, "end", None)
            if end is not None:
                end(None, self.refusal())

    async def _main(self) -> None:
        self._closing = trio.Event()
        self._line_grew = trio.Event()
        self._line_served = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with open_supervisor(**self._options) as self.supervisor, trio.open_nursery() as nursery:
            if self._metrics is not None:
                self._metrics.watch(self.supervisor)
            nursery.start_soon(self._serve_line)
            nursery.start_soon(self._wake)
            self.opened.set_result(None)
            await self._closing.wait()
            while self.line or self._line_job is not None:
                self._line_served = trio.Event()
                await self._line_served.wait()
            nursery.cancel_scope.cancel()

    async def _serve_line(self) -> None:
        """Submit those in line, one after the other, each as soon as there is room."""
        while True:
            await self._line_grew.wait()
            self._line_grew = trio.Event()
            while self.line:
                job = self._line_job = self.line.popleft()
                assert job.context is not None
                with trio.CancelScope() as self._line_scope:
                    async with trio.open_nursery() as nursery:
                        job.context.run(nursery.start_soon, self._submit, job)
                self._line_job = None
            self._line_served.set()

    async def _submit(self, job: Job) -> None:
        try:
            handle = await self.supervisor.submit(job.agent, job.prompt, **job.options)
        except Exception as error:  # noqa: BLE001  belongs to the submitter
            job.end(None, error)
        else:
            if job.ended:
                handle.cancel(job.stopped)
            else:
                job.admitted(handle)
