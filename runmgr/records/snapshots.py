"""Where a run stands: enough to go on from it in another process.

`AgentRun.snapshot()` gives one; `Agent.iter(snapshot=...)` goes on from one. The pending step says what comes next and
holds what that step needs, so that a model response which has been paid for is acted on and never asked for again.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = (
    "BudgetState",
    "GroupState",
    "ModelState",
    "Pending",
    "PendingCallTools",
    "PendingEnd",
    "PendingGraph",
    "PendingModelRequest",
    "PendingUserPrompt",
    "RunSnapshot",
    "SupervisorSnapshot",
    "WorkerState",
)


class PendingUserPrompt(msgspec.Struct, tag="user_prompt", frozen=True, gc=False):
    """The run has not begun: the next step builds the first request from the prompt."""

    prompt: Any = None
    """Text, a list of content parts, or None where the history ends in a request to send again."""


class PendingModelRequest(msgspec.Struct, tag="model_request", frozen=True, gc=False):
    """The next step sends this request."""

    request: Any
    """The `ModelRequest`; not yet among the snapshot's messages."""


class PendingCallTools(msgspec.Struct, tag="call_tools", frozen=True, gc=False):
    """The next step acts on this response: it is paid for."""

    response: Any
    """The `ModelResponse`; also the last of the snapshot's messages."""


class PendingEnd(msgspec.Struct, tag="end", frozen=True, gc=False):
    """The run is over; only its outcome was not yet told."""

    output: Any = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class PendingGraph(msgspec.Struct, tag="graph", frozen=True, gc=False):
    """A user's own graph goes on: its state and next node, as its types are written."""

    data: bytes


Pending: TypeAlias = PendingUserPrompt | PendingModelRequest | PendingCallTools | PendingEnd
"""What an agent's run does next."""


class RunSnapshot(msgspec.Struct, kw_only=True, gc=False):
    """A run between two steps. Mutable and shared with the run: take what you need before it goes on."""

    run_id: str
    pending: Any
    """One of `Pending`; for a user's own graph, a `PendingGraph`."""
    messages: list[Any] = msgspec.field(default_factory=list[Any])
    """The whole history, oldest first."""
    new_message_index: int = 0
    """Where this run's own messages begin."""
    usage: Any = None
    """The run's `RunUsage` so far."""
    run_step: int = 0
    output_retries: int = 0
    """Consecutive output failures so far."""
    tool_retries: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """Consecutive failures by tool name."""
    metadata: dict[str, Any] | None = None
    history_epoch: int = 0
    """Goes up when the history was rewritten instead of appended to."""


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands; only what it limits is listed, cost as decimal text."""

    limits: dict[str, Any]
    spent: dict[str, Any]
    """With what earlier processes spent on the same journal, and what lost answers may have cost."""
    reserved: dict[str, Any]
    """Upper bounds of the requests in flight."""
    waiting: int = 0
    """Requests that wait for room in it."""
    unbounded: int = 0
    """Requests sent without ``max_tokens``: above 0, the budget is soft: it may be overshot."""
    open_ended: int = 0
    """Those of them in flight. Each is counted as 4,096 output tokens, and may be longer."""
    largest_output: int | None = None
    """The most output tokens that any of them used: the budget may be overshot by what this is above 4,096, times those in
    flight."""
    overshot: dict[str, Any] = {}
    """By how much each limit is passed; empty for a budget that held."""

    @property
    def soft(self) -> bool:
        """Whether it may be overshot."""
        return self.unbounded > 0


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """How one model is being used."""

    usage: Any
    """`RunUsage`."""
    cost: str | None
    """US dollars as decimal text; None where a price is unknown."""
    in_flight: int = 0
    in_flight_limit: int | None = None
    """What adaptation has found, or was told; None where there is none."""
    waiting: int = 0
    """Requests that wait for its rate, or for one in flight to end."""
    latency: float | None = None
    """Smoothed seconds from sending to the answer; None where in-flight is not adapted."""
    sent: int = 0
    """Requests sent, resends and hedges included."""
    failed: int = 0
    """Of those: not answered with success."""
    refused: int = 0
    """Of those: answered with 429."""
    resent: int = 0
    """Resends."""
    hedged: int = 0
    """Second copies, sent because the first was slow."""
    cached: int = 0
    """Answers that came from the cache, or from an equal request in flight; not sent."""
    cooling_until: float | None = None
    """Unix seconds: nobody is sent before."""
    taken_for_dead: bool = False
    """Its breaker is open: nothing is sent but a probe now and then."""


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    """How one group stands that has settings of its own."""

    weight: float
    """Its share of the places, relative to other groups'."""
    max_running: int | None
    """Places that it may hold at once; None: any number."""
    running: int
    """Places that it holds."""
    queued: int
    """Its runs that wait for a place."""
    rate: Any = None
    """Its own `RateLimit` over all models; None where it has none."""
    in_flight: int = 0
    """Requests in flight under that rate."""
    waiting: int = 0
    """Requests that wait for it."""
    usage: Any = None
    """`RunUsage`; None where it used nothing."""
    cost: str | None = None
    """US dollars as decimal text; None where it used nothing, or a price is unknown."""
    budget: BudgetState | None = None
    leaving: bool = False
    """It is dropped, and forgotten when its last run has ended."""


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker of a cluster stands."""

    ready: bool = False
    """Whether it takes runs; False while it starts."""
    host: str = ""
    process: int = 0
    leased: int = 0
    """Runs that it was given and has not told the end of."""
    running: int = 0
    """Of those, as it said last: how many hold a place there."""
    silent_for: float = 0.0
    """Seconds since it was heard last."""


class SupervisorSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor at one moment."""

    at: float
    """Unix seconds."""
    states: dict[str, int]
    """Runs by state; the ended ones since the beginning."""
    max_running: int
    places_taken: int
    queued: int
    submitting: int
    """Callers of ``submit`` that wait for room in the queue."""
    parked: int
    """Paused runs that gave their place up."""
    submitted: int
    usage: Any
    """`RunUsage` in total."""
    cost: str | None
    unpriced_requests: int
    """Requests whose price is unknown."""
    models: dict[str, ModelState]
    oldest_run: str | None = None
    """The live run that was submitted first."""
    oldest_age: float | None = None
    """Seconds since then."""
    budget: BudgetState | None = None
    group_budgets: dict[str, BudgetState] = {}
    groups: dict[str, GroupState] = {}
    """Groups with settings of their own."""
    of_no_avail: Any = None
    """`RunUsage` of paid requests whose run failed, was cancelled, or began again; part of ``usage``. None where there are
    none."""
    lost: dict[str, Any] = {}
    """What answers that never came may have cost (tokens, dollars): budgets count it, ``usage`` does not."""
    closed: str | None = None
    """Why no more runs are admitted."""
    workers: dict[str, WorkerState] = {}
    """Of a cluster, by name; empty without one."""
    workers_lost: int = 0
    """Workers that died, fell silent or did not start so far."""
