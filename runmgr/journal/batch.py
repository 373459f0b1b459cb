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
from itertools import chain
from typing import Any, Final

__all__ = ("Batch",)

_SIZES: Final = (256, 32, 4, 1)


_NONE = "NULLIF(?, 0)"  # what is None comes as 0


class _Table:
    """How rows are put into a table.

    Args:
        verb: ``INSERT`` or ``REPLACE``.
        table: its name.
        columns: a placeholder for each.
        bodies: which of these are bytes, and never None.
        ordered: insert by the first column, so that pages are filled from left to right: runs end in another order than they begin, and
            SQLite splits a page in which it inserts in halves.
    """

    __slots__ = ("_bodies", "_columns", "_optional", "_ordered", "_statements")

    def __init__(
        self, verb: str, table: str, *columns: str, bodies: tuple[int, ...] = (), ordered: bool = False
    ) -> None:
        self._columns = len(columns)
        self._bodies = bodies
        self._ordered = ordered
        self._optional = tuple(index for index, column in enumerate(columns) if column is _NONE)
        row = f"({', '.join(columns)})"
        self._statements = tuple(
            (size, f"{verb} INTO {table} VALUES {', '.join([row] * size)}") for size in _SIZES
        )

    def insert(self, connection: sqlite3.Connection, flat: list[Any]) -> None:
        """Insert rows that lie one after the other. Their bytes are made such as are bound fast, in place: a column in one go."""
        if not flat:
            return
        columns = self._columns
        if self._ordered:
            values = iter(flat)
            flat[:] = chain.from_iterable(sorted(zip(*[values] * columns, strict=True)))
        for index in self._bodies:
            flat[index::columns] = map(bytearray, flat[index::columns])
        for index in self._optional:
            flat[index::columns] = [
                0 if value is None else bytearray(value) if type(value) is bytes else value
                for value in flat[index::columns]
            ]
        start, count = 0, len(flat) // columns
        for size, statement in self._statements:
            while count >= size:
                end = start + size * columns
                connection.execute(statement, flat[start:end])
                start, count = end, count - size


_META = _Table("REPLACE", "meta", "?", "?", bodies=(1,))
_RUNS = _Table("INSERT", "runs", "?", "?", "?", "?", _NONE, "?", _NONE, _NONE)
_CHECKPOINTS = _Table("INSERT", "checkpoints", "?", "?", bodies=(1,), ordered=True)
_SUPERSEDED = _Table("REPLACE", "superseded", "?")
_OUTCOMES = _Table("INSERT", "outcomes", "?", "?", "?", "?", bodies=(3,), ordered=True)


class Batch:
    """Rows that wait to be committed, and who waits for them."""

    __slots__ = (
        "cancelled",
        "checkpoints",
        "meta",
        "outcomes",
        "runs",
        "size",
        "superseded",
        "tasks",
        "told",
        "trap",
        "waiting",
    )

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
        self.trap: Any = None
        """What these gave trio to sleep."""
        self.cancelled = False
        """Whether any of these was cancelled meanwhile."""
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
