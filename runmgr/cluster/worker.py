"""A worker: a supervisor that works on what it is sent, and keeps nothing.

It has three tasks beside its runs: one reads what the driver says, one sends what there is to say, one watches whether the
driver still lives. Whatever ends them ends it: when the driver is silent for too long, everything is cancelled, so that no
orphan goes on spending.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import trio

from runmgr.exceptions import UserError
from runmgr.journal.codec import encode_any, encode_outcome
from runmgr.records.codec import encode_event
from runmgr.records.events import RunAdmitted, RunEnded, RunStarted, RunStateChanged
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.supervisor import Supervisor, open_supervisor
from runmgr.supervisor.amounts import Amount
from runmgr.supervisor.behalf import Behalf, as_lent

from . import freight, wire
from .standing import stands_of

__all__ = ("DriverSilent", "work")

ROOM = 2.0
"""Runs that a worker takes before it is full, as a multiple of its places: a driver leases no more than the places."""
CLOSING_SECONDS = 5.0
"""How long its last words may take to be sent."""
EVENTS = 4_096
"""Events that wait to be sent; what comes beyond that is dropped, oldest first, and counted."""
BEGUN_AT_ONCE = 64
"""Runs of a shard that are begun before others have their turn."""
FLUSH_SECONDS = 0.02
"""How often, at most, outcomes and events are sent: what comes within it goes in one envelope. The first goes at once."""
STANDING_SECONDS = 0.5
"""How often, at most, it is told how models are used, with outcomes."""
DRAIN_POLL = 0.02
"""Seconds between two looks at whether what was sent before a limit fell is answered."""

_JSON_TYPES = (str, int, float, bool, type(None))


class DriverSilent(Exception):
    """Nothing was heard of the driver for too long."""


class _Listener:
    """Is told how a run ended."""

    __slots__ = ("_worker",)

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def told(self, outcome: RunOutcome) -> None:
        self._worker.ended(outcome)


class _Worker:
    def __init__(self, hello: wire.Hello, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.hello = hello
        self._send = send
        self._outbox: dict[tuple[Any, Any], Any] = {}
        """What is to be said beside outcomes, by kind and run or group, the newest of each: a driver that takes nothing is told later
        what holds then. Outcomes are no more than the places, as no more runs are leased before they are told.
        """
        self._results: list[wire.Ended] = []
        self._wake = trio.Event()
        self._hurry = trio.Event()
        """Set when there is something to say that others wait for."""
        self._spoke_at = -FLUSH_SECONDS
        self._number = 0
        self._last_words = self._said_all = False
        self._kinds: dict[int, tuple[bool, Any]] = {}
        self._unpacked: dict[bytes, dict[str, Any]] = {}
        self._stood_at = 0.0
        self._rates_number = 0
        self._events: deque[Any] = deque()
        self._missed = 0
        self.heard_at = trio.current_time()
        self.stopping = False
        self.fault: Exception | None = None
        """What it ends by, where the driver did not say that it is enough."""
        self._telling: trio.CancelScope | None = None
        self.listener = _Listener(self)
        self.supervisor: Supervisor
        self.behalf: Behalf
        self.limited = hello.limited

    # ---------------------------------------------------------------- what is said

    def say(self, message: Any) -> None:
        """Have a message sent, at once; in the place of one that waits and says the same of another moment."""
        kind: Any = cast("Any", type(message))
        key = kind, getattr(message, "run_id", None) or getattr(message, "group", None)
        self._outbox.pop(key, None)
        self._outbox[key] = message
        self._wake.set()
        self._hurry.set()

    def take_leave(self) -> None:
        """Have everything sent that there is to say, and nothing after it."""
        self._last_words = True
        self._wake.set()
        self._hurry.set()

    def ask(self, group: str, need: Amount) -> None:
        """Have more asked for."""
        self.say(wire.Ask(group, as_lent(need)))

    def names_of(self, group: str) -> frozenset[str]:
        """Which limits the driver's budgets have for a group."""
        limited = self.limited or {}
        return frozenset(limited.get(group, limited.get("", ())))

    def ended(self, outcome: RunOutcome) -> None:
        """A run has ended."""
        output: bytes | None = None
        if outcome.output is not None and type(outcome.output) not in _JSON_TYPES:
            try:
                output = freight.dumps(outcome.output, "its output")
            except UserError as error:
                outcome = msgspec.structs.replace(
                    outcome,
                    status=RunState.FAILED,
                    output=None,
                    error=RunError(
                        "UserError", str(error).replace("cannot travel to a worker", "cannot travel back")
                    ),
                )
        self._results.append(
            wire.Ended(
                outcome.run_id,
                outcome.status.value,
                encode_outcome(outcome, 0, reset=True),
                output,
                self.behalf.shares_of(outcome.run_id),
                None if outcome.metadata is None else encode_any(outcome.metadata),
                outcome.finished_at,
            )
        )
        self._wake.set()

    async def speak(self) -> None:
        """Send what there is to say, together, as often as the driver takes it."""
        while not self._said_all:
            await self._wake.wait()
            with trio.move_on_at(self._spoke_at + FLUSH_SECONDS):
                await self._hurry.wait()
            self._wake = trio.Event()
            self._hurry = trio.Event()
            self._spoke_at = trio.current_time()
            await self.send_all()

    async def send_all(self) -> None:
        """Send what there is to say now."""
        messages: list[Any] = []
        if self._events or self._missed:  # before the outcomes: a run's last event is its end
            events, missed = list(self._events), self._missed
            self._events.clear()
            self._missed = 0
            messages.append(wire.Told([encode_event(event) for event in events], missed))
        if self._results:
            results, self._results = self._results, []
            messages.append(wire.Report(results, self.behalf.spent()))
            now = trio.current_time()
            if now - self._stood_at > STANDING_SECONDS or not self.supervisor._runtime.live:
                self._stood_at = now
                messages.append(self.standing(None))
        messages += self._outbox.values()
        self._outbox.clear()
        if self._last_words and not self._said_all:
            self._said_all = True
            messages += [wire.Report([], self.behalf.spent()), self.standing(None), wire.Stopped()]
        if messages:
            number, self._number = self._number, self._number + 1
            await self._send(wire.encode(number, messages))

    def standing(self, at: float | None) -> wire.Pong:
        """How it stands."""
        snapshot = self.supervisor.snapshot()
        states = snapshot.states
        return wire.Pong(
            at,
            self.supervisor._runtime.now(),
            states["running"] + states["waiting"],
            states["queued"],
            stands_of(snapshot.models),
        )

    # ---------------------------------------------------------------- what is heard

    async def act(self, message: wire.FromDriver) -> None:
        """Do what the driver says."""
        match message:
            case wire.Lease():
                await self._begin(message)
            case wire.Cancel():
                for run_id in message.run_ids:
                    handle = self.supervisor.get(run_id)
                    if handle is not None:
                        handle.cancel(message.reason)
            case wire.Grant():
                self._learn_names(message)
                self.behalf.granted(message.group, message.amount, message.refused)
            case wire.GiveBack():
                amount = self.behalf.give_back(message.group)
                self.say(wire.GivenBack(message.group, amount))
            case wire.Ping():
                self.say(self.standing(message.at))
            case wire.Rates():
                self.follow(message)
            case wire.Clock():
                self.supervisor._runtime.set_clock(message.forward)
            case wire.Stop():
                self.stopping = True
                self.supervisor.cancel(message.reason, grace=message.grace)
            case wire.Tell() | wire.Hello():
                pass  # seen to by `listen`

    def follow(self, rates: wire.Rates) -> None:
        """Keep to these rates from now on."""
        self._rates_number = rates.number
        self.supervisor._runtime.gates.set_parts(rates.models, rates.groups)

    async def confirm(self, number: int) -> None:
        """Say that rates are in force, once nothing is in flight any more that they do not allow."""
        gates = self.supervisor._runtime.gates
        while gates.exceeded:
            await trio.sleep(DRAIN_POLL)
            if number != self._rates_number:
                return
        self.say(wire.RatesTaken(number))

    def _learn_names(self, grant: wire.Grant) -> None:
        if self.limited is not None and grant.names:
            self.limited[grant.group] = grant.names

    async def _begin(self, lease: wire.Lease) -> None:
        for number, packed in lease.kinds.items():
            try:
                self._kinds[number] = freight.unpack_kind(packed)
            except Exception as error:  # noqa: BLE001  its runs are told
                self._kinds[number] = (False, _failure(error))
        for at, task in enumerate(lease.tasks):
            if at % BEGUN_AT_ONCE == BEGUN_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            is_agent, target = self._kinds[task.kind]
            try:
                if isinstance(target, RunError):
                    raise _Unpacked(target)
                work = freight.unpack_work(task.work, is_agent=is_agent, known=self._unpacked)
                given: dict[str, Any] = {
                    "run_id": task.run_id,
                    "group": task.group,
                    "priority": task.priority,
                    "timeout": task.timeout,
                    "deadline": task.deadline,
                }
                if is_agent:
                    handle = self.supervisor.submit_nowait(
                        target, work.prompt, **given, **(work.options or {})
                    )
                else:
                    handle = await self.supervisor.submit_graph(
                        target, work.node, state=work.state, deps=work.deps, **given
                    )
            except Exception as error:  # noqa: BLE001  a run that cannot be begun has failed, and nothing else
                found = error.error if isinstance(error, _Unpacked) else _failure(error)
                self.say(wire.Refused(task.run_id, found))
                continue
            handle.listen(self.listener)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    async def watch(self, scope: trio.CancelScope) -> None:
        """End everything when the driver is silent for too long."""
        silence = self.hello.silence
        while (ends := self.heard_at + silence) > trio.current_time():
            await trio.sleep_until(ends)
            if trio.current_time() - ends > silence / 5:
                await trio.sleep(
                    silence / 5
                )  # this process was held up: what was said meanwhile is read first
        self.fault = DriverSilent(f"worker {self.hello.name}: not a word from the driver for {silence:g} s")
        scope.cancel()

    async def listen(
        self, receive: Callable[[], Awaitable[bytes]], pending: list[wire.FromDriver], nursery: trio.Nursery
    ) -> None:
        """Do what the driver says, until it says that it is enough."""
        expected = 1
        while True:
            for message in pending:
                if isinstance(message, wire.Tell):
                    self.tell(nursery, message)
                await self.act(message)
                if isinstance(message, wire.Rates):
                    nursery.start_soon(self.confirm, message.number)
            if self.stopping:
                return
            try:
                data = await receive()
            except trio.EndOfChannel:
                self.fault = DriverSilent(f"worker {self.hello.name}: the driver has gone")
                return
            try:
                number, pending = wire.decode_from_driver(data)
            except ValueError as error:
                self.fault = ValueError(
                    f"worker {self.hello.name}: what the driver says is no message: {error}"
                )
                return
            self.heard_at = trio.current_time()
            if number < expected:
                pending = []  # it came twice
            elif number > expected:
                self.fault = ValueError(
                    f"worker {self.hello.name}: envelope {expected} from the driver is missing"
                )
                return
            else:
                expected += 1

    def tell(self, nursery: trio.Nursery, message: wire.Tell) -> None:
        """Begin or end telling events."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if message.events:
            self._telling = trio.CancelScope()
            nursery.start_soon(self._tell_events, self._telling, message.streams)

    async def _tell_events(self, scope: trio.CancelScope, streams: bool) -> None:
        """Gather the events that the driver cannot know of itself; they are sent with whatever is sent next."""
        with scope:
            async with self.supervisor.subscribe(filter=self._hear, buffer=1, streams=streams):
                await trio.sleep_forever()

    def _hear(self, event: Any) -> bool:
        if not _is_told_there(event):
            if len(self._events) >= EVENTS:
                self._events.popleft()
                self._missed += 1
            self._events.append(event)
            self._wake.set()
        return False  # there is nothing to be read from the subscription itself


def _is_told_there(event: Any) -> bool:
    """Whether the driver knows that by itself."""
    return isinstance(event, RunAdmitted | RunEnded | RunStateChanged) or (
        isinstance(event, RunStarted) and event.attempt == 1
    )


class _Unpacked(Exception):
    def __init__(self, error: RunError) -> None:
        self.error = error


def _failure(error: Exception) -> RunError:
    hint = ""
    if isinstance(error, ImportError):
        hint = (
            ". Workers import agents by their module's name: let them find it (PYTHONPATH, the image, or "
            "RayCluster(runtime_env={'working_dir': ...})), or make the agent in the program itself"
        )
    return RunError(type(error).__name__, f"it could not be begun on a worker: {error}{hint}")


async def work(receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]) -> None:
    """Be a worker until the driver says that it is enough, or is silent for too long.

    Cancelled, it ends at once, and says nothing more.

    Args:
        receive: waits for the next envelope from the driver.
        send: hands an envelope to the driver; waits while that takes none.

    Raises:
        DriverSilent: nothing was heard of the driver for as long as it said. All runs were cancelled.
        ValueError: what came is no message, or messages are missing.
    """
    number, messages = wire.decode_from_driver(await receive())
    hello = messages[0]
    if number != 0 or not isinstance(hello, wire.Hello):
        raise ValueError(
            f"a worker expects to be told first what it is, and was told {type(hello).__name__} (number {number})"
        )
    importlib.import_module("runmgr.agent")  # every run needs it: not when the first one waits for it
    from runmgr import __version__

    if hello.version != wire.VERSION:
        why = (
            f"runmgr {__version__} on {socket.gethostname()} understands messages of version {wire.VERSION}, and the driver's runmgr "
            f"{hello.runmgr or '(older)'} speaks version {hello.version}: install the same runmgr on both, with "
            f"RayCluster(runtime_env={{'pip': ['runmgr=={hello.runmgr or '...'}']}}) say"
        )
        await send(wire.encode(0, [wire.Stopped(why, hopeless=True)]))
        return
    worker = _Worker(hello, send)
    try:
        options = cast("dict[str, Any]", freight.loads(hello.options))
    except Exception as error:  # noqa: BLE001  whatever unpickling raises
        why = (
            f"what its supervisor is to be opened with cannot be unpacked on {socket.gethostname()} (Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}): {type(error).__name__}: {error}"
        )
        await send(wire.encode(0, [wire.Stopped(why, hopeless=True)]))
        return
    run_budget = options.pop("run_budget", None)
    places = options["max_running"]
    async with open_supervisor(
        max_queued=int(ROOM * places), remember=0, wall_clock=lambda: hello.now, **options
    ) as supervisor:
        worker.supervisor = supervisor
        worker.behalf = Behalf(
            supervisor,
            limited=None if hello.limited is None else worker.names_of,
            run_budget=run_budget,
            ask=worker.ask,
        )
        async with trio.open_nursery() as nursery:
            speaking = trio.Event()
            nursery.start_soon(worker.watch, nursery.cancel_scope)
            nursery.start_soon(_then, worker.speak, speaking)
            if hello.rates is not None:
                worker.follow(hello.rates)
            worker.say(wire.Ready(os.getpid(), socket.gethostname(), __version__))
            await worker.listen(receive, messages[1:], nursery)
            if worker.fault is None:
                await supervisor.drain()
                worker.take_leave()
                with trio.move_on_after(CLOSING_SECONDS):
                    await speaking.wait()
            nursery.cancel_scope.cancel()
        if worker.fault is not None:
            supervisor.cancel(str(worker.fault))
    if worker.fault is not None:
        raise worker.fault


async def _then(work: Callable[[], Awaitable[None]], done: trio.Event) -> None:
    await work()
    done.set()
