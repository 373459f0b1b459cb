"""Moving the log's pages into the file, beside the writer.

SQLite does it within a commit, once the log has so many pages (``wal_autocheckpoint``). It syncs the log and the file then, a tenth of a second
for 32 MB, in which every run that ends waits for that commit; they then go on all together, and do so for seconds. So a second
connection does most of it a few times a second, in a thread: commits go on meanwhile, and theirs finds little left. Only theirs
lets the log begin from its start again, as they alone know that nothing has come since.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("backfilling",)

SECONDS = 0.25
"""Between two looks. At 100 MB/s of log that is a sync of 25 MB, and none where nothing was committed."""


@contextmanager
def backfilling(path: Path, commits: Callable[[], int]) -> Generator[None]:
    """While the block lasts, a thread moves what is committed into its place. Leaving the block waits for what it is at.

    Args:
        path: the journal, in WAL mode; somebody else has it open until after this block.
        commits: how many there were so far.
    """
    over = threading.Event()

    def go() -> None:
        uri = f"{path.resolve().as_uri()}?mode=rw"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)
        except sqlite3.Error:
            return  # nothing depends on it
        seen = 0
        try:
            while not over.wait(SECONDS):
                if (now := commits()) != seen:
                    seen = now
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            pass  # a full or broken disk: the writer meets it too, and says so
        finally:
            connection.close()

    thread = threading.Thread(target=go, name=f"runmgr journal log {path.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
