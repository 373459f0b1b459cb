"""Futures of runs, for threads."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runmgr.records.outcomes import RunState

from .jobs import Job

if TYPE_CHECKING:
    from runmgr.agent import AgentRunResult
    from runmgr.records.outcomes import RunOutcome

    from .engine import Engine

__all__ = ("FutureJob", "RunFuture")

OutputT = TypeVar("OutputT")


class RunFuture(Future["AgentRunResult[OutputT]"]):
    """The future of a run. Its result is an ``AgentRunResult``.

    ``result()`` raises `RunFailed` where the run failed, and `RunCancelled` where the pool cancelled it. Callbacks run in the
    pool's thread: what they do there, every run waits for.
    """

    _job: FutureJob

    @property
    def run_id(self) -> str | None:
        """The run's identity; None until the pool has taken it up, unless it was given."""
        handle = self._job.handle
        return self._job.run_id if handle is None else handle.run_id

    @property
    def outcome(self) -> RunOutcome | None:
        """How the run ended, with its usage and cost; None until it has, or where it never began."""
        return self._job.outcome

    def cancel(self) -> bool:
        """Cancel the run, wherever it stands. Returns at once; False where it had ended before.

        From then on the future is cancelled, and ``result()`` raises ``CancelledError``; it counts as done for
        ``concurrent.futures.wait`` when the run has really ended.
        """
        if not super().cancel():
            return False
        self._job.stop("its future was cancelled")
        return True

    def running(self) -> bool:
        """Whether the run has begun and not ended."""
        handle = self._job.handle
        return not self.done() and handle is not None and handle.state != RunState.QUEUED

    def result(self, timeout: float | None = None) -> AgentRunResult[OutputT]:
        """The run's result; blocks until it is there.

        Args:
            timeout: seconds; the run goes on beyond it.

        Raises:
            TimeoutError: it took longer than ``timeout``.
            CancelledError: `cancel` was called.
            RunFailed: the run failed; the exception is its ``__cause__``.
            RunCancelled: the run was cancelled otherwise: the pool was, or another run's tool did it.
            SupervisorClosed: the run was never begun, or its pool is in another process.
        """
        self._check_process()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise; blocks until the run has ended."""
        self._check_process()
        return super().exception(timeout)

    def _check_process(self) -> None:
        engine = self._job.engine
        if engine.is_child and not self.done():
            raise engine.refusal()


class FutureJob(Job):
    """A job that a thread waits for."""

    __slots__ = ("future",)

    def __init__(self, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any]) -> None:
        super().__init__(engine, agent, prompt, options)
        future = self.future = cast("RunFuture[Any]", RunFuture())  # quicker than RunFuture[Any]()
        future._job = self

    def deliver(self) -> None:
        future = self.future
        try:
            if not future.set_running_or_notify_cancel():
                return
        except InvalidStateError:
            return
        error, self.error = self.error, None
        if error is None:
            future.set_result(self.result)
        else:
            future.set_exception(error)

    def withdraw(self) -> None:
        self.future.cancel()
