"""What every cluster is told about its workers, whatever they run on."""

from __future__ import annotations

from typing import Any

import attrs

from runmgr.exceptions import UserError

__all__ = ("ClusterOptions", "check_cluster")


@attrs.frozen
class ClusterOptions:
    """How a driver treats its workers."""

    workers: int
    per_worker: int
    silence: float
    """Seconds without a word after which either side takes the other for lost."""
    restarts: int
    """How often each worker may be lost within ``within`` seconds before the driver gives up."""
    within: float
    supervisor: dict[str, Any]
    """What the workers' supervisors are opened with, beside what the driver's says."""
    importable: bool = True
    patience: float = 300.0
    """Seconds that there may be no worker at all."""


def check_cluster(cluster: Any) -> None:
    """Look at the numbers that a cluster was made with.

    Raises:
        UserError: one is too small.
    """
    name = type(cluster).__name__
    for field in ("workers", "per_worker"):
        value: Any = getattr(cluster, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{name}({field}={value!r}): must be a whole number of at least 1")
    for field in ("silence", "within", "patience"):
        value = getattr(cluster, field)
        if not value > 0:
            raise UserError(f"{name}({field}={value!r}): seconds above 0 are needed")
    if cluster.restarts < 0:
        raise UserError(f"{name}(restarts={cluster.restarts!r}): must not be negative")
