"""Runs on many workers under one supervisor: ``open_supervisor(cluster=...)``.

- `LocalCluster`: workers in this event loop, for tests
"""

from .engine import Engine, WorkerLink, WorkerLost
from .local import LocalCluster, LocalEngine

__all__ = ("Engine", "LocalCluster", "LocalEngine", "WorkerLink", "WorkerLost")
