"""What driver and workers tell each other: tagged structs in MessagePack, several in one envelope.

Envelopes are numbered in each direction. One that comes twice is passed over, one that is missing is a lost worker: so
whatever carries them may deliver late or twice, but what is acted on is each message once, in order.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from runmgr.records.budgets import RateLimit
from runmgr.records.outcomes import RunError
from runmgr.supervisor.behalf import LentAmount
from runmgr.supervisor.elsewhere import Share

VERSION = 1
"""What driver and workers must agree on: it counts up with every change of a message."""

__all__ = (
    "VERSION",
    "Ask",
    "Cancel",
    "Clock",
    "Ended",
    "Envelope",
    "FromDriver",
    "FromWorker",
    "GiveBack",
    "GivenBack",
    "Grant",
    "Hello",
    "Lease",
    "ModelStand",
    "Ping",
    "Pong",
    "Rates",
    "RatesTaken",
    "Ready",
    "Refused",
    "Report",
    "Stop",
    "Stopped",
    "Task",
    "Tell",
    "Told",
    "decode_from_driver",
    "decode_from_worker",
    "encode",
)


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One run that is to be worked on."""

    run_id: str
    index: int
    kind: int
    """Which of the worker's jobs: see `Lease.kinds`."""
    work: bytes
    """Prompt and options, as `freight` packs them."""
    group: str = ""
    priority: int = 0
    timeout: float | None = None
    deadline: float | None = None
    """Seconds from when it is sent."""


# -------------------------------------------------------------------- from the driver


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message: what the worker is to be."""

    name: str
    options: bytes
    """Of its supervisor, pickled."""
    silence: float
    """Seconds without a word from the driver after which it ends by itself."""
    limited: dict[str, list[str]] | None = None
    """By group, which limits the driver's budgets have; None where it has no budgets. ``''`` is for every other group."""
    rates: Rates | None = None
    """Rates until others are told; None: the driver limits none."""
    now: float = 0.0
    """The driver's Unix seconds: the worker's times are told by the driver's clock."""
    version: int = 0
    """The driver's `VERSION`. 0: of one that did not say it yet."""
    runmgr: str = ""
    """The driver's version of runmgr, for people."""


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    """A shard of runs."""

    tasks: list[Task]
    kinds: dict[int, bytes] = {}
    """Jobs that this worker has not been told of, packed by `freight`."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Cancel these runs; what came of them is told as ever."""

    run_ids: list[str]
    reason: str


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """All that was ever lent for a group."""

    group: str
    amount: LentAmount
    refused: str | None = None
    names: list[str] = []
    """Which limits there are."""


class GiveBack(msgspec.Struct, frozen=True, tag="give_back"):
    """What is not needed of what was lent for a group is wanted elsewhere."""

    group: str


class Rates(msgspec.Struct, frozen=True, tag="rates"):
    """How fast models may be asked from now on: this worker's part of the limits."""

    number: int
    """Counts up; is told back when it is in force."""
    models: dict[str, RateLimit | None]
    """By model, ``''`` for every other one; None: nothing may be sent at all."""
    groups: dict[str, RateLimit | None] = {}
    """The same of groups that have a rate over all models."""


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """Whether somebody wants events, and those of streams too."""

    events: bool
    streams: bool


class Clock(msgspec.Struct, frozen=True, tag="clock"):
    """Put your clock forward by so many seconds: it is to show the driver's Unix time."""

    forward: float


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """The driver lives."""

    at: float


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End."""

    reason: str
    grace: float = 0.0


# -------------------------------------------------------------------- from a worker


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """It can take runs."""

    process: int
    host: str
    runmgr: str = ""


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of one run."""

    run_id: str
    status: str
    body: bytes
    """As a journal keeps outcomes."""
    output: bytes | None = None
    """Pickled, where JSON would lose its type."""
    shares: tuple[Share, ...] = ()
    metadata: bytes | None = None
    finished_at: float = 0.0
    """Unix seconds by the driver's clock."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Runs that ended, and what was spent of the loans by then."""

    ended: list[Ended]
    spent: dict[str, LentAmount] = {}


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """A run that could not be begun: it could not be unpacked there."""

    run_id: str
    error: RunError


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """More is needed for a group."""

    group: str
    need: LentAmount


class GivenBack(msgspec.Struct, frozen=True, tag="given_back"):
    """All that was ever given back of a group's."""

    group: str
    amount: LentAmount


class Told(msgspec.Struct, frozen=True, tag="told"):
    """Events, each as `runmgr.records.codec` has it."""

    events: list[bytes]
    missed: int = 0


class RatesTaken(msgspec.Struct, frozen=True, tag="rates_taken"):
    """These rates are in force."""

    number: int


class ModelStand(msgspec.Struct, frozen=True, array_like=True):
    """How one model is being used by a worker: see `ModelState`."""

    name: str
    in_flight: int
    in_flight_limit: int | None
    waiting: int
    latency: float | None
    sent: int
    failed: int
    refused: int
    resent: int
    hedged: int
    cached: int
    cooling_until: float | None
    taken_for_dead: bool


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """It lives, and how it stands."""

    at: float | None = None
    """As the ping that it answers; None where none asked."""
    clock: float = 0.0
    """Unix seconds as it has them."""
    running: int = 0
    queued: int = 0
    models: list[ModelStand] = []


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """Its last message: it has ended, and has told all."""

    error: str | None = None
    hopeless: bool = False
    """Whether another one would end by it too."""


FromDriver: TypeAlias = Hello | Lease | Cancel | Grant | GiveBack | Rates | Tell | Clock | Ping | Stop
FromWorker: TypeAlias = Ready | Report | Refused | Ask | GivenBack | RatesTaken | Told | Pong | Stopped


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """Messages that travel together."""

    number: int
    """Counts from 0, in each direction."""
    messages: list[Any]


class _ToWorker(msgspec.Struct, frozen=True, array_like=True):
    number: int
    messages: list[FromDriver]


class _ToDriver(msgspec.Struct, frozen=True, array_like=True):
    number: int
    messages: list[FromWorker]


_encode = msgspec.msgpack.Encoder().encode
_from_driver = msgspec.msgpack.Decoder(_ToWorker)
_from_worker = msgspec.msgpack.Decoder(_ToDriver)


def encode(number: int, messages: list[Any]) -> bytes:
    """An envelope as bytes."""
    return _encode(Envelope(number, messages))


def decode_from_driver(data: bytes) -> tuple[int, list[FromDriver]]:
    """What the driver sent.

    Raises:
        ValueError: it is damaged, or from a version that says something else.
    """
    envelope = _from_driver.decode(data)
    return envelope.number, envelope.messages


def decode_from_worker(data: bytes) -> tuple[int, list[FromWorker]]:
    """What a worker sent.

    Raises:
        ValueError: it is damaged, or from a version that says something else.
    """
    envelope = _from_worker.decode(data)
    return envelope.number, envelope.messages
