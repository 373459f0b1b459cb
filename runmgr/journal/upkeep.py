"""A journal at rest: make it smaller, or save what can be read of a damaged one. Blocking; nobody may be writing it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import msgspec

from runmgr.exceptions import JournalError
from runmgr.records.outcomes import RunState

from .codec import with_all_messages
from .files import Lock, connect_writer, explain
from .schema import SEQUENCE_BITS

__all__ = ("Salvaged", "compact", "salvage")

_ROWS = 500
_STATUSES = frozenset(state.value for state in RunState)


def compact(path: str | PathLike[str]) -> tuple[int, int]:
    """Make a journal smaller: finished runs keep their outcome with their whole history, and no checkpoints; runs that were begun
    again are dropped. Unfinished runs stay as they are, so it can be resumed as before.

    Args:
        path: the journal. It is changed in one transaction: whatever stops this, it is as before or as after.

    Returns:
        Its size in bytes before and after.

    Raises:
        JournalError: it cannot be opened, is being written by somebody, or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise JournalError(f"{path}: there is no such journal")
    lock = Lock(path)
    try:
        before = path.stat().st_size
        connection = connect_writer(path, "power")
        try:
            with explain(path, "compact the journal"):
                _compact(path, connection)
                connection.execute("VACUUM")
        finally:
            connection.close()
        return before, path.stat().st_size
    finally:
        lock.release()


def _compact(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, key in (("outcomes", "run"), ("checkpoints", f"(id >> {SEQUENCE_BITS})"), ("runs", "run")):
            connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT run FROM superseded)")  # noqa: S608
        connection.execute("DELETE FROM superseded")
        last = 0
        while True:
            rows = connection.execute(
                "SELECT run, body FROM outcomes WHERE run > ? ORDER BY run LIMIT ?", (last, _ROWS)
            ).fetchall()
            if not rows:
                break
            for run, body in rows:
                first = run << SEQUENCE_BITS
                between = (first, first | (1 << SEQUENCE_BITS) - 1)
                bodies = connection.execute(
                    "SELECT body FROM checkpoints WHERE id BETWEEN ? AND ? ORDER BY id", between
                ).fetchall()
                if bodies:
                    try:
                        whole = with_all_messages(body, [row[0] for row in bodies])
                    except (msgspec.MsgspecError, ValueError, TypeError) as error:
                        raise JournalError(f"{path}: run number {run} is damaged: {error}") from error
                    connection.execute("UPDATE outcomes SET body = ? WHERE run = ?", (whole, run))
                    connection.execute("DELETE FROM checkpoints WHERE id BETWEEN ? AND ?", between)
            last = rows[-1][0]
        _count_again(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _count_again(connection: sqlite3.Connection) -> None:
    """Put right what is kept of how many outcomes there are: see `RunJournal`."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'spent'").fetchone()
    try:
        spent = None if row is None else msgspec.json.decode(row[0])
    except (msgspec.MsgspecError, ValueError):
        return
    if isinstance(spent, dict) and "ended" in spent:
        spent["ended"] = connection.execute("SELECT count(*) FROM outcomes").fetchone()[0]
        connection.execute("UPDATE meta SET value = ? WHERE key = 'spent'", (msgspec.json.encode(spent),))


@attrs.frozen
class Salvaged:
    """What was read of a damaged journal."""

    runs: int
    finished: int
    """Runs with their outcome."""
    reopened: tuple[str, ...]
    """Ids of runs that are there, and of which something is missing: they go on from what there is, or begin again."""
    lost: tuple[str, ...]
    """What could not be read, in words."""


def salvage(path: str | PathLike[str], into: str | PathLike[str]) -> Salvaged:
    """Write what can be read of a damaged journal into a new one. The damaged one is left as it is.

    A run whose outcome cannot be read is open in the new journal. A run goes on from its checkpoints up to the first that is missing.

    Args:
        path: the damaged journal.
        into: the new one; must not exist.

    Raises:
        JournalError: nothing can be read at all, or the new file exists or cannot be written.
    """
    path, into = Path(path), Path(into)
    if into.exists():
        raise JournalError(f"{into}: exists already; name a new file")
    if not path.exists():
        raise JournalError(f"{path}: there is no such journal")
    with explain(path, "read the journal"):
        old = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)
    try:
        with explain(path, "read the journal"):
            old.execute(
                "PRAGMA writable_schema = ON"
            )  # else a file that lacks its last pages is not opened at all
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        new = connect_writer(into, "power")
        try:
            return _salvage(old, new)
        finally:
            new.close()
    finally:
        old.close()


def _salvage(old: sqlite3.Connection, new: sqlite3.Connection) -> Salvaged:
    lost: list[str] = []
    new.execute("BEGIN IMMEDIATE")
    try:
        for key, value in old.execute("SELECT key, value FROM meta").fetchall():
            if _is_json(value):
                new.execute("REPLACE INTO meta VALUES (?, ?)", (key, value))
            else:  # long ones have pages of their own, of which SQLite does not notice any damage
                lost.append(f"meta ({key!r}): it is no JSON any more")
    except sqlite3.Error as error:
        lost.append(f"meta (what batch it is, what was spent): {error}")
    if new.execute("SELECT 1 FROM meta WHERE key = 'spent'").fetchone() is None:
        lost.append("meta (what was spent): it is not there")
    runs: dict[int, str] = {}
    for row in _rows(old, "runs", "run", lost, _is_run):
        runs[row[0]] = row[1]
        new.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    for row in _rows(old, "superseded", "run", lost, _any):
        new.execute("INSERT INTO superseded VALUES (?)", row)
    torn = _salvage_checkpoints(old, new, runs, lost)
    finished: set[int] = set()
    gaps: list[tuple[int, int | None]] = []
    for row in _rows(old, "outcomes", "run", lost, _is_outcome, gaps):
        if row[0] in runs and row[0] not in torn:
            finished.add(row[0])
            new.execute("INSERT INTO outcomes VALUES (?, ?, ?, ?)", row)
        else:
            torn.add(row[0])
    for after, before in gaps:  # runs that may have ended, and are open now
        last = max(runs, default=0) if before is None else before
        torn.update(run for run in range(max(after, 0), last + 1) if run in runs and run not in finished)
    _count_again(new)
    new.execute("COMMIT")
    named = tuple(runs[run] for run in sorted(torn) if run in runs)
    return Salvaged(len(runs), len(finished), named, tuple(lost))


def _salvage_checkpoints(
    old: sqlite3.Connection, new: sqlite3.Connection, runs: dict[int, str], lost: list[str]
) -> set[int]:
    """Copy those that can be read; gives the numbers of the runs of which one is missing, or may be."""
    named: list[str] = []
    gaps: list[tuple[int, int | None]] = []
    for identity, body in _rows(old, "checkpoints", "id", named, lambda row: _is_json(row[1]), gaps):
        if identity >> SEQUENCE_BITS in runs:
            new.execute("INSERT INTO checkpoints VALUES (?, ?)", (identity, body))
    if gaps and _has_index(old):
        # What was found to be damaged is the index or the table. Without the index there are all that the table has.
        missing: list[str] = []
        table = "checkpoints NOT INDEXED"
        for _, identity, body in _rows(
            old, table, "rowid", missing, lambda row: _is_json(row[2]), columns="rowid, *"
        ):
            if identity >> SEQUENCE_BITS in runs:
                new.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?)", (identity, body))
        if not missing:
            named, gaps = ["the index of checkpoints is damaged; all were read without it"], []
    lost += named
    sequence: dict[int, int] = {}
    loose: list[tuple[int]] = []
    for (identity,) in new.execute("SELECT id FROM checkpoints ORDER BY id"):
        run, number = identity >> SEQUENCE_BITS, identity & (1 << SEQUENCE_BITS) - 1
        if number == sequence.get(run, 0):
            sequence[run] = number + 1
        else:  # what comes before it is missing: it cannot be added up
            loose.append((identity,))
    new.executemany("DELETE FROM checkpoints WHERE id = ?", loose)
    torn: set[int] = set()
    for after, before in gaps:
        last = max(runs, default=0) if before is None else before >> SEQUENCE_BITS
        torn.update(range(max(after, 0) >> SEQUENCE_BITS, last + 1))
    return torn


def _has_index(connection: sqlite3.Connection) -> bool:
    """Whether checkpoints lie in the order in which they were written: see `schema.APPENDED`."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'index' AND tbl_name = 'checkpoints'")
    return row.fetchone() is not None


def _rows(
    connection: sqlite3.Connection,
    table: str,
    key: str,
    lost: list[str],
    good: Callable[[tuple[Any, ...]], bool],
    gaps: list[tuple[int, int | None]] | None = None,
    columns: str = "*",
) -> Iterator[tuple[Any, ...]]:
    """All rows that can be read, in order. What cannot is a stretch of keys: the next that can is looked for by halving."""
    at = last = -1
    broken = False
    while True:
        try:
            query = f"SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key}"  # noqa: S608
            for row in connection.execute(query, (at,)):
                if row[0] <= at:
                    raise sqlite3.DatabaseError("keys out of order")
                at = row[0]
                if good(row):
                    if broken and gaps is not None:
                        gaps.append((last, at))
                    broken, last = False, at
                    yield row
                else:  # its key may be as wrong as the rest of it: what is missing is anything between the rows that are good
                    lost.append(f"{table}: {_named(table, at)}: it is damaged")
                    broken = True
        except sqlite3.Error as error:
            following = _next_readable(connection, table, key, at, columns)
            if following is not None and following <= at:
                following = None
            begin = f"{table} from the first" if at < 0 else f"{table} after {_named(table, at)}"
            upto = "the end" if following is None else _named(table, following)
            lost.append(f"{begin} to {upto}: {error}")
            if gaps is not None:
                gaps.append((last, following))
            if following is None:
                return
            at = following - 1
        else:
            if broken and gaps is not None:
                gaps.append((last, None))
            return


def _next_readable(connection: sqlite3.Connection, table: str, key: str, at: int, columns: str) -> int | None:
    """The key of the first row after ``at`` from which on rows can be read again; None where there is none."""

    def probe(first: int) -> tuple[bool, int | None]:
        try:
            row = connection.execute(
                f"SELECT {columns} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1",  # noqa: S608
                (first,),
            ).fetchone()
        except sqlite3.Error:
            return False, None
        return True, None if row is None else row[0]

    bad, step = at + 1, 1
    good: int | None = None
    while bad + step < 1 << 62:
        if probe(bad + step)[0]:
            good = bad + step
            break
        bad, step = bad + step, step * 2
    if good is None:
        return None
    while good - bad > 1:
        middle = (bad + good) // 2
        if probe(middle)[0]:
            good = middle
        else:
            bad = middle
    return probe(good)[1]


def _named(table: str, key: int) -> str:
    if table == "checkpoints":
        return f"checkpoint {key & (1 << SEQUENCE_BITS) - 1} of run number {key >> SEQUENCE_BITS}"
    return f"run number {key}"


def _any(row: tuple[Any, ...]) -> bool:  # noqa: ARG001  all rows are good
    return True


def _is_run(row: tuple[Any, ...]) -> bool:
    _, run_id, position, group, fingerprint, queued_at, given, metadata = row
    return (
        isinstance(run_id, str)
        and isinstance(position, int)
        and isinstance(group, str)
        and isinstance(fingerprint, str | None)
        and isinstance(queued_at, float)
        and all(body is None or _is_json(body) for body in (given, metadata))
    )


def _is_outcome(row: tuple[Any, ...]) -> bool:
    _, status, finished_at, body = row
    return status in _STATUSES and isinstance(finished_at, float) and _is_json(body)


def _is_json(body: Any) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return False
    return True
