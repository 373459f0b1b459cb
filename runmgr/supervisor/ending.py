"""The end of a run: its outcome is made, once, and told. Methods of `Runtime`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runmgr.agent import AgentRun
from runmgr.records.events import RunEnded as RunEndedEvent
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.usage import RunUsage

from .commands import refuse_all
from .elsewhere import exact_body
from .family import died
from .jobs import new_message_index
from .parking import waits_of_listener

if TYPE_CHECKING:
    from .actor import Actor
    from .elsewhere import Carried
    from .runtime import Runtime
    from .states import Trigger

__all__ = ("count_tool_calls", "finish", "tell")

_END: dict[RunState, Trigger] = {
    RunState.SUCCEEDED: "succeed",
    RunState.FAILED: "fail",
    RunState.CANCELLED: "cancel",
}


def finish(
    self: Runtime,
    actor: Actor,
    status: RunState,
    output: Any,
    error: RunError | None,
    *,
    stays_open: bool = False,
    carried: Carried | None = None,
    usage: RunUsage | None = None,
) -> None:
    """The run has ended, this once. Its outcome is told, with a journal once it is committed; then its place goes on to
    others: whatever kills the process, no more runs than have a place can have an answer that the journal has not.

    Args:
        self: the supervisor.
        actor: the run.
        status: how it ended.
        output: what it gave, where it succeeded.
        error: why not, where it did not.
        stays_open: the journal is not to hold the outcome: the run can be resumed.
        carried: what came of it, where it was worked on elsewhere.
        usage: what it used, where that is known to whoever calls.
    """
    queued = actor._seated
    if actor.state is RunState.WAITING and status is RunState.SUCCEEDED:
        self.move(actor, "go", "what waits is not a part of it any more")
    ticks = self._ticks
    at = self._ticks_offset + ticks()
    self.move(actor, _END[status], error.message if error is not None else "done", at)
    stepper = actor._stepper
    messages: list[Any] = []
    new_from = epoch = 0
    body: bytes | None = None
    metadata = actor._metadata
    abandoned: tuple[str, ...] = ()
    if type(stepper) is AgentRun:
        state = stepper._state
        messages, new_from, epoch = (
            state.message_history,
            stepper._deps.new_message_index,
            state.history_epoch,
        )
        if metadata is None:
            metadata = state.metadata
        if state.abandoned_threads:
            abandoned = tuple(state.abandoned_threads)
        count = state.usage.tool_calls - actor._tools_counted
        if count > 0:
            actor._tools_counted += count
            self.gates.count_tool_calls(actor, count)
    elif stepper is not None and actor._job.is_agent:
        messages, new_from, epoch = (
            stepper.all_messages(),
            new_message_index(stepper),
            stepper.history_epoch,
        )
        abandoned = actor._job.abandoned_threads(stepper)
        if metadata is None:
            metadata = stepper.metadata
        self.count_tool_calls(actor)
    elif carried is not None:
        if carried.status is status and carried.error == error:
            body = exact_body(actor, carried)
        messages, new_from = carried.messages, carried.new_message_index
        epoch = -1  # it began anew there: whatever the journal has of its history no longer holds
        if metadata is None:
            metadata = carried.metadata
    elif actor._snapshot is not None:  # it was to go on from there, and never began to
        messages, new_from = actor._snapshot.messages, actor._snapshot.new_message_index
    extras = actor._extras
    if self.channels.any:
        self.channels.ended(actor)
    if extras is not None:
        self.parking.ended(actor, extras)
        refuse_all(actor, extras)
        if extras.parent is not None:
            died(extras.parent, actor)
    tally = actor._tally
    paid = tally if extras is None and actor._before is None else actor.paid()
    if usage is None:
        usage = RunUsage() if paid is None else paid.usage()
    if carried is not None:
        abandoned = carried.abandoned_threads
    outcome = RunOutcome(
        run_id=actor.run_id,
        index=actor._index,
        status=status,
        output=output,
        error=error,
        usage=usage,
        cost=None if paid is None else paid.known_cost,
        attempts=actor._attempts,
        group=actor.group,
        metadata=metadata,
        queued_at=actor._queued_at,
        started_at=actor._started_at,
        finished_at=at if actor._finished_at is None else actor._finished_at,
        model=actor._model,
        messages=messages,
        input=actor._input,
        new_message_index=new_from,
        earlier_errors=() if extras is None or extras.errors is None else tuple(extras.errors),
        parent=None if extras is None or extras.parent is None else extras.parent.run_id,
        abandoned_threads=abandoned,
    )
    journal = self.journal
    if stays_open and journal is not None:
        journal.left_open(actor)
    actor._scope = actor._stepper = actor._context = None
    if tally is not None:
        self.ledger.close_run(
            actor.run_id, tally, status._value_
        )  # what `value` gives, without its descriptor
        meter = getattr(tally, "meter", None)
        if meter is not None:
            self.gates.run_ended(actor, meter, stays_open=stays_open)
    if stays_open and self.stop_reason is not None:
        _take_along(actor)
    if journal is None or stays_open:
        self.tell(actor, outcome, at)
    else:
        journal.ended(actor, outcome, epoch, body)
    if queued:
        self.admission.leave(actor)


def _take_along(actor: Actor) -> None:
    """The run was stopped with everybody else: so are those that wait for its end, before they take that for a result."""
    waits = [*waits_of_listener(actor._listener)]
    if actor._extras is not None and actor._extras.awaited is not None:
        waits += actor._extras.awaited
    for part in waits:
        if part.actor._scope is not None:
            part.actor._leave()


def count_tool_calls(self: Runtime, actor: Actor) -> None:
    """Count the tool calls of the attempt that has ended; they are the model's that asked for them."""
    if not actor._job.is_agent:
        return
    count = actor._stepper.usage().tool_calls - actor._tools_counted
    actor._tools_counted += count
    if count > 0:
        self.gates.count_tool_calls(actor, count)


def tell(self: Runtime, actor: Actor, outcome: RunOutcome, at: float | None = None) -> None:
    """Tell the outcome to whoever waits for it, now, or at a time that was just read."""
    actor._outcome = outcome
    run_id = actor.run_id
    del self.live[run_id]
    self.remember_run(actor)
    if actor._ended is not None:
        actor._ended.set()
        if actor._extras is not None and actor._extras.awaited is not None:
            for part in actor._extras.awaited:
                part.over()
    if actor._listener is not None:
        actor._listener.told(outcome)
    if self.events.listening:
        tell = self.events.tell
        tell(RunEndedEvent(run_id, actor.group, outcome, self.now() if at is None else at))
    too_many = self.failures.ended(outcome)
    if too_many is not None:
        self.escalate(too_many)
    if not self.live and self._idle is not None:
        self._idle.set()
        self._idle = None
    if actor._holds:
        actor._holds = False
        self.admission.give_back(actor)
    if self.tenants.leaving:
        self.tenants.left(actor)
