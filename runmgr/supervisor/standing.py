"""How a supervisor stands: its snapshot. A method of `Runtime`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from runmgr.records.snapshots import SupervisorSnapshot

if TYPE_CHECKING:
    from .ledger import Tally
    from .runtime import Runtime

__all__ = ("snapshot",)


def snapshot(self: Runtime) -> SupervisorSnapshot:
    """See `Supervisor.snapshot`."""
    now = trio.current_time()
    oldest = next(iter(self.live.values()), None)
    total = self.ledger.total
    return SupervisorSnapshot(
        at=self._wall_offset + now,
        states={state.value: count for state, count in self.counts.items()},
        max_running=self.admission.max_running,
        places_taken=self.admission.running,
        queued=self.admission.queued,
        submitting=self.admission.submitting,
        parked=self.parking.parked,
        submitted=self.submitted,
        usage=total.usage(),
        cost=_text(total),
        unpriced_requests=total.unpriced,
        models=self.gates.model_states(self._wall_offset)
        if self.carrier is None
        else self.carrier.model_states(self.ledger.by("model", tuple)),
        oldest_run=None if oldest is None else oldest.run_id,
        oldest_age=None if oldest is None else self._wall_offset + now - oldest._queued_at,
        groups=self.tenants.states(),
        **self.gates.budget_states(),
        closed=self.closed,
        workers={} if self.carrier is None else self.carrier.states(),
        workers_lost=0 if self.carrier is None else self.carrier.lost,
    )


def _text(tally: Tally) -> str | None:
    cost = tally.known_cost
    return None if cost is None else str(cost)
