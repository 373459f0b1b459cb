"""One transaction: many rows, few statements.

A statement is one round trip through the interpreter lock: while the event loop computes, each may cost the writer's thread
a switch interval (5 ms). ``executemany`` makes one a row, which under a busy loop is 3,000 rows/s; many rows in one ``VALUES``
clause is 50 times that (measured). Hence the few fixed sizes, whose statements stay prepared.

Rows are flat: a tuple for each would be an object that Python's collector counts and looks at. Bodies are given as
``bytearray`` and no value is None: for ``bytes`` and None, ``sqlite3`` asks its adapters first, which takes 0.5 microseconds
each with the interpreter's lock held, where the rest takes 0.1 (measured).
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

__all__ = ("Batch",)

_SIZES: Final = (256, 32, 4, 1)


class _Table:
    """How rows are put into a table.

    Args:
        verb: ``INSERT`` or ``REPLACE``.
        table: its name.
        columns: a placeholder for each.
    """

    __slots__ = ("columns", "statements")

    def __init__(self, verb: str, table: str, *columns: str) -> None:
        self.columns = len(columns)
        row = f"({', '.join(columns)})"
        self.statements = tuple(
            (size, f"{verb} INTO {table} VALUES {', '.join([row] * size)}") for size in _SIZES
        )

    def insert(self, connection: sqlite3.Connection, flat: list[Any]) -> None:
        """Insert rows that lie one after the other."""
        if not flat:
            return
        values = [
            bytearray(value) if type(value) is bytes else 0 if value is None else value for value in flat
        ]
        start, count = 0, len(values) // self.columns
        for size, statement in self.statements:
            while count >= size:
                end = start + size * self.columns
                connection.execute(statement, values[start:end])
                start, count = end, count - size


_NONE = "NULLIF(?, 0)"  # what is None comes as 0
_META = _Table("REPLACE", "meta", "?", "?")
_RUNS = _Table("INSERT", "runs", "?", "?", "?", "?", _NONE, "?", _NONE, _NONE)
_CHECKPOINTS = _Table("INSERT", "checkpoints", "?", "?")
_SUPERSEDED = _Table("REPLACE", "superseded", "?")
_OUTCOMES = _Table("INSERT", "outcomes", "?", "?", "?", "?")


class Batch:
    """Rows that wait to be committed, and who waits for them."""

    __slots__ = ("checkpoints", "meta", "outcomes", "runs", "size", "superseded", "tasks", "told", "waiting")

    def __init__(self) -> None:
        self.meta: dict[str, bytes] = {}
        self.runs: list[Any] = []
        """Rows of `runs`, as of the other tables one value after the other."""
        self.checkpoints: list[Any] = []
        self.outcomes: list[Any] = []
        self.superseded: list[Any] = []
        self.told: list[Any] = []
        """Threes of a function that is called with whether the rows are committed, and two things to call it with besides. In order."""
        self.tasks: list[Any] = []
        """Tasks to reschedule then."""
        self.waiting: dict[Any, None] = {}
        """Likewise; these may leave before."""
        self.size = 0
        """Bytes of the bodies, roughly."""

    def __bool__(self) -> bool:
        return bool(
            self.runs
            or self.checkpoints
            or self.outcomes
            or self.meta
            or self.superseded
            or self.told
            or self.tasks
            or self.waiting
        )

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows, in a transaction that has begun."""
        _RUNS.insert(connection, self.runs)
        _CHECKPOINTS.insert(connection, self.checkpoints)
        _OUTCOMES.insert(connection, self.outcomes)
        _SUPERSEDED.insert(connection, self.superseded)
        _META.insert(connection, [value for item in self.meta.items() for value in item])

    def commit(self, connection: sqlite3.Connection) -> None:
        """Write all rows in one transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            self.write(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def try_commit(self, connection: sqlite3.Connection) -> Exception | None:
        """`commit`; gives what went wrong instead of raising it."""
        try:
            self.commit(connection)
        except Exception as error:  # noqa: BLE001  handed over to the event loop, which tells those who wait
            return error
        return None
