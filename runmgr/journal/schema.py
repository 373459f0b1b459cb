"""The journal's tables, and how older files become today's.

Five tables, append-only in meaning; a run costs O(1) rows, whatever the file holds already:

- ``meta``: free keys and JSON values (what batch this is, what was spent).
- ``runs``: a row when a run is admitted. ``run`` is its number in this file; one ``run_id`` may have several, the highest
  counts.
- ``checkpoints``: what was new at a node boundary. The key is ``run << 20 | sequence``, so that a run's rows lie together
  and no second index is needed.
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
)
"""Each makes version N + 1 from version N. Only ever appended to."""

VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int, now: float) -> None:
    """Bring a file from ``version`` (0: empty) to today's, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version, VERSION):
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number + 1, now))
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
