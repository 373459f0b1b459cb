"""A journal that was damaged where it lies: what of it can be read, and whether that is right."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from runmgr.exceptions import JournalError
from runmgr.journal import JournalReader, open_journal
from runmgr.journal.upkeep import Salvaged, salvage
from runmgr.records.outcomes import RunOutcome

__all__ = ("damage", "save")


def damage(path: Path, rng: random.Random) -> str | None:
    """Overwrite pages of a journal at rest, or cut its end off; says what was done, None where it is too short for that.

    The first page stays: without it, nothing says that this is a database, and nothing can be read.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    pages = path.stat().st_size // size
    if pages < 3:
        return None
    if rng.random() < 0.3:
        length = rng.randrange(size, pages * size)
        with path.open("r+b") as file:
            file.truncate(length)
        return f"cut to {length} of {pages * size} bytes"
    which = sorted(rng.sample(range(1, pages), min(pages - 1, rng.choice((1, 1, 3)))))
    with path.open("r+b") as file:
        for page in which:
            file.seek(page * size)
            file.write(rng.choice((bytes(size), rng.randbytes(size))))
    return f"pages {which} of {pages} overwritten"


def save(path: Path, right: Callable[[RunOutcome], None]) -> Salvaged:
    """Read all that a damaged journal gives, then put what can be saved of it in its place.

    Args:
        path: the damaged journal.
        right: called with each outcome that is read; raises where it is none that was ever told or written.
    """
    try:
        with open_journal(path) as journal:
            _read(journal, right)
    except JournalError:  # it says that it is damaged: that is what it should do
        pass
    saved = path.with_name("saved.sqlite")
    told = salvage(path, saved)
    for name in (path.name, path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    saved.rename(path)
    with open_journal(path) as journal:
        _read(journal, right)
    return told


def _read(journal: JournalReader, right: Callable[[RunOutcome], None]) -> None:
    for outcome in journal.outcomes(messages=True):
        right(outcome)
    for _ in journal.unfinished():
        pass
