"""What the one who submitted a run holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import RunCancelled, RunFailed
from runmgr.records.outcomes import RunOutcome, RunState
from runmgr.records.statistics import RunStatistics

from . import commands, interrupted
from .family import check_no_circle
from .parking import waits_of, waits_of_listener
from .run_events import RunEvents, events_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context
    from typing import Protocol

    from runmgr.concurrency import Overflow

    from .commands import Answer
    from .extras import Extras
    from .interrupted import Question
    from .jobs import Job
    from .ledger import Tally
    from .parking import Wait

    class Listener(Protocol):
        """Who wants to be told how a run ended."""

        def told(self, outcome: RunOutcome, /) -> None:
            """The run has ended."""
            ...


__all__ = ("RunHandle",)


class _Both:
    """Two listeners of one run: it was submitted twice under one id."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Listener, second: Listener) -> None:
        self._first = first
        self._second = second

    def told(self, outcome: RunOutcome) -> None:
        self._first.told(outcome)
        self._second.told(outcome)

    @property
    def waits(self) -> list[Wait]:
        return [*waits_of_listener(self._first), *waits_of_listener(self._second)]


class RunHandle:
    """One run: see it, wait for it, steer it.

    Commands are sync and take effect at the run's next chance: `pause` and `send` at the next node boundary, `cancel` at
    the next checkpoint. Whoever wants to know when waits for the `Answer`: ``await handle.pause().wait()``.

    A run that waits for another one here gives its place up meanwhile.
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
        "_extras",
        "_fingerprint",
        "_finished_at",
        "_holds",
        "_index",
        "_input",
        "_interrupts",
        "_job",
        "_journal_run",
        "_known",
        "_listener",
        "_metadata",
        "_model",
        "_ours",
        "_outcome",
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
    _listener: Listener | None
    _tally: Tally | None
    _extras: Extras | None
    _stepper: Any
    _steps: int
    _attempts: int
    _queued_at: float
    _started_at: float | None
    _holds: bool
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

        Raises:
            UserError: a run waits for itself, or for one that it is a child of.
        """
        if self._outcome is None:
            if self._ended is None:
                self._ended = trio.Event()
            parking = self._sup.parking
            waiter = parking.caller()
            if waiter is None:
                await self._ended.wait()
            else:
                check_no_circle(waiter, self)  # pyright: ignore[reportArgumentType]  # every handle is an actor
                waits = waits_of(self)  # pyright: ignore[reportArgumentType]
                await parking.wait(waiter, self._ended.wait, f"it waits for run {self.run_id}", waits=waits)
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

    def listen(self, listener: Listener) -> None:
        """Have ``listener.told(outcome)`` called once when the run has ended (with a journal: when the outcome is committed); at
        once where it has. No task is needed for that.

        Args:
            listener: its ``told`` is called where the run ends, in trio's thread: it must be quick and must not raise.
        """
        if self._outcome is not None:
            listener.told(self._outcome)
        else:
            self._listener = listener if self._listener is None else _Both(self._listener, listener)

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

    def pause(self) -> Answer[None]:
        """Stop the run at its next node boundary; its place goes to another. Does nothing when it is paused.

        Returns:
            The answer, given when it has stopped.

        Raises:
            RunEnded: it has ended.
        """
        return commands.pause(self._sup, self)  # pyright: ignore[reportArgumentType]

    def resume(self) -> Answer[None]:
        """Let a paused run queue for a place again. Does nothing when it is not paused.

        Returns:
            The answer, given when it goes on.

        Raises:
            RunEnded: it has ended.
        """
        return commands.resume(self._sup, self)  # pyright: ignore[reportArgumentType]

    @property
    def question(self) -> Question | None:
        """What the run waits to be told before it goes on: a tool that may not simply be called again was running when the
        process before this one ended. None where it asks nothing.
        """
        return None if self._extras is None else self._extras.question

    def answer(self, results: Mapping[str, Any] | None = None) -> Answer[None]:
        """Answer the run's `question`, and let it go on. `resume` does too, and calls all tools again.

        Args:
            results: what came of the calls, by call id: a value, a ``ToolReturn``, a ``ModelRetry``, a ``ToolDenied``. Calls
                that are left out are made again.

        Returns:
            The answer, given when it goes on.

        Raises:
            RunEnded: it has ended.
            UserError: it asks nothing, or not about such a call.
        """
        return interrupted.answer(self._sup, self, results or {})  # pyright: ignore[reportArgumentType]

    def send(self, content: Any) -> Answer[None]:
        """Add a user message, delivered before the run's next model request.

        Args:
            content: text or a list of content parts.

        Returns:
            The answer, given when it is part of a request.

        Raises:
            RunEnded: it has ended.
            trio.WouldBlock: 64 messages wait for it already.
        """
        return commands.send(self, content)  # pyright: ignore[reportArgumentType]

    async def snapshot(self) -> Any:
        """The `RunSnapshot` of the run at its next node boundary. Cancelling the wait does it no harm.

        What it holds is shared with the run: take what you need before you wait for anything else.

        Raises:
            RunEnded: it ended before it came to one.
            UserError: it runs a graph, which has none.
        """
        return await commands.ask_snapshot(self).wait()  # pyright: ignore[reportArgumentType]

    def events(
        self, *, buffer: int = 1_000, overflow: Overflow = "drop_oldest", streams: bool = True
    ) -> AbstractAsyncContextManager[RunEvents]:
        """This run's events from now on, those of its model streams too: ``async with handle.events() as events: ...``.

        The last one is a `RunEnded`. Otherwise as `Supervisor.subscribe`.
        """
        return events_of(self, buffer=buffer, overflow=overflow, streams=streams)

    def statistics(self) -> RunStatistics:
        """How the run stands now."""
        outcome, extras = self._outcome, self._extras
        now = self._sup.now()
        ended = now if outcome is None else outcome.finished_at
        started = ended if self._started_at is None else self._started_at
        node = getattr(self._stepper, "next_node", None)
        return RunStatistics(
            run_id=self.run_id,
            state=self.state,
            group=self.group,
            attempts=self._attempts,
            steps=self._steps,
            node=None if node is None else node.get_node_id(),
            queued_seconds=max(0.0, started - self._queued_at),
            running_seconds=max(0.0, ended - started),
            usage=self.usage(),
            messages=len(self.all_messages()),
            mail=0 if extras is None else len(extras.mailbox or ()),
            children=0 if extras is None else len(extras.children or ()),
            has_place=self._holds,
        )

    def usage(self) -> Any:
        """`RunUsage` of the run so far, over all its attempts, and of the runs that it submitted."""
        from runmgr.usage import RunUsage

        if self._outcome is not None:
            return self._outcome.usage
        usage = RunUsage() if self._tally is None else self._tally.usage()
        if self._before is not None:
            usage = usage + self._before.usage()
        extras = self._extras
        if extras is not None:
            if extras.below is not None:
                usage = usage + extras.below.usage()
            for child in extras.children or ():
                usage = usage + child.usage()
        return usage

    def all_messages(self) -> list[Any]:
        """The run's history so far, oldest first."""
        if self._outcome is not None:
            return self._outcome.messages
        messages = getattr(self._stepper, "all_messages", None)
        return [] if messages is None else messages()
