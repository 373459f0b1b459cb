"""The driver: leases runs to workers, takes what comes of them once, and leases again what a lost worker had.

Three tasks a worker: one starts it and reads what it says, one sends, one pings it. What is decided is decided in
`runmgr.cluster.leases`; what is counted, in the supervisor.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import outcome as outcomes
import trio

from runmgr.concurrency import full_jitter
from runmgr.exceptions import RunmgrError
from runmgr.journal.codec import outcome_from
from runmgr.records.codec import decode_event
from runmgr.records.outcomes import RunState
from runmgr.supervisor.behalf import LentAmount
from runmgr.supervisor.elsewhere import Carried, count_in_vain
from runmgr.supervisor.lending import Lender

from . import freight, wire
from .engine import WorkerLost
from .leases import Leases

if TYPE_CHECKING:
    from runmgr.supervisor.actor import Actor
    from runmgr.supervisor.elsewhere import CarriedJob
    from runmgr.supervisor.jobs import Job
    from runmgr.supervisor.runtime import Runtime

    from .engine import Engine, WorkerLink

__all__ = ("ClusterOptions", "Driver", "NoWorkers")

FINAL_SECONDS = 2.0
"""How long a cancelled run's worker has to say what it used, and a stopped worker to say its last words."""


class NoWorkers(RunmgrError):
    """No worker can be started."""


@attrs.frozen
class ClusterOptions:
    """How a driver treats its workers."""

    workers: int
    per_worker: int
    silence: float
    """Seconds without a word after which either side takes the other for lost."""
    restarts: int
    """How often a worker may be lost within ``within`` seconds before the driver gives up."""
    within: float
    supervisor: dict[str, Any]
    """What the workers' supervisors are opened with, beside what the driver's says."""
    importable: bool = True


class _Member:
    """A worker, as the driver sees it."""

    __slots__ = (
        "busy",
        "heard_at",
        "kinds",
        "link",
        "name",
        "number",
        "outbox",
        "process",
        "ready",
        "scope",
        "wake",
    )

    def __init__(self, name: str, link: WorkerLink) -> None:
        self.name = name
        self.link = link
        self.number = 0
        self.outbox: deque[Any] = deque()
        self.wake = trio.Event()
        self.heard_at = trio.current_time()
        self.kinds = 0
        self.ready = False
        self.process: tuple[str, int] | None = None
        self.scope = trio.CancelScope()
        self.busy = 0

    def say(self, message: Any) -> None:
        self.outbox.append(message)
        self.wake.set()


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
        self._leases: Leases[wire.Task] = Leases(options.per_worker)
        self._members: dict[str, _Member] = {}
        self._waiting: dict[str, trio.lowlevel.Task] = {}
        """Tasks of runs that wait for what comes of them."""
        self._agents: dict[str, str] = {}
        self._last: dict[str, Carried] = {}
        """Of runs that were cancelled: what came of them until then."""
        self._work = trio.Event()
        self._started = 0
        self._closing = False
        self._all_gone = trio.Event()
        self._lender = Lender(runtime, self._call_in)
        self.lost = 0
        """Workers that were lost so far."""

    # ---------------------------------------------------------------- runs

    def pack(self, job: Job) -> tuple[int, bytes]:
        """See `Carrier.pack`."""
        return self._packer.pack(job)

    async def carry_out(self, actor: Actor) -> Carried:
        """See `Carrier.carry_out`."""
        run_id = actor.run_id
        kind, work = cast("CarriedJob", actor._job).packed
        left = actor._deadline
        self._leases.add(
            run_id,
            wire.Task(
                run_id,
                actor._index,
                kind,
                work,
                actor.group,
                actor.priority,
                None,  # the time limits are kept here: the scope of the actor cancels it there
                None if left is None else left - trio.current_time(),
            ),
        )
        self._agents[run_id] = actor._job.name
        self._work.set()
        try:
            return await self._come_of(run_id)
        except trio.Cancelled:
            await self._call_off(run_id, actor._cancel_reason or "cancelled")
            raise
        finally:
            self._agents.pop(run_id, None)

    async def _come_of(self, run_id: str) -> Carried:
        self._waiting[run_id] = trio.lowlevel.current_task()

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._waiting[run_id]
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(leave)

    async def _call_off(self, run_id: str, reason: str) -> None:
        """Cancel a run where it is, and wait, within a bound, for what it used until then."""
        worker = self._leases.withdraw(run_id)
        member = None if worker is None else self._members.get(worker)
        if member is None:
            return
        member.say(wire.Cancel([run_id], reason))
        with trio.move_on_after(FINAL_SECONDS, shield=True):
            self._last[run_id] = await self._come_of(run_id)
        self._leases.settle(run_id)

    def paid_before(self, actor: Actor) -> Carried | None:
        """See `Carrier.paid_before`."""
        return self._last.pop(actor.run_id, None)

    def _came(self, member: _Member, ended: wire.Ended) -> None:
        """A worker says what came of a run."""
        run_id = ended.run_id
        holder = self._leases.holder(run_id)
        if not self._leases.settle(run_id):
            count_in_vain(self._runtime, run_id, ended.shares)
            return
        if (
            holder is not None and holder != member.name
        ):  # it was taken for lost, and the run given to another
            self._members[holder].say(wire.Cancel([run_id], "another worker was first"))
        task = self._waiting.pop(run_id, None)
        if task is not None:
            trio.lowlevel.reschedule(task, outcomes.Value(_carried(ended)))

    # ---------------------------------------------------------------- sharing out

    async def _share_out(self) -> None:
        """Lease what waits, as it comes: all that is there at one time in one shard a worker."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            now = self._runtime.now()
            for name, tasks in self._leases.shard().items():
                member = self._members[name]
                kinds = self._packer.kinds
                new = {number: kinds[number] for number in range(member.kinds, len(kinds))}
                member.kinds = len(kinds)
                member.say(wire.Lease(tasks, now, new))

    # ---------------------------------------------------------------- money

    def _call_in(self, group: str) -> None:
        for member in self._members.values():
            if member.ready:
                member.say(wire.GiveBack(group))

    async def _lend(self, member: _Member, group: str, need: LentAmount) -> None:
        amount, refused = await self._lender.lend(member.name, group, need, max(1, len(self._members)))
        member.say(wire.Grant(group, amount, refused, sorted(self._lender.limited(group))))

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
            else:
                member = _Member(name, link)
                reason = await self._live_with(member)
            if self._closing:
                return
            self.lost += 1
            now = trio.current_time()
            lost_at.append(now)
            while now - lost_at[0] > self._options.within:
                lost_at.popleft()
            if len(lost_at) > self._options.restarts:
                if not any(member.ready for member in self._members.values()):
                    self._runtime.escalate(
                        NoWorkers(
                            f"no worker is left, and the last one in place {slot} was lost {len(lost_at)} times within "
                            f"{self._options.within:g} s; the last time: {reason}"
                        )
                    )
                return
            await trio.sleep(full_jitter(len(lost_at) - 1, base=0.2, cap=10.0, rng=self._rng))

    async def _live_with(self, member: _Member) -> str:
        """Gives why it was lost. Cancelled: it is told to stop, and has a moment to."""
        reason = "it fell silent"
        self._members[member.name] = member
        try:
            async with trio.open_nursery() as nursery:
                member.scope = nursery.cancel_scope
                nursery.start_soon(self._send, member)
                nursery.start_soon(self._ping, member)
                member.say(self._hello(member))
                try:
                    await self._listen(member, nursery)
                except WorkerLost as error:
                    reason = str(error)
                nursery.cancel_scope.cancel()
        finally:
            self._gone(member)
            with trio.move_on_after(FINAL_SECONDS, shield=True):
                await member.link.kill()
        return reason

    def _gone(self, member: _Member) -> None:
        del self._members[member.name]
        if not self._members and self._closing:
            self._all_gone.set()
        self._lender.lost(member.name)
        if self._leases.lost(member.name):
            self._work.set()

    def _hello(self, member: _Member) -> wire.Hello:
        limited: dict[str, list[str]] | None = None
        if self._lender.purse is not None:
            limited = {"": sorted(self._lender.limited(""))}
        options = {"max_running": self._options.per_worker, **self._options.supervisor}
        return wire.Hello(member.name, pickle.dumps(options), self._options.silence, limited)

    async def _send(self, member: _Member) -> None:
        try:
            while True:
                await member.wake.wait()
                member.wake = trio.Event()
                messages = list(member.outbox)
                member.outbox.clear()
                if messages:
                    number, member.number = member.number, member.number + 1
                    await member.link.send(wire.encode(number, messages))
        except WorkerLost:
            member.scope.cancel()

    async def _ping(self, member: _Member) -> None:
        """Let it know that somebody is there, and notice when it is not."""
        silence = self._options.silence
        while True:
            now = trio.current_time()
            if now - member.heard_at > silence:
                member.scope.cancel()
            member.say(wire.Ping(now))
            await trio.sleep(silence / 5)

    async def _listen(self, member: _Member, nursery: trio.Nursery) -> None:
        expected = 0
        while True:
            number, messages = wire.decode_from_worker(await member.link.receive())
            member.heard_at = trio.current_time()
            if number < expected:
                continue  # it came twice
            if number > expected:
                raise WorkerLost(f"{member.name}: its envelope {expected} is missing")
            expected += 1
            for message in messages:
                match message:
                    case wire.Report():
                        if message.spent:
                            self._lender.reported(member.name, message.spent)
                        for ended in message.ended:
                            self._came(member, ended)
                    case wire.Refused():
                        self._came(member, _refused(message))
                    case wire.Ask():
                        nursery.start_soon(self._lend, member, message.group, message.need)
                    case wire.GivenBack():
                        self._lender.returned(member.name, message.group, message.amount)
                    case wire.Told():
                        for event in message.events:
                            self._runtime.events.publish(decode_event(event))
                    case wire.Pong():
                        member.busy = message.running
                    case wire.Ready():
                        member.process = (message.host, message.process)
                        member.ready = True
                        self._leases.join(member.name)
                        self._work.set()
                    case wire.Stopped():
                        self._lender.left(member.name)
                        raise WorkerLost(message.error or "it has stopped")

    # ---------------------------------------------------------------- the block

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Driver, None]:
        """Start the workers; leaving the block stops them, within a bound."""
        async with self._engine.open(), trio.open_nursery() as nursery:
            # Shielded: when everything is cancelled from outside, there is still to be heard what the runs used until then.
            scopes = [trio.CancelScope(shield=True) for _ in range(self._options.workers + 1)]
            for slot, scope in enumerate(scopes[:-1]):
                nursery.start_soon(_within, scope, lambda slot=slot: self._keep(slot))
            nursery.start_soon(_within, scopes[-1], self._share_out)
            try:
                yield self
            finally:
                with trio.move_on_after(FINAL_SECONDS, shield=True):
                    await self._stop_all()
                for scope in scopes:
                    scope.cancel()

    async def _stop_all(self) -> None:
        self._closing = True
        for member in self._members.values():
            member.say(wire.Stop("the supervisor has ended"))
        if self._members:
            await self._all_gone.wait()


async def _within(scope: trio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await work()


def _carried(ended: wire.Ended) -> Carried:
    row = (ended.run_id, 0, "", 0.0, None, ended.metadata, ended.status, 0.0, ended.body)
    outcome = outcome_from(row, ())
    return Carried(
        status=outcome.status,
        output=outcome.output if ended.output is None else freight.loads(ended.output),
        error=outcome.error,
        shares=ended.shares,
        messages=outcome.messages,
        new_message_index=outcome.new_message_index,
        metadata=outcome.metadata,
        model=outcome.model,
        attempts=outcome.attempts,
        earlier_errors=outcome.earlier_errors,
        abandoned_threads=outcome.abandoned_threads,
    )


def _refused(refused: wire.Refused) -> wire.Ended:
    from runmgr.journal.codec import encode_outcome
    from runmgr.records.outcomes import RunOutcome
    from runmgr.usage import RunUsage

    outcome = RunOutcome(
        run_id=refused.run_id, index=0, status=RunState.FAILED, error=refused.error, usage=RunUsage()
    )
    return wire.Ended(refused.run_id, outcome.status.value, encode_outcome(outcome, 0, reset=True))
