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

__all__ = ("Amount", "Meter", "Meters", "Purse")

_ZERO = Decimal(0)
_NAMES = ("requests", "tokens", "input_tokens", "output_tokens", "cost")


class Amount:
    """So many requests, tokens and dollars."""

    __slots__ = ("cost", "input_tokens", "open_ended", "output_tokens", "requests")

    def __init__(
        self, requests: int = 0, input_tokens: int = 0, output_tokens: int = 0, cost: Decimal = _ZERO
    ) -> None:
        self.open_ended = False
        """It is no proven bound: the output may be more."""
        self.requests = requests
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cost = cost

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def add(self, other: Amount) -> None:
        """Add another amount."""
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        if other.cost is not _ZERO:
            self.cost += other.cost

    def raised_to(self, least: Amount) -> Amount:
        """Raise tokens and cost to at least those of another amount; gives by how much."""
        more = Amount(
            0,
            max(0, least.input_tokens - self.input_tokens),
            max(0, least.output_tokens - self.output_tokens),
            max(_ZERO, least.cost - self.cost),
        )
        self.add(more)
        return more

    def raise_to(self, other: Amount) -> None:
        """Make it at least as much as another, in everything."""
        self.requests = max(self.requests, other.requests)
        self.input_tokens = max(self.input_tokens, other.input_tokens)
        self.output_tokens = max(self.output_tokens, other.output_tokens)
        self.cost = max(self.cost, other.cost)

    def to_list(self) -> list[Any]:
        """As plain data, for the journal."""
        return [self.requests, self.input_tokens, self.output_tokens, str(self.cost)]

    def take(self, other: Amount) -> None:
        """Take another amount away."""
        self.requests -= other.requests
        self.input_tokens -= other.input_tokens
        self.output_tokens -= other.output_tokens
        if other.cost is not _ZERO:
            self.cost -= other.cost


class Meter:
    """Spent and reserved, against a budget. Pure.

    Kept as sums of both (what is *bound*) and of what is spent alone, so that a request costs one comparison for each limit and two
    additions for each count: `Purse.reserve_nowait` and `Purse.settle` do it, for all of a request's budgets in one go.

    Args:
        budget: the limits.
        spent: what counts as spent already.
        scope: whose budget it is, in words.
    """

    __slots__ = (
        "bound_cost",
        "bound_inputs",
        "bound_outputs",
        "bound_requests",
        "largest",
        "limits",
        "line",
        "most_cost",
        "most_inputs",
        "most_outputs",
        "most_requests",
        "most_tokens",
        "needs_cost",
        "needs_tokens",
        "open_ended",
        "scope",
        "spent_cost",
        "spent_inputs",
        "spent_outputs",
        "spent_requests",
        "unbounded",
    )

    def __init__(self, budget: Budget, spent: Amount | None = None, scope: str = "supervisor") -> None:
        self.limits: dict[str, Any] = {}
        self.set(budget)
        before = spent or Amount()
        self.bound_requests = self.spent_requests = before.requests
        self.bound_inputs = self.spent_inputs = before.input_tokens
        self.bound_outputs = self.spent_outputs = before.output_tokens
        self.bound_cost = self.spent_cost = before.cost
        self.unbounded = 0
        """Requests that were sent without a proven bound (without ``max_tokens``): above 0, the budget is soft."""
        self.open_ended = 0
        """Those of them that are in flight."""
        self.largest = 0
        """The most output tokens that any of them used."""
        self.scope = scope
        self.line: OrderedDict[trio.lowlevel.Task, tuple[Meters, Amount]] = OrderedDict()
        """Requests that this budget keeps waiting, oldest first."""

    def set(self, budget: Budget) -> None:
        """Another budget; raising it makes room at once, lowering it stops only what comes."""
        self.most_requests = budget.requests
        self.most_tokens = budget.tokens
        self.most_inputs = budget.input_tokens
        self.most_outputs = budget.output_tokens
        self.most_cost = budget.cost_limit
        given = (self.most_requests, self.most_tokens, self.most_inputs, self.most_outputs, self.most_cost)
        self.limits = {name: limit for name, limit in zip(_NAMES, given, strict=True) if limit is not None}
        self.needs_cost = self.most_cost is not None
        self.needs_tokens = bool(self.limits.keys() - {"requests"})

    @property
    def spent(self) -> Amount:
        """What is spent: a new amount."""
        return Amount(self.spent_requests, self.spent_inputs, self.spent_outputs, self.spent_cost)

    @property
    def reserved(self) -> Amount:
        """What is reserved: a new amount."""
        return Amount(
            self.bound_requests - self.spent_requests,
            self.bound_inputs - self.spent_inputs,
            self.bound_outputs - self.spent_outputs,
            self.bound_cost - self.spent_cost,
        )

    @property
    def bound(self) -> Amount:
        """Both together: a new amount."""
        return Amount(self.bound_requests, self.bound_inputs, self.bound_outputs, self.bound_cost)

    def fits(self, need: Amount) -> bool:
        """Whether the amount can be reserved now."""
        inputs, outputs = need.input_tokens, need.output_tokens
        return not (
            ((most := self.most_tokens) is not None
            and self.bound_inputs + inputs + self.bound_outputs + outputs > most)
            or ((most := self.most_requests) is not None and self.bound_requests + need.requests > most)
            or ((most := self.most_inputs) is not None and self.bound_inputs + inputs > most)
            or ((most := self.most_outputs) is not None and self.bound_outputs + outputs > most)
            or ((most := self.most_cost) is not None and self.bound_cost + need.cost > most)
        )  # fmt: skip

    def missing(self, need: Amount) -> str | None:
        """Which limit keeps it from ever fitting, in words; None where none does."""
        spent = self.spent
        for name, limit in self.limits.items():
            used, needed = getattr(spent, name), getattr(need, name)
            if used + needed > limit:
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
        over = {
            name: _plain(getattr(spent, name) - limit)
            for name, limit in self.limits.items()
            if getattr(spent, name) > limit
        }
        return BudgetState(
            limits={name: _plain(limit) for name, limit in self.limits.items()},
            spent=shown(spent),
            reserved=shown(self.reserved),
            waiting=len(self.line),
            unbounded=self.unbounded,
            open_ended=self.open_ended,
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

    __slots__ = ("_chains", "_each_group", "_group_budgets", "_groups", "_spent", "root", "run")

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
            self._groups[name] = Meter(budget, (spent or self._spent)(name), f"group {name!r}")
            self._chains.pop(name, None)
        else:
            meter.set(budget)
            self._serve(meter)

    def drop_group(self, name: str) -> None:
        """Forget a group that has no runs."""
        self._group_budgets.pop(name, None)
        self._groups.pop(name, None)
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
    def meter(self) -> Meter:
        """The supervisor's meter."""
        return self.root

    @property
    def budgeted_groups(self) -> dict[str, Meter]:
        """Groups that have a budget and sent anything."""
        return {name: meter for name, meter in self._groups.items() if meter is not None}

    # ---------------------------------------------------------------- reserving

    def reserve_nowait(self, meters: Meters, need: Amount) -> bool:
        """Reserve the amount everywhere; False where it does not fit now but may when others settle.

        Raises:
            BudgetExhausted: it cannot fit.
        """
        # For every request, so `Meter.fits` is not called.
        requests, inputs, outputs, cost = need.requests, need.input_tokens, need.output_tokens, need.cost
        for meter in meters:
            if (
                meter.line
                or ((most := meter.most_tokens) is not None
                and meter.bound_inputs + inputs + meter.bound_outputs + outputs > most)
                or ((most := meter.most_requests) is not None and meter.bound_requests + requests > most)
                or ((most := meter.most_inputs) is not None and meter.bound_inputs + inputs > most)
                or ((most := meter.most_outputs) is not None and meter.bound_outputs + outputs > most)
                or ((most := meter.most_cost) is not None and meter.bound_cost + cost > most)
            ):  # fmt: skip
                self._raise_if_never(meters, need)
                return False
        _reserve(meters, need)
        return True

    def _raise_if_never(self, meters: Meters, need: Amount) -> None:
        for meter in meters:
            if meter.line or not meter.fits(need):
                missing = meter.missing(need)
                if missing is not None:
                    raise BudgetExhausted(missing, scope=meter.scope)

    async def reserve(self, meters: Meters, need: Amount) -> None:
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

    def _keep_out(self, task: trio.lowlevel.Task, entry: tuple[Meters, Amount]) -> None:
        meters, need = entry
        blocking = next((meter for meter in meters if not meter.fits(need)), None)
        if blocking is None:
            blocking = next(meter for meter in meters if meter.line)
        blocking.line[task] = entry

    def settle(self, meters: Meters, reserved: Amount | None, used: Amount) -> None:
        """The request is over: what it used takes the place of what was reserved."""
        requests, inputs, outputs, cost = used.requests, used.input_tokens, used.output_tokens, used.cost
        # What of it was not bound yet; less than nothing where less was used than was reserved.
        more_requests, more_inputs, more_outputs, more_cost = requests, inputs, outputs, cost
        open_ended = False
        if reserved is not None:
            more_requests -= reserved.requests
            more_inputs -= reserved.input_tokens
            more_outputs -= reserved.output_tokens
            if reserved.cost is not _ZERO:
                more_cost = cost - reserved.cost
            open_ended = reserved.open_ended
        waited = False
        for meter in meters:
            meter.bound_requests += more_requests
            meter.bound_inputs += more_inputs
            meter.bound_outputs += more_outputs
            if more_cost is not _ZERO:
                meter.bound_cost += more_cost
            meter.spent_requests += requests
            meter.spent_inputs += inputs
            meter.spent_outputs += outputs
            if cost is not _ZERO:
                meter.spent_cost += cost
            if open_ended:
                meter.open_ended -= 1
                meter.largest = max(meter.largest, outputs)
            if meter.line:
                waited = True
        if waited:
            for meter in meters:
                if meter.line:
                    self._serve(meter)

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
                _reserve(meters, need)
                trio.lowlevel.reschedule(task)

    @property
    def waiting(self) -> int:
        """How many requests wait at the supervisor's and the groups' budgets."""
        meters = [self.root, *self._groups.values()]
        return sum(len(meter.line) for meter in meters if meter is not None)


def _reserve(meters: Meters, need: Amount) -> None:
    """Reserve what fits."""
    requests, inputs, outputs, cost = need.requests, need.input_tokens, need.output_tokens, need.cost
    for meter in meters:
        meter.bound_requests += requests
        meter.bound_inputs += inputs
        meter.bound_outputs += outputs
        if cost is not _ZERO:
            meter.bound_cost += cost
        if need.open_ended:
            meter.unbounded += 1
            meter.open_ended += 1


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
