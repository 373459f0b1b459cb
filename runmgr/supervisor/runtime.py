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

from runmgr.concurrency import ticks_of
from runmgr.exceptions import SupervisorClosed, UserError
from runmgr.records.events import RunAdmitted, RunStateChanged
from runmgr.records.outcomes import RunOutcome, RunState

from . import elsewhere, ending, standing, steering
from .actor import Actor
from .admission import Admission
from .channels import Channels
from .commands import answer_all
from .deadlines import Deadlines
from .failures import Failures
from .family import born
from .interrupted import InterruptedTools
from .ledger import Ledger
from .parking import Parking
from .states import step
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


class Runtime:
    """The inside of one supervisor. See `open_supervisor` for the arguments."""

    __slots__ = (
        "_ahead",
        "_id_prefix",
        "_idle",
        "_remember",
        "_ticks",
        "_ticks_offset",
        "_time",
        "_wall_offset",
        "actors",
        "admission",
        "broken",
        "carrier",
        "channels",
        "closed",
        "counts",
        "deadlines",
        "escalation",
        "events",
        "facade",
        "failures",
        "family",
        "gates",
        "interrupted_tools",
        "journal",
        "leaving",
        "ledger",
        "limits",
        "live",
        "maps",
        "parking",
        "pausing",
        "remembered",
        "retry_failed",
        "services",
        "stop_reason",
        "submitted",
        "tenants",
        "told",
    )

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
        clock = trio.lowlevel.current_clock()
        self._time = clock.current_time
        self._wall_offset = wall_clock() - self._time()
        self._ticks, self._ahead = ticks_of(clock)
        """Trio's clock for what is told of every run: ``_ahead + _ticks()`` is its time, ``_ticks_offset + _ticks()`` Unix seconds."""
        self._ticks_offset = self._wall_offset + self._ahead
        self._remember = remember
        self._id_prefix = secrets.token_hex(5)
        self._idle: trio.Event | None = None
        self.failures = Failures(max_failures, min_sample)
        self.tenants = Tenants(self)
        self.tenants.set_up((group_weights or {}).keys() | (group_limits or {}).keys())

    def now(self) -> float:
        """Unix seconds by trio's clock, so that virtual time shows in them too."""
        ticks = self._ticks  # not called as a method would be, which is slow for attributes
        return self._ticks_offset + ticks()

    def set_clock(self, forward: float) -> None:
        """Put the clock forward by so many seconds, where another one's is to be shown."""
        self._wall_offset += forward
        self._ticks_offset += forward

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
        now = self._time  # not called as a method would be, which is slow for attributes
        time = now()
        actor = Actor(  # without names: a class that is called with them makes a dict of them first
            self,
            job,
            run_id or f"{self._id_prefix}-{number:06d}",
            number if index is None else index,
            group,
            priority,
            timeout,
            None if deadline is None else time + deadline,
            metadata,
            job.prompt if input is None else input,
            fingerprint,
            self._wall_offset + time,
            listener,
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
        earlier = journal.earlier
        if earlier.empty:
            journal.prepare(actor)
            return
        known = earlier.look_up(actor.run_id)
        if known is None:
            earlier.check_new(actor)
            journal.prepare(actor)
            return
        run, found = known
        if isinstance(found, RunOutcome):
            if self.retry_failed and found.status != RunState.SUCCEEDED:
                journal.prepare(actor)
                actor._supersedes = run
                return
            journal.replayed(actor)
            earlier.check_finished(actor, run, found)
            actor.replay(found)
            self.remember_run(actor)
            return
        earlier.check_unfinished(actor, found)
        earlier.goes_on()
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

    def offer(self, actor: Actor) -> bool:
        """Admit the run where there is room for it now; whether there is."""
        self.check_open(None if actor._extras is None else actor._extras.parent)
        return self.admission.offer(actor)

    def admit_nowait(self, actor: Actor) -> None:
        """Admit the run, or raise `trio.WouldBlock`."""
        if not self.offer(actor):
            raise trio.WouldBlock

    async def admit(self, actor: Actor, waiter: Actor | None = None) -> None:
        """Admit the run as soon as there is room. Cancelled: it was not admitted.

        Args:
            actor: the run.
            waiter: the run that waits for that, without its place.
        """
        if self.offer(actor):
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
            tell = self.events.tell
            tell(RunAdmitted(actor.run_id, actor._index, actor.group, self.now()))

    def _start(self, actor: Actor) -> None:
        actor._holds = True
        if actor._scope is not None:  # it was parked: its task waits
            self.goes_on(actor)
            self.parking.seated(actor)
            return
        ticks = self._ticks
        at = self._ticks_offset + ticks()
        self.move(actor, "start", "a place is free", at)
        extras = actor._extras
        if extras is not None and extras.resumed is not None:
            answer_all(extras.resumed)
            extras.resumed = None
        if actor._started_at is None:
            actor._started_at = at
        if self.carrier is not None:
            actor._context = None
            elsewhere.begin(self, actor)
            return
        assert self.actors is not None
        context = actor._context
        if context is None:  # it has its place at once, from its submitter
            self.actors.start_soon(actor.act, name=actor.run_id)
        else:
            # In the submitter's context: what happens to free the place, and where, is none of this run's business.
            actor._context = None
            context.run(self.actors.start_soon, actor.act, name=actor.run_id)

    # ---------------------------------------------------------------- states

    def move(self, actor: Actor, trigger: Trigger, reason: str, at: float | None = None) -> None:
        """Follow the table, now, or at a time that was just read."""
        before = actor.state
        after = actor.state = step(before, trigger)
        counts = self.counts
        counts[before] -= 1
        counts[after] += 1
        events = self.events
        if events.listening:
            tell = events.tell
            at = self.now() if at is None else at
            tell(RunStateChanged(actor.run_id, actor.group, before, after, reason, at))

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

    cancel_run = steering.cancel_run
    pause = steering.pause
    resume = steering.resume
    close = steering.close
    stop = steering.stop
    shutdown_error = steering.shutdown_error

    # ---------------------------------------------------------------- the end of a run

    finish = ending.finish
    count_tool_calls = ending.count_tool_calls
    tell = ending.tell

    def remember_run(self, actor: Actor) -> None:
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

    snapshot = standing.snapshot

    async def wait_idle(self) -> None:
        """Wait until no admitted run is without an outcome."""
        while self.live and self.broken is None:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()
