"""Groups with settings of their own: made, changed and dropped while runs go on.

Any name may be a run's group. One that is *made* (by `Supervisor.set_group`, `Supervisor.set_budget` or an argument of
`open_supervisor`) has a weight, places, a rate or a budget of its own, and shows in snapshots. Once it is dropped, nothing of it is
kept but its share of the sums, under the name `DROPPED`: so tenants may come and go for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runmgr.records.snapshots import GroupState

from .group_rates import GroupRate
from .states import TERMINAL

if TYPE_CHECKING:
    from runmgr.records.budgets import Budget, RateLimit

    from .actor import Actor
    from .runtime import Runtime

__all__ = ("Tenants",)


class Tenants:
    """The groups of one supervisor that were made.

    Args:
        runtime: whose they are.
    """

    __slots__ = ("_made", "_runtime", "leaving")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: dict[str, None] = {}
        self.leaving: dict[str, int] = {}
        """Groups that are dropped when their last run has ended, with the number of their live runs."""

    def set_up(self, names: Iterable[str]) -> None:
        """These are made from the beginning."""
        for name in names:
            self._make(name)

    def _make(self, name: str) -> None:
        self.leaving.pop(name, None)
        if name not in self._made:
            self._made[name] = None
            admission = self._runtime.admission
            if not admission.is_counted(name):
                admission.set_group(name, limit=math.inf)  # counts its places
                admission.count_group(name, self._places(name))

    def set(
        self,
        name: str,
        *,
        weight: float | None,
        max_running: int | None,
        rate: RateLimit | None,
        budget: Budget | None,
    ) -> None:
        """See `Supervisor.set_group`."""
        runtime = self._runtime
        runtime.admission.set_group(name, weight=weight, limit=max_running)
        if max_running is not None:
            runtime.admission.count_group(name, self._places(name))
        self._make(name)
        if rate is not None:
            rates = runtime.gates.group_rates
            door = rates.get(name)
            if door is None:
                rates[name] = GroupRate(name, rate, runtime.services)
            else:
                door.change(rate)
        if budget is not None:
            runtime.gates.set_budget(budget, group=name)

    def _places(self, name: str) -> int:
        return sum(actor._holds and actor.group == name for actor in self._runtime.live.values())

    # ---------------------------------------------------------------- dropping

    def drop(self, name: str, reason: str | None) -> bool:
        """See `Supervisor.drop_group`."""
        runtime = self._runtime
        if reason is not None:
            runtime.admission.dismiss_group(
                name, lambda: runtime.closed_error(f"its group {name!r} was dropped: {reason}")
            )
        live = [actor for actor in runtime.live.values() if actor.group == name]
        self.leaving[name] = len(live)
        if reason is not None:
            for actor in live:
                if actor.state not in TERMINAL:
                    runtime.cancel_run(actor, reason)
        self.check(name)
        return name not in self.leaving

    def entered(self, actor: Actor) -> None:
        """A run was admitted while a group is leaving."""
        if actor.group in self.leaving:
            self.leaving[actor.group] += 1

    def left(self, actor: Actor) -> None:
        """A run's outcome was told while a group is leaving."""
        name = actor.group
        if name in self.leaving:
            self.leaving[name] -= 1
            self.check(name)

    def check(self, name: str) -> None:
        """Forget a group that is leaving, if nobody is left in it."""
        runtime = self._runtime
        if self.leaving.get(name) != 0 or runtime.admission.in_line(name):
            return
        del self.leaving[name]
        self._made.pop(name, None)
        runtime.admission.forget_group(name)
        runtime.gates.drop_group(name)

    # ---------------------------------------------------------------- looking

    def states(self) -> dict[str, GroupState]:
        """How those stand that were made or have a budget. O(groups times agents)."""
        runtime = self._runtime
        gates = runtime.gates
        meters = {} if gates.purse is None else gates.purse.budgeted_groups
        names = self._made.keys() | meters.keys()
        if not names:
            return {}
        tallies = runtime.ledger.by("group", tuple)
        queued = runtime.admission.queued_by_group()
        states: dict[str, GroupState] = {}
        for name in sorted(names):
            tally, meter, rate = tallies.get(name), meters.get(name), gates.group_rates.get(name)
            cost = None if tally is None else tally.known_cost
            weight, limit, running = runtime.admission.group(name)
            states[name] = GroupState(
                weight=weight,
                max_running=limit,
                running=running,
                queued=queued.get(name, 0),
                rate=None if rate is None else rate.limit,
                in_flight=0 if rate is None else rate.used,
                waiting=0 if rate is None else rate.waiting,
                usage=None if tally is None else tally.usage(),
                cost=None if cost is None else str(cost),
                budget=None if meter is None else meter.state(),
                leaving=name in self.leaving,
            )
        return states
