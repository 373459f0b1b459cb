"""How a run ended, and the states on the way there."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

__all__ = ("RunError", "RunOutcome", "RunState")


class RunState(StrEnum):
    """Where a run stands. The transitions are a table: `runmgr.supervisor.states`."""

    QUEUED = "queued"
    """Admitted, not started: it waits for one of ``max_running`` places."""
    RUNNING = "running"
    """Its task works: a node, a model request, a tool."""
    WAITING = "waiting"
    """Its task waits for the supervisor: a rate, a budget, a backoff, a slow subscriber."""
    PAUSED = "paused"
    """It gave its place up: stopped between two nodes by ``pause()``, or while it waits for other runs."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run failed or was cancelled, as plain data."""

    type: str
    """The exception's class name; ``'Cancelled'`` for a cancelled run."""
    message: str
    """The exception's text; for a cancelled run the reason."""
    status_code: int | None = None
    """The HTTP status, where a provider answered with one."""
    traceback: str | None = None
    """The last lines of the traceback, for failures that come from a user's code."""


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: exactly one for every admitted run.

    A value: it may be kept, compared and sent. ``messages`` is the run's own list, handed over when the run ended.
    """

    run_id: str
    index: int
    """Position among the supervisor's submissions, or among the items of the `map` that submitted it; from 0."""
    status: RunState
    """``succeeded``, ``failed`` or ``cancelled``."""
    output: Any = None
    """What the run gave back: the agent's output, or the data of a graph's `End`; None unless it succeeded."""
    error: RunError | None = None
    usage: Any = None
    """`RunUsage` of all attempts, paid requests of failed ones included, and of the runs that it submitted."""
    cost: Decimal | None = None
    """US dollars; None where the price of any of its requests is unknown."""
    attempts: int = 1
    """1 + restarts."""
    earlier_errors: tuple[RunError, ...] = ()
    """How the attempts before the last one failed, oldest first."""
    group: str = ""
    metadata: dict[str, Any] | None = None
    queued_at: float = 0.0
    """Unix seconds, as are the next two."""
    started_at: float | None = None
    """None for a run that never got a place."""
    finished_at: float = 0.0
    model: str | None = None
    """Name of the model that answered last."""
    messages: list[Any] = msgspec.field(default_factory=list[Any])
    """The run's history, oldest first; empty where the reader of a journal did not ask for it."""
    input: Any = None
    """What the run was started with: the prompt, or the spec's ``input``."""
    new_message_index: int = 0
    """Where in ``messages`` the run's own begin."""
    parent: str | None = None
    """The run that submitted it, where one did."""
    abandoned_threads: tuple[str, ...] = ()
    """Sync tools whose threads still ran when they were no longer waited for: a thread cannot be killed."""
    replayed: bool = False
    """True when it was not run now but read from the journal."""

    @property
    def succeeded(self) -> bool:
        """Whether the run gave an output."""
        return self.status == "succeeded"
