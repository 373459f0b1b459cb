"""What a journal says of money: what was spent, and what may have been before anybody could say so.

A budget is claimed ahead of use: a commit says how much may be spent until the next one. A process that dies leaves its claim
behind, and the next one counts as spent what that may have cost.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from runmgr.usage import RunUsage

from .amounts import GUARDS, OPEN, Amount
from .ledger import Tally

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ("covers", "encode_spent", "next_claim", "read_spent")

_AHEAD = Decimal("0.005")
"""Share of a budget that is claimed ahead; what a crash makes unusable of it, beside what was in flight."""

_ANY_UNBOUNDED = (1 << 50) * OPEN
"""A claim is not about how many requests have no proven bound: so that lane says, by twice as many, that it holds for groups and runs."""


def covers(runtime: Runtime, claimed: int | None) -> bool:
    """Whether a claim that is committed holds all that is spent and reserved now, of what is limited."""
    gates = runtime.gates
    purse = gates.purse
    if claimed is None or purse is None:
        return purse is None
    if gates.has_nested_budgets:
        # Nothing is ahead then: it holds as long as nothing was reserved since. One from before the first of them says nothing of it.
        return (claimed + GUARDS - _ANY_UNBOUNDED - OPEN - purse.root.bound) & GUARDS == GUARDS
    limited = purse.root.guards
    return (claimed + GUARDS - purse.root.bound) & limited == limited


def next_claim(runtime: Runtime) -> int | None:
    """All that is spent or reserved, and a little ahead, so that requests seldom wait for it: as one number (see `amounts`)."""
    purse = runtime.gates.purse
    if purse is None:
        return None
    meter = purse.root
    claim = Amount.of(meter.bound)
    if runtime.gates.has_nested_budgets:
        return claim.packed + 2 * _ANY_UNBOUNDED  # what is ahead of the whole says nothing of the parts
    for name, limit in meter.limits.items():
        for field in ("input_tokens", "output_tokens") if name == "tokens" else (name,):
            setattr(claim, field, getattr(claim, field) + type(limit)(Decimal(limit) * _AHEAD))
    return claim.packed + _ANY_UNBOUNDED


def encode_spent(runtime: Runtime, claim: int | None, ended: int | None) -> bytes:
    """What a commit says of money: what is spent and lost, and may be spent before the next one; and how many runs have ended."""
    ledger = runtime.ledger
    spent = Tally()
    spent.merge(ledger.prior)
    spent.merge(ledger.total)
    return msgspec.json.encode(
        {
            "usage": spent.usage(),
            "cost": str(spent.cost),
            "unpriced": spent.unpriced,
            "ended": ended,
            "lost": runtime.gates.lost.to_list(),
            "claimed": None if claim is None else Amount.of(claim).to_list(),
            "groups": runtime.gates.spent_by_group(),
            "runs": runtime.gates.spent_by_run(),
        }
    )


def read_spent(runtime: Runtime, spent: dict[str, Any] | None) -> None:
    """Begin with what earlier processes have spent, and may have."""
    if spent is None:
        return
    usage = msgspec.convert(spent["usage"], RunUsage)
    runtime.ledger.prior.load(usage, Decimal(spent["cost"]), spent["unpriced"])
    runtime.gates.spent_by_group_before = {
        name: _amount(values) for name, values in spent.get("groups", {}).items()
    }
    runtime.gates.spent_by_run_before = {
        run_id: _amount(values) for run_id, values in spent.get("runs", {}).items()
    }
    lost = _amount(spent["lost"])
    claimed = spent.get("claimed")
    if claimed is not None:
        # That process did not come to its end: requests of its were in flight. Budgets count what they may have cost.
        most = _amount(claimed)
        most.take(Amount.of(runtime.ledger.prior.packed))
        lost.raise_to(most)
    runtime.gates.lost = lost


def _amount(values: list[Any]) -> Amount:
    requests, inputs, outputs, cost = values
    return Amount(requests, inputs, outputs, Decimal(cost))
