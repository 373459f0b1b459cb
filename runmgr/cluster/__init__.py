"""Runs on many workers under one supervisor: ``open_supervisor(cluster=...)``.

- `RayCluster`: workers are Ray actors, on this machine or on many
- `LocalCluster`: workers are tasks of this event loop, for tests in virtual time
- `Engine`, `WorkerLink`, `WorkerLost`: what a cluster runs on, as an interface
"""

from .driver import NoWorkers
from .engine import Engine, WorkerLink, WorkerLost
from .local import LocalCluster, LocalEngine
from .ray_engine import RayCluster

__all__ = (
    "Engine",
    "LocalCluster",
    "LocalEngine",
    "NoWorkers",
    "RayCluster",
    "WorkerLink",
    "WorkerLost",
)
