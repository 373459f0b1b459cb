"""The life of a run, as one table.

Rules:

1. A run begins ``queued`` and ends in exactly one of ``succeeded``, ``failed``, ``cancelled``; those have no exits.
2. ``running`` and ``waiting`` hold one of ``max_running`` places; ``queued`` and ``paused`` hold none. (Where more than
   ``max_parked`` runs are paused, the others keep theirs, and nobody else gets it.)
3. A run is paused between two nodes, or before its first, by who wants it to stop; or by itself, while it waits for other
   runs (`runmgr.supervisor.parking`). Then it queues for a place again.
4. Whatever has not ended can be cancelled, and can fail: a deadline may count from submission.
5. Only ``running`` succeeds.
6. A restart goes back through ``waiting`` (its backoff) to ``running``: the run keeps its place.

The table is all there is: `TRANSITIONS` is what the supervisor follows, and what `diagram` draws.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from runmgr.records.outcomes import RunState

__all__ = ("TERMINAL", "TRANSITIONS", "Trigger", "diagram", "step")

Trigger: TypeAlias = Literal["start", "wait", "go", "pause", "resume", "succeed", "fail", "cancel"]

_Q, _R, _W, _P = RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.PAUSED
_S, _F, _C = RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED

TRANSITIONS: Final[dict[RunState, dict[Trigger, RunState]]] = {
    _Q: {"start": _R, "pause": _P, "fail": _F, "cancel": _C},
    _R: {"wait": _W, "pause": _P, "succeed": _S, "fail": _F, "cancel": _C},
    _W: {"go": _R, "pause": _P, "fail": _F, "cancel": _C},
    _P: {"resume": _Q, "fail": _F, "cancel": _C},
    _S: {},
    _F: {},
    _C: {},
}
"""From each state, which trigger leads where."""

TERMINAL: Final[frozenset[RunState]] = frozenset(state for state, exits in TRANSITIONS.items() if not exits)
"""The states without exits."""


def step(state: RunState, trigger: Trigger) -> RunState:
    """The state after a trigger.

    Raises:
        AssertionError: the table has no such transition, so the caller is wrong: a bug in runmgr, never a user's.
    """
    try:
        return TRANSITIONS[state][trigger]
    except KeyError:
        known = ", ".join(TRANSITIONS[state]) or "nothing: it has ended"
        raise AssertionError(f"a {state.value} run cannot {trigger!r}; it can {known}") from None


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", "  [*] --> queued: submit"]
    for state, exits in TRANSITIONS.items():
        lines += [f"  {state.value} --> {after.value}: {trigger}" for trigger, after in exits.items()]
    lines += [f"  {state.value} --> [*]" for state in TRANSITIONS if state in TERMINAL]
    return "\n".join(lines) + "\n"
