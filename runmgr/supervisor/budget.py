"""A hard budget over all runs: what is spent plus what is reserved never exceeds it.

Before a request its upper bound is reserved; afterwards the reservation gives way to what was really used. A request whose
answer was lost (cut short, timed out, cancelled) may have been charged for: its bound stays spent here, though the ledger
counts only what is known. `Meter` is bookkeeping without a clock; `Purse` adds the waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from typing import Any

import outcome
import trio

from runmgr.exceptions import BudgetExhausted
from runmgr.records.budgets import Budget
from runmgr.records.snapshots import BudgetState

__all__ = ("Amount", "Meter", "Purse")

_ZERO = Decimal(0)
_NAMES = ("requests", "tokens", "input_tokens", "output_tokens", "cost")


class Amount:
    """So many requests, tokens and dollars."""

    __slots__ = ("cost", "input_tokens", "output_tokens", "requests")

    def __init__(
        self, requests: int = 0, input_tokens: int = 0, output_tokens: int = 0, cost: Decimal = _ZERO
    ) -> None:
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
        self.cost += other.cost

    def take(self, other: Amount) -> None:
        """Take another amount away."""
        self.requests -= other.requests
        self.input_tokens -= other.input_tokens
        self.output_tokens -= other.output_tokens
        self.cost -= other.cost


class Meter:
    """Spent and reserved, against a limit. Pure."""

    __slots__ = ("limits", "reserved", "scope", "spent", "unbounded")

    def __init__(self, budget: Budget, spent: Amount | None = None, scope: str = "supervisor") -> None:
        self.limits: dict[str, Any] = {}
        self.set(budget)
        self.spent = spent or Amount()
        self.reserved = Amount()
        self.unbounded = 0
        """Requests that were sent without a proven bound (without ``max_tokens``): above 0, the budget is soft."""
        self.scope = scope

    def set(self, budget: Budget) -> None:
        """Another budget; raising it makes room at once, lowering it stops only what comes."""
        given = {name: getattr(budget, name) for name in _NAMES if name != "cost"}
        given["cost"] = budget.cost_limit
        self.limits = {name: limit for name, limit in given.items() if limit is not None}

    def fits(self, need: Amount) -> bool:
        """Whether the amount can be reserved now."""
        spent, reserved = self.spent, self.reserved
        for name, limit in self.limits.items():
            if getattr(spent, name) + getattr(reserved, name) + getattr(need, name) > limit:
                return False
        return True

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


class Purse:
    """A meter that requests wait at. First come, first served."""

    __slots__ = ("_line", "meter")

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._line: OrderedDict[trio.lowlevel.Task, Amount] = OrderedDict()

    def reserve_nowait(self, need: Amount) -> bool:
        """Reserve the amount; False where it does not fit now but may when others settle.

        Raises:
            BudgetExhausted: it cannot fit.
        """
        meter = self.meter
        if self._line:
            if meter.missing(need) is None:
                return False
        elif meter.fits(need):
            meter.reserved.add(need)
            return True
        missing = meter.missing(need)
        if missing is not None:
            raise BudgetExhausted(missing, scope=meter.scope)
        return False

    async def reserve(self, need: Amount) -> None:
        """Wait until the amount fits, and reserve it. Cancelled, nothing is reserved.

        Raises:
            BudgetExhausted: what others used leaves too little.
        """
        task = trio.lowlevel.current_task()
        self._line[task] = need

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._line[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def settle(self, reserved: Amount, used: Amount) -> None:
        """The request is over: what it used takes the place of what was reserved."""
        self.meter.reserved.take(reserved)
        self.meter.spent.add(used)
        if self._line:
            self.serve()

    def serve(self) -> None:
        """Let those go whose turn has come, and those to whom it cannot come any more."""
        meter = self.meter
        while self._line:
            task, need = next(iter(self._line.items()))
            if meter.fits(need):
                meter.reserved.add(need)
                del self._line[task]
                trio.lowlevel.reschedule(task)
                continue
            missing = meter.missing(need)
            if missing is None:
                return
            del self._line[task]
            trio.lowlevel.reschedule(task, outcome.Error(BudgetExhausted(missing, scope=meter.scope)))

    def state(self) -> BudgetState:
        """How it stands, as a value."""
        meter = self.meter

        def shown(amount: Amount) -> dict[str, Any]:
            return {name: _plain(getattr(amount, name)) for name in meter.limits}

        return BudgetState(
            limits={name: _plain(limit) for name, limit in meter.limits.items()},
            spent=shown(meter.spent),
            reserved=shown(meter.reserved),
            waiting=len(self._line),
            unbounded=meter.unbounded,
        )

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
