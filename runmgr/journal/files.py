"""Opening the journal's file: who may, what it is, what is wrong with it, in words."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runmgr.exceptions import JournalError

from .holders import command_line, holder
from .schema import APPLICATION_ID, VERSION, migrate

if TYPE_CHECKING:
    from collections.abc import Generator

try:
    import fcntl
except (
    ImportError
):  # no such locks there: two writers are then kept apart by SQLite alone, with a vaguer error
    fcntl = None

__all__ = ("Lock", "connect_reader", "connect_writer", "explain", "salvage_hint")


@contextmanager
def explain(path: Path, doing: str) -> Generator[None, None, None]:
    """Turn SQLite's errors into `JournalError`, which names the file and the way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot {doing}: {_reason(path, error)}") from error


def _reason(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; make room, then resume: everything up to the last commit is kept"
    if name.startswith("SQLITE_IOERR"):
        return f"{text} ({name}): the disk is full or failing; everything up to the last commit is kept"
    if name.startswith("SQLITE_NOTADB") or "not a database" in text:
        return "it is not a journal of runmgr (not an SQLite file); name another file"
    if name.startswith("SQLITE_CORRUPT"):
        return f"the file is damaged ({text}); {salvage_hint(path)}"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{text}; is {path.parent} writable?"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{holder(path) or 'another program'} holds a lock on it; close it and try again"
    return text


def salvage_hint(path: Path) -> str:
    """What to do about a damaged journal."""
    return f"`python -m runmgr.journal salvage {path} NEW` keeps what can be read, and names the rest"


class Lock:
    """Keeps a second writer out, in this process or another. Gone when the process is, however it ends.

    A file beside the journal, ``NAME-lock``: SQLite's own locks live on the journal itself and would be dropped by
    opening it once more. It holds the process id and its command, for the message.
    """

    __slots__ = ("_descriptor", "_path")

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_name(journal.name + "-lock")
        self._descriptor = -1
        while self._descriptor < 0:
            self._try(journal)

    def _try(self, journal: Path) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(
                f"{journal}: cannot open the journal: {error.strerror}; is {journal.parent} an existing, writable directory?"
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner, _, command = os.read(descriptor, 1_000).decode(errors="replace").strip().partition(" ")
                os.close(descriptor)
                who = "this process" if owner == str(os.getpid()) else f"process {owner or 'unknown'}"
                if command and owner != str(os.getpid()):
                    who += f" ({command})"
                raise JournalError(
                    f"{journal}: the journal is being written by {who}; wait for it to end, or name another file"
                ) from error
            try:
                same = os.path.samestat(os.fstat(descriptor), self._path.stat())
            except FileNotFoundError:
                same = False
            if (
                not same
            ):  # its last holder removed it just now: this lock is on a file that nobody else will open
                os.close(descriptor)
                return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {command_line(sys.orig_argv)}".encode(errors="replace"), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others write."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version; 0 where it is empty. Raises where it is no journal, or one from the future."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables and not version:
        return 0
    if application != APPLICATION_ID:
        raise JournalError(f"{path}: this is an SQLite file, but not a journal of runmgr; name another file")
    if version > VERSION:
        raise JournalError(
            f"{path}: the journal was written by a newer runmgr (schema {version}, this one knows {VERSION}); "
            "upgrade runmgr, or name another file"
        )
    return version


def connect_writer(path: Path, durability: Literal["process", "power"]) -> sqlite3.Connection:
    """Open the file for writing, making it or bringing it up to date where needed. The caller holds its `Lock`."""
    with explain(path, "open the journal"):
        # Used by one thread at a time: the writer's; opened and closed by the event loop's.
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            version = _check(connection, path)
            if version == 0:  # half the system calls of 4 KiB, and less room lost at the end of each page
                connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode NORMAL never syncs at a commit: the pages are in the kernel's hands by then, which outlive the
            # process whatever kills it, but not the machine. FULL syncs the log at every commit.
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: 32 MB, 16 in older files
            connection.execute("PRAGMA cache_size = -4000")  # KiB
            if version == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            if version < VERSION:
                migrate(connection, version, time.time())
        except BaseException:
            connection.close()
            raise
        return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading, also while another process writes it.

    Raises:
        JournalError: there is no such file, it is empty or is no journal, or SQLite cannot read it.
    """
    if not path.exists():
        raise JournalError(f"{path}: there is no such journal")
    with explain(path, "read the journal"):
        # Not mode=ro: a connection that may not write leaves the -wal and -shm files behind that it needs, and cannot use a log
        # that a killed writer left. Nothing is written here but that log's pages, into their place, when it is the last to close.
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            try:
                version = _check(connection, path)
            except sqlite3.OperationalError:
                # A read-only directory: without its -shm file a WAL journal opens only as one that nobody writes.
                connection.close()
                connection = sqlite3.connect(
                    f"{path.resolve().as_uri()}?mode=ro&immutable=1",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,
                )
                version = _check(connection, path)
            if version == 0:
                raise JournalError(f"{path}: the file is empty: nothing was journaled")
        except BaseException:
            connection.close()
            raise
        return connection
