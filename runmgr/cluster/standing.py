"""How models are used by all workers together, for the driver's snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from runmgr.records.snapshots import ModelState
from runmgr.usage import RunUsage

from .wire import ModelStand

if TYPE_CHECKING:
    from runmgr.supervisor.tally import Tally

__all__ = ("counted", "model_states", "stands_of")

_COUNTS = ("sent", "failed", "refused", "resent", "hedged", "cached")


def stands_of(models: Mapping[str, ModelState]) -> list[ModelStand]:
    """A worker's models as they travel."""
    return [
        ModelStand(
            name,
            state.in_flight,
            state.in_flight_limit,
            state.waiting,
            state.latency,
            state.sent,
            state.failed,
            state.refused,
            state.resent,
            state.hedged,
            state.cached,
            state.cooling_until,
            state.taken_for_dead,
        )
        for name, state in models.items()
    ]


def counted(before: Mapping[str, ModelStand], stands: Iterable[ModelStand]) -> dict[str, ModelStand]:
    """What workers that are gone had sent, with one more of them."""
    found = dict(before)
    for stand in stands:
        had = found.get(stand.name)
        counts = {name: getattr(stand, name) + (0 if had is None else getattr(had, name)) for name in _COUNTS}
        found[stand.name] = msgspec.structs.replace(
            stand,
            in_flight=0,
            in_flight_limit=None,
            waiting=0,
            latency=None,
            cooling_until=None,
            taken_for_dead=False,
            **counts,
        )
    return found


def model_states(
    gone: Mapping[str, ModelStand], workers: Iterable[Iterable[ModelStand]], tallies: Mapping[str, Tally]
) -> dict[str, ModelState]:
    """All workers' models in one.

    Args:
        gone: what workers that are gone had sent.
        workers: what each of the others said last.
        tallies: what was used, by model.
    """
    by_name: dict[str, list[ModelStand]] = {name: [stand] for name, stand in gone.items()}
    for stands in workers:
        for stand in stands:
            by_name.setdefault(stand.name, []).append(stand)
    return {name: _state(stands, tallies.get(name)) for name, stands in by_name.items()}


def _state(stands: list[ModelStand], tally: Tally | None) -> ModelState:
    limits = [stand.in_flight_limit for stand in stands if stand.in_flight_limit is not None]
    latencies = [stand.latency for stand in stands if stand.latency is not None]
    cooling = [stand.cooling_until for stand in stands if stand.cooling_until is not None]
    cost = None if tally is None else tally.known_cost
    counts: dict[str, Any] = {name: sum(getattr(stand, name) for stand in stands) for name in _COUNTS}
    return ModelState(
        usage=RunUsage() if tally is None else tally.usage(),
        cost=None if cost is None else str(cost),
        in_flight=sum(stand.in_flight for stand in stands),
        in_flight_limit=sum(limits) if limits else None,
        waiting=sum(stand.waiting for stand in stands),
        latency=sum(latencies) / len(latencies) if latencies else None,
        cooling_until=max(cooling) if cooling else None,
        taken_for_dead=any(stand.taken_for_dead for stand in stands),
        **counts,
    )
