"""What a supervisor lends of its budgets to those that work on its behalf, so that all together stay under the limit.

What is lent is reserved here until the borrower says that it is spent or gives it back. A borrower that is lost may have
spent all that it had: that stays spent, as the bound of a request does whose answer was lost. So the limit holds whoever
fails, and what a failure can waste is what was lent and not yet reported: loans are a few requests' worth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from runmgr.exceptions import BudgetExhausted

from .amounts import Amount
from .behalf import LentAmount, as_lent, from_lent

if TYPE_CHECKING:
    from .budget import Meters, Purse
    from .runtime import Runtime

__all__ = ("Lender",)

_AT_ONCE = 64
"""Requests' worth that one loan is at most."""
_PARTS = 4
"""A loan is at most this part of a borrower's even share of what is left."""


class _Loan:
    """What one borrower has for one group."""

    __slots__ = ("given", "returned", "spent")

    def __init__(self) -> None:
        self.given = Amount()
        """All that was ever lent."""
        self.returned = Amount()
        self.spent = Amount()
        """As it was reported last."""

    @property
    def outstanding(self) -> Amount:
        rest = Amount()
        rest.add(self.given)
        rest.take(self.returned)
        rest.take(self.spent)
        return rest


class Lender:
    """The lending side. Borrowers are names.

    Args:
        runtime: whose budgets they are.
        call_in: called with a group when too little is left: every borrower should give back what it has no use for.
    """

    __slots__ = ("_call_in", "_loans", "_runtime")

    def __init__(self, runtime: Runtime, call_in: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._call_in = call_in
        self._loans: dict[str, dict[str, _Loan]] = {}

    @property
    def purse(self) -> Purse | None:
        """The budgets; None where there is none."""
        return self._runtime.gates.purse

    def limited(self, group: str) -> frozenset[str]:
        """The names of the limits that a group's runs are under."""
        purse = self.purse
        if purse is None:
            return frozenset()
        return frozenset(name for meter in purse.of(group, None) for name in meter.limits)

    def _loan(self, borrower: str, group: str) -> _Loan:
        return self._loans.setdefault(borrower, {}).setdefault(group, _Loan())

    async def lend(
        self, borrower: str, group: str, need: LentAmount, borrowers: int
    ) -> tuple[LentAmount, str | None]:
        """Lend what a request needs, and more where there is plenty; waits while others have what is left.

        Cancelled, nothing more is lent.

        Args:
            borrower: to whom.
            group: whose runs are to spend it.
            need: what the next request may cost.
            borrowers: how many there are.

        Returns:
            All that was ever lent to this borrower for the group, and why there is no more, where there is not.
        """
        purse = self.purse
        assert purse is not None
        meters = purse.of(group, None)
        wanted = from_lent(need)
        refused: str | None = None
        try:
            amount = await self._reserve(purse, meters, group, wanted, borrowers)
        except BudgetExhausted as error:
            refused = str(error)
        else:
            journal = self._runtime.journal
            if journal is not None and not journal.claimed():
                try:
                    await journal.claim()
                except BaseException:
                    purse.settle(meters, amount.packed, 0)
                    raise
            self._loan(borrower, group).given.add(amount)
        return as_lent(self._loan(borrower, group).given), refused

    async def _reserve(
        self, purse: Purse, meters: Meters, group: str, need: Amount, borrowers: int
    ) -> Amount:
        many = _AT_ONCE
        for meter in meters:
            bound = Amount.of(meter.bound)
            for name, limit in meter.limits.items():
                left = limit - getattr(bound, name)
                one = getattr(need, name)
                if one:
                    many = min(many, int(left // (one * borrowers * _PARTS)))
        if many > 1:
            amount = _times(need, many)
            if purse.reserve_nowait(meters, amount.packed):
                await trio.lowlevel.checkpoint_if_cancelled()
                return amount
        packed = need.packed
        if not purse.reserve_nowait(meters, packed):
            self._call_in(group)
            await purse.reserve(meters, packed)
        return need

    def reported(self, borrower: str, spent: dict[str, LentAmount]) -> None:
        """What a borrower has spent in all so far, by group."""
        for group, amount in spent.items():
            loan = self._loan(borrower, group)
            now = from_lent(amount)
            more = Amount()
            more.add(now)
            more.take(loan.spent)
            loan.spent = now
            self._settle(group, more, more)

    def returned(self, borrower: str, group: str, amount: LentAmount) -> None:
        """What a borrower has given back in all so far."""
        loan = self._loan(borrower, group)
        now = from_lent(amount)
        more = Amount()
        more.add(now)
        more.take(loan.returned)
        loan.returned = now
        self._settle(group, more, Amount())

    def lost(self, borrower: str) -> None:
        """A borrower is gone without a word: what it had may be spent."""
        for group, loan in self._loans.pop(borrower, {}).items():
            rest = loan.outstanding
            if rest.requests or rest.tokens or rest.cost:
                self._runtime.gates.lost.add(rest)
                self._settle(group, rest, rest)

    def left(self, borrower: str) -> None:
        """A borrower has ended and told all: what it has not spent is there for others."""
        for group, loan in self._loans.pop(borrower, {}).items():
            self._settle(group, loan.outstanding, Amount())

    def _settle(self, group: str, reserved: Amount, used: Amount) -> None:
        purse = self.purse
        if purse is not None:
            purse.settle(purse.of(group, None), reserved.packed, used.packed)


def _times(amount: Amount, many: int) -> Amount:
    return Amount(
        amount.requests * many, amount.input_tokens * many, amount.output_tokens * many, amount.cost * many
    )
