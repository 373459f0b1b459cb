"""What workers say of runs, as the driver's supervisor takes it."""

from __future__ import annotations

from typing import Any

import msgspec

from runmgr.messages import decode_messages
from runmgr.records.outcomes import RunError, RunState
from runmgr.supervisor.elsewhere import Carried

from . import freight, wire

__all__ = ("carried_from", "failed")

_NOTHING = msgspec.Raw(b"")


class _Record(msgspec.Struct, gc=False):
    """What of an outcome's body is needed here: its usage comes by model, and is not decoded twice."""

    output: msgspec.Raw = _NOTHING
    output_repr: str | None = None
    error: RunError | None = None
    attempts: int = 1
    started_at: float | None = None
    model: str | None = None
    messages: msgspec.Raw = _NOTHING
    new_from: int = 0
    earlier_errors: tuple[RunError, ...] = ()
    abandoned_threads: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_Record).decode
_STATES = {state.value: state for state in RunState}


def carried_from(ended: wire.Ended) -> Carried:
    """What came of a run. Where its output cannot be had here, it has failed."""
    record = _decode(ended.body)
    status = _STATES[ended.status]
    output: Any = None
    error = record.error
    body: bytes | None = ended.body
    if ended.output is not None:
        try:
            output = freight.loads(ended.output)
        except Exception as exc:  # noqa: BLE001  whatever unpickling somebody's class raises
            status, body = RunState.FAILED, None
            error = RunError(
                type(exc).__name__,
                f"its output cannot be unpacked here, though it could on the worker: {exc}",
            )
    else:
        data = bytes(record.output)
        output = msgspec.json.decode(data) if data else record.output_repr
    messages = bytes(record.messages)
    return Carried(
        status,
        output,
        error,
        ended.shares,
        decode_messages(messages) if messages else [],
        record.new_from,
        None if ended.metadata is None else msgspec.json.decode(ended.metadata),
        record.model,
        record.attempts,
        record.earlier_errors,
        record.started_at,
        ended.finished_at,
        record.abandoned_threads,
        body,
    )


def failed(error: RunError) -> Carried:
    """A run that no worker could work on, or that none came back from."""
    return Carried(RunState.FAILED, error=error)
