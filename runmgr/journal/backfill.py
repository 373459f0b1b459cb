"""Moving the log's pages into the file, beside the writer.

SQLite does it within a commit, once the log has so many pages (``wal_autocheckpoint``). It syncs the log and the file then, a tenth of a second
for 32 MB, in which every run that ends waits for that commit; they then go on all together, and do so for seconds. So a second
connection does most of it a few times a second, in a thread: commits go on meanwhile, and theirs finds little left. Only theirs
lets the log begin from its start again, as they alone know that nothing has come since.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .writer import JournalWriter

__all__ = ("backfill",)

SECONDS = 0.25
"""Between two looks. At 100 MB/s of log that is a sync of 25 MB, and none where nothing was committed."""


async def backfill(path: Path, writer: JournalWriter) -> None:
    """Move what is committed into its place, until cancelled. Cancelled, it waits in the thread for what that is at.

    Nothing depends on it: where it cannot, the commits do all of it.

    Args:
        path: the journal.
        writer: has it open until after this.
    """
    ours = trio.CapacityLimiter(1)  # none of the threads that tools have
    with suppress(sqlite3.Error), closing(_connect(path)) as connection:
        seen = 0
        while True:
            await trio.sleep(SECONDS)
            if writer.commits != seen:
                seen = writer.commits
                await trio.to_thread.run_sync(_move, connection, limiter=ours)


def _connect(path: Path) -> sqlite3.Connection:
    """Of its own, and for any thread: the writer's is in a commit meanwhile. Makes no file where it was removed."""
    uri = f"{path.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0, check_same_thread=False)


def _move(connection: sqlite3.Connection) -> None:
    with suppress(
        sqlite3.Error
    ):  # locked: the next time; a full or broken disk: the writer meets it too, and says so
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
