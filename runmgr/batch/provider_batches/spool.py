"""Files of requests on their way to a provider, and of results that have come back: so neither has to fit into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import attrs

__all__ = ("Gathering", "Place", "Results", "size_of")


def size_of(path: Path) -> int:
    """A file's bytes."""
    return path.stat().st_size


class Place(NamedTuple):
    """Where a line of results stands: in which batch's file, from which byte on, how long."""

    number: int
    offset: int
    length: int


@attrs.define(eq=False)
class Gathering:
    """Requests that will be one batch.

    Args:
        path: their file.
        headers: sent with the batch.
    """

    path: Path
    headers: dict[str, str]
    entries: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    """Each request's custom id and its run's."""
    size: int = 0
    sealed: bool = False
    _lines: list[bytes] = attrs.field(factory=list[bytes])
    _unwritten: int = 0

    def add(self, custom_id: str, run_id: str, line: bytes) -> None:
        """Adds a request. Writes to the disk now and then."""
        self.entries.append((custom_id, run_id))
        self.size += len(line)
        self._lines.append(line)
        self._unwritten += len(line)
        if self._unwritten > 1 << 18:
            self._write()

    def seal(self) -> None:
        """No more are added; all are in the file."""
        self.sealed = True
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.writelines(self._lines)
        self._lines.clear()
        self._unwritten = 0


class Results:
    """Results on disk, a file a batch: ``FOLDER/N.jsonl``.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[int, int] = {}

    def path(self, number: int) -> Path:
        """The file of a batch."""
        return self.folder / f"{number}.jsonl"

    def read(self, place: Place) -> bytes:
        """A line."""
        file = self._open.get(place.number)
        if file is None:
            file = self._open[place.number] = os.open(self.path(place.number), os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(file, place.length, place.offset)

    def close(self) -> None:
        """Closes the files."""
        for file in self._open.values():
            os.close(file)
        self._open.clear()
