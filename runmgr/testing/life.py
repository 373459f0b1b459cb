"""One process of a simulation: from its start until it ends, dies at a write of its journal, or has a disk that fails."""

from __future__ import annotations

import sqlite3
from typing import Literal

import attrs
import trio

from runmgr.journal.batch import Batch
from runmgr.journal.disk import Disk

__all__ = ("Crash", "DiskFault", "Life", "SimulatedDisk")


@attrs.frozen
class Crash:
    """Where a process dies.

    Args:
        write: at which write of its journal, counted from 1; None for none.
        when: ``'before'`` nothing of that write is in the file, ``'after'`` all of it is, and nobody was told.
        at: or at which second of its life.
    """

    write: int | None = None
    when: Literal["before", "after"] = "before"
    at: float | None = None


@attrs.frozen
class DiskFault:
    """Where the disk of a process fails it. SQLite itself says so, as it does on a real one.

    Args:
        write: from which write of the journal on, counted from 1.
        kind: no room is left for another page; writes fail; or the file system has become read-only.
    """

    write: int
    kind: Literal["full", "failing", "read-only"]


@attrs.define(eq=False)
class Life:
    """A process.

    Args:
        number: the how manieth, from 0.
        crash: where it dies; None: it lives to its end.
        disk: where its disk fails it; None: nowhere.
    """

    number: int
    crash: Crash | None
    disk: DiskFault | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    dead: bool = False
    """Nothing that it does from now on has any effect: it only remains to be taken down."""
    failed: bool = False
    """A write has failed: it is to say so, and to end."""

    def die(self) -> None:
        """Stop existing, as by ``kill -9``."""
        self.dead = True
        self.scope.cancel("the simulated process was killed")


class SimulatedDisk(Disk):
    """The disk of a process that dies, or a disk that fails."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.writes = 0

    def commit(self, batch: Batch, connection: sqlite3.Connection) -> Exception | None:
        """Commit, fail, or die; what a dead process writes goes nowhere."""
        life = self.life
        if life.dead:
            return _gone()
        self.writes += 1
        crash = life.crash
        if crash is not None and crash.write == self.writes:
            if crash.when == "after":
                super().commit(batch, connection)
            life.die()
            return _gone()
        if life.disk is not None and self.writes >= life.disk.write:
            failure = self._fail(life.disk, batch, connection)
            life.failed = failure is not None
            return failure
        return super().commit(batch, connection)

    def _fail(self, fault: DiskFault, batch: Batch, connection: sqlite3.Connection) -> Exception | None:
        if (
            fault.kind == "full"
        ):  # not this write, perhaps, if it fits into the pages that there are: then one that follows
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        elif fault.kind == "read-only":
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("BEGIN IMMEDIATE")
            batch.write(connection)
            connection.execute("ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_WRITE"
            return error
        return super().commit(batch, connection)


def _gone() -> Exception:
    return sqlite3.OperationalError("the simulated process is dead")
