"""A cache of responses, and single flight: requests that are equal are answered from the file, or sent once.

The key is all that determines a response: provider, model, address, conversation, settings, tools and output, and the run's
``cache_salt``, which keeps epochs apart. Left out of the conversation is what says when and by which run it was held, and what an
earlier answer cost. A response from the cache was not paid for: it counts in no tally and no budget, its usage is zero, and
``ModelState.cached`` counts it.

The file is SQLite in WAL mode: several processes may share it. Reading and writing a row takes some ten microseconds and is
done in the event loop.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from runmgr.exceptions import UserError
from runmgr.messages import decode_message, encode_message
from runmgr.records.budgets import CachePolicy
from runmgr.usage import RequestUsage

from . import doors

if TYPE_CHECKING:
    from .actor import Actor
    from .model_door import ModelDoor

__all__ = ("Cache", "open_cache", "request_key")

_SCHEMA = """
create table if not exists responses (
    key blob primary key, made real not null, used real not null, size integer not null, body blob not null
) without rowid;
create index if not exists responses_used on responses (used);
"""
_APPLICATION = 0x52634163
_TRIM_EVERY = 64
_NOT_OF_MESSAGES = frozenset(
    {
        "timestamp",
        "run_id",
        "metadata",
        "usage",
        "provider_details",
        "provider_response_id",
        "finish_reason",
        "model_name",
    }
)
_NOT_OF_PARTS = frozenset({"timestamp", "metadata"})


def open_cache(cache: CachePolicy | str | PathLike[str]) -> Cache:
    """Open a cache.

    Raises:
        UserError: the file cannot be opened, or is something else.
    """
    return Cache(cache if isinstance(cache, CachePolicy) else CachePolicy(path=os.fspath(cache)))


class _Flight:
    """A request that is under way."""

    __slots__ = ("body", "landed")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.body: bytes | None = None
        """The answer; None where there was none."""


class Cache:
    """The responses of one supervisor.

    Args:
        policy: what is kept, where, and for how long.
        now: the wall clock, for ages.
    """

    __slots__ = ("_db", "_flights", "_now", "_policy", "_size", "_writes")

    def __init__(self, policy: CachePolicy, now: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._now = now
        self._flights: dict[bytes, _Flight] = {}
        self._writes = 0
        self._size = 0
        self._db: sqlite3.Connection | None = None
        if policy.path is not None:
            try:
                self._db = _open(policy.path)
                self._size = self._db.execute("select coalesce(sum(size), 0) from responses").fetchone()[0]
            except sqlite3.Error as error:
                raise UserError(
                    f"cache {policy.path}: cannot be used: {error}. Name another file, or one that this made"
                ) from None

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._db is not None:
            self._trim()
            self._db.close()
            self._db = None

    async def ask(
        self, actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any
    ) -> Any:
        """The response from the file, from an equal request in flight, or from the model.

        Raises as `doors.request`. Where the one that was waited for fails or is cancelled, another is sent.
        """
        key = request_key(door.model, messages, settings, params, actor._job.cache_salt)
        shared = self._policy.single_flight
        while True:
            body = self.get(key)
            if body is not None:
                break
            flight = self._flights.get(key) if shared else None
            if flight is None:
                return await self._send(key, actor, door, messages, settings, params)
            await flight.landed.wait()
            body = flight.body
            if body is not None:
                break
        await trio.lowlevel.checkpoint()
        door.cached += 1
        actor._model = door.name
        response: Any = decode_message(body)
        response.usage = RequestUsage()
        return response

    async def _send(
        self, key: bytes, actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any
    ) -> Any:
        flight = self._flights[key] = _Flight()
        try:
            response = await doors.request(actor, door.model, messages, settings, params, fresh=True)
            flight.body = encode_message(response)
            self.put(key, flight.body)
            return response
        finally:
            del self._flights[key]
            flight.landed.set()

    # ---------------------------------------------------------------- the file

    def get(self, key: bytes) -> bytes | None:
        """The answer kept under a key that is not too old; None where there is none."""
        if self._db is None:
            return None
        row = self._db.execute("select made, body from responses where key = ?", (key,)).fetchone()
        if row is None:
            return None
        made, body = row
        now = self._now()
        if self._policy.max_age is not None and now - made > self._policy.max_age:
            return None
        if self._policy.max_bytes is not None:
            self._db.execute("update responses set used = ? where key = ?", (now, key))
        return body

    def put(self, key: bytes, body: bytes) -> None:
        """Keep an answer; throws out what is too old or too much now and then."""
        if self._db is None:
            return
        now = self._now()
        self._db.execute("replace into responses values (?, ?, ?, ?, ?)", (key, now, now, len(body), body))
        self._size += len(body)
        self._writes += 1
        most = self._policy.max_bytes
        if self._writes % _TRIM_EVERY == 0 or (most is not None and self._size > most):
            self._trim()

    def _trim(self) -> None:
        db, policy = self._db, self._policy
        assert db is not None
        if policy.max_age is not None:
            db.execute("delete from responses where made < ?", (self._now() - policy.max_age,))
        self._size = db.execute("select coalesce(sum(size), 0) from responses").fetchone()[0]
        if policy.max_bytes is None or self._size <= policy.max_bytes:
            return
        target = policy.max_bytes * 9 // 10  # some room, so that not every answer has to throw another out
        for key, size in db.execute("select key, size from responses order by used").fetchall():
            if self._size <= target:
                return
            db.execute("delete from responses where key = ?", (key,))
            self._size -= size


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        kind = db.execute("pragma application_id").fetchone()[0]
        tables = db.execute("select count(*) from sqlite_master").fetchone()[0]
        if tables and kind != _APPLICATION:
            raise sqlite3.DatabaseError("it is another kind of database")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = off")  # what a power cut loses is asked for again
        db.execute(f"pragma application_id = {_APPLICATION}")
        db.executescript(_SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def request_key(model: Any, messages: list[Any], settings: Any, params: Any, salt: Any) -> bytes:
    """A digest of all that determines a response.

    Args:
        model: who is asked; its own settings count.
        messages: the conversation.
        settings: of the request.
        params: tools and output.
        salt: what keeps runs apart whose requests are equal.
    """
    own: dict[str, Any] = getattr(model, "settings", None) or {}
    given: dict[str, Any] = settings or {}
    said: list[Any] = [
        model.system,
        model.model_name,
        model.base_url,
        salt,
        {**own, **given},
        params,
        [_said(message) for message in messages],
    ]
    return hashlib.blake2b(msgspec.json.encode(said, enc_hook=repr, order="sorted"), digest_size=20).digest()


def _said(message: Any) -> Any:
    """A message without what does not go to the model, or is different each time."""
    plain = msgspec.json.decode(encode_message(message))
    parts = plain.pop("parts")
    return [
        {name: value for name, value in plain.items() if name not in _NOT_OF_MESSAGES},
        [{name: value for name, value in part.items() if name not in _NOT_OF_PARTS} for part in parts],
    ]
