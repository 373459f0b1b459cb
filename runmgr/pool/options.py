"""The arguments of `open_supervisor`, which `RunPool` takes too."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from runmgr.models.retry import RetryPolicy
    from runmgr.records.budgets import Budget, CachePolicy, Hedge, Price, RateLimit, RestartPolicy
    from runmgr.supervisor.bounds import CountTokens
    from runmgr.supervisor.breaker import BreakerPolicy
    from runmgr.supervisor.elsewhere import Cluster
    from runmgr.usage import UsageLimits

__all__ = ("SupervisorOptions",)


class SupervisorOptions(TypedDict, total=False):
    """See `open_supervisor` for what each of them does. A test holds the two together."""

    max_running: int | None
    max_queued: int
    max_parked: int
    max_depth: int
    max_children: int
    group_weights: Mapping[str, float] | None
    group_limits: Mapping[str, int] | None
    limits: UsageLimits | None
    budget: Budget | None
    group_budgets: Mapping[str, Budget] | Budget | None
    run_budget: Budget | None
    hedge: Hedge | None
    breaker: BreakerPolicy | None
    cache: CachePolicy | str | PathLike[str] | None
    cluster: Cluster | None
    rate_limits: Mapping[str, RateLimit] | RateLimit | None
    prices: Mapping[str, Price] | None
    tokenizers: Mapping[str, CountTokens] | None
    restart: RestartPolicy | None
    max_failures: float | None
    min_sample: int
    journal: str | PathLike[str] | None
    resume: bool
    retry_failed: bool
    interrupted_tools: Literal["ask", "repeat", "fail"]
    durability: Literal["process", "power"]
    journal_thread: bool | None
    retries: int | RetryPolicy
    remember: int
    rng: random.Random | None
    wall_clock: Callable[[], float]
