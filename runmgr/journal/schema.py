"""The journal's tables, and how older files become today's.

Five tables, append-only in meaning; a run costs O(1) rows, whatever the file holds already:

- ``meta``: free keys and JSON values (what batch this is, what was spent).
- ``runs``: a row when a run is admitted. ``run`` is its number in this file; one ``run_id`` may have several, the highest
  counts.
- ``checkpoints``: what was new at a node boundary, by ``run << 20 | sequence``. Rows lie in the order in which they were
  written, and an index finds a run's. Were that number the table's own key, as it is in files of version 1, the rows of a
  run would lie together, and each commit would write a page for each run that it says anything of (measured: twice the
  writer's time at 1,000 runs at once).
- ``outcomes``: a row when a run has ended. A run without one is open.
- ``superseded``: runs that were begun again, from the start, under another number: they no longer count.

There is no index on ``run_id`` on purpose: random keys would make every commit rewrite pages all over the file (measured:
two to three times the time at half a million runs). Who looks runs up by name builds a temporary one (see `reader`).
"""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ("APPLICATION_ID", "SEQUENCE_BITS", "VERSION", "migrate")

APPLICATION_ID: Final = 0x72756E6D  # "runm"
SEQUENCE_BITS: Final = 20
"""Checkpoints of one run: a million."""

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL);
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY, run_id TEXT NOT NULL, position INTEGER NOT NULL, grp TEXT NOT NULL, fingerprint TEXT,
        queued_at REAL NOT NULL, input BLOB, metadata BLOB
    );
    CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE outcomes (
        run INTEGER PRIMARY KEY, status TEXT NOT NULL, finished_at REAL NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE superseded (run INTEGER PRIMARY KEY);
    """,
    "",
)
"""Each makes version N + 1 from version N. Only ever appended to.

Version 2: a checkpoint may leave out the request that the one before it holds (``asked``), and lies in `APPENDED`.
"""

APPENDED: Final = "CREATE TABLE checkpoints (id INTEGER NOT NULL UNIQUE, body BLOB NOT NULL)"
"""What `checkpoints` is where it was empty when the file came to version 2. One that was not stays as it is: all is read and
written by the same statements, and to copy it would take minutes and twice the room.
"""

VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int, now: float) -> None:
    """Bring a file from ``version`` (0: empty) to today's, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version, VERSION):
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    connection.execute(statement)
            if number == 1 and connection.execute("SELECT 1 FROM checkpoints").fetchone() is None:
                connection.execute("DROP TABLE checkpoints")
                connection.execute(APPENDED)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number + 1, now))
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
