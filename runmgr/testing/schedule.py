"""A trio whose choices follow from a seed.

trio runs the tasks that are ready in an order that it shuffles on purpose. What it shuffles with is one random generator, and
whether it sorts them first, so that the shuffle depends on nothing else, is one flag: ``trio._core._run._r`` and
``_ALLOW_DETERMINISTIC_SCHEDULING``, which trio keeps for exactly this (its plug-in for hypothesis sets them). Beside them only
time, which a `trio.testing.MockClock` makes virtual, and threads, which a simulation does not use, decide what happens when.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
import trio.testing

__all__ = ("deterministic_trio", "run_in_virtual_time")

T = TypeVar("T")
Args = TypeVarTuple("Args")


@contextmanager
def deterministic_trio(seed: int) -> Generator[None]:
    """Within this block, every ``trio.run`` schedules by ``seed``, and so does the global `random`.

    Not for use within a ``trio.run``. What was before comes back at the end.

    Args:
        seed: equal seeds give equal schedules, in other processes and on other machines too, as long as the program itself does
            not depend on the real time, on threads, or on the order of a set.
    """
    run: Any = trio._core._run  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    allowed, state, outer = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate(), random.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        run._r.setstate(state)
        random.setstate(outer)


def run_in_virtual_time(
    function: Callable[[*Args], Awaitable[T]], *args: *Args, seed: int | None = None
) -> T:
    """``trio.run`` under a clock that jumps to the next deadline whenever all tasks wait.

    Args:
        function: the async function to run.
        args: its arguments.
        seed: also schedule by this seed: see `deterministic_trio`.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    if seed is None:
        return trio.run(function, *args, clock=clock)
    with deterministic_trio(seed):
        return trio.run(function, *args, clock=clock)
