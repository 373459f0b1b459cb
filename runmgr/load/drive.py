"""Sends requests as a schedule says (open loop), or as fast as their predecessors end (closed loop).

Open loop is open: who is due is sent, whatever became of those before, and latency is counted from when it was due, so that a server
that stalls is seen by every request that would have come in the meantime (G. Tene, "How NOT to Measure Latency" (2015), on
coordinated omission).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import trio

from runmgr.load.record import Record
from runmgr.load.state import LoadState

__all__ = ("Target", "drive_closed", "drive_open")


class Target(Protocol):
    """What requests are sent to."""

    def prepared(self, index: int) -> Any:
        """Whatever can be made before the request is due. Must not wait."""
        ...

    async def send(self, record: Record, prepared: Any, state: LoadState) -> None:
        """One request; writes into the record what happened, failures too. Raises nothing but trio.Cancelled."""
        ...

    def following(self, record: Record, prepared: Any) -> tuple[float, Any] | None:
        """The next turn of a conversation: seconds after the end of the last, and what `send` takes; None at its end."""
        ...


async def drive_open(
    schedule: Iterator[tuple[int, float]],
    target: Target,
    state: LoadState,
    ended: Callable[[Record], None],
    *,
    until: float | None = None,
    talks: bool = False,
) -> None:
    """Send by a schedule; returns when everything sent has ended.

    Args:
        schedule: index and moment (seconds since the start) of each request, in order.
        target: where to.
        state: counted in; ``state.scope`` is what stops it.
        ended: is told of each request that ended.
        until: when sending is over, in seconds since the start; None: with the last request.
        talks: whether what is sent may be followed by further turns.
    """
    started, clock = state.started, trio.current_time

    async def one(record: Record, prepared: Any) -> None:
        try:
            await target.send(record, prepared, state)
        finally:
            _end(record, state, ended)
        if talks:
            await _go_on(record, prepared, target, state, ended, until)

    async with trio.open_nursery() as nursery:
        burst = 0
        for index, moment in schedule:
            prepared = target.prepared(index)
            due = started + moment
            if due > clock():
                await trio.sleep_until(due)
                burst = 0
            else:
                burst += 1
                if burst % 16 == 0:  # late: let those that were begun go out, and Ctrl-C in
                    await trio.lowlevel.checkpoint()
            state.sent += 1
            state.flight(1, clock() - started)
            nursery.start_soon(one, Record(index, moment), prepared)
        if until is not None:
            await trio.sleep_until(started + until)
        if until is not None or not talks:
            _sent_all(state)
    _sent_all(state)


async def _go_on(
    record: Record,
    prepared: Any,
    target: Target,
    state: LoadState,
    ended: Callable[[Record], None],
    until: float | None,
) -> None:
    """The rest of a conversation, turn by turn. None is begun at or after ``until``."""
    while True:
        after = target.following(record, prepared)
        if after is None or record.finished is None:
            return
        think, prepared = after
        due = record.finished + think
        if until is not None and due >= until:
            return
        await trio.sleep_until(state.started + due)
        state.sent += 1
        state.flight(1, state.elapsed)
        record = Record(record.index, due, (record.turn or 1) + 1)
        try:
            await target.send(record, prepared, state)
        finally:
            _end(record, state, ended)


async def drive_closed(
    indices: Iterator[int],
    at_once: int,
    target: Target,
    state: LoadState,
    ended: Callable[[Record], None],
    *,
    until: float | None,
    talks: bool = False,
) -> None:
    """Keep so many requests, or conversations, in flight; returns when the last has ended.

    Args:
        indices: of the requests; the load ends with them.
        at_once: how many.
        target: where to.
        state: counted in; ``state.scope`` is what stops it.
        ended: is told of each request that ended.
        until: begin none at or after this many seconds since the start.
        talks: whether what is sent may be followed by further turns.
    """
    started, clock = state.started, trio.current_time

    async def worker() -> None:
        for index in indices:
            now = clock() - started
            if until is not None and now >= until:
                break
            record = Record(index, now)
            state.sent += 1
            state.flight(1, now)
            prepared = target.prepared(index)
            try:
                await target.send(record, prepared, state)
            finally:
                _end(record, state, ended)
            if talks:
                await _go_on(record, prepared, target, state, ended, until)
        _sent_all(state)

    if clock() < started:
        await trio.sleep_until(started)
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(worker)


def _end(record: Record, state: LoadState, ended: Callable[[Record], None]) -> None:
    now = trio.current_time() - state.started
    if record.finished is None:
        record.finished = now
    state.flight(-1, now)
    match record.status:
        case "succeeded":
            state.succeeded += 1
            state.tokens += record.output_tokens
        case "failed":
            state.failed += 1
        case "cancelled":
            state.cancelled += 1
    ended(record)


def _sent_all(state: LoadState) -> None:
    """The steady window ends where sending does: what follows is the drain."""
    if state.last is None:
        state.last = state.mark()
    if state.phase == "sending":
        state.phase = "draining"
