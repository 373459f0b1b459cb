"""The driver: leases runs to workers, takes what comes of them once, and leases again what a lost worker had.

Three tasks a worker: one starts it and reads what it says, one sends, one pings it. A run has none. What is decided is decided in
`runmgr.cluster.leases` and `runmgr.cluster.sharing`; what is counted, in the supervisor.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import trio

from runmgr.concurrency import full_jitter
from runmgr.exceptions import RunmgrError, UserError
from runmgr.records.codec import decode_event
from runmgr.records.events import EventsMissed
from runmgr.records.outcomes import RunError
from runmgr.records.snapshots import ModelState, WorkerState
from runmgr.supervisor import elsewhere
from runmgr.supervisor.behalf import LentAmount
from runmgr.supervisor.lending import Lender

from . import freight, wire
from .engine import WorkerLost
from .leases import AT_ONCE, Leases
from .member import Member
from .outcomes import carried_from, failed
from .sharing import RateSharing
from .standing import counted, model_states

if TYPE_CHECKING:
    from runmgr.records.budgets import Budget
    from runmgr.supervisor.actor import Actor
    from runmgr.supervisor.elsewhere import CarriedJob
    from runmgr.supervisor.jobs import Job
    from runmgr.supervisor.runtime import Runtime
    from runmgr.supervisor.tally import Tally

    from .engine import Engine
    from .options import ClusterOptions

__all__ = ("Driver", "NoWorkers")

FINAL_SECONDS = 2.0
"""How long a cancelled run's worker has to say what it used, and a stopped worker to say its last words."""
LONGEST_BACKOFF = 10.0
"""Seconds between two starts of a worker, at most."""

_log = logging.getLogger("runmgr.cluster")


class NoWorkers(RunmgrError):
    """No worker can be started, or none stays alive."""


class Driver:
    """One supervisor's carrier: see `runmgr.supervisor.elsewhere.Carrier`.

    Args:
        runtime: the supervisor's inside.
        engine: what workers are started on.
        options: how many, and how they are treated.
        rng: source of the jitter between restarts.
    """

    def __init__(
        self, runtime: Runtime, engine: Engine, options: ClusterOptions, rng: random.Random | None = None
    ) -> None:
        self._runtime = runtime
        self._engine = engine
        self._options = options
        self._rng = rng or random.Random()
        self._packer = freight.Packer(importable=options.importable)
        self._leases: Leases[Actor] = Leases(options.per_worker)
        self._members: dict[str, Member] = {}
        self._called_off: deque[tuple[float, Actor]] = deque()
        """Runs that were cancelled while a worker had them, and until when it has time to say what they used."""
        self._any_called_off = trio.Event()
        self._work = trio.Event()
        self._started = 0
        self._closing = False
        self._all_gone = trio.Event()
        self._lender = Lender(runtime, self._call_in)
        self._gone_models: dict[str, wire.ModelStand] = {}
        self._failing: dict[int, str] = {}
        """Places whose workers are lost again and again, and why."""
        self._alone_since: float | None = trio.current_time()
        """Since when there is no worker that takes runs; None: there is one."""
        self._rates = RateSharing(runtime.gates.limits, self._members, self._leases.held_by, options.silence)
        self._nursery: trio.Nursery | None = None
        self._packed_options = b""
        self._reason = "none has started yet"
        self.lost = 0
        """Workers that were lost so far."""

    # ---------------------------------------------------------------- how it stands

    def states(self) -> dict[str, WorkerState]:
        """See `Carrier.states`."""
        now = trio.current_time()
        return {
            name: WorkerState(
                ready=member.ready,
                host="" if member.process is None else member.process[0],
                process=0 if member.process is None else member.process[1],
                leased=self._leases.held_by(name),
                running=member.running,
                silent_for=now - member.heard_at,
            )
            for name, member in self._members.items()
        }

    def model_states(self, tallies: Mapping[str, Tally]) -> dict[str, ModelState]:
        """See `Carrier.model_states`."""
        return model_states(self._gone_models, (member.models for member in self._members.values()), tallies)

    # ---------------------------------------------------------------- runs

    def pack(self, job: Job) -> tuple[int, bytes]:
        """See `Carrier.pack`."""
        return self._packer.pack(job)

    def begin(self, actor: Actor) -> None:
        """See `Carrier.begin`."""
        self._leases.add(actor.run_id, actor)
        self._work.set()

    def waiting(self) -> list[Actor]:
        """See `Carrier.waiting`."""
        return self._leases.all_waiting()

    def call_off(self, actor: Actor) -> None:
        """See `Carrier.call_off`."""
        run_id = actor.run_id
        worker = self._leases.withdraw(run_id)
        if worker is None:
            elsewhere.never_came(self._runtime, actor)
            return
        self._members[worker].cancel(run_id, elsewhere.called_off_for(actor))
        self._called_off.append((trio.current_time() + FINAL_SECONDS, actor))
        self._any_called_off.set()

    async def _watch_called_off(self) -> None:
        """End those whose workers do not say in time what they used."""
        while True:
            await self._any_called_off.wait()
            self._any_called_off = trio.Event()
            while self._called_off:
                ends, actor = self._called_off[0]
                await trio.sleep_until(ends)
                self._called_off.popleft()
                if self._leases.settle_if(actor.run_id, actor):
                    self._work.set()  # there is a place for another
                    elsewhere.never_came(self._runtime, actor)

    async def _until_cancelled(self) -> None:
        """What has no task here is not cancelled with those that have one: so it is from here."""
        try:
            await trio.sleep_forever()
        finally:
            elsewhere.call_off_all(self._runtime)

    def _came(self, member: Member, ended: wire.Ended) -> None:
        """A worker says what came of a run."""
        run_id = ended.run_id
        leases = self._leases
        holder = leases.holder(run_id)
        actor = leases.settle(run_id)
        if actor is None:
            elsewhere.count_in_vain(self._runtime, run_id, ended.shares)
            return
        if holder is not None and holder != member.name:
            # It was taken for lost, and the run given to another.
            self._members[holder].cancel(run_id, "another worker was first")
        elsewhere.came(self._runtime, actor, carried_from(ended))

    # ---------------------------------------------------------------- sharing out

    async def _share_out(self) -> None:
        """Lease what waits, as it comes: all that is there at one time in one shard a worker."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            if self._runtime.events.behind:
                await self._runtime.events.caught_up()
            now = trio.current_time()
            for name, actors in self._leases.shard().items():
                member = self._members[name]
                kinds = self._packer.kinds
                new = {number: kinds[number] for number in range(member.kinds, len(kinds))}
                member.kinds = len(kinds)
                member.say(wire.Lease([_task(actor, now) for actor in actors], new))

    # ---------------------------------------------------------------- money

    def _call_in(self, group: str) -> None:
        for member in self._members.values():
            if member.ready:
                member.say(wire.GiveBack(group))

    async def _lend(self, member: Member, group: str, need: LentAmount) -> None:
        amount, refused = await self._lender.lend(member.name, group, need, max(1, len(self._members)))
        member.say(wire.Grant(group, amount, refused, sorted(self._lender.limited(group))))

    def check_budget(self, budget: Budget, group: str | None) -> None:
        """See `Carrier.check_budget`."""
        new = {name for name in budget.__struct_fields__ if getattr(budget, name) is not None}
        unknown = new - self._lender.limited(group or "")
        if unknown:
            raise UserError(
                f"set_budget({', '.join(sorted(unknown))}): this supervisor's runs are worked on by a cluster's workers, which were told "
                "when they started that there is no such budget. Give one to open_supervisor, a large one say; it can be changed then"
            )

    # ---------------------------------------------------------------- events

    def _tell(self) -> wire.Tell:
        events = self._runtime.events
        return wire.Tell(events.listening, events.wants_streams)

    def _wants_changed(self) -> None:
        for member in self._members.values():
            if member.ready:
                member.say(self._tell())

    def _publish(self, told: wire.Told) -> None:
        events = self._runtime.events
        if not events.listening:
            return
        for event in told.events:
            events.publish(decode_event(event))
        if told.missed:
            events.publish(EventsMissed(count=told.missed, at=self._runtime.now()))

    # ---------------------------------------------------------------- workers

    async def _keep(self, slot: int) -> None:
        """Keep one worker going: start it, live with it, and start another when it is lost."""
        lost_at: deque[float] = deque()
        while True:
            number, self._started = self._started, self._started + 1
            name = f"worker-{slot}.{number}"
            try:
                link = await self._engine.start(name)
            except WorkerLost as error:
                reason = str(error)
            except UserError as error:
                self._runtime.escalate(error)
                return
            else:
                member = Member(name, link)
                reason = await self._live_with(member)
            if self._closing:
                return
            self.lost += 1
            _log.warning("%s is lost: %s", name, reason)
            now = trio.current_time()
            lost_at.append(now)
            while now - lost_at[0] > self._options.within:
                lost_at.popleft()
            if len(lost_at) > self._options.restarts:
                self._failing[slot] = reason
            else:
                self._failing.pop(slot, None)
            self._reason = reason
            self._check_alone()
            if self._runtime.escalation is not None:
                return
            await trio.sleep(full_jitter(len(lost_at) - 1, base=0.2, cap=LONGEST_BACKOFF, rng=self._rng))

    def _check_alone(self) -> None:
        """Give up where there is no worker and none is to be hoped for."""
        options = self._options
        if self._alone_since is None or self._closing:
            return
        alone = trio.current_time() - self._alone_since
        if len(self._failing) == options.workers:
            why = f"each of {options.workers} was lost more than {options.restarts} times within {options.within:g} s"
        elif alone >= options.patience:
            why = f"there has been none for {alone:.0f} s"
        else:
            return
        self._runtime.escalate(
            NoWorkers(f"no worker is left to run anything on: {why}; the last time: {self._reason}")
        )

    async def _watch_alone(self) -> None:
        while True:
            await trio.sleep(self._options.patience / 4)
            self._check_alone()

    async def _live_with(self, member: Member) -> str:
        """Gives why it was lost. Cancelled: it is told to stop, and has a moment to."""
        reason = "it fell silent"
        self._members[member.name] = member
        rates = self._rates.join(member.name)
        try:
            async with trio.open_nursery() as nursery:
                member.scope = nursery.cancel_scope
                nursery.start_soon(member.send)
                nursery.start_soon(member.ping, self._options.silence)
                member.say(self._hello(member, rates))
                try:
                    await self._listen(member, nursery)
                except WorkerLost as error:
                    reason = str(error)
                nursery.cancel_scope.cancel()
        finally:
            self._gone(member, reason)
            with trio.move_on_after(FINAL_SECONDS, shield=True):
                await member.link.kill()
        return reason

    def _gone(self, member: Member, reason: str) -> None:
        del self._members[member.name]
        if not self._members and self._closing:
            self._all_gone.set()
        if self._alone_since is None and not any(other.ready for other in self._members.values()):
            self._alone_since = trio.current_time()
        self._lender.lost(member.name)
        self._gone_models = counted(self._gone_models, member.models)
        if member.clean or not member.ready or self._closing:
            self._rates.ended(member.name)
        else:
            self._rates.leave(member.name)
            assert self._nursery is not None
            self._nursery.start_soon(self._rates.end_later, member)
        lost = self._leases.lost(member.name, blamed=not member.clean)
        for actor in lost.given_up:
            error = RunError(
                "WorkerLost",
                f"the worker that worked on it was lost {len(AT_ONCE)} times, the last time with no other suspect: {reason}. What this "
                "run does seems to end the process (memory, a crash in C code) or to block its event loop",
            )
            elsewhere.came(self._runtime, actor, failed(error))
        if self._called_off or self._runtime.stop_reason is not None:
            for actor in lost.again:
                if elsewhere.is_called_off(self._runtime, actor):
                    self._leases.withdraw(actor.run_id)
                    elsewhere.never_came(self._runtime, actor)
        if lost.again:
            self._work.set()

    def _hello(self, member: Member, rates: wire.Rates | None) -> wire.Hello:
        from runmgr import __version__

        limited: dict[str, list[str]] | None = None
        if self._lender.purse is not None:
            limited = {"": sorted(self._lender.limited(""))}
        return wire.Hello(
            member.name,
            self._packed_options,
            self._options.silence,
            limited,
            rates,
            self._runtime.now(),
            wire.VERSION,
            __version__,
        )

    async def _listen(self, member: Member, nursery: trio.Nursery) -> None:
        expected = 0
        while True:
            try:
                number, messages = wire.decode_from_worker(await member.link.receive())
            except ValueError as error:
                raise WorkerLost(f"{member.name}: what it says is not to be understood: {error}") from error
            member.heard_at = trio.current_time()
            if number < expected:
                continue  # it came twice
            if number > expected:
                raise WorkerLost(f"{member.name}: its envelope {expected} is missing")
            expected += 1
            for message in messages:
                self._act(member, message, nursery)

    def _act(self, member: Member, message: wire.FromWorker, nursery: trio.Nursery) -> None:
        match message:
            case wire.Report():
                if message.spent:
                    self._lender.reported(member.name, message.spent)
                for ended in message.ended:
                    self._came(member, ended)
                if self._leases.waiting:
                    self._work.set()  # there are places for others
            case wire.Refused():
                actor = self._leases.settle(message.run_id)
                if actor is not None:
                    elsewhere.came(self._runtime, actor, failed(message.error))
                    self._work.set()
            case wire.Ask():
                nursery.start_soon(self._lend, member, message.group, message.need)
            case wire.GivenBack():
                self._lender.returned(member.name, message.group, message.amount)
            case wire.RatesTaken():
                self._rates.taken(member.name, message.number)
            case wire.Told():
                self._publish(message)
            case wire.Pong():
                member.running = message.running
                member.models = message.models
                if message.at is not None:
                    self._set_clock(member, message, message.at)
            case wire.Ready():
                member.process = (message.host, message.process)
                member.asked_at = trio.current_time()
                member.say(wire.Ping(member.asked_at))
            case wire.Stopped():
                self._lender.left(member.name)
                member.clean = message.error is None
                if message.hopeless:
                    self._runtime.escalate(UserError(f"{member.name}: {message.error}"))
                raise WorkerLost(message.error or "it has stopped")

    def _set_clock(self, member: Member, pong: wire.Pong, asked: float) -> None:
        """Have its clock show our time: half of the way there and back is taken for the way there (D. Mills, RFC 5905)."""
        now = trio.current_time()
        error = (now - asked) / 2
        forward = self._runtime.now() - error - pong.clock
        if error < member.clock_error or (error < 1.5 * member.clock_error and abs(forward) > 4 * error):
            member.clock_error = error
            if abs(forward) > error:
                member.say(wire.Clock(forward))
        if not member.ready and member.process is not None and asked >= member.asked_at:
            self._is_ready(member)

    def _is_ready(self, member: Member) -> None:
        member.ready = True
        self._alone_since = None
        self._leases.join(member.name)
        if self._runtime.events.listening:
            member.say(self._tell())
        self._work.set()
        self._rates.look()

    # ---------------------------------------------------------------- the block

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Driver, None]:
        """Start the workers; leaving the block stops them, within a bound.

        Raises:
            UserError: what the workers' supervisors are to be opened with cannot travel.
        """
        options = {**self._runtime.told, "max_running": self._options.per_worker, **self._options.supervisor}
        self._packed_options = freight.dumps(options, "what the workers' supervisors are opened with")
        self._runtime.events.changed = self._wants_changed
        async with self._engine.open(), trio.open_nursery() as nursery:
            self._nursery = nursery
            # Shielded: when everything is cancelled from outside, there is still to be heard what the runs used until then.
            scopes: list[trio.CancelScope] = []
            tasks = [lambda slot=slot: self._keep(slot) for slot in range(self._options.workers)]
            nursery.start_soon(self._until_cancelled)
            for task in (
                *tasks,
                self._share_out,
                self._rates.keep,
                self._watch_alone,
                self._watch_called_off,
            ):
                scope = trio.CancelScope(shield=True)
                scopes.append(scope)
                nursery.start_soon(_within, scope, task)
            try:
                yield self
            finally:
                self._runtime.events.changed = None
                with trio.move_on_after(FINAL_SECONDS, shield=True):
                    await self._stop_all()
                for scope in scopes:
                    scope.cancel()
                nursery.cancel_scope.cancel()

    async def _stop_all(self) -> None:
        self._closing = True
        for member in self._members.values():
            member.say(wire.Stop("the supervisor has ended"))
        if self._members:
            await self._all_gone.wait()


def _task(actor: Actor, now: float) -> wire.Task:
    """A run as it is leased. Its time limits are kept here; the deadline is for those that it submits."""
    kind, work = cast("CarriedJob", actor._job).packed
    deadline = actor._deadline
    return wire.Task(
        actor.run_id,
        actor._index,
        kind,
        work,
        actor.group,
        actor.priority,
        None,
        None if deadline is None else deadline - now,
    )


async def _within(scope: trio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await work()
