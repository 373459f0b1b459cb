"""What a supervisor is inside: the one owner of admission, ledger, doors and events, and the life of its runs.

Everything here is synchronous but the waits; actors and handles call it, and it calls nobody's code but the listeners of
outcomes. Its invariants: a run is in ``live`` from admission until its outcome is told; `finish` is called once for each;
with a journal, an outcome is told from the commit that holds it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import RunEnded, SupervisorClosed, TooManyFailures, UserError
from runmgr.records.events import RunAdmitted, RunStateChanged
from runmgr.records.events import RunEnded as RunEndedEvent
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.records.snapshots import ModelState, SupervisorSnapshot
from runmgr.usage import RunUsage

from .actor import MAILBOX_SIZE, Actor
from .admission import Admission
from .jobs import new_message_index
from .ledger import Ledger, Tally
from .states import TERMINAL, step
from .subscriptions import Subscriptions

if TYPE_CHECKING:
    from runmgr.usage import UsageLimits

    from .gates import Gates
    from .jobs import Job
    from .journaling import RunJournal
    from .states import Trigger

__all__ = ("Runtime",)

_END: dict[RunState, Trigger] = {
    RunState.SUCCEEDED: "succeed",
    RunState.FAILED: "fail",
    RunState.CANCELLED: "cancel",
}
KEPT_FAILURES = 100
"""How many failed outcomes `TooManyFailures` holds at most."""


class Runtime:
    """The inside of one supervisor. See `open_supervisor` for the arguments."""

    def __init__(
        self,
        *,
        max_running: int,
        max_queued: int,
        max_parked: int,
        limits: UsageLimits | None,
        max_failures: float | None,
        min_sample: int,
        remember: int,
        retry_failed: bool,
        gates: Callable[[Ledger], Gates],
        wall_clock: Callable[[], float],
    ) -> None:
        self.facade: Any = None
        self.limits = limits
        self.max_parked = max_parked
        self.retry_failed = retry_failed
        self.journal: RunJournal | None = None
        self.events = Subscriptions(self.now)
        self.admission = Admission(max_running, max_queued, self._enter, self._start)
        self.ledger = Ledger(remember)
        self.gates = gates(self.ledger)
        self.live: dict[str, Actor] = {}
        """Runs that are admitted and whose outcome is not told yet."""
        self.remembered: OrderedDict[str, Actor] = OrderedDict()
        """The last runs whose outcome is told."""
        self.counts: dict[RunState, int] = dict.fromkeys(RunState, 0)
        """Runs by state; the ended ones since the beginning."""
        self.parked = 0
        """Paused runs that gave their place up and hold a task."""
        self.pausing = False
        self.closed: str | None = None
        """Why no run is admitted any more; None while they are."""
        self.stop_reason: str | None = None
        """Why everything is being cancelled; None while nothing is."""
        self.escalation: BaseException | None = None
        """What the block is to raise."""
        self.broken: BaseException | None = None
        """What ended the actors' nursery: a bug in runmgr, or an interrupt."""
        self.actors: trio.Nursery | None = None
        self.services: trio.Nursery | None = None
        self.submitted = 0
        self._wall_offset = wall_clock() - trio.current_time()
        self._remember = remember
        self._id_prefix = secrets.token_hex(5)
        self._idle: trio.Event | None = None
        self._max_failures = max_failures
        self._min_sample = min_sample
        self._failures: deque[RunOutcome] = deque(maxlen=KEPT_FAILURES)

    def now(self) -> float:
        """Unix seconds by trio's clock, so that virtual time shows in them too."""
        return self._wall_offset + trio.current_time()

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
    ) -> Actor:
        """A run that is not admitted yet."""
        number = self.submitted
        self.submitted = number + 1
        time = trio.current_time()
        return Actor(
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
            journal.prepare(actor)
            return
        run, found = known
        if isinstance(found, RunOutcome):
            if self.retry_failed and found.status != RunState.SUCCEEDED:
                journal.prepare(actor)
                actor._supersedes = run
                return
            actor.replay(found)
            self._remember_run(actor)
            return
        if None not in {found.fingerprint, actor._fingerprint} and found.fingerprint != actor._fingerprint:
            raise UserError(
                f"run {actor.run_id}: the journal has an unfinished run of this id whose fingerprint is "
                f"{found.fingerprint!r}, not {actor._fingerprint!r}: its agent, model or settings have changed. "
                "Put them back, give another run_id, or begin another journal"
            )
        actor.go_on(found)

    def check_open(self) -> None:
        """Raise `SupervisorClosed` where no run is admitted any more."""
        if self.closed is not None:
            raise self.closed_error()

    def closed_error(self) -> SupervisorClosed:
        """What those are told who come too late."""
        return SupervisorClosed(f"this supervisor admits no more runs: {self.closed}")

    def admit_nowait(self, actor: Actor) -> None:
        """Admit the run, or raise `trio.WouldBlock`."""
        self.check_open()
        if not self.admission.offer(actor):
            raise trio.WouldBlock

    async def admit(self, actor: Actor) -> None:
        """Admit the run as soon as there is room. Cancelled: it was not admitted."""
        self.check_open()
        if self.admission.offer(actor):
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await self.admission.wait(actor)

    def _enter(self, actor: Actor) -> None:
        self.live[actor.run_id] = actor
        self.counts[RunState.QUEUED] += 1
        if self.journal is not None:
            self.journal.admitted(actor)
        if self.events.listening:
            self.events.publish(
                RunAdmitted(run_id=actor.run_id, index=actor._index, group=actor.group, at=self.now())
            )

    def _start(self, actor: Actor) -> None:
        actor._holds = True
        self.move(actor, "start", "a place is free")
        gate = actor._gate
        if gate is not None:  # it was paused between two nodes: its task waits at the gate
            self.parked -= 1
            gate.set()
            return
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
        if actor._waits == 1:
            self.move(actor, "wait", reason)

    def end_wait(self, actor: Actor) -> None:
        """The part goes on."""
        actor._waits -= 1
        if actor._waits == 0:
            self.move(actor, "go", "its wait is over")

    async def park(self, actor: Actor) -> None:
        """Called by the run's task between two nodes: stop until resumed and given a place again."""
        gate = actor._gate = trio.Event()
        self.move(actor, "pause", "paused")
        self.parked += 1
        if self.parked <= self.max_parked:
            actor._holds = False
            self.admission.give_back()
        await gate.wait()
        actor._gate = None

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

    def pause_run(self, actor: Actor) -> None:
        """See `RunHandle.pause`."""
        self._check_live(actor, "pause")
        actor._pausing = True
        actor._interrupts = True
        if actor.state == RunState.QUEUED and actor._seated:
            self.move(actor, "pause", "paused before it began")
            self.admission.leave(actor)

    def resume_run(self, actor: Actor) -> None:
        """See `RunHandle.resume`."""
        self._check_live(actor, "resume")
        actor._pausing = False
        if actor.state == RunState.PAUSED and not self.pausing:
            self._come_back(actor)

    def _come_back(self, actor: Actor) -> None:
        self.move(actor, "resume", "resumed")
        if actor._holds:  # too many were parked, so it kept its place
            self._start(actor)
        else:
            self.admission.come_back(actor)

    def send_to_run(self, actor: Actor, content: Any) -> None:
        """See `RunHandle.send`."""
        self._check_live(actor, "receive a message")
        mailbox = actor._mailbox
        if mailbox is None:
            mailbox = actor._mailbox = deque()
        if len(mailbox) >= MAILBOX_SIZE:
            raise trio.WouldBlock
        mailbox.append(content)
        actor._interrupts = True

    def _check_live(self, actor: Actor, verb: str) -> None:
        if actor.state in TERMINAL:
            raise RunEnded(f"run {actor.run_id} cannot {verb}: it has ended ({actor.state.value})")

    def pause(self) -> None:
        """Stop admitting to places, and every run at its next node boundary. O(live runs)."""
        self.pausing = True
        self.admission.closed = True
        for actor in self.live.values():
            actor._interrupts = True

    def resume(self) -> None:
        """Undo `pause`; runs that were paused one by one stay paused. O(live runs)."""
        self.pausing = False
        self.admission.closed = self.stop_reason is not None
        for actor in list(self.live.values()):
            if actor.state == RunState.PAUSED and not actor._pausing:
                self._come_back(actor)
        self.admission.fill()

    def close(self, reason: str) -> None:
        """Admit no more runs."""
        if self.closed is None:
            self.closed = reason
            self.admission.dismiss(self.closed_error)

    def stop(self, reason: str) -> None:
        """Cancel every run; what the journal holds of them stays open, to be resumed. O(live runs)."""
        self.close(reason)
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        self.admission.closed = True
        for actor in list(self.live.values()):
            if actor._scope is None and not actor._holds and actor.state not in TERMINAL:
                self.finish(actor, RunState.CANCELLED, None, self.shutdown_error(actor), stays_open=True)
        if self.actors is not None:
            self.actors.cancel_scope.cancel(reason)

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
        if actor._gate is not None and actor.state != RunState.RUNNING:
            self.parked -= 1
        self.move(actor, _END[status], error.message if error is not None else "done")
        stepper = actor._stepper
        messages: list[Any] = []
        new_from = epoch = 0
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
        elif actor._snapshot is not None:  # it was to go on from there, and never began to
            messages, new_from = actor._snapshot.messages, actor._snapshot.new_message_index
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
            finished_at=self.now(),
            model=actor._model,
            messages=messages,
            input=actor._input,
            new_message_index=new_from,
        )
        actor._scope = actor._gate = actor._stepper = actor._mailbox = actor._context = None
        if tally is not None:
            self.ledger.close_run(actor.run_id, tally)
        if self.journal is None or stays_open:
            self.tell(actor, outcome)
        else:
            self.journal.ended(actor, outcome, epoch)
        if queued:
            self.admission.leave(actor)

    def count_tool_calls(self, actor: Actor) -> None:
        """Count the tool calls of the attempt that has ended; they are the model's that asked for them."""
        if not actor._job.is_agent:
            return
        count = actor._stepper.usage().tool_calls - actor._tools_counted
        actor._tools_counted += count
        if count > 0:
            tally = actor._tally
            if tally is None:
                tally = actor._tally = Tally()
            tally.tool_calls += count
            self.ledger.group(actor.group).tool_calls += count
            self.ledger.model(actor._model or "").tool_calls += count
            self.ledger.total.tool_calls += count

    def tell(self, actor: Actor, outcome: RunOutcome) -> None:
        """Tell the outcome to whoever waits for it."""
        actor._outcome = outcome
        run_id = actor.run_id
        del self.live[run_id]
        self._remember_run(actor)
        if actor._ended is not None:
            actor._ended.set()
        if actor._listener is not None:
            actor._listener.told(outcome)
        if self.events.listening:
            self.events.publish(
                RunEndedEvent(run_id=run_id, group=actor.group, outcome=outcome, at=self.now())
            )
        if self._max_failures is not None:
            self._check_failures(outcome)
        if not self.live and self._idle is not None:
            self._idle.set()
            self._idle = None
        if actor._holds:
            actor._holds = False
            self.admission.give_back()

    def _remember_run(self, actor: Actor) -> None:
        remembered = self.remembered
        remembered[actor.run_id] = actor
        if len(remembered) > self._remember:
            remembered.popitem(last=False)

    def _check_failures(self, outcome: RunOutcome) -> None:
        limit = self._max_failures
        if outcome.status == RunState.FAILED:
            self._failures.append(outcome)
        assert limit is not None
        failed = self.counts[RunState.FAILED]
        if isinstance(limit, float) and limit < 1:
            ended = failed + self.counts[RunState.SUCCEEDED]
            too_many = ended >= self._min_sample and failed > limit * ended
            text = f"{failed} of {ended} runs failed, more than max_failures={limit:.0%}"
        else:
            too_many = failed > limit
            text = f"{failed} runs failed, more than max_failures={limit:g}"
        if too_many:
            self.escalate(TooManyFailures(text, tuple(self._failures)))

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

    def snapshot(self) -> SupervisorSnapshot:
        """See `Supervisor.snapshot`."""
        now = trio.current_time()
        models: dict[str, ModelState] = {}
        for door in self.gates.doors.values():
            limiter = None if door.rate is None else door.rate.in_flight
            cool = None if door.rate is None else door.rate.cool_until
            seen = models.get(door.name)
            models[door.name] = ModelState(
                usage=door.tally.usage(),
                cost=_text(door.tally),
                in_flight=door.in_flight + (0 if seen is None else seen.in_flight),
                in_flight_limit=None if limiter is None else limiter.limit,
                cooling_until=None if cool is None or cool <= now else self._wall_offset + cool,
            )
        oldest = next(iter(self.live.values()), None)
        total = self.ledger.total
        return SupervisorSnapshot(
            at=self._wall_offset + now,
            states={state.value: count for state, count in self.counts.items()},
            max_running=self.admission.max_running,
            places_taken=self.admission.running,
            queued=self.admission.queued,
            submitting=self.admission.submitting,
            parked=self.parked,
            submitted=self.submitted,
            usage=total.usage(),
            cost=_text(total),
            unpriced_requests=total.unpriced,
            models=models,
            oldest_run=None if oldest is None else oldest.run_id,
            oldest_age=None if oldest is None else self._wall_offset + now - oldest._queued_at,
            budget=None if self.gates.purse is None else self.gates.purse.state(),
            closed=self.closed,
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
