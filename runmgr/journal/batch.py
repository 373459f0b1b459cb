"""One transaction: many rows, few statements.

A statement is one round trip through the interpreter lock: while the event loop computes, each may cost the writer's thread
a switch interval (5 ms). ``executemany`` makes one a row, which under a busy loop is 3,000 rows/s; many rows in one ``VALUES``
clause is 50 times that (measured). Hence the few fixed sizes, whose statements stay prepared.

Bodies are given as ``bytearray``: of ``bytes``, ``sqlite3`` asks its adapters first, which takes four times as long as the rest
(0.77 microseconds for 0.14, measured), with the interpreter's lock held.
"""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import Any, Final

__all__ = ("Batch",)

_SIZES: Final = (256, 32, 4, 1)


def _statements(verb: str, table: str, columns: int) -> tuple[tuple[int, str], ...]:
    row = f"({', '.join('?' * columns)})"
    return tuple((size, f"{verb} INTO {table} VALUES {', '.join([row] * size)}") for size in _SIZES)


_META = _statements("REPLACE", "meta", 2)
_RUNS = _statements("INSERT", "runs", 8)
_CHECKPOINTS = _statements("INSERT", "checkpoints", 2)
_SUPERSEDED = _statements("REPLACE", "superseded", 1)
_OUTCOMES = _statements("INSERT", "outcomes", 4)


class Batch:
    """Rows that wait to be committed, and who waits for them."""

    __slots__ = ("checkpoints", "meta", "outcomes", "runs", "size", "superseded", "told", "waiting")

    def __init__(self) -> None:
        self.meta: dict[str, bytes] = {}
        self.runs: list[tuple[Any, ...]] = []
        self.checkpoints: list[tuple[int, bytes]] = []
        self.outcomes: list[tuple[Any, ...]] = []
        self.superseded: list[tuple[int]] = []
        self.told: list[Any] = []
        """Called in order, with whether the rows are committed."""
        self.waiting: dict[Any, None] = {}
        """Tasks to reschedule then."""
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
            or self.waiting
        )

    def commit(self, connection: sqlite3.Connection) -> None:
        """Write all rows in one transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            _insert(connection, _RUNS, self.runs)
            _insert(connection, _CHECKPOINTS, [(key, bytearray(body)) for key, body in self.checkpoints])
            _insert(
                connection,
                _OUTCOMES,
                [(run, status, at, bytearray(body)) for run, status, at, body in self.outcomes],
            )
            _insert(connection, _SUPERSEDED, self.superseded)
            _insert(connection, _META, list(self.meta.items()))
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


def _insert(
    connection: sqlite3.Connection, statements: tuple[tuple[int, str], ...], rows: list[tuple[Any, ...]]
) -> None:
    start, count = 0, len(rows)
    for size, statement in statements:
        while count - start >= size:
            connection.execute(statement, list(chain.from_iterable(rows[start : start + size])))
            start += size
