"""Reading a journal, finished or still being written, in constant memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from runmgr.exceptions import JournalError
from runmgr.records.outcomes import RunOutcome

from .codec import Restored, outcome_from, restore
from .files import connect_reader, explain, salvage_hint
from .schema import SEQUENCE_BITS

__all__ = ("JournalReader", "open_journal")

_COLUMNS = "r.run_id, r.position, r.grp, r.queued_at, r.input, r.metadata, o.status, o.finished_at, o.body"
_COUNTS = "run NOT IN (SELECT run FROM superseded)"
_LAST_SEQUENCE = (1 << SEQUENCE_BITS) - 1


class JournalReader:
    """What a journal holds. Made by `open_journal`; a context manager; blocks for as long as the disk takes.

    Each method sees what is committed when it is called, so a journal can be watched while it is written.
    """

    __slots__ = ("_connection", "_indexed", "_lookups", "path")

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._indexed: int | None = None
        self._lookups = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. No effect the second time."""
        self._connection.close()

    # ---------------------------------------------------------------- figures

    def counts(self) -> dict[str, int]:
        """Runs by how they stand: ``succeeded``, ``failed``, ``cancelled`` and ``open``. O(runs), about 0.1 s a million."""
        with explain(self.path, "read the journal"):
            counts: dict[str, int] = dict(
                self._connection.execute(
                    f"SELECT status, count(*) FROM outcomes WHERE {_COUNTS} GROUP BY status"  # noqa: S608
                ).fetchall()
            )
            ids = self._connection.execute(
                "SELECT (SELECT count(*) FROM runs) - (SELECT count(*) FROM superseded)"
            ).fetchone()[0]
        return {**counts, "open": ids - sum(counts.values())}

    def meta(self, key: str) -> Any:
        """The value kept under ``key``; None where there is none."""
        with explain(self.path, "read the journal"):
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        with self.undamaged(f"under {key!r}"):
            return msgspec.json.decode(row[0])

    def all_meta(self) -> dict[str, Any]:
        """All keys and values."""
        with explain(self.path, "read the journal"), self.undamaged("of the whole"):
            return {
                key: msgspec.json.decode(value)
                for key, value in self._connection.execute("SELECT key, value FROM meta")
            }

    # ---------------------------------------------------------------- runs by name

    def _run(self, run_id: str) -> int | None:
        """The run's number in the file. The second look-up builds an index of the names, about 1.5 s a million runs, in a
        temporary file of this connection; later ones only add what came since.
        """
        with explain(self.path, "read the journal"):
            self._lookups += 1
            if self._lookups == 1:
                row = self._connection.execute(
                    "SELECT max(run) FROM runs WHERE run_id = ?", (run_id,)
                ).fetchone()
                return row[0]
            self.index()
            row = self._connection.execute(
                "SELECT max(run) FROM temp.names WHERE run_id = ?", (run_id,)
            ).fetchone()
        return row[0]

    def index(self) -> None:
        """Make look-ups by ``run_id`` quick, or bring what makes them so up to date."""
        execute = self._connection.execute
        with explain(self.path, "index the journal"):
            last: int = execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()[0]
            if self._indexed is None:
                execute("CREATE TEMP TABLE names AS SELECT run_id, run FROM runs WHERE run <= ?", (last,))
                execute("CREATE INDEX temp.names_by_id ON names (run_id, run)")
            elif last > self._indexed:
                execute(
                    "INSERT INTO temp.names SELECT run_id, run FROM runs WHERE run > ? AND run <= ?",
                    (self._indexed, last),
                )
            self._indexed = last

    def indexed(self) -> int:
        """How many runs `index` has found: begun again ones twice."""
        self.index()
        with explain(self.path, "read the journal"):
            return self._connection.execute("SELECT count(*) FROM temp.names").fetchone()[0]

    def finished(self, run_id: str) -> bool:
        """Whether the run has an outcome here."""
        run = self._run(run_id)
        if run is None:
            return False
        with explain(self.path, "read the journal"):
            return (
                self._connection.execute("SELECT 1 FROM outcomes WHERE run = ?", (run,)).fetchone()
                is not None
            )

    def outcome(self, run_id: str, *, messages: bool = True) -> RunOutcome | None:
        """The run's outcome; None where it has none, or is not here.

        Args:
            run_id: which run.
            messages: with its history.
        """
        run = self._run(run_id)
        return None if run is None else self._outcome(run, messages)

    def _outcome(self, run: int, messages: bool) -> RunOutcome | None:
        with explain(self.path, "read the journal"):
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM outcomes o JOIN runs r USING (run) WHERE run = ?",  # noqa: S608
                (run,),
            ).fetchone()
        if row is None:
            return None
        with self.undamaged(f"of run {row[0]}"):
            return outcome_from(row, self._checkpoints(run) if messages else None)

    def fingerprint(self, run: int) -> str | None:
        """What the run of this number depended on, beside its prompt; None where that was not said."""
        with explain(self.path, "read the journal"):
            row = self._connection.execute("SELECT fingerprint FROM runs WHERE run = ?", (run,)).fetchone()
        return None if row is None else row[0]

    def knows_prefix(self, prefix: str) -> bool:
        """Whether there is a run whose id begins so; ``prefix`` ends in a ``-``. Knows the runs of the last `index`."""
        with explain(self.path, "read the journal"):
            row = self._connection.execute(
                "SELECT 1 FROM temp.names WHERE run_id >= ? AND run_id < ? LIMIT 1",
                (prefix, prefix[:-1] + "."),
            ).fetchone()
        return row is not None

    def look_up(self, run_id: str) -> tuple[int, RunOutcome | Restored] | None:
        """What is known of a run: its number here, and its outcome or where to go on with it. None where it is not here."""
        run = self._run(run_id)
        if run is None:
            return None
        return run, self._outcome(run, messages=True) or self._restored(run, run_id)

    # ---------------------------------------------------------------- all runs

    def outcomes(self, *, messages: bool = False) -> Iterator[RunOutcome]:
        """All outcomes, in the order in which their runs were admitted; one at a time in memory.

        Args:
            messages: with their histories; slower.
        """
        with explain(self.path, "read the journal"):
            cursor = self._connection.execute(
                f"SELECT run, {_COLUMNS} FROM outcomes o JOIN runs r USING (run) WHERE {_COUNTS} ORDER BY run"  # noqa: S608
            )
        while True:
            with explain(self.path, "read the journal"):
                rows = cursor.fetchmany(100)
            if not rows:
                return
            for run, *row in rows:
                with self.undamaged(f"of run {row[0]}"):
                    outcome = outcome_from(row, self._checkpoints(run) if messages else None)
                yield outcome

    def __iter__(self) -> Iterator[RunOutcome]:
        return self.outcomes()

    def unfinished(self) -> Iterator[Restored]:
        """All runs without an outcome, with where to go on; one at a time in memory."""
        with explain(self.path, "read the journal"):
            cursor = self._connection.execute(
                "SELECT run, run_id FROM runs WHERE run NOT IN (SELECT run FROM outcomes) ORDER BY run"
            )
        while True:
            with explain(self.path, "read the journal"):
                rows = cursor.fetchmany(100)
            if not rows:
                return
            for run, run_id in rows:
                yield self._restored(run, run_id)

    # ---------------------------------------------------------------- parts

    def _checkpoints(self, run: int) -> list[bytes]:
        first = run << SEQUENCE_BITS
        with explain(self.path, "read the journal"):
            rows = self._connection.execute(
                "SELECT body FROM checkpoints WHERE id BETWEEN ? AND ? ORDER BY id",
                (first, first | _LAST_SEQUENCE),
            ).fetchall()
        return [row[0] for row in rows]

    def _restored(self, run: int, run_id: str) -> Restored:
        bodies = self._checkpoints(run)
        with explain(self.path, "read the journal"):
            row = self._connection.execute(
                "SELECT fingerprint, input FROM runs WHERE run = ?", (run,)
            ).fetchone()
        with self.undamaged(f"of run {run_id}"):
            return restore(run, run_id, row[0], row[1], bodies)

    @contextmanager
    def undamaged(self, what: str) -> Generator[None, None, None]:
        """Within the block, what cannot be made sense of is damage, which a `JournalError` tells.

        Args:
            what: the journal holds, for the message: ``"of run a"``.
        """
        try:
            yield
        except (
            msgspec.MsgspecError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
        ) as error:
            # A damaged page may give a row without a body, or with a number in its place.
            raise JournalError(
                f"{self.path}: what it holds {what} is damaged: {error}; {salvage_hint(self.path)}"
            ) from error


def open_journal(path: str | PathLike[str]) -> JournalReader:
    """Open a journal for reading, also while another process writes it. Use it in a ``with`` block.

    Raises:
        JournalError: there is no such file, it is no journal, or comes from a newer runmgr.
    """
    path = Path(path)
    return JournalReader(path, connect_reader(path))
