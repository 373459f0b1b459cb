"""What is asked of supervisors when somebody collects: how many runs there are, of which kind, and how budgets stand.

Whoever collects does it in a thread of its own as a rule (a Prometheus scrape, a periodic reader). A supervisor belongs to its trio
thread, so it is asked there, and not waited for longer than `PATIENCE`: then what it last said is given.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from runmgr.records.outcomes import RunState

if TYPE_CHECKING:
    from runmgr.records.snapshots import BudgetState, SupervisorSnapshot
    from runmgr.supervisor import Supervisor

    from .labels import Labels

__all__ = ("COUNTED", "GAUGES", "Attributes", "Gauges", "Watched")

PATIENCE = 1.0
"""Seconds that a collecting thread waits for a supervisor, by the real clock: so long nothing else blocks that thread."""
_FRESH = 0.05  # seconds: one collection asks once, though each instrument has a callback of its own
_LIVE = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.PAUSED)

Attributes: TypeAlias = tuple[tuple[str, str], ...]

GAUGES: Mapping[str, tuple[str, str]] = {
    "runmgr.runs.live": ("{run}", "Runs that have not ended, by state"),
    "runmgr.runs.parked": ("{run}", "Paused runs, and runs that wait for others, without a place"),
    "runmgr.runs.submitting": ("{run}", "Submissions that wait for room in the queue"),
    "runmgr.places.limit": ("{place}", "How many runs may hold a place at once"),
    "runmgr.places.taken": ("{place}", "Runs that hold a place"),
    "runmgr.group.running": ("{run}", "Places that a group holds which has settings of its own"),
    "runmgr.group.queued": ("{run}", "Runs of such a group that wait for a place"),
    "runmgr.requests.in_flight": ("{request}", "Requests that are sent and not answered"),
    "runmgr.requests.waiting": ("{request}", "Requests that wait for their model's rate"),
    "runmgr.requests.hedged": ("{request}", "Second copies of slow requests"),
    "runmgr.requests.cached": ("{request}", "Requests that were answered without being sent"),
    "runmgr.budget.limit": ("1", "What a budget allows: of requests, tokens, or US dollars"),
    "runmgr.budget.spent": ("1", "What of a budget is spent"),
}
"""Observed instruments, with unit and description. Those of `COUNTED` only grow."""
COUNTED = frozenset({"runmgr.requests.hedged", "runmgr.requests.cached"})


class Watched:
    """A supervisor that is watched. Made in its thread.

    Args:
        supervisor: the supervisor.
    """

    __slots__ = ("_last", "_supervisor", "_token")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._token = trio.lowlevel.current_trio_token()
        self._last = supervisor.snapshot()

    def snapshot(self) -> SupervisorSnapshot:
        """How it stands, or stood when it last answered. From any thread."""
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._last = self._supervisor.snapshot()
            return self._last
        answer: Future[SupervisorSnapshot] = Future()

        def ask() -> None:
            if answer.set_running_or_notify_cancel():
                answer.set_result(self._supervisor.snapshot())

        try:
            self._token.run_sync_soon(ask)
            self._last = answer.result(PATIENCE)
        except (FutureTimeoutError, trio.RunFinishedError):
            answer.cancel()
        return self._last


class Gauges:
    """The sums over all supervisors that are watched.

    Args:
        groups: the groups' names.
        models: the models'.
    """

    def __init__(self, groups: Labels, models: Labels) -> None:
        self._groups = groups
        self._models = models
        self._lock = threading.Lock()
        self._watched: dict[int, Watched] = {}
        self._past: Counter[tuple[str, Attributes]] = Counter()  # what ended supervisors had counted
        self._values: dict[str, list[tuple[dict[str, str], float]]] = {}
        self._at = float("-inf")

    def watch(self, supervisor: Supervisor) -> None:
        """Watch one more. In its thread."""
        self._watched[id(supervisor)] = Watched(supervisor)

    def leave(self, supervisor: Supervisor) -> None:
        """It has ended. In its thread."""
        watched = self._watched.pop(id(supervisor))
        with self._lock:
            for key, value in self._of(watched.snapshot()):
                if key[0] in COUNTED:
                    self._past[key] += int(value)
            self._at = float("-inf")

    def read(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The present values of one instrument. From any thread."""
        now = time.monotonic()
        if now - self._at > _FRESH:
            snapshots = [watched.snapshot() for watched in list(self._watched.values())]
            with self._lock:
                self._values = self._sum(snapshots)
                self._at = time.monotonic()
        return self._values.get(name, [])

    def _sum(self, snapshots: list[SupervisorSnapshot]) -> dict[str, list[tuple[dict[str, str], float]]]:
        sums: Counter[tuple[str, Attributes]] = Counter(self._past)
        for snapshot in snapshots:
            for key, value in self._of(snapshot):
                sums[key] += value  # pyright: ignore[reportArgumentType]  # floats among them
        values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for (name, attributes), value in sums.items():
            values.setdefault(name, []).append((dict(attributes), value))
        return values

    def _of(self, snapshot: SupervisorSnapshot) -> Iterable[tuple[tuple[str, Attributes], float]]:
        for state in _LIVE:
            yield ("runmgr.runs.live", (("runmgr.state", state.value),)), snapshot.states[state.value]
        yield ("runmgr.runs.parked", ()), snapshot.parked
        yield ("runmgr.runs.submitting", ()), snapshot.submitting
        yield ("runmgr.places.limit", ()), snapshot.max_running
        yield ("runmgr.places.taken", ()), snapshot.places_taken
        for name, group in snapshot.groups.items():
            label = (("runmgr.group", self._groups(name)),)
            yield ("runmgr.group.running", label), group.running
            yield ("runmgr.group.queued", label), group.queued
            yield from _budget(group.budget, label)
        yield from _budget(snapshot.budget, (("runmgr.group", ""),))
        for name, model in snapshot.models.items():
            label = (("gen_ai.request.model", self._models(name)),)
            yield ("runmgr.requests.in_flight", label), model.in_flight
            yield ("runmgr.requests.waiting", label), model.waiting
            yield ("runmgr.requests.hedged", label), model.hedged
            yield ("runmgr.requests.cached", label), model.cached


def _budget(state: BudgetState | None, label: Attributes) -> Iterable[tuple[tuple[str, Attributes], float]]:
    if state is None:
        return
    for instrument, amounts in (("runmgr.budget.limit", state.limits), ("runmgr.budget.spent", state.spent)):
        values: dict[str, Any] = amounts
        for kind, value in values.items():
            yield (instrument, (*label, ("runmgr.budget.kind", kind))), float(value)
