"""Persistence in a JSON file, to go on with after the process has gone."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from runmgr.graph.exceptions import GraphRuntimeError
from runmgr.graph.nodes import BaseNode, End, RunEndT, StateT

from . import EndSnapshot, NodeSnapshot, Snapshot
from .recording import finish, start
from .typed import TypedPersistence

__all__ = ("FileStatePersistence",)

T = TypeVar("T")
IORunner = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function and returns what it returned: ``trio.to_thread.run_sync``, for one."""


@dataclass
class FileStatePersistence(TypedPersistence[StateT, RunEndT]):
    """Keeps every snapshot of one run in one JSON file.

    The file is written whole, twice a step, to a temporary file beside it that then takes its place: a reader, or a
    process that starts after a crash, finds the old content or the new, never half of one. The writing grows with the
    square of the number of steps: meant for runs of tens of steps; thousands belong in a supervisor's journal.

    Reading and writing block. By default they do so in the event loop (well under a millisecond for a small file on a
    local disk); with ``run_io=trio.to_thread.run_sync`` they are done in a thread.

    One process at a time: two that use one file overwrite each other's snapshots.
    """

    json_file: Path
    """The file; made when first written."""
    run_io: IORunner | None = None
    """Runs the blocking reads and writes; None: they are done in the event loop."""
    rerun_interrupted: bool = False
    """Whether `load_next` also takes up a node that was loaded or running when its process died (status ``pending`` or
    ``running``). Its step then happens twice, as far as it went."""

    def __post_init__(self) -> None:
        self.json_file = Path(self.json_file)

    async def snapshot_node(self, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]) -> None:
        """See the base class."""
        await self._append(NodeSnapshot(state=state, node=next_node))

    async def snapshot_node_if_new(
        self, snapshot_id: str, state: StateT, next_node: BaseNode[StateT, Any, RunEndT]
    ) -> None:
        """See the base class."""
        if not any(snapshot.id == snapshot_id for snapshot in await self.load_all()):
            await self._append(NodeSnapshot(state=state, node=next_node, id=snapshot_id))

    async def snapshot_end(self, state: StateT, end: End[RunEndT]) -> None:
        """See the base class."""
        await self._append(EndSnapshot(state=state, result=end))

    def record_run(self, snapshot_id: str) -> AbstractAsyncContextManager[None]:
        """See the base class."""
        return self._recording(snapshot_id)

    @asynccontextmanager
    async def _recording(self, snapshot_id: str) -> AsyncGenerator[None]:
        await self._io(partial(self._change, snapshot_id, start))
        started = perf_counter()
        try:
            yield
        except BaseException as error:
            # In the event loop whatever `run_io` says: a step that was cancelled could not wait for a thread.
            self._change(snapshot_id, partial(finish, duration=perf_counter() - started, error=error))
            raise
        done = partial(finish, duration=perf_counter() - started, error=None)
        await self._io(partial(self._change, snapshot_id, done))

    async def load_next(self) -> NodeSnapshot[StateT, RunEndT] | None:
        """See the base class; and `rerun_interrupted`."""
        return await self._io(self._load_next)

    def _load_next(self) -> NodeSnapshot[StateT, RunEndT] | None:
        snapshots = self._read()
        free = {"created", "pending", "running"} if self.rerun_interrupted else {"created"}
        for snapshot in snapshots:
            if isinstance(snapshot, NodeSnapshot) and snapshot.status in free:
                snapshot.status = "pending"
                self._write(snapshots)
                return snapshot
        return None

    async def load_all(self) -> list[Snapshot[StateT, RunEndT]]:
        """See the base class; empty if there is no file."""
        return await self._io(self._read)

    async def _io(self, function: Callable[[], T]) -> T:
        return function() if self.run_io is None else await self.run_io(function)

    async def _append(self, snapshot: Snapshot[StateT, RunEndT]) -> None:
        await self._io(lambda: self._write([*self._read(), snapshot]))

    def _change(self, snapshot_id: str, change: Callable[[NodeSnapshot[StateT, RunEndT]], T]) -> T:
        snapshots = self._read()
        for snapshot in reversed(snapshots):
            if snapshot.id == snapshot_id and isinstance(snapshot, NodeSnapshot):
                result = change(snapshot)
                self._write(snapshots)
                return result
        raise LookupError(f"No snapshot found with id={snapshot_id!r}")

    def _read(self) -> list[Snapshot[StateT, RunEndT]]:
        codec = self._known_codec()
        try:
            data = self.json_file.read_bytes()
        except FileNotFoundError:
            return []
        try:
            return codec.decode(data)
        except ValueError as error:
            raise GraphRuntimeError(
                f"{self.json_file} does not hold snapshots of this graph: {error}"
            ) from error

    def _write(self, snapshots: list[Snapshot[StateT, RunEndT]]) -> None:
        data = self._known_codec().encode(snapshots, indent=2)
        beside = self.json_file.with_name(f".{self.json_file.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.json_file)
        finally:
            beside.unlink(missing_ok=True)
