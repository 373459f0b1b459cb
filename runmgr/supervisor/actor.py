"""The actor: one task, one cancel scope, and the run's only hands.

It drives its stepper from node to node until an `End`. Between two nodes it looks at one flag, ``_interrupts``, which is
set when anything waits for it: a pause, a message, the end of the supervisor. It knows no queue, no file, no other run.

The graph decides, the actor does: what a failure means, which state follows which, how long to back off are pure functions
elsewhere. What users' code raises ends this run; what our own code raises ends the program.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio

from runmgr.agent import AgentRun, CallToolsNode, ModelRequestNode, UserPromptNode
from runmgr.agent.host import current_host
from runmgr.exceptions import (
    AgentRunError,
    BudgetExhausted,
    JournalError,
    RunCancelled,
    SupervisorClosed,
    UserError,
)
from runmgr.graph import End
from runmgr.records.events import RunNode, RunStarted, RunStream
from runmgr.records.outcomes import RunError, RunOutcome, RunState

from . import commands, deadlines, doors, interrupted
from .extras import Extras
from .family import end_children, wait_alone
from .handle import RunHandle
from .ledger import Tally

if TYPE_CHECKING:
    from runmgr.journal import Restored
    from runmgr.records.snapshots import RunSnapshot

    from .jobs import Job
    from .runtime import Runtime

__all__ = ("Actor",)

_STEPS: dict[Any, str] = {
    kind: kind.get_node_id() for kind in (UserPromptNode, ModelRequestNode, CallToolsNode)
}
"""Names of an agent's steps, without a call."""


class Actor(RunHandle):
    """A run from admission to outcome; to its agent, the `RunHost`."""

    __slots__ = ()

    def __init__(
        self,
        sup: Runtime,
        job: Job,
        run_id: str,
        index: int,
        group: str,
        priority: int,
        timeout: float | None,
        deadline: float | None,
        metadata: dict[str, Any] | None,
        input: Any,
        fingerprint: str | None,
        queued_at: float,
        listener: Any,
    ) -> None:
        self.run_id = run_id
        self.group = group
        self.priority = priority
        self.state = RunState.QUEUED
        self._sup = sup
        self._job = job
        self._index = index
        self._timeout = timeout
        self._deadline = deadline
        self._metadata = metadata
        self._input = input
        self._fingerprint = fingerprint
        self._queued_at = queued_at
        self._listener = listener
        self._context = None
        self._started_at: float | None = None
        self._finished_at: float | None = None
        self._attempts = 1
        self._steps = 0
        self._tally = None
        self._model: str | None = None
        self._scope: trio.CancelScope | None = None
        self._stepper: Any = None
        self._result: Any = None
        self._exception: BaseException | None = None
        self._cancel_reason: str | None = None
        self._interrupts = False
        self._extras = None
        self._outcome = None
        self._ended = None
        self._journal_run = 0
        self._checkpoints = 0
        self._supersedes = 0
        self._blobs: tuple[bytes | None, bytes | None] | None = None
        self._snapshot: RunSnapshot | None = None
        self._restarts: list[float] | None = None
        self._tools_counted = 0
        self._before: Tally | None = None
        self._ours = False
        self._abandoned = False
        self._seated = False
        self._holds = False
        self._known = 0
        self._waits = 0
        self._epoch = 0

    # ---------------------------------------------------------------- what the agent sees (RunHost)

    @property
    def supervisor(self) -> Any:
        """The `Supervisor`, for tools: what they submit there are this run's children."""
        facade = self._sup.facade
        return type(facade)(self._sup, self)

    @property
    def wants_events(self) -> bool:
        """Whether anybody wants this run's stream events."""
        return self._sup.events.wants_streams

    def emit(self, event: Any) -> None:
        """Hand a stream event to whoever listens."""
        self._sup.events.publish(
            RunStream(run_id=self.run_id, group=self.group, event=event, at=self._sup.now())
        )

    request = doors.request

    def request_stream(
        self, model: Any, messages: list[Any], settings: Any, params: Any, run_context: Any = None
    ) -> AbstractAsyncContextManager[Any]:
        """A streamed request through the same doors."""
        return doors.request_stream(self, model, messages, settings, params, run_context)

    # ---------------------------------------------------------------- from the journal

    def replay(self, outcome: RunOutcome) -> None:
        """It has ended in an earlier process: this is how."""
        self.state = outcome.status
        self._outcome = outcome

    def go_on(self, restored: Restored) -> None:
        """It was begun in an earlier process: it goes on from there."""
        self._snapshot = restored.snapshot
        self._journal_run = restored.run
        self._checkpoints = restored.checkpoints
        self._attempts = restored.attempts
        self._started_at = restored.started_at
        self._model = restored.model
        if restored.snapshot is not None:
            self._known = len(restored.snapshot.messages)
            self._tools_counted = restored.snapshot.usage.tool_calls
        self._before = Tally()
        self._before.load(restored.paid, restored.cost, restored.unpriced)

    def paid(self) -> Tally | None:
        """What the run has cost so far, in earlier processes too, and its ended children; None where nothing."""
        before, tally = self._before, self._tally
        below = None if self._extras is None else self._extras.below
        if before is None and below is None:
            return tally
        both = Tally()
        for part in (before, tally, below):
            if part is not None:
                both.merge(part)
        return both

    def extras(self) -> Extras:
        """What few runs need, made when it is first needed."""
        extras = self._extras
        if extras is None:
            extras = self._extras = Extras()
        return extras

    def step(self) -> int:
        """How far it is: the same number when it goes on from its last checkpoint."""
        state = getattr(self._stepper.ctx, "state", None)
        return getattr(state, "run_step", self._steps)

    # ---------------------------------------------------------------- who is told

    def listened_by(self, outcomes: Any) -> bool:
        """Whether this map, and nobody else, waits for the outcome."""
        return getattr(self._listener, "outcomes", None) is outcomes

    # ---------------------------------------------------------------- the task

    async def act(self) -> None:
        """The run's task, from its place to its outcome. Raises only what ends the program."""
        sup = self._sup
        scope = self._scope = trio.CancelScope()
        if self._timeout is not None or self._deadline is not None:
            scope.deadline = min(
                trio.current_time() + self._timeout if self._timeout is not None else float("inf"),
                self._deadline if self._deadline is not None else float("inf"),
            )
        current_host.set(self)  # pyright: ignore[reportArgumentType]  # in the run's own task, whose context ends with it
        output: Any = None
        error: RunError | None = None
        status = RunState.SUCCEEDED
        try:
            scope.__enter__()  # and not `with`, which holds on to its end by one object more in each run that waits
            try:
                if self._cancel_reason is not None:
                    scope.cancel(self._cancel_reason)
                # Driven here and not in a coroutine of its own, which would be one object more in each run that waits.
                while True:
                    block: Any = None
                    resumed = self._snapshot is not None
                    try:
                        stepper = None if resumed else self._job.start(self)
                        if stepper is None:
                            block, stepper = await self._open()
                        self._stepper = stepper
                        self._snapshot = None
                        journal = sup.journal
                        events = sup.events
                        if events.listening:
                            self._tell_started(resumed=resumed)
                        if self._extras is not None and self._extras.from_journal and self._job.is_agent:
                            self._extras.from_journal = False
                            await interrupted.look(sup, self, stepper)
                        node = stepper.next_node
                        quick = type(stepper) is AgentRun
                        over = isinstance(node, End)
                        while not over:
                            if self._interrupts:
                                self._ours = True  # what is raised from here on is a bug of ours
                                node = await self._heed(node)
                                self._ours = False
                            if events.listening:
                                self._ours = True
                                # Not called as methods are: that is slow for attributes.
                                tell, ticks = events.tell, sup._ticks
                                what = _STEPS.get(type(node)) or node.get_node_id()
                                at = sup._ticks_offset + ticks()
                                tell(RunNode(self.run_id, self.group, what, self._steps, at))
                                if events.behind:
                                    await self._wait_for(events.caught_up, "events")
                                self._ours = False
                            if quick:
                                step = stepper._go(node)
                                if type(step) is CoroutineType:
                                    step = stepper._took(node, await step)
                                node = step
                            else:
                                node = await stepper.next(node)
                            self._steps += 1
                            over = isinstance(node, End)
                            if journal is not None and not over:
                                self._ours = True
                                if journal.checkpoint(self, stepper, node):
                                    await journal.writer.next_commit()
                                    if self._cancel_reason is not None:  # since it was committed
                                        await trio.lowlevel.checkpoint_if_cancelled()
                                self._ours = False
                        self._result = stepper.result
                        output = self._result.output
                    except BaseException as exc:
                        if block is not None:
                            await block.__aexit__(type(exc), exc, exc.__traceback__)
                        if not isinstance(exc, Exception) or not await self._begin_again(exc):
                            raise
                    else:
                        if block is not None:
                            await block.__aexit__(None, None, None)
                        break
                if self._extras is not None:
                    await self._see_off(self._extras)
            except BaseException as exc:
                if not scope.__exit__(type(exc), exc, exc.__traceback__):
                    raise
            else:
                scope.__exit__(None, None, None)
        except Exception as exc:
            output = None  # it had come to its end, perhaps, and could not be closed
            if self._ours and not isinstance(exc, UserError | JournalError):
                raise  # a bug in runmgr: it ends the program, and is not taken for a failed run
            if sup.stop_reason is not None and isinstance(exc, RunCancelled | SupervisorClosed):
                # What it waited for was stopped with everybody else, or what it submitted came too late; it would have been next.
                self._abandoned, status, error = True, RunState.CANCELLED, sup.shutdown_error(self)
            else:
                status, error = RunState.FAILED, self._failure(exc)
        except BaseException:
            # Cancelled with everybody else, or the program is being interrupted: the outcome is told, then it goes on up.
            if self._extras is not None and self._extras.children:
                await end_children(sup, self, self._extras, stays_open=True)
            sup.finish(self, RunState.CANCELLED, None, sup.shutdown_error(self), stays_open=True)
            raise
        else:
            if scope.cancelled_caught:
                output = None  # it had come to its end, perhaps, but for its children
                if self._cancel_reason is not None:
                    status, error = RunState.CANCELLED, RunError("Cancelled", self._cancel_reason)
                else:
                    status, error = RunState.FAILED, self._timed_out()
        stays_open = (
            self._abandoned if status is RunState.CANCELLED else isinstance(self._exception, BudgetExhausted)
        )
        if self._extras is not None and self._extras.children:
            await end_children(sup, self, self._extras, stays_open=stays_open)
        sup.finish(self, status, output, error, stays_open=stays_open)

    async def _open(self) -> tuple[Any, Any]:
        """Open the stepper, where that takes more than making it: gives what is to be closed, None where nothing is, and it."""
        block = self._job.open(self, self._snapshot)
        stepper = await block.__aenter__()
        return block if getattr(block, "is_open", True) else None, stepper

    async def _begin_again(self, exc: Exception) -> bool:
        """Back off and prepare to begin anew after a failure, where the supervisor has it so; else False."""
        sup = self._sup
        restart = sup.gates.restart
        if restart is None or self._ours or self._stepper is None:
            return False
        wait = sup.gates.restart_delay(self, exc)
        if wait is None:
            return False
        extras = self.extras()
        if extras.errors is None:
            extras.errors = []
        extras.errors.append(self._failure(exc))
        self._exception = None
        if extras.children:
            await end_children(sup, self, extras, stays_open=False)
        from_start = restart.resume == "start"
        sup.count_tool_calls(self)
        if self._tally is not None:
            sup.ledger.restarted(self._tally)
        if sup.journal is not None:
            # What was put off: nobody could tell it any more once the stepper is another.
            sup.journal.left_open(self)
        self._snapshot = self._job.again(self._stepper, from_start=from_start)
        if from_start:
            self._tools_counted = 0
            self._epoch = -1  # whatever the journal has of its history no longer holds
        self._attempts += 1
        await self._wait_for(lambda: sup.gates.timers.sleep(wait), "restart")
        return True

    def _tell_started(self, *, resumed: bool) -> None:
        sup = self._sup
        tell, ticks = sup.events.tell, sup._ticks
        tell(RunStarted(self.run_id, self.group, self._attempts, sup._ticks_offset + ticks(), resumed))

    async def _wait_for(self, wait: Callable[[], Awaitable[None]], reason: str) -> None:
        self._sup.begin_wait(self, reason)
        try:
            await wait()
        finally:
            self._sup.end_wait(self)

    # ---------------------------------------------------------------- between two nodes

    async def _heed(self, node: Any) -> Any:
        """Do what waits: take its place again, stop while paused, answer, add messages where they can go."""
        self._interrupts = False
        sup = self._sup
        extras = self.extras()
        while True:
            if sup.leaving:
                self._leave()
                await trio.lowlevel.checkpoint()
            elif extras.gate is not None and not extras.away:
                await extras.gate.wait()
            elif extras.pausing or sup.pausing:
                await sup.stop_here(self, extras)
            else:
                break
        if extras.snapshots is not None:
            commands.give_snapshots(self, extras)
        if not commands.deliver(extras, node):
            self._interrupts = True  # not before a model request: they wait for the next one
        return node

    def _leave(self) -> None:
        """End here, as everybody is asked to."""
        scope = self._scope
        assert scope is not None
        if self._cancel_reason is None:
            self._cancel_reason = self._sup.stop_reason or "shutdown"
            self._abandoned = True
        scope.cancel(self._cancel_reason)

    async def _see_off(self, extras: Extras) -> None:
        """At its end: wait for its children, and for the place that it needs to succeed."""
        if extras.children:
            await self._sup.parking.wait(self, lambda: wait_alone(extras), "it waits for its child runs")
        await self._sup.parking.settle(self, extras)

    # ---------------------------------------------------------------- what went wrong

    def _failure(self, exc: Exception) -> RunError:
        self._exception = exc
        theirs = not isinstance(exc, AgentRunError)
        return RunError(
            type=type(exc).__name__,
            message=str(exc),
            status_code=getattr(exc, "status_code", None),
            traceback="".join(traceback.format_exception(exc, limit=-6)) if theirs else None,
        )

    def _timed_out(self) -> RunError:
        if self._deadline is not None and self._scope is not None and self._scope.deadline == self._deadline:
            return deadlines.passed()
        return deadlines.took_too_long(self)
