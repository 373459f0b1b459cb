"""What a supervisor tells its subscribers. Built only while somebody listens.

Those that can be no part of a cycle have no part in Python's garbage collections either (``gc=False``): a run makes a dozen.
New fields go to the end and have a default.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from .outcomes import RunOutcome, RunState

__all__ = (
    "EventsMissed",
    "KnownEvent",
    "RequestFailed",
    "RequestSent",
    "RequestSettled",
    "RunAdmitted",
    "RunEnded",
    "RunEvent",
    "RunNode",
    "RunStarted",
    "RunStateChanged",
    "RunStream",
    "UnknownEvent",
)


class RunAdmitted(msgspec.Struct, tag="admitted", frozen=True, gc=False):
    """A run entered the queue."""

    run_id: str
    index: int
    group: str
    at: float
    """Unix seconds, as in every event."""


class RunStarted(msgspec.Struct, tag="started", frozen=True, gc=False):
    """A run got a place; again after a restart, with ``attempt`` above 1."""

    run_id: str
    group: str
    attempt: int
    at: float
    resumed: bool = False
    """It goes on from a checkpoint of the journal."""


class RunNode(msgspec.Struct, tag="node", frozen=True, gc=False):
    """A run reached a node."""

    run_id: str
    group: str
    node: str
    """The node's id: its class name."""
    step: int
    """Nodes done before it."""
    at: float


class RunStateChanged(msgspec.Struct, tag="state", frozen=True, gc=False):
    """A run went from one state to another."""

    run_id: str
    group: str
    before: RunState
    after: RunState
    reason: str
    at: float


class RequestSent(msgspec.Struct, tag="request_sent", frozen=True, gc=False):
    """A model request passed its doors and was sent."""

    run_id: str
    group: str
    model: str
    attempt: int
    """1 for the first send, more for resends."""
    at: float
    provider: str | None = None
    """The model's ``system``."""


class RequestSettled(msgspec.Struct, tag="request_settled", frozen=True, gc=False):
    """A model answered and was paid."""

    run_id: str
    group: str
    model: str
    usage: Any
    """`RequestUsage` of this request."""
    cost: str | None
    """US dollars as decimal text; None when the price is unknown."""
    seconds: float
    at: float
    provider: str | None = None


class RequestFailed(msgspec.Struct, tag="request_failed", frozen=True, gc=False):
    """A send failed. ``retry_in`` is None when it is not sent again."""

    run_id: str
    group: str
    model: str
    attempt: int
    error: str
    retry_in: float | None
    at: float
    provider: str | None = None
    status: int | None = None
    """The HTTP status of the answer; None where there was none."""
    seconds: float | None = None
    """From sending to the failure."""


class RunStream(msgspec.Struct, tag="stream", frozen=True):
    """An event of a run's model stream, for subscribers that asked for them."""

    run_id: str
    group: str
    event: Any
    at: float


class RunEnded(msgspec.Struct, tag="ended", frozen=True):
    """A run ended; with a journal, its outcome is committed."""

    run_id: str
    group: str
    outcome: RunOutcome
    at: float


class EventsMissed(msgspec.Struct, tag="missed", frozen=True, gc=False):
    """A subscriber fell behind and lost this many events just before the next one."""

    count: int
    at: float


class UnknownEvent(msgspec.Struct, tag="unknown", frozen=True):
    """An event of a newer version of runmgr: its tag and its fields as they came."""

    tag: str
    fields: dict[str, Any]


KnownEvent: TypeAlias = (
    RunAdmitted
    | RunStarted
    | RunNode
    | RunStateChanged
    | RequestSent
    | RequestSettled
    | RequestFailed
    | RunStream
    | RunEnded
    | EventsMissed
)
"""What this version of runmgr tells."""

RunEvent: TypeAlias = KnownEvent | UnknownEvent
"""Whatever `Supervisor.subscribe` yields."""
