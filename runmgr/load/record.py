"""One request, as it was measured."""

from __future__ import annotations

from array import array
from typing import Any, Literal

import msgspec

__all__ = ("Record", "Status", "line_of")

Status = Literal["succeeded", "failed", "cancelled"]


class Record:
    """What happened to one request, in seconds since the start.

    Attributes:
        index: its place in the schedule, from 0.
        scheduled: when it was due.
        sent: when it was sent; None when it never was.
        moments: when each piece of content arrived: a float a piece, in eight bytes.
        finished: when it ended.
        status: how.
        error: kind and message of a failure.
        input_tokens: of the prompt.
        output_tokens: of the answer.
        counted: where the tokens come from: the provider's ``usage``, a ``tokenizer``, or ``chunks``, one a piece of content.
        tool_at: when a tool was first called.
        cached_tokens: of the prompt, those the provider had cached.
        source: which of several prompt files or agents it is of.
        turn: of a conversation, from 1; None of a single request.
        text: the pieces of the answer, where somebody needs them.
        retries: resends that the client made.
        run: what only whole runs have: turns, seconds in models and tools.
    """

    __slots__ = (
        "cached_tokens",
        "counted",
        "error",
        "finished",
        "index",
        "input_tokens",
        "moments",
        "output_tokens",
        "retries",
        "run",
        "scheduled",
        "sent",
        "source",
        "status",
        "text",
        "tool_at",
        "turn",
    )

    def __init__(self, index: int, scheduled: float, turn: int | None = None) -> None:
        self.index = index
        self.scheduled = scheduled
        self.sent: float | None = None
        self.moments: array[float] = array("d")
        self.finished: float | None = None
        self.status: Status = "cancelled"
        self.error: tuple[str, str] | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.source: str | None = None
        self.turn = turn
        self.text: list[str] | None = None
        self.counted: Literal["usage", "tokenizer", "chunks"] = "chunks"
        self.tool_at: float | None = None
        self.cached_tokens: int | None = None
        self.retries = 0
        self.run: dict[str, Any] | None = None

    def fail(self, kind: str, message: str) -> None:
        """It came to nothing."""
        self.status = "failed"
        self.error = (kind, message)


_encoder = msgspec.json.Encoder()


def line_of(record: Record, *, chunks: bool) -> bytes:
    """Its line of ``requests.jsonl``.

    Args:
        record: the request.
        chunks: whether to write when each piece of content arrived.
    """
    moments = record.moments
    row: dict[str, Any] = {
        "index": record.index,
        "scheduled_at": round(record.scheduled, 6),
        "sent_at": _rounded(record.sent),
        "first_token_at": round(moments[0], 6) if moments else None,
        "finished_at": _rounded(record.finished),
        "status": record.status,
        "error": None if record.error is None else {"type": record.error[0], "message": record.error[1]},
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
    }
    if moments:
        row["last_token_at"] = round(moments[-1], 6)
    if record.turn is not None:
        row["turn"] = record.turn
    if record.source is not None:
        row["source"] = record.source
    if record.cached_tokens is not None:
        row["cached_tokens"] = record.cached_tokens
    if record.tool_at is not None:
        row["first_tool_at"] = round(record.tool_at, 6)
    if record.run is not None:
        row.update(record.run)
    if chunks:
        row["chunks_at"] = [round(moment, 6) for moment in moments]
    return _encoder.encode(row) + b"\n"


def _rounded(moment: float | None) -> float | None:
    return None if moment is None else round(moment, 6)
