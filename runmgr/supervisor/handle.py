"""What the one who submitted a run holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import RunCancelled, RunFailed
from runmgr.records.outcomes import RunOutcome, RunState

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context

    from runmgr.concurrency import Subscription

    from .jobs import Job
    from .ledger import Tally

__all__ = ("RunHandle",)


class RunHandle:
    """One run: see it, wait for it, steer it.

    Commands are sync and take effect at the run's next chance: `pause` and `send` at the next node boundary, `cancel` at
    the next checkpoint.
    """

    # One object a run, handle and actor in one: at 100,000 in flight each object more is megabytes and collector time.
    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_attempts",
        "_before",
        "_blobs",
        "_cancel_reason",
        "_checkpoints",
        "_context",
        "_deadline",
        "_ended",
        "_epoch",
        "_exception",
        "_fingerprint",
        "_finished_at",
        "_gate",
        "_holds",
        "_index",
        "_input",
        "_interrupts",
        "_job",
        "_journal_run",
        "_known",
        "_listener",
        "_mailbox",
        "_metadata",
        "_model",
        "_ours",
        "_outcome",
        "_pausing",
        "_queued_at",
        "_restarts",
        "_result",
        "_scope",
        "_seated",
        "_snapshot",
        "_started_at",
        "_stepper",
        "_steps",
        "_sup",
        "_supersedes",
        "_tally",
        "_timeout",
        "_tools_counted",
        "_waits",
        "group",
        "priority",
        "run_id",
        "state",
    )

    run_id: str
    """The run's identity."""
    group: str
    priority: int
    state: RunState
    """Where it stands now."""

    _sup: Any
    _job: Job
    _tally: Tally | None
    _before: Tally | None
    _exception: BaseException | None
    _outcome: RunOutcome | None
    _ended: trio.Event | None
    _context: Context | None

    @property
    def index(self) -> int:
        """Position among the supervisor's submissions, or among its map's items; from 0."""
        return self._index

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What was given when it was submitted."""
        return self._metadata

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} {self.state.value}>"

    async def outcome(self) -> RunOutcome:
        """How the run ended; waits until it has (with a journal: until the outcome is committed).

        Cancelling the wait leaves the run alone.
        """
        if self._outcome is None:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
            assert self._outcome is not None
        else:
            await trio.lowlevel.checkpoint()
        return self._outcome

    def outcome_nowait(self) -> RunOutcome:
        """How the run ended.

        Raises:
            trio.WouldBlock: it has not, or its outcome is not committed yet.
        """
        if self._outcome is None:
            raise trio.WouldBlock
        return self._outcome

    async def result(self) -> Any:
        """The run's result, an `AgentRunResult` (of a graph: its `GraphRunResult`); waits for the end.

        Raises:
            RunFailed: it failed; the exception is its ``__cause__``.
            RunCancelled: it was cancelled; the message has the reason.
        """
        await self.outcome()
        return self.result_nowait()

    def result_nowait(self) -> Any:
        """As `result`, at once or not at all.

        Raises:
            trio.WouldBlock: the run has not ended, or its outcome is not committed yet.
            RunFailed: it failed; the exception is its ``__cause__``.
            RunCancelled: it was cancelled; the message has the reason.
        """
        outcome = self.outcome_nowait()
        if outcome.status == RunState.SUCCEEDED:
            if self._result is None:
                self._result = self._job.result_of(outcome)
            return self._result
        if outcome.status == RunState.FAILED:
            raise RunFailed(outcome) from self._exception
        raise RunCancelled(outcome)

    def cancel(self, reason: str | None = None) -> bool:
        """End the run at its next checkpoint, with the outcome ``cancelled``.

        Args:
            reason: becomes the outcome's error message.

        Returns:
            False when it had already ended, and nothing was done.
        """
        return self._sup.cancel_run(self, reason)

    def pause(self) -> None:
        """Stop the run at its next node boundary; its place goes to another. Does nothing when it is paused.

        Raises:
            RunEnded: it has ended.
        """
        self._sup.pause_run(self)

    def resume(self) -> None:
        """Let a paused run queue for a place again. Does nothing when it is not paused.

        Raises:
            RunEnded: it has ended.
        """
        self._sup.resume_run(self)

    def send(self, content: Any) -> None:
        """Add a user message, delivered before the run's next model request.

        Args:
            content: text or a list of content parts.

        Raises:
            RunEnded: it has ended.
            trio.WouldBlock: its mailbox is full.
        """
        self._sup.send_to_run(self, content)

    def events(
        self, *, buffer: int = 1_000, streams: bool = True
    ) -> AbstractAsyncContextManager[Subscription[Any]]:
        """This run's events from now on, those of its model streams too: ``async with handle.events() as events: ...``.

        Ends with the supervisor; the run's own last event is a `RunEnded`. Otherwise as `Supervisor.subscribe`.
        """
        run_id = self.run_id

        def mine(event: Any) -> bool:
            return getattr(event, "run_id", None) == run_id

        return self._sup.facade.subscribe(filter=mine, buffer=buffer, streams=streams)

    def usage(self) -> Any:
        """`RunUsage` of the run so far, over all its attempts."""
        from runmgr.usage import RunUsage

        if self._outcome is not None:
            return self._outcome.usage
        usage = RunUsage() if self._tally is None else self._tally.usage()
        return usage if self._before is None else usage + self._before.usage()

    def all_messages(self) -> list[Any]:
        """The run's history so far, oldest first."""
        if self._outcome is not None:
            return self._outcome.messages
        messages = getattr(self._stepper, "all_messages", None)
        return [] if messages is None else messages()
