"""Runs that are carried out elsewhere: what a cluster is to a supervisor.

To the supervisor such a run is an actor like any other: admitted, accounted, journaled, cancelled and told in the same way.
Only its stepper is another: one step, which hands the run over and waits for what came of it. So everything that many runs
need is here once, and a cluster only has to carry runs to where they are worked on.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, Self

import attrs
import msgspec

from runmgr.exceptions import AgentRunError, BudgetExhausted
from runmgr.graph import End
from runmgr.records.outcomes import RunError, RunState
from runmgr.usage import RunUsage

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
    "CarriedStepper",
    "Carrier",
    "Cluster",
    "Share",
    "count_in_vain",
)


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a run used of one model."""

    provider: str
    model: str
    usage: RunUsage
    cost: Decimal
    unpriced: int


@attrs.frozen(eq=False)
class Carried:
    """What came of a run that was carried out elsewhere."""

    status: RunState
    output: Any = None
    error: RunError | None = None
    shares: tuple[Share, ...] = ()
    messages: list[Any] = attrs.field(factory=list[Any])
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

    async def carry_out(self, actor: Actor) -> Carried:
        """Have a run worked on and give what came of it. Cancelled, the run is cancelled where it is."""
        ...

    def paid_before(self, actor: Actor) -> Carried | None:
        """What is known of a run that was cancelled: what it used until then."""
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

    __slots__ = ("budget", "cache_salt", "carrier", "job", "packed")

    is_agent = False

    def __init__(self, job: Job, carrier: Carrier) -> None:
        self.job = job
        self.carrier = carrier
        self.packed = carrier.pack(job)
        self.budget = None  # its own budget is watched over where it runs
        self.cache_salt = None

    @property
    def prompt(self) -> Any:
        return self.job.prompt

    @property
    def name(self) -> str:
        return self.job.name

    def open(self, host: Any, snapshot: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002
        return CarriedStepper(host, self.carrier)

    def check(self) -> None:
        """Nothing of it is kept between two nodes."""

    def again(self, stepper: Any, *, from_start: bool) -> Any:  # noqa: ARG002  it begins anew elsewhere
        return None

    def result_of(self, outcome: Any) -> Any:
        return self.job.result_of(outcome)

    def abandoned_threads(self, stepper: CarriedStepper) -> tuple[str, ...]:
        carried = stepper.carried
        return () if carried is None else carried.abandoned_threads


class CarriedStepper:
    """The one step of such a run."""

    __slots__ = ("_actor", "_carrier", "carried", "next_node", "result")

    def __init__(self, actor: Actor, carrier: Carrier) -> None:
        self._actor = actor
        self._carrier = carrier
        self.carried: Carried | None = None
        self.next_node: Any = _ELSEWHERE
        self.result: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.carried is None:  # it was cancelled on the way
            carried = self._carrier.paid_before(self._actor)
            if carried is not None:
                self._take(carried)

    async def next(self, node: Any) -> Any:  # noqa: ARG002
        carried = await self._carrier.carry_out(self._actor)
        self._take(carried)
        if carried.status != RunState.SUCCEEDED:
            error = carried.error or RunError("RunFailed", f"the run was {carried.status.value} elsewhere")
            if error.type == "BudgetExhausted":
                raise BudgetExhausted(error.message)
            raise CarriedFailure(error)
        self.result = _Result(carried.output)
        self.next_node = End(carried.output)
        return self.next_node

    def _take(self, carried: Carried) -> None:
        """Count what it used, at once in the run's, the account's and the models' tallies."""
        self.carried = carried
        actor = self._actor
        gates = actor._sup.gates
        tally = gates.tally(actor)
        for share in carried.shares:
            part = Tally()
            part.load(share.usage, share.cost, share.unpriced)
            tally.merge(part)
            tally.account.merge(part)
            gates.served(share.provider, share.model).merge(part)
        actor._model = carried.model or actor._model
        actor._attempts += carried.attempts - 1
        now = actor._sup.now()
        if carried.started_at is not None:  # two clocks agree to within the time that a message takes
            actor._started_at = min(max(carried.started_at, actor._queued_at), now)
        if carried.finished_at:
            actor._finished_at = min(max(carried.finished_at, actor._queued_at), now)
        if carried.earlier_errors:
            extras = actor.extras()
            extras.errors = [*(extras.errors or ()), *carried.earlier_errors]

    @property
    def body(self) -> bytes | None:
        """The outcome as a journal keeps it, made where the run was worked on; None where more is to be said here."""
        carried, actor = self.carried, self._actor
        if carried is None or carried.body is None or actor._before is not None:
            return None
        extras = actor._extras
        if extras is not None and (extras.parent is not None or extras.below is not None):
            return None
        exact = actor._attempts == carried.attempts and actor._started_at == carried.started_at
        return carried.body if exact else None

    # ---------------------------------------------------------------- as an agent's run has them

    def all_messages(self) -> list[Any]:
        return [] if self.carried is None else self.carried.messages

    @property
    def new_message_index(self) -> int:
        return 0 if self.carried is None else self.carried.new_message_index

    @property
    def metadata(self) -> dict[str, Any] | None:
        return None if self.carried is None else self.carried.metadata


class _Elsewhere:
    """Stands for the node that such a run is at."""

    __slots__ = ()

    @staticmethod
    def get_node_id() -> str:
        return "Elsewhere"


_ELSEWHERE = _Elsewhere()


class _Result:
    __slots__ = ("output",)

    def __init__(self, output: Any) -> None:
        self.output = output


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
