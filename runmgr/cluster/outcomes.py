"""What workers say of runs, as the driver's supervisor takes it."""

from __future__ import annotations

from typing import Any

import msgspec

from runmgr.messages import ModelMessage, decode_messages
from runmgr.messages.codec import message_hook
from runmgr.records.outcomes import RunError, RunState
from runmgr.supervisor.elsewhere import Carried

from . import freight, wire

__all__ = ("carried_from", "failed")

_NOTHING = msgspec.Raw(b"")


class _Record(msgspec.Struct, gc=False):
    """What of an outcome's body is needed here: its usage comes by model, and is not decoded twice."""

    output: Any = None
    output_repr: str | None = None
    error: RunError | None = None
    attempts: int = 1
    started_at: float | None = None
    model: str | None = None
    messages: Any = ()
    new_from: int = 0
    earlier_errors: tuple[RunError, ...] = ()
    abandoned_threads: tuple[str, ...] = ()


class _Whole(_Record, gc=False):
    messages: list[ModelMessage] = []  # pyright: ignore[reportIncompatibleVariableOverride]


class _WithRaw(_Record, gc=False):
    messages: msgspec.Raw = _NOTHING  # pyright: ignore[reportIncompatibleVariableOverride]


_decode_whole = msgspec.json.Decoder(_Whole, dec_hook=message_hook).decode
_decode_raw = msgspec.json.Decoder(_WithRaw).decode
_STATES = {state.value: state for state in RunState}


def _read(body: bytes) -> _Record:
    """An outcome's body, in one go; messages of a form that only `decode_messages` knows in two."""
    try:
        return _decode_whole(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        record = _decode_raw(body)
        return msgspec.structs.replace(record, messages=decode_messages(bytes(record.messages)))


def carried_from(ended: wire.Ended) -> Carried:
    """What came of a run. Where its output cannot be had here, it has failed."""
    record = _read(ended.body)
    status = _STATES[ended.status]
    output: Any = record.output
    error = record.error
    body: bytes | None = ended.body
    if ended.output is not None:
        try:
            output = freight.loads(ended.output)
        except Exception as exc:  # noqa: BLE001  whatever unpickling somebody's class raises
            status, output, body = RunState.FAILED, None, None
            error = RunError(
                type(exc).__name__,
                f"its output cannot be unpacked here, though it could on the worker: {exc}",
            )
    elif output is None:
        output = record.output_repr
    return Carried(
        status,
        output,
        error,
        ended.shares,
        record.messages,
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
