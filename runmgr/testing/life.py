"""One process of a simulation: from its start until it ends, or dies at a write of its journal."""

from __future__ import annotations

import sqlite3
from typing import Literal

import attrs
import trio

from runmgr.journal.batch import Batch
from runmgr.journal.disk import Disk

__all__ = ("Crash", "CrashingDisk", "Life")


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


@attrs.define(eq=False)
class Life:
    """A process.

    Args:
        number: the how manieth, from 0.
        crash: where it dies; None: it lives to its end.
    """

    number: int
    crash: Crash | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    dead: bool = False
    """Nothing that it does from now on has any effect: it only remains to be taken down."""

    def die(self) -> None:
        """Stop existing, as by ``kill -9``."""
        self.dead = True
        self.scope.cancel("the simulated process was killed")


class CrashingDisk(Disk):
    """The disk of a process that dies."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.writes = 0

    def commit(self, batch: Batch, connection: sqlite3.Connection) -> Exception | None:
        """Commit, or die; what a dead process writes goes nowhere."""
        life = self.life
        if life.dead:
            return _gone()
        self.writes += 1
        crash = life.crash
        if crash is None or crash.write != self.writes:
            return super().commit(batch, connection)
        if crash.when == "after":
            super().commit(batch, connection)
        life.die()
        return _gone()


def _gone() -> Exception:
    return sqlite3.OperationalError("the simulated process is dead")
