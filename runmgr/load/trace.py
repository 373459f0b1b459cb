"""Recorded arrivals: JSONL (Mooncake's) or CSV with ``timestamp`` (ms), ``input_length`` and ``output_length`` (tokens).

Source of the format and of the prefix blocks: R. Qin et al., "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving"
(2024), arXiv:2407.00079, section 4: a hash id stands for a block of 512 tokens and all before it, so equal ids are equal prefixes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from runmgr.exceptions import UserError

__all__ = ("BLOCK_TOKENS", "TraceRow", "read_trace")

BLOCK_TOKENS = 512


class TraceRow(msgspec.Struct, frozen=True, gc=False):
    """An arrival.

    Args:
        at: seconds since the first arrival, scaled.
        input_tokens: of the prompt, scaled; at least 1.
        output_tokens: of the answer, scaled; at least 1.
        blocks: ids of the prompt's blocks of 512 tokens (scaled as well): equal ids are equal text.
    """

    at: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(
    path: Path, *, time_scale: float = 1.0, length_scale: float = 1.0, until: float | None = None
) -> list[TraceRow]:
    """All arrivals in order of time. Blocks on the disk.

    Args:
        path: the file; ``.csv`` by its ending, else JSONL.
        time_scale: multiplies times: 0.1 replays ten times as fast.
        length_scale: multiplies lengths.
        until: leaves out what comes at or after this many (scaled) seconds.

    Raises:
        UserError: names the file, the line and what is wrong.
    """
    rows: list[TraceRow] = []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, given in _csv(lines, path) if path.suffix == ".csv" else _jsonl(lines, path):
                rows.append(_row(given, time_scale, length_scale, f"{path}:{number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--trace {path}: cannot be read: {error}") from None
    if not rows:
        raise UserError(f"--trace {path}: holds no arrivals")
    rows.sort(key=lambda row: row.at)
    first = rows[0].at
    rows = [msgspec.structs.replace(row, at=row.at - first) for row in rows] if first else rows
    return rows if until is None else [row for row in rows if row.at < until]


def _jsonl(lines: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(given, dict):
            raise UserError(f"{path}:{number}: an object is needed")
        yield number, cast("dict[str, Any]", given)


def _csv(lines: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines)
    missing = {"timestamp", "input_length", "output_length"} - set(reader.fieldnames or ())
    if missing:
        raise UserError(f"{path}:1: no column {', '.join(sorted(missing))}")
    for row in reader:
        yield reader.line_num, {key: value for key, value in row.items() if value not in {None, ""}}


def _row(given: dict[str, Any], time_scale: float, length_scale: float, where: str) -> TraceRow:
    values: list[float] = []
    for name in ("timestamp", "input_length", "output_length"):
        try:
            value = float(given[name])
        except KeyError:
            raise UserError(
                f"{where}: no {name!r}; a trace has timestamp (ms), input_length and output_length (tokens)"
            ) from None
        except (TypeError, ValueError):
            value = -1.0
        if not 0 <= value < 1e15:
            raise UserError(f"{where}: {name}={given[name]!r} is not a number from 0 up")
        values.append(value)
    blocks = given.get("hash_ids") or ()
    return TraceRow(
        at=values[0] * 1e-3 * time_scale,
        input_tokens=max(1, round(values[1] * length_scale)),
        output_tokens=max(1, round(values[2] * length_scale)),
        blocks=tuple(blocks) if isinstance(blocks, list) else (),  # pyright: ignore[reportUnknownArgumentType]
    )
