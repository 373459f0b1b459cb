"""What a load leaves: ``requests.jsonl`` as it goes, ``summary.json`` and ``report.html`` at the end."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runmgr.exceptions import UserError
from runmgr.load.record import Record, line_of

__all__ = ("RequestsFile", "make_directory", "new_directory", "write_summary")

_BUFFER = 1 << 18


def new_directory() -> Path:
    """``runs/<time>``, one that does not exist yet."""
    import time

    stem = Path("runs") / time.strftime("load-%Y%m%d-%H%M%S")
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def make_directory(path: Path) -> None:
    """Make the results directory. Blocks.

    Raises:
        UserError: it cannot be made, or holds a load already.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be made: {error.strerror or error}") from None
    if (path / "results.jsonl").exists():
        raise UserError(f"--out {path}: holds a batch's results; name another directory")


class RequestsFile:
    """Lines of requests, in the order in which they end. Written in large pieces; blocks as long as the page cache takes.

    Args:
        path: the file.
        chunks: whether each line says when each piece of content arrived.
        mode: ``wb`` replaces the file, ``ab`` goes on behind what it holds.
    """

    def __init__(self, path: Path, *, chunks: bool, mode: str = "wb") -> None:
        self._file: Any = path.open(mode, buffering=0)
        self._chunks = chunks
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, record: Record) -> None:
        """One more."""
        line = line_of(record, chunks=self._chunks)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._size = 0
        while data:
            data = data[self._file.write(data) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._file.close()


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write it whole or not at all. Blocks."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)
