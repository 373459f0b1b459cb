"""What becomes of one execution of a node, written into its snapshot."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from time import perf_counter
from types import TracebackType
from typing import Any

from runmgr.graph.exceptions import GraphNodeStatusError

from . import NodeSnapshot, utc_now

__all__ = ("Recording", "finish", "start")


def start(snapshot: NodeSnapshot[Any, Any]) -> None:
    """Mark a snapshot as running.

    Raises:
        GraphNodeStatusError: the node ran before.
    """
    GraphNodeStatusError.check(snapshot.status)
    snapshot.status = "running"
    snapshot.start_ts = utc_now()


def finish(snapshot: NodeSnapshot[Any, Any], duration: float, error: BaseException | None) -> None:
    """Mark a snapshot as done, failed, or (when the step was cancelled, which is no `Exception`) free to run again.

    Args:
        snapshot: of the node that ran.
        duration: seconds of real time, for people to read; nothing is decided by it, so it needs no injected clock.
        error: what the node raised.
    """
    snapshot.duration = duration
    if error is None:
        snapshot.status = "success"
    elif isinstance(error, Exception):
        snapshot.status = "error"
    else:
        snapshot.status = "created"


class Recording(AbstractAsyncContextManager[None]):
    """`BaseStatePersistence.record_run` for a snapshot at hand. Never a checkpoint."""

    __slots__ = ("_snapshot", "_started")

    def __init__(self, snapshot: NodeSnapshot[Any, Any]) -> None:
        self._snapshot = snapshot
        self._started = 0.0

    async def __aenter__(self) -> None:
        start(self._snapshot)
        self._started = perf_counter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        finish(self._snapshot, perf_counter() - self._started, error)
