"""A line of ``results.jsonl``: one run's result as it stands on disk."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec

__all__ = ("ResultLine", "encode_line", "open_lines", "read_lines")


class ResultLine(msgspec.Struct, kw_only=True):
    """One run's result; the fields in the order in which they are written."""

    index: int
    """The case's position in the input, from 0."""
    epoch: int = 1
    """From 1."""
    run_id: str
    status: str
    """``succeeded``, ``failed`` or ``cancelled``."""
    input: Any = None
    """The prompt as sent."""
    output: Any = None
    error: dict[str, Any] | None = None
    """None, or ``{"type", "message"}``."""
    scores: dict[str, float | None] = msgspec.field(default_factory=dict[str, float | None])
    usage: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Of all attempts, paid requests of failed ones included."""
    cost: Decimal | None = None
    """US dollars; None where a price is unknown."""
    model: str | None = None
    attempts: int = 1
    queued_at: float | None = None
    """Unix seconds, as the next two."""
    started_at: float | None = None
    finished_at: float | None = None
    variant: str | msgspec.UnsetType = msgspec.UNSET
    """Of a matrix: which of its combinations, e.g. ``openai:a temperature=0.7``; left out otherwise."""


_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(ResultLine)


def encode_line(line: ResultLine) -> bytes:
    """The line with its end; costs are JSON numbers with all their digits."""
    return _encoder.encode(line) + b"\n"


def decode_line(data: bytes) -> ResultLine | None:
    """The result that a line holds, or None where it is torn."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


def open_lines(path: Path) -> IO[bytes]:
    """Opens a results file for reading; the caller closes it."""
    return path.open("rb", buffering=1 << 18)


def read_lines(path: Path) -> Iterator[ResultLine]:
    """The results of a file, a line at a time; torn lines (of a crash) are passed over. Nothing where there is no file."""
    try:
        file = open_lines(path)
    except FileNotFoundError:
        return
    with file:
        for data in file:
            if line := decode_line(data):
                yield line
