"""Records to JSON bytes and back: what the columns ``body``, ``input`` and ``metadata`` hold.

Messages are in Pydantic AI's wire format, so that other programs can read them too. A record never repeats what an earlier
one of the same run holds: a checkpoint has the messages since the last one, an outcome those since the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec

from runmgr.messages import decode_message, decode_messages, encode_message, encode_messages
from runmgr.messages.codec import dump_any, encode_value, wire_form, wire_forms, wire_hook
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.records.snapshots import (
    PendingCallTools,
    PendingGraph,
    PendingModelRequest,
    PendingUserPrompt,
    RunSnapshot,
)
from runmgr.usage import RunUsage

__all__ = (
    "CheckpointRecord",
    "OutcomeRecord",
    "Restored",
    "counts",
    "decode_json",
    "encode_any",
    "encode_checkpoint",
    "encode_outcome",
    "encode_plain",
    "encode_record",
    "outcome_from",
    "restore",
    "with_all_messages",
)

_NO_MESSAGES = msgspec.Raw(b"[]")
_NOTHING = msgspec.Raw(b"")


class UsageRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """A `RunUsage` without its zeros: most counts are, and 150 bytes a row."""

    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    input_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    output_audio_tokens: int = 0
    details: dict[str, int] = {}  # as below


class CheckpointRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """A run at a node boundary, without what its earlier checkpoints say already."""

    pending: str
    """What comes next: ``model_request`` or ``call_tools``, with what it needs in ``request`` or ``response``; of a user's own
    graph ``graph``, with all that it needs in ``graph``.
    """
    usage: Any
    """The agent's own count, which its limits are held against."""
    messages: Any = None
    """New since the last checkpoint; the whole history where ``reset``."""
    reset: bool = False
    request: Any = None
    """Of ``model_request``: the request, not yet among the messages."""
    response: Any = None
    """Of ``call_tools``: the response, where it is not simply the last message."""
    new_from: int = 0
    step: int = 0
    output_retries: int = 0
    tool_retries: dict[str, int] = {}  # msgspec makes a new one for each, and knows when to leave it out
    metadata: dict[str, Any] | None = None
    paid: Any = None
    """The ledger's count of the run, where it differs from ``usage``: failed attempts are paid too."""
    cost: str = "0"
    unpriced: int = 0
    attempts: int = 1
    started_at: float | None = None
    model: str | None = None
    graph: msgspec.Raw = _NOTHING
    """Of ``graph``: the state and the next node."""
    asked: bool = False
    """The request that the checkpoint before holds comes before these messages: it was sent as it was kept."""


class OutcomeRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """How a run ended, without what the file's columns and the run's checkpoints say already."""

    usage: Any
    output: Any = _NOTHING
    output_repr: str | None = None
    """In the place of ``output``, where that has no JSON form."""
    error: RunError | None = None
    cost: str | None = None
    attempts: int = 1
    started_at: float | None = None
    model: str | None = None
    messages: Any = _NO_MESSAGES
    reset: bool = False
    new_from: int = 0
    earlier_errors: tuple[RunError, ...] = ()
    parent: str | None = None
    abandoned_threads: tuple[str, ...] = ()
    asked: bool = False
    """As of a checkpoint."""


class _ReadCheckpoint(CheckpointRecord):
    usage: RunUsage  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    messages: msgspec.Raw = _NO_MESSAGES  # pyright: ignore[reportIncompatibleVariableOverride]
    request: msgspec.Raw = _NOTHING  # pyright: ignore[reportIncompatibleVariableOverride]
    response: msgspec.Raw = _NOTHING  # pyright: ignore[reportIncompatibleVariableOverride]
    paid: RunUsage | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


class _ReadOutcome(OutcomeRecord):
    usage: RunUsage  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    output: msgspec.Raw = _NOTHING  # pyright: ignore[reportIncompatibleVariableOverride]
    messages: msgspec.Raw = _NO_MESSAGES  # pyright: ignore[reportIncompatibleVariableOverride]


_encode = encode_plain = msgspec.json.Encoder().encode
"""Plain data."""
encode_record = msgspec.json.Encoder(enc_hook=wire_hook).encode
"""With messages in it as they are, in their wire form: one pass, where one a message and their copies would be six."""
_decode_checkpoint = msgspec.json.Decoder(_ReadCheckpoint).decode
_decode_outcome = msgspec.json.Decoder(_ReadOutcome).decode
_decode_error = (msgspec.MsgspecError, ValueError)


def encode_any(value: Any) -> bytes:
    """Any value as JSON: plain data, message content, pydantic models, dataclasses, attrs classes, structs.

    Raises:
        ValueError, TypeError: it has no JSON form; the message names the type.
    """
    kind = cast("type[Any]", type(value))
    if kind is str or value is None or kind is int or kind is bool:
        return _encode(value)
    if kind is list:
        return b"[" + b",".join(map(encode_any, value)) + b"]"
    if hasattr(kind, "_repr_skips_empty"):  # a message value: Pydantic AI's form
        return encode_value(value)
    return dump_any(value)


def decode_json(data: bytes | None) -> Any:
    """The opposite of `encode_any`, as plain data; None for None."""
    return None if data is None else msgspec.json.decode(data)


def encode_checkpoint(
    snapshot: RunSnapshot,
    known: int,
    *,
    reset: bool,
    paid: Any,
    cost: Decimal,
    unpriced: int,
    attempts: int,
    started_at: float | None,
    model: str | None,
    asked: bool = False,
) -> bytes:
    """A checkpoint's body.

    Args:
        snapshot: where the run stands.
        known: how many of its messages the journal has already.
        reset: the history was rewritten: put all of it.
        paid: the ledger's usage where it differs from the snapshot's.
        cost: of the run so far, in dollars.
        unpriced: its requests whose price is unknown.
        attempts: 1 + restarts.
        started_at: Unix seconds.
        model: which answered last.
        asked: one of the messages that it has is the request of the checkpoint before.

    Raises:
        ValueError, TypeError: a message's content has no JSON form.
    """
    messages = snapshot.messages
    pending = snapshot.pending
    kind = cast("type[Any]", type(pending))
    request = response = None
    graph = _NOTHING
    if kind is PendingModelRequest:
        name = "model_request"
        request = wire_form(pending.request)
    elif kind is PendingCallTools:
        name = "call_tools"
        if not messages or messages[-1] is not pending.response:
            response = wire_form(pending.response)
    elif kind is PendingGraph:
        name = "graph"
        graph = msgspec.Raw(pending.data)
    else:
        name = "user_prompt"
    new = messages[0 if reset else known :]
    return encode_record(
        CheckpointRecord(
            name,
            counts(snapshot.usage),
            wire_forms(new) if new else None,
            reset,
            request,
            response,
            snapshot.new_message_index,
            snapshot.run_step,
            snapshot.output_retries,
            snapshot.tool_retries,
            snapshot.metadata,
            None if paid is None else counts(paid),
            str(cost) if cost else "0",
            unpriced,
            attempts,
            started_at,
            model,
            graph,
            asked,
        )
    )


def counts(usage: RunUsage) -> UsageRecord:
    """A usage as records hold it."""
    return UsageRecord(
        usage.requests,
        usage.tool_calls,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.input_audio_tokens,
        usage.cache_audio_read_tokens,
        usage.output_audio_tokens,
        usage.details,
    )


def encode_outcome(outcome: RunOutcome, known: int, *, reset: bool, asked: bool = False) -> bytes:
    """An outcome's body. Never fails: what has no JSON form is kept as its repr, or left out.

    Args:
        outcome: how the run ended.
        known: how many of its messages the checkpoints hold.
        reset: the history was rewritten since: put all of it.
        asked: one of the messages that they hold is the request of the last.
    """
    new: Any = outcome.messages if reset else outcome.messages[known:]
    output: Any = outcome.output
    output_repr: str | None = None
    if output is None:
        output = _NOTHING
    elif type(output) is not str:
        try:
            output = msgspec.Raw(encode_any(output))
        except (ValueError, TypeError):
            output, output_repr = _NOTHING, repr(output)
    record = OutcomeRecord(
        counts(outcome.usage),
        output,
        output_repr,
        outcome.error,
        None if outcome.cost is None else str(outcome.cost),
        outcome.attempts,
        outcome.started_at,
        outcome.model,
        _NO_MESSAGES,
        reset,
        outcome.new_message_index,
        outcome.earlier_errors,
        outcome.parent,
        outcome.abandoned_threads,
        asked,
    )
    try:
        if new:
            record.messages = wire_forms(new)
        return encode_record(record)
    except (ValueError, TypeError):
        record.messages = msgspec.Raw(_encode_what_goes(new))
        return _encode(record)


def _encode_what_goes(messages: Sequence[Any]) -> bytes:
    encoded: list[bytes] = []
    for message in messages:
        try:
            encoded.append(encode_message(message))
        except (ValueError, TypeError):
            continue
    return b"[" + b",".join(encoded) + b"]"


class Restored(msgspec.Struct):
    """An unfinished run, as its checkpoints leave it."""

    run: int
    run_id: str
    fingerprint: str | None
    input: Any
    """What it was begun with, as plain data."""
    checkpoints: int
    """How many there are: the next one's sequence number."""
    snapshot: RunSnapshot | None
    """Where to go on; None where it had got to no checkpoint."""
    paid: RunUsage
    cost: Decimal
    unpriced: int
    attempts: int
    started_at: float | None
    model: str | None


def history(bodies: Sequence[bytes]) -> tuple[list[Any], CheckpointRecord | None]:
    """The messages that a run's checkpoints add up to, and the last checkpoint."""
    messages: list[Any] = []
    record: CheckpointRecord | None = None
    for body in bodies:
        before, record = record, _decode_checkpoint(body)
        messages = _added(messages, before, record)
    return messages, record


def _added(
    messages: list[Any], before: CheckpointRecord | None, record: CheckpointRecord | OutcomeRecord
) -> list[Any]:
    """The messages up to the last checkpoint, and those of a record that follows it."""
    new = decode_messages(bytes(record.messages))
    if record.reset:
        return new
    if record.asked:
        if before is None or not before.request:
            raise ValueError("the checkpoint with its request is missing")
        messages.append(decode_message(bytes(before.request)))
    messages += new
    return messages


def restore(
    run: int, run_id: str, fingerprint: str | None, given: bytes | None, bodies: Sequence[bytes]
) -> Restored:
    """An unfinished run from its checkpoints, in order.

    Raises:
        ValueError: a body is damaged.
    """
    messages, record = history(bodies)
    if record is None:
        return Restored(
            run, run_id, fingerprint, decode_json(given), 0, None, RunUsage(), Decimal(0), 0, 1, None, None
        )
    if record.pending == "call_tools":
        pending: Any = PendingCallTools(
            decode_message(response) if (response := bytes(record.response)) else messages[-1]
        )
    elif record.pending == "model_request":
        pending = PendingModelRequest(decode_message(bytes(record.request)))
    elif record.pending == "graph":
        pending = PendingGraph(bytes(record.graph))
    else:
        pending = PendingUserPrompt()
    snapshot = RunSnapshot(
        run_id=run_id,
        pending=pending,
        messages=messages,
        new_message_index=record.new_from,
        usage=record.usage,
        run_step=record.step,
        output_retries=record.output_retries,
        tool_retries=record.tool_retries,
        metadata=record.metadata,
    )
    return Restored(
        run,
        run_id,
        fingerprint,
        decode_json(given),
        len(bodies),
        snapshot,
        record.paid or record.usage,
        Decimal(record.cost),
        record.unpriced,
        record.attempts,
        record.started_at,
        record.model,
    )


def with_all_messages(body: bytes, bodies: Sequence[bytes]) -> bytes:
    """An outcome's body that holds the whole history, so that the run's checkpoints are not needed any more.

    Raises:
        ValueError: a body is damaged.
    """
    record = _decode_outcome(body)
    if not record.reset:
        record.messages = msgspec.Raw(encode_messages(_added(*history(bodies), record)))
        record.reset, record.asked = True, False
    return _encode(record)


def outcome_from(row: Sequence[Any], bodies: Sequence[bytes] | None) -> RunOutcome:
    """An outcome from its row and, where its messages are wanted, its run's checkpoints.

    Args:
        row: run_id, position, grp, queued_at, input, metadata, status, finished_at, body.
        bodies: bodies of the run's checkpoints, in order; None leaves the messages out.

    Raises:
        ValueError: the row is damaged.
    """
    run_id, position, group, queued_at, given, metadata, status, finished_at, body = row
    record = _decode_outcome(body)
    messages: list[Any] = []
    if bodies is not None:
        messages = _added(*history(bodies), record)
    return RunOutcome(
        run_id=run_id,
        index=position,
        status=RunState(status),
        output=msgspec.json.decode(output) if (output := bytes(record.output)) else record.output_repr,
        error=record.error,
        usage=record.usage,
        cost=None if record.cost is None else Decimal(record.cost),
        attempts=record.attempts,
        group=group,
        metadata=decode_json(metadata),
        queued_at=queued_at,
        started_at=record.started_at,
        finished_at=finished_at,
        model=record.model,
        messages=messages,
        input=decode_json(given),
        new_message_index=record.new_from,
        earlier_errors=record.earlier_errors,
        parent=record.parent,
        abandoned_threads=record.abandoned_threads,
        replayed=True,
    )
