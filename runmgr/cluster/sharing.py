"""Keeping each worker's part of the rates what it should be. What it should be is decided in `runmgr.cluster.quotas`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import trio

from . import wire
from .quotas import NOTHING, Quotas, part_of

if TYPE_CHECKING:
    from runmgr.records.budgets import RateLimit

    from .member import Member
    from .quotas import Piece

__all__ = ("RateSharing",)

Limits: TypeAlias = "tuple[dict[str, RateLimit], dict[str, RateLimit]]"
"""By model, and by group."""


class RateSharing:
    """What workers are told of rates.

    Args:
        limits: gives what all of them together may do now.
        members: the workers, by name, as they come and go.
        held_by: gives how many runs a worker has.
        silence: seconds without a word after which a worker takes the driver for lost, and ends.
    """

    def __init__(
        self,
        limits: Callable[[], Limits],
        members: Mapping[str, Member],
        held_by: Callable[[str], int],
        silence: float,
    ) -> None:
        self._limits_now = limits
        self._limits = limits()
        """As workers were told last."""
        self._members = members
        self._held_by = held_by
        self._silence = silence
        self._quotas = Quotas()
        self._changed = trio.Event()
        self._turn = 0

    def look(self) -> None:
        """Something has changed that parts depend on: see to it soon."""
        self._changed.set()

    def join(self, worker: str) -> wire.Rates | None:
        """A worker is started: gives what it is to begin with, which is nothing; None where there are no limits."""
        self._quotas.join(worker)
        limits = self._limits_now()
        return _rates(0, NOTHING, limits) if any(limits) else None

    def taken(self, worker: str, number: int) -> None:
        """A worker says that these rates are in force."""
        self._quotas.taken(worker, number)
        self.look()

    def ended(self, worker: str) -> None:
        """A worker sends no requests any more."""
        self._quotas.ended(worker)
        self.look()

    def leave(self, worker: str) -> None:
        """A worker is lost: it may go on until `end_later`."""
        self._quotas.leave(worker)
        self.look()

    async def end_later(self, member: Member) -> None:
        """A worker that is lost goes on, at most, until it notices that nobody speaks to it any more."""
        await trio.sleep_until(member.sent_at + 1.5 * self._silence)  # one that is held up notices later
        self.ended(member.name)

    async def keep(self) -> None:
        """Tell workers what has changed, until cancelled."""
        while True:
            with trio.move_on_after(self._silence / 5) as waited:
                await self._changed.wait()
            self._changed = trio.Event()
            limits = self._limits_now()
            if not any(limits):
                continue
            changed, self._limits = limits != self._limits, limits
            ready = sorted(name for name, member in self._members.items() if member.ready)
            busy = [name for name in ready if self._held_by(name)] or ready
            at = self._turn % len(busy) if busy else 0
            self._quotas.divide(busy[at:] + busy[:at])
            told = self._quotas.due()
            if changed:
                told += self._quotas.again()
            for name, number, piece in told:
                self._members[name].say(_rates(number, piece, limits))
            if waited.cancelled_caught and any(self._starves(name) for name in busy):
                self._turn += 1  # there is not enough for each of them: they take turns

    def _starves(self, worker: str) -> bool:
        piece = self._quotas.piece(worker)
        return any(part_of(limit, piece) is None for limits in self._limits for limit in limits.values())


def _rates(number: int, piece: Piece, limits: Limits) -> wire.Rates:
    models, groups = limits
    return wire.Rates(
        number,
        {name: part_of(limit, piece) for name, limit in models.items()},
        {name: part_of(limit, piece) for name, limit in groups.items()},
    )
