"""Runs that are carried out elsewhere: what a cluster is to a supervisor.

To whoever submitted it such a run is a run like any other: admitted, accounted, journaled, cancelled and told in the same way.
It has no task here, though, and no scope: when it has a place it is handed to the `Carrier`, and when the carrier knows what came
of it, `came` ends it. So a run costs this process its submission and its outcome, whatever it does meanwhile.

A run ends here once, by `came` or by `never_came`, whichever the carrier calls first:

- what came of it is what its worker says;
- of one that was called off (cancelled, out of time, or everything stops), it is how it was called off, with what its worker says that
  it used; unless it had succeeded before its worker heard of it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import msgspec
import trio

from runmgr.exceptions import AgentRunError, BudgetExhausted
from runmgr.records.events import RunStarted
from runmgr.records.outcomes import RunError, RunState
from runmgr.usage import RunUsage

from .states import TERMINAL
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runmgr.records.budgets import Budget
    from runmgr.records.snapshots import ModelState, WorkerState

    from .actor import Actor
    from .jobs import Job
    from .runtime import Runtime

__all__ = (
    "Carried",
    "CarriedFailure",
    "CarriedJob",
    "Carrier",
    "Cluster",
    "End",
    "Share",
    "begin",
    "call_off",
    "call_off_all",
    "called_off_for",
    "came",
    "count_in_vain",
    "exact_body",
    "is_called_off",
    "never_came",
)


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a run used of one model."""

    provider: str
    model: str
    usage: RunUsage
    cost: Decimal
    unpriced: int


class Carried(msgspec.Struct, frozen=True):
    """What came of a run that was carried out elsewhere."""

    status: RunState
    output: Any = None
    error: RunError | None = None
    shares: tuple[Share, ...] = ()
    messages: list[Any] = []
    new_message_index: int = 0
    metadata: dict[str, Any] | None = None
    model: str | None = None
    attempts: int = 1
    earlier_errors: tuple[RunError, ...] = ()
    started_at: float | None = None
    finished_at: float = 0.0
    """As the two before by this process's clock; 0 where it is not known."""
    abandoned_threads: tuple[str, ...] = ()
    body: bytes | None = None
    """All of that as a journal keeps it, where it is a run's whole story."""


class End(NamedTuple):
    """How a run is to end that was called off."""

    status: RunState
    error: RunError
    stays_open: bool
    """Whether it can be resumed: the journal is not to hold its end."""


class Carrier(Protocol):
    """Carries runs to where they are worked on. Made by `Cluster.open`, for one supervisor."""

    lost: int
    """Workers that were lost so far."""

    def states(self) -> dict[str, WorkerState]:
        """How its workers stand, by name."""
        ...

    def pack(self, job: Job) -> Any:
        """Make a job ready to travel, when it is submitted.

        Raises:
            UserError: it cannot travel; the message names what cannot.
        """
        ...

    def model_states(self, tallies: Mapping[str, Tally]) -> dict[str, ModelState]:
        """How models are used by its workers, by name.

        Args:
            tallies: what was used, by model.
        """
        ...

    def check_budget(self, budget: Budget, group: str | None) -> None:
        """Whether another budget can still reach its workers.

        Raises:
            UserError: it cannot.
        """
        ...

    def begin(self, actor: Actor) -> None:
        """Have a run worked on. `came` or `never_came` is called once something is known of it, never in here."""
        ...

    def call_off(self, actor: Actor) -> None:
        """A run that was handed over is not wanted any more. `came` is called when its worker has said what it used until then;
        `never_came` when it says nothing within a bound, or has never begun: that may be in here.
        """
        ...

    def waiting(self) -> list[Actor]:
        """Those that were handed over and that no worker has yet."""
        ...


class Cluster(Protocol):
    """Where runs are carried out: an argument of `open_supervisor`."""

    @property
    def places(self) -> int:
        """Runs that it can work on at once: the supervisor's ``max_running`` where none is given."""
        ...

    def open(self, runtime: Runtime) -> AbstractAsyncContextManager[Carrier]:
        """Start its workers; leaving the block ends them."""
        ...


class CarriedFailure(AgentRunError):
    """A run failed elsewhere."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.run_error = error


class CarriedJob:
    """A run that is handed over: wraps the job that is to be done elsewhere."""

    __slots__ = ("begun", "budget", "cache_salt", "end", "job", "packed")

    is_agent = False

    def __init__(self, job: Job, carrier: Carrier) -> None:
        self.job = job
        self.packed = carrier.pack(job)
        self.budget = None  # its own budget is watched over where it runs
        self.cache_salt = None
        self.begun = False
        """Whether the carrier has it."""
        self.end: End | None = None
        """How it is to end, once it was called off."""

    @property
    def prompt(self) -> Any:
        return self.job.prompt

    @property
    def name(self) -> str:
        return self.job.name

    def check(self) -> None:
        """Nothing of it is kept between two nodes."""

    def result_of(self, outcome: Any) -> Any:
        return self.job.result_of(outcome)


# -------------------------------------------------------------------- the life of such a run


def _job(actor: Actor) -> CarriedJob:
    return cast("CarriedJob", actor._job)  # under a carrier every run has one


def called_off_for(actor: Actor) -> str:
    """Why it was called off."""
    end = _job(actor).end
    return "" if end is None else end.error.message


def begin(self: Runtime, actor: Actor) -> None:
    """It has a place: hand it over."""
    job = _job(actor)
    if actor.state in TERMINAL:
        return  # whoever was told that it starts ended it
    if self.events.listening:
        self.events.tell(RunStarted(actor.run_id, actor.group, actor._attempts, self.now(), False))
    if job.end is not None:
        never_came(self, actor)
        return
    if actor._timeout is not None:
        ends = trio.current_time() + actor._timeout
        if actor._deadline is None or ends < actor._deadline:  # that is watched since it was admitted
            self.deadlines.add(actor, ends)
    job.begun = True
    assert self.carrier is not None
    self.carrier.begin(actor)


def call_off(self: Runtime, actor: Actor, status: RunState, error: RunError, *, stays_open: bool) -> None:
    """It has a place, and is not wanted any more: it ends so as soon as it is known what it used. Nothing where it was called off."""
    job = _job(actor)
    if job.end is None:
        job.end = End(status, error, stays_open)
        if job.begun:
            assert self.carrier is not None
            self.carrier.call_off(actor)


def call_off_all(self: Runtime, *, begun: bool = True) -> None:
    """Everything stops; to the journal it all stays open. O(live runs).

    Args:
        self: the supervisor.
        begun: also what workers have; else only what none has yet.
    """
    assert self.carrier is not None
    for actor in list(self.live.values()) if begun else self.carrier.waiting():
        if actor._holds and actor.state not in TERMINAL:
            call_off(self, actor, RunState.CANCELLED, self.shutdown_error(actor), stays_open=True)


def is_called_off(self: Runtime, actor: Actor) -> bool:
    """Whether nobody is to begin it again; where everything stops, it is called off by this."""
    job = _job(actor)
    if job.end is None and self.stop_reason is not None:
        job.end = End(RunState.CANCELLED, self.shutdown_error(actor), True)
    return job.end is not None


def came(self: Runtime, actor: Actor, carried: Carried) -> None:
    """This came of it: it has ended."""
    usage = _count(self, actor, carried.shares) if carried.shares else None
    actor._model = carried.model or actor._model
    actor._attempts += carried.attempts - 1
    now, queued = self.now(), actor._queued_at
    if carried.started_at is not None:  # two clocks agree to within the time that a message takes
        actor._started_at = min(max(carried.started_at, queued), now)
    if carried.finished_at:
        actor._finished_at = min(max(carried.finished_at, queued), now)
    if carried.earlier_errors:
        extras = actor.extras()
        extras.errors = [*(extras.errors or ()), *carried.earlier_errors]
    if carried.status is RunState.SUCCEEDED:
        self.finish(actor, carried.status, carried.output, None, carried=carried, usage=usage)
        return
    end = _job(actor).end
    if end is None and carried.status is RunState.CANCELLED and self.stop_reason is not None:
        end = End(carried.status, self.shutdown_error(actor), True)
    if end is None:
        error = carried.error or RunError("RunFailed", f"the run was {carried.status.value} elsewhere")
        failure = _failure(error)
        actor._exception = failure
        stays_open = isinstance(failure, BudgetExhausted)
        end = End(RunState.FAILED, error, stays_open)
    self.finish(actor, end.status, None, end.error, stays_open=end.stays_open, carried=carried, usage=usage)


def never_came(self: Runtime, actor: Actor) -> None:
    """A run that was called off ends, and nobody says what it used."""
    end = _job(actor).end
    assert end is not None
    self.finish(actor, end.status, None, end.error, stays_open=end.stays_open)


def _failure(error: RunError) -> Exception:
    return BudgetExhausted(error.message) if error.type == "BudgetExhausted" else CarriedFailure(error)


def _count(self: Runtime, actor: Actor, shares: tuple[Share, ...]) -> RunUsage | None:
    """Count what it used, at once in the run's, the account's and the models' tallies; gives the sum, where that is one share."""
    gates = self.gates
    fresh = actor._tally is None and actor._before is None
    tally = gates.tally(actor)
    for share in shares:
        part = tally
        if len(shares) > 1 or not fresh:
            part = Tally()
        part.load(share.usage, share.cost, share.unpriced)
        if part is not tally:
            tally.merge(part)
        tally.account.merge(part)
        gates.served(share.provider, share.model).merge(part)
    return shares[0].usage if fresh and len(shares) == 1 else None


def exact_body(actor: Actor, carried: Carried) -> bytes | None:
    """The outcome as a journal keeps it, made where the run was worked on; None where more is to be said here."""
    if carried.body is None or actor._before is not None:
        return None
    extras = actor._extras
    if extras is not None and (extras.parent is not None or extras.below is not None):
        return None
    exact = actor._attempts == carried.attempts and actor._started_at == carried.started_at
    return carried.body if exact else None


def count_in_vain(runtime: Runtime, run_id: str, shares: tuple[Share, ...]) -> None:
    """What a run used whose outcome is not wanted any more, because another worker's came first: it stays counted."""
    whole = Tally()
    for share in shares:
        part = Tally()
        part.load(share.usage, share.cost, share.unpriced)
        whole.merge(part)
        runtime.ledger.account("", "(worked on twice)").merge(part)
        runtime.gates.served(share.provider, share.model).merge(part)
    runtime.ledger.close_run(f"{run_id} (twice)", whole, "superseded")
