"""The one place where rows reach the file, so that a simulation can put a failing one in its stead."""

from __future__ import annotations

import sqlite3
from contextvars import ContextVar

from .batch import Batch

__all__ = ("Disk", "current_disk")


class Disk:
    """Commits batches. A subclass may fail, or lose what it was given, as disks and processes do."""

    def commit(self, batch: Batch, connection: sqlite3.Connection) -> Exception | None:
        """Write the batch in one transaction; gives what went wrong. Called in the writer's thread, if it has one."""
        return batch.try_commit(connection)


current_disk: ContextVar[Disk] = ContextVar("runmgr_disk", default=Disk())  # noqa: B039  it has no state
"""What journals that are opened from here on write to."""
