"""A load's results directory, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import msgspec

from runmgr.exceptions import UserError

__all__ = ("LoadedRun", "kind_of", "read_load")

_KINDS = ("requests", "runs")


class _Line(msgspec.Struct):
    scheduled_at: float
    status: str
    finished_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    output_tokens: int = 0
    model_seconds: float | None = None
    tool_seconds: float | None = None


@attrs.frozen(kw_only=True)
class LoadedRun:
    """A load that ended. Times in order of when requests were due; milliseconds.

    Args:
        name: the directory's.
        summary: its ``summary.json``.
        begin: where the steady window begins, in seconds.
        end: where it ends.
        times: by measure, of the requests that succeeded after the warm-up.
        due_at: when each of these was due, in seconds.
        ended_at: when each request ended that succeeded, and 1.
        tokens_at: when each ended, and its output tokens.
        failures: of each request due after the warm-up, 1 where it failed.
    """

    name: str
    summary: dict[str, Any]
    begin: float
    end: float
    times: dict[str, list[float]]
    due_at: list[float]
    ended_at: list[tuple[float, float]]
    tokens_at: list[tuple[float, float]]
    failures: list[float]


def kind_of(directory: Path) -> str | None:
    """What ``runmgr load`` left here: ``requests``, ``runs``, ``sweep``; None where it was not it."""
    try:
        summary: Any = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = summary.get("kind") if isinstance(summary, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return kind if (isinstance(kind, str) and "validity" in summary) or kind == "sweep" else None


def read_load(directory: Path) -> LoadedRun:
    """Read it. Blocks on the disk; memory is some hundred bytes a request.

    Raises:
        UserError: it is not the directory of a load, or a line is damaged.
    """
    kind = kind_of(directory)
    if kind not in _KINDS:
        what = "a sweep: compare loads at one rate" if kind == "sweep" else "not the results of a load"
        raise UserError(f"{directory}: {what}")
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    rows: list[_Line] = []
    path = directory / "requests.jsonl"
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                rows.append(msgspec.json.decode(line, type=_Line))
            except msgspec.DecodeError as error:
                raise UserError(f"{path}:{number}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _loaded(directory.resolve().name, summary, rows)


def _loaded(name: str, summary: dict[str, Any], rows: list[_Line]) -> LoadedRun:
    warmup = summary["load"]["warmup"]
    cooldown = summary["load"].get("cooldown") or 0.0
    until = summary["window"]["to"] if cooldown and summary["window"] else float("inf")
    window = summary["window"] or {"from": 0.0, "to": 0.0}
    rows.sort(key=lambda row: row.scheduled_at)
    times: dict[str, list[float]] = {key: [] for key in ("ttft", "tpot", "e2e", "model", "tool")}
    due_at: list[float] = []
    ended_at: list[tuple[float, float]] = []
    tokens_at: list[tuple[float, float]] = []
    failures: list[float] = []
    for row in rows:
        finished = row.finished_at
        if row.status == "cancelled" or finished is None:
            continue
        good = row.status == "succeeded"
        if good:
            ended_at.append((finished, 1.0))
            tokens_at.append((finished, row.output_tokens))
        if not warmup <= row.scheduled_at < until:
            continue
        failures.append(float(not good))
        if not good:
            continue
        due_at.append(row.scheduled_at)
        times["e2e"].append((finished - row.scheduled_at) * 1e3)
        first, last = row.first_token_at, row.last_token_at
        if first is not None:
            times["ttft"].append((first - row.scheduled_at) * 1e3)
            if last is not None and row.output_tokens > 1:
                times["tpot"].append((last - first) / (row.output_tokens - 1) * 1e3)
        if row.model_seconds is not None and row.tool_seconds is not None:
            times["model"].append(row.model_seconds * 1e3)
            times["tool"].append(row.tool_seconds * 1e3)
    return LoadedRun(
        name=name,
        summary=summary,
        begin=window["from"],
        end=window["to"],
        times={key: values for key, values in times.items() if values},
        due_at=due_at,
        ended_at=ended_at,
        tokens_at=tokens_at,
        failures=failures,
    )
