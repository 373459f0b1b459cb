"""A run on its way through a pool: from the thread that submits it to the pool's thread, and back.

A job's `begin`, `_stop` and `told` run in the pool's thread, everything else in any. Who waits for it is a subclass.
"""

from __future__ import annotations

import logging
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from runmgr.records.outcomes import RunOutcome
    from runmgr.supervisor import RunHandle

    from .bells import Bell
    from .engine import Engine

__all__ = ("Job",)

_log = logging.getLogger("runmgr.pool")


class Job:
    """One submission.

    Args:
        engine: whose it is.
        agent: what to run.
        prompt: what to say.
        options: the keyword arguments of ``Supervisor.submit``.
    """

    __slots__ = (
        "agent",
        "bells",
        "context",
        "ended",
        "engine",
        "error",
        "handle",
        "options",
        "outcome",
        "prompt",
        "result",
        "run_id",
        "stopped",
    )

    def __init__(self, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any]) -> None:
        self.engine = engine
        self.agent = agent
        self.prompt = prompt
        self.options = options
        self.run_id: str | None = options.get("run_id")
        self.context: Context | None = copy_context()
        self.handle: RunHandle | None = None
        self.outcome: RunOutcome | None = None
        self.stopped: str | None = None
        """Why nobody wants it any more."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        """Set when ``result`` or ``error`` is."""
        self.bells: tuple[Bell, ...] = ()
        """Rung when it has ended, for those who wait for nothing but that."""

    @property
    def group(self) -> str:
        """Whose run it is."""
        return self.options.get("group") or ""

    # ---------------------------------------------------------------- for any thread

    def stop(self, reason: str) -> None:
        """Cancel the run. Returns at once; no effect on one that has ended."""
        if self.stopped is None:
            self.stopped = reason
            if not self.ended:
                self.engine.post(self._stop)

    # ---------------------------------------------------------------- for the subclass to fill in

    def deliver(self) -> None:
        """It has ended: tell whoever waits. Called once, as a rule in the pool's thread."""
        raise NotImplementedError

    # ---------------------------------------------------------------- in the pool's thread

    def withdraw(self) -> None:
        """The pool gives it up before it has begun."""
        self.stop("its pool was shut down")

    def begin(self) -> None:
        """Submit the run, or put it into the line of those that the supervisor has no room for yet."""
        engine = self.engine
        engine.jobs[self] = None
        if engine.line:
            engine.line_up(self)
        else:
            self.submit()

    def submit(self) -> None:
        """Submit the run to the supervisor, in the submitter's context."""
        context, engine = self.context, self.engine
        assert context is not None
        try:
            handle = context.run(engine.supervisor.submit_nowait, self.agent, self.prompt, **self.options)
        except trio.WouldBlock:
            engine.line_up(self)
        except Exception as error:  # noqa: BLE001  a mistake in the submission belongs to the submitter
            self.end(None, error)
        else:
            self.admitted(handle)

    def admitted(self, handle: RunHandle) -> None:
        """The supervisor has it."""
        self.context = None
        self.handle = handle
        if self.run_id is not None:
            self.engine.shared[self.run_id] += 1
        handle.listen(self)

    def told(self, outcome: RunOutcome) -> None:
        """The run has ended, with this outcome."""
        handle = self.handle
        assert handle is not None
        if self.ended:
            return
        self.outcome = outcome
        try:
            result = handle.result_nowait()
        except Exception as error:  # noqa: BLE001  RunFailed, RunCancelled; a journaled result that cannot be read back
            self.end(None, error)
        else:
            self.end(result, None)

    def _stop(self) -> None:
        if self.ended:
            return
        handle, reason = self.handle, self.stopped
        assert reason is not None
        if handle is None:
            self.engine.leave_line(self)
            self.end(None, self.engine.refusal(reason))
        elif self.run_id is not None and self.engine.shared[self.run_id] > 1:  # others wait for the same run
            self.end(None, self.engine.refusal(reason))
        else:
            handle.cancel(reason)

    def end(self, result: Any, error: BaseException | None) -> None:
        """Give the place back and tell whoever waits. Once."""
        if self.ended:
            return
        self.result = result
        self.error = error
        self.ended = True
        self.context = None
        engine = self.engine
        engine.jobs.pop(self, None)
        if self.run_id is not None and self.handle is not None:
            engine.unshare(self.run_id)
        engine.room.put_back()
        try:
            self.deliver()
        except BaseException:  # noqa: BLE001  the supervisor tells it: nothing may come out of here
            _log.exception("telling the result of a run failed")
        for bell in self.bells:
            bell.ring()
