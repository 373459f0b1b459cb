"""``--ray``, ``--workers``, ``--per-worker``: options of the commands that can work on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runmgr.exceptions import UserError

__all__ = ("cluster_of", "cluster_options")

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """Give a command these options."""
    for option in (
        click.option(
            "--per-worker",
            metavar="N",
            type=int,
            help="With --ray: runs that each worker works on at once. [1,000]",
        ),
        click.option("--workers", metavar="N", type=int, help="With --ray: how many, each a process. [2]"),
        click.option(
            "--ray",
            metavar="ADDRESS",
            help="Work on Ray: local starts it on this machine; auto, HOST:PORT or ray://HOST:PORT where it runs.",
        ),
    ):
        command = option(command)
    return command


def cluster_of(ray: str | None, workers: int | None, per_worker: int | None) -> Any:
    """The cluster that is asked for, or None.

    Raises:
        UserError: Ray is not installed, or a number is wrong.
    """
    for option, value in (("--workers", workers), ("--per-worker", per_worker)):
        if value is None:
            continue
        if ray is None:
            raise UserError(
                f"{option} goes with --ray local (or an address): without it all runs are in this process"
            )
        if value < 1:
            raise UserError(f"{option} {value}: at least 1 is needed")
    if ray is None:
        return None
    if not ray.strip():
        raise UserError(
            "--ray: local, or the address of a Ray that runs (auto, HOST:PORT, ray://HOST:PORT), is needed"
        )
    from runmgr.cluster import RayCluster
    from runmgr.cluster.ray_engine import import_ray

    import_ray()
    given: dict[str, Any] = {"workers": workers, "per_worker": per_worker}
    return RayCluster(address=ray, **{name: value for name, value in given.items() if value is not None})
