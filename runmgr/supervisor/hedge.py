"""Hedged requests: a second copy of one that is slow, and the first answer counts. An option, for the tail of the latency.

Source: J. Dean, L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: send the copy after the time
within which most requests answer, so that it costs a few percent more requests. The copy passes the same doors, at once or
not at all; whichever is given up may have been charged for, and its bound stays spent in the budget.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from runmgr.records.budgets import Hedge

if TYPE_CHECKING:
    from .actor import Actor
    from .model_door import Entry, ModelDoor

__all__ = ("Hedging", "send_hedged")

_REMEMBERED = 200
_LEAST = 20


class Hedging:
    """When to send a second copy, of one model's requests. Pure.

    Args:
        hedge: the option.
    """

    __slots__ = ("_hedge", "_latencies", "_order", "copies", "sent")

    def __init__(self, hedge: Hedge) -> None:
        self._hedge = hedge
        self._latencies: deque[float] = deque()
        self._order: list[float] = []
        self.sent = 0
        self.copies = 0

    def took(self, seconds: float) -> None:
        """An answer took so long."""
        self._latencies.append(seconds)
        insort(self._order, seconds)
        if len(self._latencies) > _REMEMBERED:
            del self._order[bisect_left(self._order, self._latencies.popleft())]

    def after(self) -> float | None:
        """Seconds after which a copy is sent; None where none is, yet."""
        if self._hedge.after is not None:
            return self._hedge.after
        if len(self._order) < _LEAST:
            return None
        return self._order[min(len(self._order) - 1, int(len(self._order) * self._hedge.quantile))]

    def may(self) -> bool:
        """Whether one more copy is within the share."""
        return self.copies + 1 <= max(1.0, self.sent * self._hedge.max_share)


async def send_hedged(
    actor: Actor,
    door: ModelDoor,
    call: Callable[[], Awaitable[Any]],
    again: Callable[[], Awaitable[Entry | None]],
) -> Any:
    """Send, and again where it is slow: the first answer.

    Args:
        actor: whose request it is.
        door: the model's.
        call: sends it.
        again: passes the doors for the copy and gives what it holds, which is given back here; None where they are not open.

    Raises:
        Exception: of the first one, where none answered.
    """
    hedging = door.hedging
    assert hedging is not None
    hedging.sent += 1
    after = hedging.after()
    if after is None or not hedging.may():
        began = trio.current_time()
        response = await call()
        hedging.took(trio.current_time() - began)
        return response
    answers: list[tuple[bool, Any]] = []
    errors: dict[bool, Exception] = {}  # by whether it is the copy's
    copies = 1

    async def send(*, copy: bool) -> None:
        began = trio.current_time()
        try:
            response = await call()
        except Exception as error:  # noqa: BLE001  raised below, where the other one fails too
            errors[copy] = error
            if len(errors) == copies:
                nursery.cancel_scope.cancel()
        else:
            hedging.took(trio.current_time() - began)
            answers.append((copy, response))
            nursery.cancel_scope.shield = True  # it is paid: whoever is cancelled now has it all the same
            nursery.cancel_scope.cancel()

    second: Entry | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: send(copy=False))
            await trio.sleep(after)
            if not errors and (second := await again()) is not None:
                hedging.copies += 1
                copies = 2
                nursery.start_soon(lambda: send(copy=True))
    finally:
        if second is not None:
            # What it holds is given back for the one that lost; the caller settles the other.
            lost = not answers[0][0] if answers else True
            door.give_up(actor, second, charged=door.charges(errors.get(lost)))
    if answers:
        return answers[0][1]
    raise errors[False]
