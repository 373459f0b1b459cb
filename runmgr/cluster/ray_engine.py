"""Workers as Ray core actors: each one a process with a supervisor on a thread of its own. The only file that imports ray.

Of Ray this takes starting, placing, carrying bytes and killing. Its own retries stay off (``max_task_retries=0``,
``max_restarts=0``): with them and results in completion order, results were measured to be lost and doubled without an
error. What is leased again is the driver's decision.

An actor has two methods. ``put`` hands envelopes over and waits while the worker has no room; ``take`` waits, up to a while,
for what the worker says. One call of each is under way at a time, so envelopes keep their order.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs
import trio

from runmgr.exceptions import UserError

from .driver import Driver
from .engine import WorkerLost
from .options import ClusterOptions, check_cluster
from .worker import DriverSilent, work

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from runmgr.supervisor.runtime import Runtime

__all__ = ("RayCluster",)

HOLD_SECONDS = 0.5
"""How long ``take`` waits for something to be said."""
ROOM = 64
"""Envelopes that wait in a worker, in either direction."""
REACH_SECONDS = 10.0
"""How long connecting to Ray's address may take."""
START_SECONDS = 60.0
"""How long Ray may take to start a worker's process."""
CLOSE_SECONDS = 30.0
"""How long closing the connection to Ray may take, which ends Ray where it was started here."""
ORPHANED = 3
"""Exit code of a worker whose driver fell silent."""

_log = logging.getLogger("runmgr.cluster")


# -------------------------------------------------------------------- in the worker's process


class _RayWorker:
    """The actor: a thread that runs trio, and two queues to and from it."""

    def __init__(self) -> None:
        self._in: deque[bytes] = deque()
        self._out: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        """``put`` waits for it."""
        self._said = threading.Condition(self._lock)
        """``take`` waits for it."""
        self._token: trio.lowlevel.TrioToken | None = None
        self._arrived: trio.Event | None = None
        self._taken: trio.Event | None = None
        self._ended: str | None = None
        self._started = threading.Event()
        threading.Thread(target=self._run, name="runmgr worker", daemon=True).start()
        self._started.wait()

    def process(self) -> int:
        """Its process."""
        return os.getpid()

    def put(self, envelopes: list[bytes]) -> None:
        """Hand envelopes to the worker; waits while it has no room."""
        with self._lock:
            while len(self._in) >= ROOM and self._ended is None:
                self._room.wait()
            self._in.extend(envelopes)
        self._wake(self._heard)

    def take(self, seconds: float) -> tuple[list[bytes], str | None]:
        """What the worker says, waiting for up to so many seconds; and what it ended by, once it has."""
        with self._lock:
            if not self._out and self._ended is None:
                self._said.wait(seconds)
            envelopes = list(self._out)
            self._out.clear()
            ended = self._ended
        if envelopes:
            self._wake(self._was_taken)
        return envelopes, ended

    def _wake(self, call: Any) -> None:
        token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(call)

    def _heard(self) -> None:
        assert self._arrived is not None
        self._arrived.set()

    def _was_taken(self) -> None:
        assert self._taken is not None
        self._taken.set()

    def _run(self) -> None:
        ended = "it has ended"
        try:
            trio.run(_main, self)
        except DriverSilent:
            os._exit(ORPHANED)  # nobody is there to be told; nothing of it may go on
        except BaseException as error:  # noqa: BLE001  told to the driver
            ended = f"{type(error).__name__}: {error}"
        with self._lock:
            self._ended = ended
            self._room.notify_all()
            self._said.notify_all()
        self._started.set()  # it may have failed before it could say so


async def _main(actor: _RayWorker) -> None:
    """The worker. No method of the actor: with a coroutine among them, Ray would call all of them in one event loop, one by one, and
    ``put`` would wait for ``take``.
    """
    actor._arrived, actor._taken = trio.Event(), trio.Event()
    actor._token = trio.lowlevel.current_trio_token()
    actor._started.set()

    async def receive() -> bytes:
        while True:
            assert actor._arrived is not None
            with actor._lock:
                if actor._in:
                    envelope = actor._in.popleft()
                    actor._room.notify()
                    break
                actor._arrived = trio.Event()
            await actor._arrived.wait()
        await trio.lowlevel.checkpoint()
        return envelope

    async def send(envelope: bytes) -> None:
        while True:
            with actor._lock:
                if len(actor._out) < ROOM:
                    actor._out.append(envelope)
                    actor._said.notify()
                    break
                actor._taken = trio.Event()
            await actor._taken.wait()
        await trio.lowlevel.checkpoint()

    await work(receive, send)


# -------------------------------------------------------------------- in the driver's process


class _RayLink:
    """The driver's end of one actor."""

    def __init__(self, ray: Any, name: str, actor: Any) -> None:
        self._ray = ray
        self.name = name
        self.actor = actor
        self._received: deque[bytes] = deque()
        self._ended: str | None = None

    async def send(self, data: bytes) -> None:
        await self.call(self.actor.put.remote([data]))

    async def receive(self) -> bytes:
        while not self._received:
            if self._ended is not None:
                raise WorkerLost(f"{self.name}: {self._ended}")
            envelopes, self._ended = await self.call(self.actor.take.remote(HOLD_SECONDS))
            self._received.extend(envelopes)
        return self._received.popleft()

    async def call(self, ref: Any) -> Any:
        """Wait for the result of a call. Cancelled, the call goes on, and its result is nobody's.

        Raises:
            WorkerLost: the actor is gone.
        """
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        future = ref.future()

        def wake(_: object) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future.add_done_callback(wake)
        await done.wait()
        try:
            return future.result()
        except self._ray.exceptions.RayError as error:
            raise WorkerLost(f"{self.name}: {_first_line(error)}") from None

    async def kill(self) -> None:
        with suppress(Exception):  # it is gone already, or Ray is
            self._ray.kill(self.actor, no_restart=True)
        await trio.lowlevel.checkpoint()


def _check_reachable(address: str) -> None:
    """Ray itself takes minutes to say that nobody is there.

    Raises:
        UserError: it is an address, and nobody answers there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        if address.startswith("ray://"):
            raise UserError(
                f"RayCluster(address={address!r}): ray://HOST:PORT is needed, such as ray://10.0.0.1:10001"
            )
        return  # 'auto', or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"RayCluster(address={address!r}): nobody answers there ({error}). Give 'local' to start Ray on this machine, or the "
            "address of one that runs (such as 'auto', or 'ray://HOST:10001')"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Home:
    """A thread that connects to Ray, and lives until the connection is closed.

    Connecting takes seconds, which the event loop has not. And the processes that it starts die with the thread that started
    them (Ray sets ``PR_SET_PDEATHSIG``): a thread of a pool would end, and Ray with it, when it had been idle for a while.
    """

    def __init__(self, connect: Callable[[], None], close: Callable[[], None]) -> None:
        self._connect = connect
        self._close = close
        self._leave = threading.Event()
        self._done = trio.Event()
        self._error: BaseException | None = None

    async def enter(self) -> None:
        """Connect. Not cancelled on the way: what has begun is waited for."""
        token = trio.lowlevel.current_trio_token()

        def run() -> None:
            for step in (self._connect, self._close):
                try:
                    step()
                except BaseException as error:  # noqa: BLE001  raised where somebody waits
                    self._error = error
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._done.set)
                if self._error is not None or step is self._close:
                    return
                self._leave.wait()

        threading.Thread(target=run, name="runmgr ray", daemon=True).start()
        await self._wait()

    async def leave(self) -> None:
        """Close the connection, within a bound: what takes longer goes on without us, until the program ends."""
        self._done = trio.Event()
        self._leave.set()
        await self._wait(CLOSE_SECONDS)

    async def _wait(self, seconds: float = float("inf")) -> None:
        with trio.move_on_after(seconds, shield=True) as scope:
            await self._done.wait()
        if scope.cancelled_caught:
            _log.warning("the connection to Ray is not closed after %g s", seconds)
        if self._error is not None:
            raise self._error


class _RayEngine:
    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self._ray: Any = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """Connect to Ray, or start it here."""
        ray = self._ray = import_ray()
        if ray.is_initialized():
            yield
            return
        home = _Home(self._connect, ray.shutdown)
        await home.enter()
        try:
            yield
        finally:
            await home.leave()

    def _connect(self) -> None:
        cluster = self._cluster
        given: dict[str, Any] = {"logging_level": "error", "log_to_driver": False, **cluster.init}
        if cluster.address == "local":
            given = {
                "num_cpus": max(os.cpu_count() or 1, cluster.workers),
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                **given,
            }
        else:
            _check_reachable(cluster.address)
        try:
            self._ray.init(address=cluster.address, **given)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"RayCluster(address={cluster.address!r}): {_first_line(error)}. Give 'local' to start Ray on this machine, or "
                "the address of one that runs (such as 'auto', or 'ray://HOST:10001')"
            ) from error

    async def start(self, name: str) -> _RayLink:
        """Start an actor."""
        cluster = self._cluster
        try:
            kind = self._ray.remote(_RayWorker).options(
                max_concurrency=4,
                max_restarts=0,
                max_task_retries=0,
                num_cpus=cluster.cpus_per_worker,
                runtime_env=cluster.runtime_env,
                **cluster.actor_options,
            )
            link = _RayLink(self._ray, name, kind.remote())
        except (ValueError, TypeError) as error:
            raise UserError(
                f"RayCluster: Ray takes no such actor ({_first_line(error)}): look at actor_options, runtime_env and cpus_per_worker"
            ) from error
        with trio.move_on_after(START_SECONDS) as scope:
            try:
                await link.call(link.actor.process.remote())
            except BaseException:
                await link.kill()
                raise
        if scope.cancelled_caught:
            raise WorkerLost(f"{name}: Ray did not start it within {START_SECONDS:g} s")
        return link


def import_ray() -> Any:
    """The module.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"Ray is not installed here: pip install 'runmgr[ray]' (Python {sys.version_info[0]}.{sys.version_info[1]})"
        ) from error
    return ray  # pyright: ignore[reportUnknownVariableType]


@attrs.define(kw_only=True)
class RayCluster:
    """Runs on Ray: ``open_supervisor(cluster=RayCluster(address='local', workers=4))``.

    Args:
        address: ``'local'`` starts Ray on this machine, for as long as the supervisor is open; else where it runs, as
            ``ray.init`` takes it. Ray that this program has connected to already is used as it is.
        workers: actors, each a process.
        per_worker: runs that each works on at once.
        cpus_per_worker: what Ray counts an actor for when it places it.
        runtime_env: the workers' environment, as Ray has it: packages, variables, working directory.
        actor_options: more of Ray's actor options, such as ``resources`` or ``scheduling_strategy``.
        init: more arguments of ``ray.init``.
        silence: seconds without a word after which driver and worker take each other for lost.
        restarts: how often a worker may be lost within ``within`` seconds and is started again.
        within: see ``restarts``.
        patience: seconds that there may be no worker at all, before `NoWorkers` is raised.
        options: more arguments of `open_supervisor`, for the workers'.

    Raises:
        UserError: a number is too small.
    """

    address: str
    workers: int = 2
    per_worker: int = 1_000
    cpus_per_worker: float = 1.0
    runtime_env: dict[str, Any] | None = attrs.field(default=None, repr=False)  # keys may be in it
    actor_options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    init: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    silence: float = 10.0
    restarts: int = 5
    within: float = 60.0
    patience: float = 300.0
    options: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    def __attrs_post_init__(self) -> None:
        check_cluster(self)
        if not self.address:
            raise UserError("RayCluster(address=...): 'local', or the address of a Ray that runs, is needed")

    @property
    def places(self) -> int:
        """Runs that it can work on at once."""
        return self.workers * self.per_worker

    def open(self, runtime: Runtime) -> AbstractAsyncContextManager[Driver]:
        """See `runmgr.supervisor.elsewhere.Cluster`."""
        return Driver(
            runtime,
            _RayEngine(self),
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
