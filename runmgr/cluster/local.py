"""Workers in this very event loop: for tests in virtual time, and to see what a cluster costs without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .driver import Driver
from .engine import WorkerLost
from .options import ClusterOptions, check_cluster
from .worker import DriverSilent, work

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from runmgr.supervisor.runtime import Runtime

__all__ = ("LocalCluster", "LocalEngine")

worker_name: ContextVar[str] = ContextVar("runmgr_worker")
"""Which worker the code of a run is carried out by."""
ENVELOPES = 16
"""Envelopes that wait at either end; beyond that the sender waits."""


class _Link:
    """The driver's end of a worker that is a task of this event loop."""

    def __init__(self, name: str, carry: Callable[[str, bool, bytes], Awaitable[list[bytes]]]) -> None:
        self.name = name
        self._carry = carry
        self._to_worker, self.worker_receives = trio.open_memory_channel[bytes](ENVELOPES)
        self._from_worker, self._driver_receives = trio.open_memory_channel[bytes](ENVELOPES)
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.fault: str | None = None

    async def send(self, data: bytes) -> None:
        try:
            for each in await self._carry(self.name, True, data):
                await self._to_worker.send(each)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise WorkerLost(f"{self.name} is gone") from None

    async def receive(self) -> bytes:
        try:
            return await self._driver_receives.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise WorkerLost(self.fault or f"{self.name} is gone") from None

    async def kill(self) -> None:
        self.scope.cancel()
        await self.ended.wait()

    async def run(self) -> None:
        """The worker."""

        async def send(data: bytes) -> None:
            for each in await self._carry(self.name, False, data):
                await self._from_worker.send(each)

        worker_name.set(self.name)
        try:
            with self.scope:
                await work(self.worker_receives.receive, send)
        except (DriverSilent, trio.BrokenResourceError, trio.EndOfChannel, trio.ClosedResourceError):
            pass  # a worker of its own process would end by it too
        except Exception as error:  # noqa: BLE001  likewise, and its driver would be told
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self.worker_receives.close()
            self._from_worker.close()
            self.ended.set()


async def _at_once(worker: str, to_worker: bool, data: bytes) -> list[bytes]:  # noqa: ARG001
    return [data]


class LocalEngine:
    """Starts workers as tasks.

    Args:
        carry: what happens to an envelope on its way, by worker and direction: give it once, twice, after a while, or not
            at all. Called in the sender's task.
    """

    def __init__(self, carry: Callable[[str, bool, bytes], Awaitable[list[bytes]]] = _at_once) -> None:
        self._carry = carry
        self._nursery: trio.Nursery | None = None
        self.links: dict[str, _Link] = {}
        """Workers that were started, by name."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """See `Engine.open`."""
        async with trio.open_nursery() as self._nursery:
            yield
            self._nursery.cancel_scope.cancel()

    async def start(self, name: str) -> _Link:
        """See `Engine.start`."""
        assert self._nursery is not None
        await trio.lowlevel.checkpoint()
        link = self.links[name] = _Link(name, self._carry)
        self._nursery.start_soon(link.run)
        return link


@attrs.define(kw_only=True)
class LocalCluster:
    """A cluster in this event loop: everything that a real one does but the other processes.

    Args:
        workers: how many.
        per_worker: runs that each works on at once.
        silence: seconds without a word after which driver and worker take each other for lost.
        restarts: how often a worker may be lost within ``within`` seconds and is started again.
        within: see ``restarts``.
        patience: seconds that there may be no worker at all, before `NoWorkers` is raised.
        options: more arguments of `open_supervisor`, for the workers'.
        engine: what they are started on.

    Raises:
        UserError: a number is too small.
    """

    workers: int = 2
    per_worker: int = 100
    silence: float = 10.0
    restarts: int = 5
    within: float = 60.0
    patience: float = 300.0
    options: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    engine: Any = attrs.field(factory=LocalEngine)

    def __attrs_post_init__(self) -> None:
        check_cluster(self)

    @property
    def places(self) -> int:
        """Runs that it can work on at once."""
        return self.workers * self.per_worker

    def open(self, runtime: Runtime) -> AbstractAsyncContextManager[Driver]:
        """See `runmgr.supervisor.elsewhere.Cluster`."""
        return Driver(
            runtime,
            self.engine,
            ClusterOptions(
                workers=self.workers,
                per_worker=self.per_worker,
                silence=self.silence,
                restarts=self.restarts,
                within=self.within,
                patience=self.patience,
                supervisor=self.options,
            ),
        ).open()
