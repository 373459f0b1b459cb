"""A process's part of a load, as JSON values and back."""

from __future__ import annotations

from typing import Any

import attrs

from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures
from runmgr.load.state import Mark
from runmgr.load.summary import Part

__all__ = ("part_of", "state_of")


def state_of(part: Part) -> dict[str, Any]:
    """A part as JSON values."""
    return {
        "measures": part.measures.state(),
        "first": None if part.first is None else attrs.asdict(part.first),
        "last": attrs.asdict(part.last),
        "loop_lag": part.loop_lag.state(),
        "cancelled": part.cancelled,
        "most_in_flight": part.most_in_flight,
    }


def part_of(state: dict[str, Any]) -> Part:
    """From ``state_of``'s values."""
    return Part(
        measures=Measures.of_state(state["measures"]),
        first=None if state["first"] is None else Mark(**state["first"]),
        last=Mark(**state["last"]),
        loop_lag=Histogram.of_state(state["loop_lag"]),
        cancelled=state["cancelled"],
        most_in_flight=state["most_in_flight"],
    )
