"""Hard budgets, nested: what is spent plus what is reserved never exceeds any of them.

Before a request its upper bound is reserved in every budget that it is under (the supervisor's, its group's, its run's): in
all at once or in none. Afterwards the reservation gives way to what was really used. A request whose answer was lost (cut
short, timed out, cancelled) may have been charged for: its bound stays spent here, though the ledger counts only what is
known. `Meter` is bookkeeping without a clock; `Purse` adds the waiting.

Who does not fit stands in the line of the budget that keeps it out, first come first served, and nobody who comes later
overtakes: a large request is not starved by small ones. Where nothing is reserved any more and it still does not fit, it is
refused: so what a budget has left when it stops work is less than the request that it stopped needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

import outcome
import trio

from runmgr.exceptions import BudgetExhausted
from runmgr.records.budgets import Budget
from runmgr.records.snapshots import BudgetState

from .amounts import EXACT, GUARD, GUARDS, MOST, MOST_DOLLARS, Amount, counted, ending

__all__ = ("Meter", "Meters", "Purse")

_MOST = {"requests": MOST, "tokens": MOST, "input_tokens": MOST, "output_tokens": MOST, "cost": MOST_DOLLARS}


class Meter:
    """Spent and reserved, against a budget. Pure.

    Kept as packed numbers (see `amounts`), so that a request costs one comparison and three additions, whatever is limited.
    `Purse.reserve_nowait` and `Purse.settle` do them for all of a request's budgets in one go.

    Args:
        budget: the limits.
        spent: what counts as spent already.
        scope: whose budget it is, in words.
    """

    __slots__ = ("_most", "guards", "largest", "limits", "line", "needs", "paid", "room", "scope")

    TOKENS = 1
    COST = 2

    def __init__(self, budget: Budget, spent: Amount | None = None, scope: str = "supervisor") -> None:
        self.limits: dict[str, Any] = {}
        self.guards = 0
        """The guards of what is limited."""
        self.needs = 0
        """What a request's bound has to say: `TOKENS`, and `COST` with it."""
        self.paid = 0 if spent is None else spent.packed
        """What is spent, as one number."""
        self._most = 0
        self.room = -self.paid
        """What can still be reserved, as one number with the guards; its lanes are below 0 where the limit is passed."""
        self.set(budget)
        self.largest = 0
        """The most output tokens that any request without a proven bound used."""
        self.scope = scope
        self.line: OrderedDict[trio.lowlevel.Task, tuple[Meters, int]] = OrderedDict()
        """Requests that this budget keeps waiting, oldest first, with what they need."""

    def set(self, budget: Budget) -> None:
        """Another budget; raising it makes room at once, lowering it stops only what comes."""
        cost = budget.cost_limit
        given = (budget.requests, budget.tokens, budget.input_tokens, budget.output_tokens, cost)
        self.limits = {
            name: min(limit, most)
            for (name, most), limit in zip(_MOST.items(), given, strict=True)
            if limit is not None
        }
        self.needs = (self.TOKENS if self.limits.keys() - {"requests"} else 0) | (
            cost is not None and self.COST
        )
        self.guards = sum(GUARD[name] for name in self.limits)
        most = ending(**self.limits)
        self.room += most - self._most
        self._most = most

    @property
    def bound(self) -> int:
        """What is spent and what is reserved, as one number."""
        return self._most - self.room

    @property
    def spent(self) -> Amount:
        """What is spent: a new amount."""
        return Amount.of(self.paid)

    @property
    def reserved(self) -> Amount:
        """What is reserved: a new amount."""
        return Amount.of(self.bound - self.paid)

    def fits(self, need: int) -> bool:
        """Whether the amount can be reserved now."""
        return (self.room - need) & GUARDS == GUARDS

    def missing(self, need: int) -> str | None:
        """Which limit keeps it from ever fitting, in words; None where none does."""
        spent, amount, both = self.spent, Amount.of(need), Amount.of(self.paid + need)
        for name, limit in self.limits.items():
            used, needed = getattr(spent, name), getattr(amount, name)
            if getattr(both, name) > limit:
                return (
                    f"the budget of the {self.scope} is exhausted: {name}={limit:,} allowed, {used:,} spent, "
                    f"and this request may need {needed:,}"
                )
        return None

    def state(self) -> BudgetState:
        """How it stands, as a value."""

        def shown(amount: Amount) -> dict[str, Any]:
            return {name: _plain(getattr(amount, name)) for name in self.limits}

        spent = self.spent
        ever, reserved = counted(self.bound), counted(self.bound - self.paid)
        over = {
            name: _plain(EXACT.subtract(used, limit) if name == "cost" else used - limit)
            for name, limit in self.limits.items()
            if (used := getattr(spent, name)) > limit
        }
        return BudgetState(
            limits={name: _plain(limit) for name, limit in self.limits.items()},
            spent=shown(spent),
            reserved=shown(self.reserved),
            waiting=len(self.line),
            unbounded=ever[1],
            open_ended=reserved[1],
            largest_output=self.largest or None,
            overshot=over,
        )


Meters: TypeAlias = tuple[Meter, ...]
"""The budgets that a request is under, the widest first."""


class Purse:
    """All budgets of a supervisor, and those who wait at them.

    Args:
        spent: what counts as spent when a budget is made: by scope (None: the supervisor's, a name: that group's).
        root: the supervisor's budget.
        groups: budgets by group; a `Budget` alone is for each group.
        run: the budget of every run that brings none.
    """

    __slots__ = ("_chains", "_each_group", "_group_budgets", "_groups", "_spent", "late", "root", "run")

    def __init__(
        self,
        spent: Callable[[str | None], Amount],
        *,
        root: Budget | None = None,
        groups: dict[str, Budget] | Budget | None = None,
        run: Budget | None = None,
    ) -> None:
        self._spent = spent
        self._each_group = groups if isinstance(groups, Budget) else None
        self._group_budgets: dict[str, Budget] = (
            {} if groups is None or isinstance(groups, Budget) else dict(groups)
        )
        self._groups: dict[str, Meter | None] = {}
        self._chains: dict[str, Meters] = {}  # by group: the budgets of a run that has none of its own
        self.root = Meter(Budget() if root is None else root, spent(None))
        """The supervisor's: where it has no budget, it limits nothing and only counts."""
        self.run = run
        self.late: set[Meter] = set()
        """Budgets that were made while runs went on: requests that were in flight then reserved nothing of them."""

    # ---------------------------------------------------------------- whose budgets

    def set_root(self, budget: Budget) -> None:
        """Change the supervisor's budget."""
        self.root.set(budget)
        self._serve(self.root)

    def set_group(
        self, name: str, budget: Budget, spent: Callable[[str | None], Amount] | None = None
    ) -> None:
        """Make or change a group's; made, what counts as spent by now is as ``spent`` says."""
        self._group_budgets[name] = budget
        meter = self._groups.get(name)
        if meter is None:
            meter = self._groups[name] = Meter(budget, (spent or self._spent)(name), f"group {name!r}")
            self.late.add(meter)
            self._chains.pop(name, None)
        else:
            meter.set(budget)
            self._serve(meter)

    def drop_group(self, name: str) -> None:
        """Forget a group that has no runs."""
        self._group_budgets.pop(name, None)
        meter = self._groups.pop(name, None)
        if meter is not None:
            self.late.discard(meter)
        self._chains.pop(name, None)

    def set_run(self, meter: Meter, budget: Budget) -> None:
        """Change a run's."""
        meter.set(budget)
        self._serve(meter)

    def group(self, name: str) -> Meter | None:
        """A group's meter; None where it has no budget."""
        try:
            return self._groups[name]
        except KeyError:
            budget = self._group_budgets.get(name, self._each_group)
            meter = None if budget is None else Meter(budget, self._spent(name), f"group {name!r}")
            self._groups[name] = meter
            return meter

    def of(self, group: str, run: Meter | None) -> Meters:
        """The budgets that a request of a run is under."""
        chain = self._chains.get(group)
        if chain is None:
            meter = self.group(group)
            chain = self._chains[group] = (self.root,) if meter is None else (self.root, meter)
        return chain if run is None else (*chain, run)

    @property
    def is_nested(self) -> bool:
        """Whether there are budgets of groups, or of every run."""
        return bool(self._group_budgets) or self._each_group is not None or self.run is not None

    @property
    def budgeted_groups(self) -> dict[str, Meter]:
        """Groups that have a budget and sent anything."""
        return {name: meter for name, meter in self._groups.items() if meter is not None}

    # ---------------------------------------------------------------- reserving

    def reserve_nowait(self, meters: Meters, need: int) -> bool:
        """Reserve the amount everywhere; False where it does not fit now but may when others settle.

        Raises:
            BudgetExhausted: it cannot fit.
        """
        for meter in meters:
            if (
                meter.room - need
            ) & GUARDS != GUARDS or meter.line:  # as `Meter.fits`, uncalled: for every request
                self._raise_if_never(meters, need)
                return False
        for meter in meters:
            meter.room -= need
        return True

    def _raise_if_never(self, meters: Meters, need: int) -> None:
        for meter in meters:
            if meter.line or not meter.fits(need):
                missing = meter.missing(need)
                if missing is not None:
                    raise BudgetExhausted(missing, scope=meter.scope)

    async def reserve(self, meters: Meters, need: int) -> None:
        """Wait until the amount fits everywhere, and reserve it. Cancelled, nothing is reserved.

        Raises:
            BudgetExhausted: what others used leaves too little.
        """
        task = trio.lowlevel.current_task()
        entry = (meters, need)
        self._keep_out(task, entry)

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            for meter in meters:
                if meter.line.pop(task, None) is not None:
                    self._serve(meter)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def _keep_out(self, task: trio.lowlevel.Task, entry: tuple[Meters, int]) -> None:
        meters, need = entry
        blocking = next((meter for meter in meters if not meter.fits(need)), None)
        if blocking is None:
            blocking = next(meter for meter in meters if meter.line)
        blocking.line[task] = entry

    def settle(self, meters: Meters, reserved: int, used: int) -> None:
        """The request is over: what it used takes the place of what was reserved. Both are numbers (see `amounts`)."""
        more = reserved - used
        waited = False
        for meter in meters:
            meter.room += more
            meter.paid += used
            if meter.line:
                waited = True
        if waited:
            for meter in meters:
                if meter.line:
                    self._serve(meter)

    def settle_late(self, reserved: Meters, group: str, run: Meter | None, used: int) -> None:
        """Count a request in those budgets of its run that are younger than it, and so not among those where it ``reserved``."""
        younger = tuple(
            meter for meter in self.of(group, run) if meter in self.late and meter not in reserved
        )
        self.settle(younger, 0, used)

    @staticmethod
    def open_ended(meters: Meters, outputs: int) -> None:
        """A request without a proven bound used so many output tokens."""
        for meter in meters:
            meter.largest = max(meter.largest, outputs)

    def _serve(self, meter: Meter) -> None:
        """Let those go whose turn has come, and those to whom it cannot come any more."""
        line = meter.line
        while line:
            task, entry = next(iter(line.items()))
            meters, need = entry
            for each in meters:
                missing = each.missing(need)
                if missing is not None:
                    del line[task]
                    trio.lowlevel.reschedule(task, outcome.Error(BudgetExhausted(missing, scope=each.scope)))
                    break
            else:
                blocking = next((each for each in meters if not each.fits(need)), None)
                if blocking is meter:
                    return
                del line[task]
                if blocking is not None:  # another budget keeps it out now
                    blocking.line[task] = entry
                    continue
                for each in meters:
                    each.room -= need
                trio.lowlevel.reschedule(task)

    @property
    def waiting(self) -> int:
        """How many requests wait at the supervisor's and the groups' budgets."""
        meters = [self.root, *self._groups.values()]
        return sum(len(meter.line) for meter in meters if meter is not None)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
