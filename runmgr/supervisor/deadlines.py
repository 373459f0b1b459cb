"""Deadlines of runs that have no task: of those that have not begun, and of those that are worked on elsewhere. A run with a task has its
own cancel scope for it.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

import trio

from runmgr.records.outcomes import RunError, RunState

from . import elsewhere
from .states import TERMINAL

if TYPE_CHECKING:
    from .actor import Actor
    from .runtime import Runtime

__all__ = ("Deadlines",)

_SWEEP_OVER = 64


class Deadlines:
    """Fails runs of one supervisor whose deadline passes while they have no task. Its task begins with the first deadline."""

    __slots__ = ("_heap", "_number", "_runtime", "_scope")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._heap: list[tuple[float, int, Actor]] = []
        self._number = 0
        self._scope: trio.CancelScope | None = None

    def add(self, actor: Actor, deadline: float) -> None:
        """The run was admitted; or it was handed over, and this is when its timeout ends."""
        heap = self._heap
        if len(heap) > _SWEEP_OVER and len(heap) > 2 * len(self._runtime.live):
            heap = self._heap = [entry for entry in heap if _waits(entry[2]) or self._is_elsewhere(entry[2])]
            heapq.heapify(heap)
        self._number += 1
        heapq.heappush(heap, (deadline, self._number, actor))
        if self._scope is None:
            self._scope = trio.CancelScope()
            assert self._runtime.services is not None
            self._runtime.services.start_soon(self._watch, name="runmgr deadlines")
        elif deadline < self._scope.deadline:
            self._scope.deadline = deadline

    async def _watch(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._expire()) as self._scope:
                await trio.sleep_forever()

    def _expire(self) -> float:
        """Fail those whose time has come; gives when to look again."""
        heap, now = self._heap, trio.current_time()
        while heap:
            deadline, _, actor = heap[0]
            if deadline > now:
                return deadline
            heapq.heappop(heap)
            if _waits(actor):
                self._runtime.finish(actor, RunState.FAILED, None, passed())
            elif self._is_elsewhere(actor):
                error = passed() if deadline == actor._deadline else took_too_long(actor)
                elsewhere.call_off(self._runtime, actor, RunState.FAILED, error, stays_open=False)
        return math.inf

    def _is_elsewhere(self, actor: Actor) -> bool:
        return self._runtime.carrier is not None and actor._holds and actor.state not in TERMINAL


def _waits(actor: Actor) -> bool:
    return actor._scope is None and not actor._holds and actor.state not in TERMINAL


def passed() -> RunError:
    """What the outcome of such a run says."""
    return RunError("TimeoutError", "the run's deadline passed, counted from its submission")


def took_too_long(actor: Actor) -> RunError:
    """What the outcome of a run says whose time ran out."""
    return RunError("TimeoutError", f"the run took longer than its timeout of {actor._timeout:g} s")
