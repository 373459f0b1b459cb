"""The writer: many callers in one event loop, one thread, one transaction at a time.

The event loop's side encodes and appends to lists. A pump task takes what has gathered, hands it to the thread, waits for the
commit, and tells those who wait for it; meanwhile the next batch gathers. So a commit is as large as the last one was
slow, and the thread wakes the loop once a commit.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import msgspec
import outcome
import trio

from runmgr.concurrency import BareNursery
from runmgr.exceptions import JournalError

from .backfill import backfill
from .batch import Batch
from .disk import Disk, current_disk
from .files import Lock, connect_writer, explain
from .schema import SEQUENCE_BITS

__all__ = ("JournalWriter", "open_journal_writer")

BACKLOG_BYTES = 64 * 2**20
_MANY = 16
_ROUNDS = 3
"""Of the loop, for which a commit waits that could begin, where `_MANY` waited for the last one."""
_ROW_BYTES = 1_300
"""Counted for a row beside its body, so that 50,000 of the smallest are as many."""


class JournalWriter:
    """Appends records to a journal. Made by `open_journal_writer`; used from one trio loop.

    Methods are sync and return at once; what they append is committed soon after, all in the order of appending. A
    caller that must not go on before its record is safe gives ``told`` or awaits `committed`.
    """

    __slots__ = (
        "_after",
        "_batch",
        "_before_commit",
        "_closing",
        "_disk",
        "_error",
        "_on_error",
        "_room",
        "_told",
        "_under_way",
        "backlogged",
        "commits",
        "connection",
        "path",
        "runs",
        "sleeping",
    )

    def __init__(self, path: Path, connection: sqlite3.Connection, disk: Disk) -> None:
        self.path = path
        self.connection = connection
        self._disk = disk
        self.commits = 0
        """Transactions so far."""
        self.backlogged = False
        """Whether so much waits to be written that more should not be made: see `room`."""
        self._batch = Batch()
        self._under_way: Batch | None = None
        self.runs: int = connection.execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()[0]
        """Runs admitted in this file, ever: the number of the last one."""
        self._error: JournalError | None = None
        self._on_error: Callable[[JournalError], None] | None = None
        self._before_commit: Callable[[], bytes] | None = None
        self._after: Callable[[], None] | None = None
        self.sleeping: trio.lowlevel.Task | None = None
        """The pump, while it has nothing to do: see `wake`."""
        self._room: trio.Event | None = None
        self._told = 0
        """How many waited for the last commit."""
        self._closing = False

    # ---------------------------------------------------------------- appending

    def admitted(
        self,
        run_id: str,
        position: int,
        group: str,
        fingerprint: str | None,
        queued_at: float,
        input: bytes | None,
        metadata: bytes | None,
    ) -> int:
        """A run was admitted. Gives its number, which its other records are filed under."""
        run = self.runs = self.runs + 1
        self._batch.runs += (run, run_id, position, group, fingerprint, queued_at, input, metadata)
        if self.sleeping is not None:
            self._wake()
        return run

    def checkpoint(self, run: int, sequence: int, body: bytes) -> None:
        """A run reached a node boundary; ``sequence`` counts its checkpoints from 0."""
        batch = self._batch
        batch.checkpoints += (run << SEQUENCE_BITS | sequence, body)
        size = batch.size = batch.size + len(body) + _ROW_BYTES
        if size > BACKLOG_BYTES:
            self.backlogged = True
        if self.sleeping is not None:
            self._wake()

    def ended(
        self, run: int, status: str, finished_at: float, body: bytes, told: Callable[[bool], None]
    ) -> None:
        """A run has ended; ``told(True)`` is called once that is committed, ``told(False)`` if it cannot be."""
        self.ended_with(run, status, finished_at, body, _tell, told, None)

    def ended_with(
        self,
        run: int,
        status: str,
        finished_at: float,
        body: bytes,
        told: Callable[[bool, Any, Any], None],
        one: Any,
        other: Any,
    ) -> None:
        """As `ended`; ``told`` is called with ``one`` and ``other`` besides, so that nothing is made for each run."""
        if self._error is not None:
            told(False, one, other)
            return
        batch = self._batch
        batch.outcomes += (run, status, finished_at, body)
        batch.told += (told, one, other)
        size = batch.size = batch.size + len(body) + _ROW_BYTES
        if size > BACKLOG_BYTES:
            self.backlogged = True
        if self.sleeping is not None:
            self._wake()

    def superseded(self, run: int) -> None:
        """A run that has an outcome is begun again under another number: the old one counts no more."""
        self._batch.superseded.append(run)
        self._wake()

    def after(self, told: Callable[[bool], None]) -> None:
        """Call ``told`` once everything appended so far is committed."""
        if self._error is not None:
            told(False)
            return
        self._batch.told += (_tell, told, None)
        self._wake()

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key; the last one counts."""
        self._batch.meta[key] = msgspec.json.encode(value)
        self._wake()

    def with_each_commit(self, before: Callable[[], bytes], after: Callable[[], None]) -> None:
        """Have ``before()`` called as each transaction is about to be made up: it may append to it, and what it gives is kept
        under the key ``spent``. Have ``after()`` called once it is committed.
        """
        self._before_commit = before
        self._after = after

    def commit_soon(self) -> None:
        """Make a transaction, though there may be nothing for it but what `with_each_commit` adds."""
        self._batch.meta.setdefault("spent", b"null")
        self._wake()

    def on_error(self, tell: Callable[[JournalError], None]) -> None:
        """Have ``tell`` called, once, when nothing can be written any more."""
        self._on_error = tell

    async def committed(self) -> None:
        """Wait until everything appended so far is committed. Cancelling only ends the wait.

        Raises:
            JournalError: it cannot be.
        """
        if self._error is None:
            waiting = self._batch.waiting
            task = trio.lowlevel.current_task()
            waiting[task] = None
            self._wake()
            await trio.lowlevel.wait_task_rescheduled(_Leave(waiting, task))
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._error is not None:
            raise self._error

    @types.coroutine
    def next_commit(self) -> Generator[Any, Any, None]:
        """As `committed`, but a cancellation is raised only once that is there; and for less, as each run waits here each turn.

        Raises:
            JournalError: it cannot be.
        """
        batch = self._batch
        if self._error is not None:
            yield from self.committed().__await__()
        batch.tasks.append(trio.lowlevel.current_task())
        if self.sleeping is not None:
            self._wake()
        sent = yield _trap(batch) if batch.trap is None else batch.trap
        if sent is not _GO:
            sent.unwrap()
        if batch.cancelled:
            yield from trio.lowlevel.checkpoint_if_cancelled().__await__()  # noqa: ASYNC105  it is

    async def room(self) -> None:
        """Wait while `backlogged`."""
        while self.backlogged and self._error is None:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()

    # ---------------------------------------------------------------- the pump

    def wake(self) -> None:
        """Make up a transaction soon, if there is anything for one."""
        self._wake()

    def _wake(self) -> None:
        if self.sleeping is not None:
            trio.lowlevel.reschedule(self.sleeping)
            self.sleeping = None

    async def _pump(self, thread: _Thread | None) -> None:
        """Commit batch after batch until closed and empty, in the thread or, without one, here."""
        with trio.CancelScope(shield=True):
            try:
                await self._commit_all(thread)
            except BaseException:
                # A bug of ours, or of who is told: those who wait for this are not to wait for ever.
                if self._error is None:
                    self._error = JournalError(f"{self.path}: the journal's writer failed")
                for batch in (self._under_way, self._batch):
                    if batch is not None:
                        self._wake_tasks(batch)
                raise

    async def _commit_all(self, thread: _Thread | None) -> None:
        while True:
            if self._told >= _MANY:
                # Those that were just told may come to wait again, by a step or two, and fewer and larger commits are less work, for
                # the thread and for the loop.
                for _ in range(_ROUNDS):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            spent = None if self._before_commit is None else self._before_commit()
            if not self._batch:
                if self._closing:
                    return
                self.sleeping = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(_stay)
                if not self._batch.told and not self._batch.tasks and not self._batch.waiting:
                    # Nobody waits: whoever can go on goes first, and what is put off may be outdated by then.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                continue
            batch, self._batch = self._batch, Batch()
            self._told = len(batch.tasks) + len(batch.told) // 3
            self._under_way = batch
            self.backlogged = False
            if spent is not None:
                batch.meta["spent"] = spent
            if self._room is not None:
                self._room.set()
                self._room = None
            if self._error is None:
                if thread is None:
                    failure = self._disk.commit(batch, self.connection)
                    await trio.lowlevel.cancel_shielded_checkpoint()
                else:
                    failure = await thread.commit(batch)
                self.commits += 1
                if failure is not None:
                    self._fail(failure)
                elif self._after is not None:
                    self._after()
            ok = self._error is None
            threes = iter(batch.told)
            for told in threes:
                told(ok, next(threes), next(threes))
            self._wake_tasks(batch)
            for task in batch.waiting:
                trio.lowlevel.reschedule(task)
            batch = self._under_way = None

    def _wake_tasks(self, batch: Batch) -> None:
        tasks, batch.tasks = batch.tasks, []
        batch.trap = (
            None  # it knows the batch: left to the collector, the two would keep all outcomes of it meanwhile
        )
        error = self._error
        for task in tasks:
            trio.lowlevel.reschedule(task, _GO if error is None else outcome.Error(error))

    def _fail(self, failure: BaseException) -> None:
        try:
            with explain(self.path, "write the journal"):
                raise failure
        except JournalError as error:
            self._error = error
            if self._on_error is not None:
                self._on_error(error)

    def _close(self) -> None:
        self._closing = True
        self._wake()


def _stay(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _trap(batch: Batch) -> Any:
    """What a task gives trio to be put to sleep until the batch is committed: for all the same, where `wait_task_rescheduled` makes four
    objects for each. Its own is taken by beginning to wait in the place of somebody.
    """

    def stay(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        batch.cancelled = True
        return trio.lowlevel.Abort.FAILED

    waiting: Any = trio.lowlevel.wait_task_rescheduled(stay)  # noqa: ASYNC105  those do that it is for
    trap = batch.trap = waiting.send(None)
    waiting.close()
    return trap


class _Go(outcome.Outcome[None]):
    """What tasks are woken with that wait for a commit: nothing, and the same for all, where trio would make one for each."""

    __slots__ = ()

    def unwrap(self) -> None:
        return None

    def send(self, gen: Any) -> Any:
        return gen.send(None)

    async def asend(self, agen: Any) -> Any:
        return await agen.asend(None)


_GO = _Go()


def _tell(ok: bool, told: Callable[[bool], None], _: None) -> None:
    told(ok)


class _Leave:
    """What trio calls to cancel a wait for a commit. One object a wait, where a closure would be three."""

    __slots__ = ("_task", "_waiting")

    def __init__(self, waiting: dict[Any, None], task: trio.lowlevel.Task) -> None:
        self._waiting = waiting
        self._task = task

    def __call__(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        del self._waiting[self._task]
        return trio.lowlevel.Abort.SUCCEEDED


class _Thread:
    """The thread that commits. A daemon, so that a loop that dies without closing it does not hold the process."""

    __slots__ = ("_connection", "_disk", "_inbox", "_result", "_task", "_thread", "_token")

    def __init__(self, connection: sqlite3.Connection, disk: Disk, name: str) -> None:
        self._connection = connection
        self._disk = disk
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._task: trio.lowlevel.Task | None = None
        self._result: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (batch := self._inbox.get()) is not None:
            self._result = self._disk.commit(batch, self._connection)
            try:
                self._token.run_sync_soon(self._done)
            except trio.RunFinishedError:
                return

    def _done(self) -> None:
        task, self._task = self._task, None
        assert task is not None
        trio.lowlevel.reschedule(task)

    async def commit(self, batch: Batch) -> BaseException | None:
        """Commit in the thread; gives what went wrong."""
        self._task = trio.lowlevel.current_task()
        self._inbox.put(batch)
        await trio.lowlevel.wait_task_rescheduled(_stay)
        return self._result

    def close(self) -> None:
        """End the thread; it is idle, so this does not wait long."""
        self._inbox.put(None)
        self._thread.join()


@asynccontextmanager
async def open_journal_writer(
    path: str | PathLike[str],
    *,
    durability: Literal["process", "power"] = "process",
    threaded: bool = True,
) -> AsyncGenerator[JournalWriter, None]:
    """Open a journal for writing, making the file where there is none. Leaving the block commits everything.

    Args:
        path: the file; its directory must exist.
        durability: ``'process'``: a commit survives the end of the process, ``kill -9`` included; ``'power'``: that of
            the machine, at the price of a disk sync a commit.
        threaded: commit in a thread. False commits in the event loop: for virtual time, which would jump while a thread
            works.

    Raises:
        JournalError: it cannot be opened, is no journal, comes from a newer runmgr, or is being written by somebody
            else.
    """
    path = Path(path)
    lock = Lock(path)
    try:
        connection = connect_writer(path, durability)
        try:
            disk = current_disk.get()
            writer = JournalWriter(path, connection, disk)
            thread = _Thread(connection, disk, f"runmgr journal {path.name}") if threaded else None
            try:
                async with BareNursery(
                    "the journal's writer failed: a bug in runmgr, please report it"
                ) as nursery:
                    nursery.start_soon(writer._pump, thread, name="runmgr journal")
                    if threaded:
                        nursery.start_soon(backfill, path, writer, name="runmgr journal log")
                    try:
                        yield writer
                    finally:
                        writer._close()  # the pump is shielded: it commits what there is, then ends
            finally:
                if thread is not None:
                    thread.close()
        finally:
            with explain(path, "close the journal"):
                if threaded:  # what is left of the log is moved and synced now
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(connection.close)
                else:
                    connection.close()
    finally:
        lock.release()
