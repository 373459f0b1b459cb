"""How limits of rates are shared by workers: decisions over plain values, with no clock and no I/O.

All of a limit is the unit line, and each worker has a piece of it. A piece is only given once nobody else can still be
using any of it: a worker that is to have less is told first, and says when it does; one that is lost keeps its piece until
it has ended for sure. So at no moment do all together have more than the whole, whatever is late or lost.

A worker that has nothing to do has no piece: what it does not need is the others'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from runmgr.records.budgets import RateLimit

__all__ = ("Piece", "Quotas", "part_of")


class Piece(NamedTuple):
    """A part of the unit line; empty where both ends are the same."""

    begin: Fraction
    end: Fraction

    @property
    def length(self) -> Fraction:
        """What part of the whole it is."""
        return self.end - self.begin

    def meets(self, other: Piece) -> bool:
        """Whether they have more than an end in common."""
        return max(self.begin, other.begin) < min(self.end, other.end)

    def cut(self, other: Piece) -> Piece:
        """What is in both."""
        begin, end = max(self.begin, other.begin), min(self.end, other.end)
        return Piece(begin, end) if begin < end else NOTHING


NOTHING = Piece(Fraction(0), Fraction(0))


def part_of(limit: RateLimit, piece: Piece) -> RateLimit | None:
    """What a worker with this piece may do; None where that is nothing.

    Each worker's pace lets one request through at once, so ``n`` workers would send ``n - 1`` more within a minute than one
    process: each gives its share of them up. So all together send at most as many in any minute as one process does.
    """
    length = piece.length
    if not length:
        return None
    requests = limit.requests_per_minute
    if requests is not None:
        requests = float(Fraction(requests) * length - (1 - length))
        if requests <= 0:
            return None
    most = limit.max_in_flight
    if most is not None:
        most = math.floor(most * piece.end) - math.floor(most * piece.begin)
        if most < 1:
            return None

    def share(tokens: float | None) -> float | None:
        return None if tokens is None else float(Fraction(tokens) * length)

    return RateLimit(
        requests_per_minute=requests,
        tokens_per_minute=share(limit.tokens_per_minute),
        input_tokens_per_minute=share(limit.input_tokens_per_minute),
        output_tokens_per_minute=share(limit.output_tokens_per_minute),
        max_in_flight=most,
        adaptive=limit.adaptive,
    )


class Quotas:
    """Who has which piece."""

    def __init__(self) -> None:
        self._wanted: dict[str, Piece] = {}
        self._told: dict[str, tuple[int, Piece]] = {}
        """What each worker was told last."""
        self._in_force: dict[str, dict[int, Piece]] = {}
        """What it may be using: the last that it said is in force, and all that it was told since."""
        self._number = 0

    def join(self, worker: str) -> None:
        """A worker is there; it has nothing yet."""
        self._wanted[worker] = NOTHING
        self._told[worker] = (0, NOTHING)
        self._in_force[worker] = {0: NOTHING}

    def leave(self, worker: str) -> None:
        """A worker is not spoken to any more; it may go on using what it has until `ended` is called."""
        self._wanted.pop(worker, None)
        self._told.pop(worker, None)

    def ended(self, worker: str) -> None:
        """A worker uses nothing any more."""
        self.leave(worker)
        self._in_force.pop(worker, None)

    def divide(self, workers: Iterable[str]) -> None:
        """Have these workers share evenly, in this order, and the others have nothing."""
        sharing = [worker for worker in workers if worker in self._wanted]
        for worker in self._wanted:
            self._wanted[worker] = NOTHING
        for at, worker in enumerate(sharing):
            self._wanted[worker] = Piece(Fraction(at, len(sharing)), Fraction(at + 1, len(sharing)))

    def due(self) -> list[tuple[str, int, Piece]]:
        """What is to be told now: worker, number, piece."""
        found: list[tuple[str, int, Piece]] = []
        for worker, wanted in self._wanted.items():
            told = self._told[worker][1]
            if told == wanted:
                continue
            taken = any(
                piece.meets(wanted)
                for other, pieces in self._in_force.items()
                if other != worker
                for piece in pieces.values()
            )
            piece = told.cut(wanted) if taken else wanted
            if piece == told:
                continue
            self._number += 1
            self._told[worker] = (self._number, piece)
            self._in_force[worker][self._number] = piece
            found.append((worker, self._number, piece))
        return found

    def again(self) -> list[tuple[str, int, Piece]]:
        """Everybody is to be told what it has once more: the limits themselves have changed."""
        found: list[tuple[str, int, Piece]] = []
        for worker, (_, piece) in self._told.items():
            self._number += 1
            self._told[worker] = (self._number, piece)
            self._in_force[worker][self._number] = piece
            found.append((worker, self._number, piece))
        return found

    def taken(self, worker: str, number: int) -> None:
        """A worker says that this is in force, and nothing earlier."""
        pieces = self._in_force.get(worker)
        if pieces is not None:
            self._in_force[worker] = {at: piece for at, piece in pieces.items() if at >= number}

    def piece(self, worker: str) -> Piece:
        """What a worker was told last."""
        return self._told[worker][1] if worker in self._told else NOTHING

    @property
    def in_use(self) -> list[Piece]:
        """Every piece that somebody may be using."""
        return [piece for pieces in self._in_force.values() for piece in pieces.values() if piece.length]
