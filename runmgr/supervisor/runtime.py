"""What a supervisor is inside: the one owner of admission, ledger, doors and events, and the life of its runs.

Everything here is synchronous but the waits; actors and handles call it, and it calls nobody's code but the listeners of
outcomes. Its invariants: a run is in ``live`` from admission until its outcome is told; `finish` is called once for each;
with a journal, an outcome is told from the commit that holds it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import SupervisorClosed, UserError
from runmgr.records.events import RunAdmitted, RunStateChanged
from runmgr.records.events import RunEnded as RunEndedEvent
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.records.snapshots import SupervisorSnapshot
from runmgr.usage import RunUsage

from .actor import Actor
from .admission import Admission
from .channels import Channels
from .commands import answer_all, come_back, refuse_all
from .deadlines import Deadlines
from .elsewhere import CarriedStepper
from .failures import Failures
from .family import born, died
from .interrupted import InterruptedTools
from .jobs import new_message_index
from .journaling import differ
from .ledger import Ledger, Tally
from .parking import Parking
from .states import TERMINAL, step
from .subscriptions import Subscriptions
from .tenants import Tenants

if TYPE_CHECKING:
    from runmgr.usage import UsageLimits

    from .elsewhere import Carrier
    from .extras import Extras
    from .family import Family
    from .gates import Gates
    from .jobs import Job
    from .journaling import RunJournal
    from .mapping import Outcomes
    from .states import Trigger

__all__ = ("Runtime",)

_END: dict[RunState, Trigger] = {
    RunState.SUCCEEDED: "succeed",
    RunState.FAILED: "fail",
    RunState.CANCELLED: "cancel",
}


class Runtime:
    """The inside of one supervisor. See `open_supervisor` for the arguments."""

    def __init__(
        self,
        *,
        max_running: int,
        max_queued: int,
        max_parked: int,
        family: Family,
        group_weights: Mapping[str, float] | None,
        group_limits: Mapping[str, int] | None,
        limits: UsageLimits | None,
        max_failures: float | None,
        min_sample: int,
        remember: int,
        retry_failed: bool,
        interrupted_tools: InterruptedTools,
        gates: Callable[[Ledger], Gates],
        wall_clock: Callable[[], float],
    ) -> None:
        self.facade: Any = None
        self.limits = limits
        self.family = family
        self.parking = Parking(self, max_parked)
        self.retry_failed = retry_failed
        self.interrupted_tools = interrupted_tools
        self.journal: RunJournal | None = None
        self.carrier: Carrier | None = None
        """Who has runs worked on elsewhere; None: they are worked on here."""
        self.told: dict[str, Any] = {}
        """Arguments of `open_supervisor` that are for those who work on the runs."""
        self.events = Subscriptions(self.now)
        self.admission = Admission(
            max_running, max_queued, self._enter, self._start, weights=group_weights, limits=group_limits
        )
        self.deadlines = Deadlines(self)
        self.channels = Channels(self.parking)
        self.ledger = Ledger(remember)
        self.gates = gates(self.ledger)
        self.live: dict[str, Actor] = {}
        """Runs that are admitted and whose outcome is not told yet."""
        self.remembered: OrderedDict[str, Actor] = OrderedDict()
        """The last runs whose outcome is told."""
        self.counts: dict[RunState, int] = dict.fromkeys(RunState, 0)
        """Runs by state; the ended ones since the beginning."""
        self.pausing = False
        self.leaving = False
        """Whether every run is asked to end at its next node boundary."""
        self.closed: str | None = None
        """Why no run is admitted any more; None while they are."""
        self.stop_reason: str | None = None
        """Why everything is being cancelled; None while nothing is."""
        self.escalation: BaseException | None = None
        """What the block is to raise."""
        self.broken: BaseException | None = None
        """What ended the actors' nursery: a bug in runmgr, or an interrupt."""
        self.maps: set[Outcomes] = set()
        """Maps that are open: told when nobody is left to end their runs."""
        self.actors: trio.Nursery | None = None
        self.services: trio.Nursery | None = None
        self.submitted = 0
        self._time = trio.lowlevel.current_clock().current_time
        self._wall_offset = wall_clock() - self._time()
        self._remember = remember
        self._id_prefix = secrets.token_hex(5)
        self._idle: trio.Event | None = None
        self.failures = Failures(max_failures, min_sample)
        self.tenants = Tenants(self)
        self.tenants.set_up((group_weights or {}).keys() | (group_limits or {}).keys())

    def now(self) -> float:
        """Unix seconds by trio's clock, so that virtual time shows in them too."""
        return self._wall_offset + self._time()

    def set_clock(self, forward: float) -> None:
        """Put the clock forward by so many seconds, where another one's is to be shown."""
        self._wall_offset += forward

    # ---------------------------------------------------------------- from submission to a place

    def make(
        self,
        job: Job,
        *,
        run_id: str | None = None,
        index: int | None = None,
        group: str = "",
        priority: int = 0,
        timeout: float | None = None,
        deadline: float | None = None,
        metadata: dict[str, Any] | None = None,
        input: Any = None,
        fingerprint: str | None = None,
        listener: Any = None,
        parent: Actor | None = None,
    ) -> Actor:
        """A run that is not admitted yet. See `Family.adopt` for what is raised for child runs."""
        number = self.submitted
        self.submitted = number + 1
        time = trio.current_time()
        actor = Actor(
            self,
            job,
            run_id=run_id or f"{self._id_prefix}-{number:06d}",
            index=number if index is None else index,
            group=group,
            priority=priority,
            timeout=timeout,
            deadline=None if deadline is None else time + deadline,
            metadata=metadata,
            input=job.prompt if input is None else input,
            fingerprint=fingerprint,
            queued_at=self._wall_offset + time,
            listener=listener,
        )
        if parent is not None:
            self.family.adopt(parent, actor)
        return actor

    def known(self, run_id: str) -> Actor | None:
        """The run of this id that is live or remembered."""
        return self.live.get(run_id) or self.remembered.get(run_id)

    def from_journal(self, actor: Actor) -> None:
        """Give a new run what the journal knows of its id, or refuse what it could not hold.

        Raises:
            UserError: its input or metadata has no JSON form, or the journal has another run under its id.
            JournalError: the journal is damaged there.
        """
        journal = self.journal
        assert journal is not None
        known = journal.look_up(actor.run_id)
        if known is None:
            journal.check_new(actor)
            journal.prepare(actor)
            return
        run, found = known
        if isinstance(found, RunOutcome):
            if self.retry_failed and found.status != RunState.SUCCEEDED:
                journal.prepare(actor)
                actor._supersedes = run
                return
            journal.check_same(actor, run, found)
            actor.replay(found)
            self._remember_run(actor)
            return
        if differ(found.fingerprint, actor._fingerprint):
            raise UserError(
                f"run {actor.run_id}: the journal has an unfinished run of this id whose fingerprint is "
                f"{found.fingerprint!r}, not {actor._fingerprint!r}: its agent, model or settings have changed. "
                "Put them back, give another run_id, or begin another journal"
            )
        if actor._input is not None and journal.as_kept(actor._input) != found.input:
            raise UserError(
                f"run {actor.run_id}: the journal has an unfinished run of this id that was begun with another prompt: "
                f"{str(found.input)[:80]!r}, not {str(actor._input)[:80]!r}. Put it back, or give another run_id"
            )
        journal.goes_on()
        actor.go_on(found)
        actor.extras().from_journal = True

    def not_admitted(self, actor: Actor) -> None:
        """The run was made, and is not to be."""
        if self.journal is not None and actor.run_id not in self.live and actor._outcome is None:
            self.journal.not_admitted(actor)

    def check_open(self, parent: Actor | None = None) -> None:
        """Raise `SupervisorClosed` where no run is admitted any more. While it is drained, child runs still are."""
        if self.closed is not None and (parent is None or self.stop_reason is not None):
            raise self.closed_error()

    def closed_error(self, reason: str | None = None) -> SupervisorClosed:
        """What those are told who come too late."""
        return SupervisorClosed(f"this supervisor admits no more runs: {reason or self.closed}")

    def admit_nowait(self, actor: Actor) -> None:
        """Admit the run, or raise `trio.WouldBlock`."""
        self.check_open(None if actor._extras is None else actor._extras.parent)
        if not self.admission.offer(actor):
            raise trio.WouldBlock

    async def admit(self, actor: Actor, waiter: Actor | None = None) -> None:
        """Admit the run as soon as there is room. Cancelled: it was not admitted.

        Args:
            actor: the run.
            waiter: the run that waits for that, without its place.
        """
        self.check_open(None if actor._extras is None else actor._extras.parent)
        if self.admission.offer(actor):
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            # In line before its parent's place goes on to somebody: to the child, if to anybody.
            ticket = self.admission.stand(actor)
            try:
                await self.parking.wait(
                    waiter,
                    lambda: ticket.wait(lambda: self.admission.give_up(ticket)),
                    "it waits to submit a run",
                )
            except UserError:  # it may not wait
                self.admission.give_up(ticket)
                raise
            except trio.Cancelled:
                if (
                    self.live.get(actor.run_id) is actor
                ):  # admitted, but the submitter waits for its own place
                    self.cancel_run(actor, "whoever submitted it was cancelled")
                elif self.tenants.leaving:
                    self.tenants.check(actor.group)
                raise

    def _enter(self, actor: Actor) -> None:
        self.live[actor.run_id] = actor
        self.counts[RunState.QUEUED] += 1
        if self.tenants.leaving:
            self.tenants.entered(actor)
        extras = actor._extras
        if extras is not None and extras.parent is not None:
            born(extras.parent, actor)
        if actor._deadline is not None:
            self.deadlines.add(actor, actor._deadline)
        if self.journal is not None:
            self.journal.admitted(actor)
        if self.events.listening:
            self.events.publish(
                RunAdmitted(run_id=actor.run_id, index=actor._index, group=actor.group, at=self.now())
            )

    def _start(self, actor: Actor) -> None:
        actor._holds = True
        if actor._scope is not None:  # it was parked: its task waits
            self.goes_on(actor)
            self.parking.seated(actor)
            return
        self.move(actor, "start", "a place is free")
        extras = actor._extras
        if extras is not None and extras.resumed is not None:
            answer_all(extras.resumed)
            extras.resumed = None
        if actor._started_at is None:
            actor._started_at = self.now()
        assert self.actors is not None
        # In the submitter's context: what happens to free the place, and where, is none of this run's business.
        context, actor._context = actor._context, None
        assert context is not None
        context.run(self.actors.start_soon, actor.act, name=actor.run_id)

    # ---------------------------------------------------------------- states

    def move(self, actor: Actor, trigger: Trigger, reason: str) -> None:
        """Follow the table."""
        before = actor.state
        after = actor.state = step(before, trigger)
        counts = self.counts
        counts[before] -= 1
        counts[after] += 1
        if self.events.listening:
            self.events.publish(
                RunStateChanged(
                    run_id=actor.run_id,
                    group=actor.group,
                    before=before,
                    after=after,
                    reason=reason,
                    at=self.now(),
                )
            )

    def begin_wait(self, actor: Actor, reason: str) -> None:
        """The run, or a part of it, waits for the supervisor. Parts may wait at once."""
        actor._waits += 1
        if actor._waits == 1 and actor.state is RunState.RUNNING:
            self.move(actor, "wait", reason)

    def end_wait(self, actor: Actor) -> None:
        """The part goes on."""
        actor._waits -= 1
        if actor._waits == 0 and actor.state is RunState.WAITING:
            self.move(actor, "go", "its wait is over")

    def goes_on(self, actor: Actor) -> None:
        """A run that was parked has a place again."""
        self.move(actor, "start", "it has a place again")
        if actor._waits:
            self.move(actor, "wait", "a part of it waits")

    async def stop_here(self, actor: Actor, extras: Extras) -> None:
        """Called by the run's task between two nodes: stop until resumed and given a place again."""
        stopped = extras.stopped = trio.Event()
        self.parking.leave(actor, "paused", for_runs=False)
        answer_all(extras.pause_asked)
        extras.pause_asked = None
        await stopped.wait()

    # ---------------------------------------------------------------- commands

    def cancel_run(self, actor: Actor, reason: str | None, *, stays_open: bool = False) -> bool:
        """See `RunHandle.cancel`; with ``stays_open`` the journal does not take it for an end: it can be resumed."""
        if actor.state in TERMINAL:
            return False
        if actor._cancel_reason is None:
            actor._cancel_reason = reason or "cancelled"
            actor._abandoned = stays_open
        if actor._scope is not None:
            actor._scope.cancel(actor._cancel_reason)
        elif not actor._holds:  # no task yet, and none to come
            error = RunError("Cancelled", actor._cancel_reason)
            self.finish(actor, RunState.CANCELLED, None, error, stays_open=actor._abandoned)
        return True

    def pause(self) -> None:
        """Stop admitting to places, and every run at its next node boundary. O(live runs)."""
        self.pausing = True
        self.admission.closed = True
        for actor in self.live.values():
            actor._interrupts = True

    def resume(self) -> None:
        """Undo `pause`; runs that were paused one by one stay paused. O(live runs)."""
        self.pausing = False
        self.admission.closed = self.stop_reason is not None and not self.leaving
        for actor in list(self.live.values()):
            extras = actor._extras
            if extras is not None and not extras.pausing:
                come_back(self, actor, extras)
        self.admission.fill()

    def close(self, reason: str) -> None:
        """Admit no more runs."""
        if self.closed is None:
            self.closed = reason
            self.admission.dismiss(self.closed_error, children=False)

    def stop(self, reason: str, grace: float = 0.0) -> None:
        """Cancel every run; what the journal holds of them stays open, to be resumed. O(live runs).

        Args:
            reason: why.
            grace: seconds that runs have to come to a node boundary and end there, before they are cancelled where they are.
        """
        self.close(reason)
        if self.stop_reason is None:
            self.stop_reason = reason
            self.admission.finishing = True
            self.admission.dismiss(self.closed_error, children=True)
            for actor in list(self.live.values()):
                if actor._scope is None and not actor._holds and actor.state not in TERMINAL:
                    self.finish(actor, RunState.CANCELLED, None, self.shutdown_error(actor), stays_open=True)
        elif not self.leaving:
            return
        if grace > 0:
            if not self.leaving:
                self.leaving = True
                self._ask_to_leave()
                self.admission.closed = False
                self.admission.fill()
            assert self.services is not None
            self.services.start_soon(self._force_after, grace, reason, name="runmgr grace")
            return
        self.leaving = False
        self.admission.closed = True
        if self.actors is not None:
            self.actors.cancel_scope.cancel(reason)

    def _ask_to_leave(self) -> None:
        for actor in list(self.live.values()):
            actor._interrupts = True
            extras = actor._extras
            if extras is not None and (extras.stopped is not None or extras.gate is not None):
                actor._leave()  # it is between two nodes

    async def _force_after(self, grace: float, reason: str) -> None:
        await trio.sleep(grace)
        self.stop(reason)

    def shutdown_error(self, actor: Actor) -> RunError:
        """What the outcome of a run says that was cancelled with all others."""
        return RunError("Cancelled", actor._cancel_reason or self.stop_reason or "shutdown")

    # ---------------------------------------------------------------- the end of a run

    def finish(
        self,
        actor: Actor,
        status: RunState,
        output: Any,
        error: RunError | None,
        *,
        stays_open: bool = False,
    ) -> None:
        """The run has ended, this once. Its outcome is told, with a journal once it is committed; then its place goes on to
        others: whatever kills the process, no more runs than have a place can have an answer that the journal has not.

        Args:
            actor: the run.
            status: how it ended.
            output: what it gave, where it succeeded.
            error: why not, where it did not.
            stays_open: the journal is not to hold the outcome: the run can be resumed.
        """
        queued = actor._seated
        if actor.state is RunState.WAITING and status is RunState.SUCCEEDED:
            self.move(actor, "go", "what waits is not a part of it any more")
        self.move(actor, _END[status], error.message if error is not None else "done")
        stepper = actor._stepper
        messages: list[Any] = []
        new_from = epoch = 0
        body: bytes | None = None
        metadata = actor._metadata
        if stepper is not None and actor._job.is_agent:
            messages, new_from, epoch = (
                stepper.all_messages(),
                new_message_index(stepper),
                stepper.history_epoch,
            )
            if metadata is None:
                metadata = stepper.metadata
            self.count_tool_calls(actor)
        elif type(stepper) is CarriedStepper:
            if stepper.carried is not None and stepper.carried.status is status:
                body = stepper.body
            messages, new_from = stepper.all_messages(), stepper.new_message_index
            metadata = metadata if metadata is not None else stepper.metadata
            actor._result = None  # made from the outcome, when somebody asks for it
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
        paid = actor.paid()
        outcome = RunOutcome(
            run_id=actor.run_id,
            index=actor._index,
            status=status,
            output=output,
            error=error,
            usage=RunUsage() if paid is None else paid.usage(),
            cost=None if paid is None else paid.known_cost,
            attempts=actor._attempts,
            group=actor.group,
            metadata=metadata,
            queued_at=actor._queued_at,
            started_at=actor._started_at,
            finished_at=self.now() if actor._finished_at is None else actor._finished_at,
            model=actor._model,
            messages=messages,
            input=actor._input,
            new_message_index=new_from,
            earlier_errors=() if extras is None or extras.errors is None else tuple(extras.errors),
            parent=None if extras is None or extras.parent is None else extras.parent.run_id,
            abandoned_threads=() if stepper is None else actor._job.abandoned_threads(stepper),
        )
        actor._scope = actor._stepper = actor._context = None
        if tally is not None:
            self.ledger.close_run(actor.run_id, tally, status.value)
            meter = getattr(tally, "meter", None)
            if meter is not None:
                self.gates.run_ended(actor, meter, stays_open=stays_open)
        if self.journal is None or stays_open:
            self.tell(actor, outcome)
        else:
            self.journal.ended(actor, outcome, epoch, body)
        if queued:
            self.admission.leave(actor)

    def count_tool_calls(self, actor: Actor) -> None:
        """Count the tool calls of the attempt that has ended; they are the model's that asked for them."""
        if not actor._job.is_agent:
            return
        count = actor._stepper.usage().tool_calls - actor._tools_counted
        actor._tools_counted += count
        if count > 0:
            self.gates.count_tool_calls(actor, count)

    def tell(self, actor: Actor, outcome: RunOutcome) -> None:
        """Tell the outcome to whoever waits for it."""
        actor._outcome = outcome
        run_id = actor.run_id
        del self.live[run_id]
        self._remember_run(actor)
        if actor._ended is not None:
            actor._ended.set()
            if actor._extras is not None and actor._extras.awaited is not None:
                for part in actor._extras.awaited:
                    part.over()
        if actor._listener is not None:
            actor._listener.told(outcome)
        if self.events.listening:
            self.events.publish(
                RunEndedEvent(run_id=run_id, group=actor.group, outcome=outcome, at=self.now())
            )
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

    def _remember_run(self, actor: Actor) -> None:
        remembered = self.remembered
        remembered[actor.run_id] = actor
        if len(remembered) > self._remember:
            remembered.popitem(last=False)

    def escalate(self, error: BaseException) -> None:
        """Stop everything; the supervisor's block raises this."""
        if self.escalation is None:
            self.escalation = error
            self.stop(str(error))
            if self.services is not None:
                self.services.cancel_scope.cancel(str(error))

    def breaks(self, error: BaseException) -> None:
        """The actors' nursery has failed: nobody is left to end the runs, so nobody waits for them."""
        self.broken = error
        self.stop("internal error")
        if self._idle is not None:
            self._idle.set()
            self._idle = None
        for outcomes in self.maps:
            outcomes.broken()

    def snapshot(self) -> SupervisorSnapshot:
        """See `Supervisor.snapshot`."""
        now = trio.current_time()
        oldest = next(iter(self.live.values()), None)
        total = self.ledger.total
        return SupervisorSnapshot(
            at=self._wall_offset + now,
            states={state.value: count for state, count in self.counts.items()},
            max_running=self.admission.max_running,
            places_taken=self.admission.running,
            queued=self.admission.queued,
            submitting=self.admission.submitting,
            parked=self.parking.parked,
            submitted=self.submitted,
            usage=total.usage(),
            cost=_text(total),
            unpriced_requests=total.unpriced,
            models=self.gates.model_states(self._wall_offset)
            if self.carrier is None
            else self.carrier.model_states(self.ledger.by("model", tuple)),
            oldest_run=None if oldest is None else oldest.run_id,
            oldest_age=None if oldest is None else self._wall_offset + now - oldest._queued_at,
            groups=self.tenants.states(),
            **self.gates.budget_states(),
            closed=self.closed,
            workers={} if self.carrier is None else self.carrier.states(),
            workers_lost=0 if self.carrier is None else self.carrier.lost,
        )

    async def wait_idle(self) -> None:
        """Wait until no admitted run is without an outcome."""
        while self.live and self.broken is None:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()


def _text(tally: Tally) -> str | None:
    cost = tally.known_cost
    return None if cost is None else str(cost)
