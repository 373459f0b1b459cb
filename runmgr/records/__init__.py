"""What travels between actors and to disk, as values: outcomes, limits, events, snapshots, definitions."""

from runmgr.records.budgets import Budget, CachePolicy, Hedge, Price, RateLimit, RestartPolicy
from runmgr.records.outcomes import RunError, RunOutcome, RunState

__all__ = (
    "Budget",
    "CachePolicy",
    "Hedge",
    "Price",
    "RateLimit",
    "RestartPolicy",
    "RunError",
    "RunOutcome",
    "RunState",
)
