"""``batch.json``, as who only shows a batch reads it: what is missing or damaged there is not said, and nothing else fails for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

__all__ = ("BatchFile", "read_batch_file")


@attrs.frozen
class BatchFile:
    """What a batch was.

    Args:
        epochs: runs a case.
        labels: of a matrix's combinations, in their order.
        facts: name and value, for people: model, input, settings.
        runs: how many there are to be; None where nobody knows.
    """

    epochs: int = 1
    labels: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    runs: int | None = None


def read_batch_file(directory: Path) -> BatchFile:
    """Of a results directory. Blocks."""
    try:
        batch: Any = json.loads((directory / "batch.json").read_bytes())
        labels = tuple(map(str, batch.get("labels") or ()))
        runs = batch.get("runs")
        return BatchFile(
            int(batch.get("epochs") or 1),
            labels,
            tuple(_facts(batch)),
            None if runs is None else int(runs),
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return BatchFile()


def _facts(batch: dict[str, Any]) -> list[tuple[str, str]]:
    identity: dict[str, Any] = batch.get("identity") or {}
    settings: dict[str, Any] = identity.get("settings") or {}
    scoring: dict[str, Any] = batch.get("scoring") or {}
    facts = [
        ("model", identity.get("model")),
        ("agent", identity.get("agent")),
        ("input", batch.get("input")),
        ("settings", ", ".join(f"{key}={value}" for key, value in settings.items())),
        ("extract", scoring.get("extract")),
        ("begun", batch.get("created")),
    ]
    return [(name, str(value)) for name, value in facts if value]
