"""The other end of `elsewhere`: a supervisor that works on runs for another one.

It counts what each run uses of each model, so that the other one's accounts come out the same to the cent, and it spends
only what it was lent: its budgets grow by what the other one grants, and a request for which there is too little waits while
more is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runmgr.records.budgets import Budget

from .amounts import Amount
from .budget import Meter, Meters, Purse
from .elsewhere import Share
from .tally import Tally

if TYPE_CHECKING:
    from .actor import Actor
    from .model_door import ModelDoor
    from .supervisor import Supervisor

__all__ = ("Behalf", "LentAmount", "as_lent", "from_lent")

_ZERO = Decimal(0)
LentAmount = tuple[int, int, int, str]
"""Requests, input tokens, output tokens, dollars: an amount that travels."""


class _LentMeter(Meter):
    """A budget of which only what was granted may be spent, and more may come."""

    __slots__ = ("asked", "refused")

    def __init__(self, scope: str, names: frozenset[str]) -> None:
        self.refused: str | None = None
        self.asked: Amount | None = None
        super().__init__(Budget(**dict.fromkeys(names, 0)), None, scope)

    def missing(self, need: int) -> str | None:
        """More may come, until the lender says that nothing does."""
        return None if self.refused is None or self.fits(need) else self.refused


class _LentPurse(Purse):
    """Budgets that are lent, one for each group, and the runs' own."""

    __slots__ = ("_ask", "_names", "_run_names", "lent")

    def __init__(
        self, ask: Callable[[str, Amount], None], names: Callable[[str], frozenset[str]], run: Budget | None
    ) -> None:
        self.lent: dict[str, _LentMeter] = {}
        self._ask = ask
        self._names = names
        super().__init__(lambda _: Amount(), run=run)

    def group(self, name: str) -> Meter | None:
        meter = self.lent.get(name)
        if meter is None:
            names = self._names(name)
            if not names:
                return None
            meter = self.lent[name] = _LentMeter(f"group {name!r}" if name else "supervisor", names)
        return meter

    def of(self, group: str, run: Meter | None) -> Meters:
        meter = self.group(group)
        return tuple(each for each in (self.root, meter, run) if each is not None)

    def reserve_nowait(self, meters: Meters, need: int) -> bool:
        fits = super().reserve_nowait(meters, need)
        if not fits:
            for meter in meters:
                if isinstance(meter, _LentMeter) and not meter.fits(need):
                    self.ask_for(meter, Amount.of(need))
        return fits

    def ask_for(self, meter: _LentMeter, need: Amount) -> None:
        """Ask for more, once for as much."""
        asked = meter.asked
        if asked is None or need.tokens > asked.tokens or need.cost > asked.cost:
            meter.asked = need
            self._ask(next(name for name, each in self.lent.items() if each is meter), need)

    def granted(self, group: str, amount: Amount, refused: str | None) -> None:
        """The lender's word: so much in all, or no more than there is."""
        meter = self.group(group)
        if not isinstance(meter, _LentMeter):
            return
        meter.asked = None
        meter.refused = refused
        meter.set(Budget(**{name: getattr(amount, name) for name in meter.limits}))
        self._serve(meter)
        if meter.line and refused is None:  # it was for others: ask again for whoever stands first
            self.ask_for(meter, Amount.of(next(iter(meter.line.values()))[1]))


class Behalf:
    """What a supervisor keeps for the one on whose behalf it works.

    Args:
        supervisor: the one that works; nothing was submitted to it yet.
        limited: by group, the names of the budgets' limits that the lender has for it; None where it has no budgets.
        run_budget: the budget of every run that brings none of its own.
        ask: called with a group and what its next request needs, when too little is lent.
    """

    __slots__ = ("_returned", "_shares", "_supervisor", "purse")

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        limited: Callable[[str], frozenset[str]] | None,
        run_budget: Budget | None,
        ask: Callable[[str, Amount], None],
    ) -> None:
        self._supervisor = supervisor
        self._shares: dict[str, dict[tuple[str, str], Tally]] = {}
        gates = supervisor._runtime.gates
        self.purse: _LentPurse | None = None
        if limited is not None or run_budget is not None:
            gates.purse = self.purse = _LentPurse(ask, limited or (lambda _: frozenset()), run_budget)
        self._returned: dict[str, Amount] = {}
        gates.behalf = self

    # ---------------------------------------------------------------- called by the doors

    def settled(self, actor: Actor, door: ModelDoor, usage: Any, packed: int, *, priced: bool) -> None:
        """A request was paid for; ``packed`` is what it used, as one number (see `amounts`)."""
        self._tally(actor, door.system or "", door.name).add(usage, packed, priced=priced)

    def called_tools(self, actor: Actor, provider: str, model: str, count: int) -> None:
        """A run's tools were called."""
        self._tally(actor, provider, model).tool_calls += count

    def _tally(self, actor: Actor, provider: str, model: str) -> Tally:
        extras = actor._extras
        while extras is not None and extras.parent is not None:  # a child's share is its oldest parent's
            actor = extras.parent
            extras = actor._extras
        shares = self._shares.get(actor.run_id)
        if shares is None:
            shares = self._shares[actor.run_id] = {}
        tally = shares.get((provider, model))
        if tally is None:
            tally = shares[provider, model] = Tally()
        return tally

    # ---------------------------------------------------------------- for the other one

    def shares_of(self, run_id: str) -> tuple[Share, ...]:
        """What a run that has ended used, by model; it is forgotten here."""
        shares = self._shares.pop(run_id, None)
        if shares is None:
            return ()
        return tuple(
            Share(provider, model, tally.usage(), tally.cost, tally.unpriced)
            for (provider, model), tally in shares.items()
        )

    def spent(self) -> dict[str, LentAmount]:
        """What was spent of what was lent so far, by group; what may be spent for answers that never came is in it."""
        if self.purse is None:
            return {}
        return {name: as_lent(meter.spent) for name, meter in self.purse.lent.items()}

    def granted(self, group: str, amount: LentAmount, refused: str | None) -> None:
        """The lender's word.

        Args:
            group: whose runs may spend it.
            amount: all that was ever granted to it.
            refused: why there is no more, in words; None where there may be.
        """
        purse = self.purse
        if purse is not None:
            ever = from_lent(amount)
            ever.take(self._returned.get(group, Amount()))
            purse.granted(group, ever, refused)

    def give_back(self, group: str) -> LentAmount:
        """What was ever given back of a group's, with what it has no use for now."""
        returned = self._returned.setdefault(group, Amount())
        meter = None if self.purse is None else self.purse.lent.get(group)
        if meter is not None and not meter.line:
            idle = _idle(meter)
            returned.add(idle)
            meter.set(Budget(**{name: limit - getattr(idle, name) for name, limit in meter.limits.items()}))
        return as_lent(returned)


def _idle(meter: Meter) -> Amount:
    """What of a budget is neither spent nor reserved."""
    bound = Amount.of(meter.bound)
    left = {name: max(limit - getattr(bound, name), type(limit)(0)) for name, limit in meter.limits.items()}
    tokens = left.get("tokens")
    inputs, outputs = left.get("input_tokens", tokens), left.get("output_tokens", tokens)
    if tokens is not None:
        inputs = min(inputs, tokens)
        outputs = min(outputs, tokens - inputs)
    return Amount(left.get("requests", 0), inputs or 0, outputs or 0, left.get("cost", _ZERO))


def as_lent(amount: Amount) -> LentAmount:
    """An amount as it travels."""
    return amount.requests, amount.input_tokens, amount.output_tokens, str(amount.cost)


def from_lent(amount: LentAmount) -> Amount:
    """The opposite."""
    requests, inputs, outputs, cost = amount
    return Amount(requests, inputs, outputs, Decimal(cost))
