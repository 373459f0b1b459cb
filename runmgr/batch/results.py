"""``results.jsonl``: one writer, batched, whole lines only; mended after a crash."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from runmgr.exceptions import UserError
from runmgr.report.lines import ResultLine, decode_line, encode_line, open_lines

__all__ = ("ResultsFile", "no_room", "plain", "rebuild")

_BUFFER_BYTES = 64 * 1024
_BUFFER_SECONDS = 0.2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def no_room(error: Exception, directory: Path) -> UserError | None:
    """What is said of an error that says that the disk is full; None of another one."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    said = UserError(
        f"{directory}: cannot write the results: {error.strerror}; make room, then go on with --resume: what has ended is in the "
        "journal"
    )
    said.__cause__ = error
    return said


class ResultsFile:
    """Appends results; a line is on disk within 0.2 s while `flush_in_time` runs, at the latest when the file is closed.

    What a kill takes from the buffer is in the journal, and resume writes it again.

    Args:
        path: the file; made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._buffer = bytearray()
        self._waits = trio.Event()
        """That there is something in the buffer."""
        self._flushed_at = trio.current_time()

    def write(self, line: ResultLine) -> None:
        """Adds a line. May block on the disk for as long as one write takes.

        Raises:
            OSError: the disk takes no more; what it did not take stays in the buffer.
        """
        if not self._buffer:
            self._waits.set()
        self._buffer += encode_line(line)
        if len(self._buffer) >= _BUFFER_BYTES or trio.current_time() - self._flushed_at >= _BUFFER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Gives all lines to the system.

        Raises:
            OSError: as `write`.
        """
        while self._buffer:
            del self._buffer[: self._file.write(self._buffer)]
        self._flushed_at = trio.current_time()
        self._waits = trio.Event()

    async def flush_in_time(self) -> None:
        """Flushes lines that no further line follows, until it is cancelled."""
        while True:
            await self._waits.wait()
            await trio.sleep(_BUFFER_SECONDS)
            with suppress(OSError):  # the next line, or closing, meets it too, and fails the batch
                self.flush()

    def close(self) -> None:
        """Flushes and closes.

        Raises:
            OSError: as `write`.
        """
        try:
            self.flush()
        finally:
            self._file.close()


async def rebuild(
    path: Path, keep: Callable[[ResultLine], ResultLine | None], accept: Callable[[], None] = lambda: None
) -> None:
    """Writes a results file anew with the lines that ``keep`` gives back; torn lines go. A line at a time, atomically.

    Args:
        path: the file; nothing happens where there is none.
        keep: gives the line as it is, changed, or None to leave it out.
        accept: called once all lines were seen; what it raises leaves the file as it was.
    """
    try:
        old = open_lines(path)
    except FileNotFoundError:
        return
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with old, beside.open("wb", buffering=1 << 18) as new:
            for number, data in enumerate(old):
                if number % 500 == 0:
                    await trio.lowlevel.checkpoint()
                line = decode_line(data)
                if line is not None and (kept := keep(line)) is not None:
                    new.write(data if kept is line and data.endswith(b"\n") else encode_line(kept))
        accept()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """A run's output as JSON can hold it: models, dataclasses, structs and attrs classes as objects, what else there is as its text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=_plain_other)


def _plain_other(value: Any) -> Any:
    if isinstance(value, msgspec.Struct) or attrs.has(value.__class__):
        return msgspec.to_builtins(value, enc_hook=plain)
    return str(value)
