"""The requests to one model on their way through its provider's batches: gathered, submitted, waited for, handed back.

A run asks as it would ask the model, and waits. Requests that come together become one batch; where nothing more has come for a moment, or
the batch is as large as the provider takes, it is sealed, journaled as an intent, submitted, and looked at now and then until it has
ended. So agents of several turns work too: each turn of all runs is a batch.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal, TypeAlias

import attrs
import msgspec
import trio

from runmgr.batch.provider_batches.api import Api, BatchRefused, Counts, Kind, Seen, Verdict
from runmgr.batch.provider_batches.records import BatchRecord, custom_id, write_record
from runmgr.batch.provider_batches.spool import Gathering, Place, Results
from runmgr.exceptions import MalformedResponseError, ModelAPIError, ModelHTTPError
from runmgr.journal import JournalWriter

__all__ = ("Lane", "Patience")

Later: TypeAlias = Literal["at once", "with room"]

_GROWTH = 1.5
_PASSES = frozenset({408, 409, 429})
_SETTLES = 30.0
"""Seconds until a provider surely lists what it has taken."""


@attrs.frozen
class Patience:
    """How often a provider is looked at.

    Args:
        longest: seconds between two looks at a batch, at most; it begins with 2, or with this where it is less.
        retries: how often one request, or a batch's submission, is sent again.
    """

    longest: float = 60.0
    retries: int = 8

    @property
    def first(self) -> float:
        """Seconds until the first look."""
        return min(2.0, self.longest)

    @property
    def linger(self) -> float:
        """Seconds without another request after which a batch is complete."""
        return min(1.0, self.longest)

    def next(self, wait: float) -> float:
        """Seconds until the look after the next one."""
        return min(wait * _GROWTH, self.longest)


@attrs.define(eq=False)
class _Entry:
    """A request that was asked for."""

    run_id: str
    verdict: Verdict | None = None
    place: Place | None = None
    later: Later | None = None
    """It was not refused: it is to be sent again at once, or when there is room at the provider."""
    told: trio.Event = attrs.field(factory=trio.Event)

    def tell(self, verdict: Verdict, place: Place | None = None, *, later: Later | None = None) -> None:
        self.verdict, self.place, self.later = verdict, place, later
        self.told.set()


class Lane:
    """See the module.

    Args:
        api: the provider's batch API.
        model: who is asked.
        name: the model's name in the journal.
        endpoint: the operation that requests are of.
        writer: the journal.
        results: where results are kept.
        number: gives the next batch's number.
        patience: how often the provider is looked at.
        nursery: whose tasks submit and wait.
    """

    def __init__(
        self,
        *,
        api: Api,
        model: Any,
        name: str,
        endpoint: str,
        writer: JournalWriter,
        results: Results,
        number: Callable[[], int],
        patience: Patience,
        nursery: trio.Nursery,
    ) -> None:
        self.api = api
        self.name = name
        self.endpoint = endpoint
        self.base_url: str = model.base_url
        self._model_name: str = model.model_name
        self._writer = writer
        self._results = results
        self._number = number
        self._patience = patience
        self._nursery = nursery
        self._entries: dict[str, _Entry] = {}
        self._gatherings: dict[tuple[tuple[str, str], ...], Gathering] = {}
        self._most = api.limits.requests
        self._one_ended = trio.Event()
        self.standing: dict[int, tuple[BatchRecord, str, Counts]] = {}
        """Batches that are under way: by number, with the provider's word for it and how far they are."""

    # ---------------------------------------------------------------- what runs call

    async def ask(self, run_id: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of the answer to a request. Cancelling leaves the request where it is; asked again, it is found there.

        Args:
            run_id: who asks.
            body: the request, as it would be sent by itself.
            headers: of the batch that it goes into.

        Raises:
            ModelHTTPError: the provider answered with an error that more tries will not mend, or has not.
            ModelAPIError: its batch was cancelled.
        """
        attempt, tries = 1, 0
        while True:
            name = custom_id(run_id, body, attempt)
            entry = self._entries.get(name)
            if entry is None:
                entry = self._put(name, run_id, body, headers)
            await entry.told.wait()
            self._entries.pop(name, None)
            verdict = entry.verdict
            assert verdict is not None
            if verdict.kind == "succeeded":
                assert entry.place is not None
                return self.api.answer(self._results.read(entry.place))
            if entry.later is not None:
                if entry.later == "with room":
                    await self._wait_for_room()
                continue
            attempt += 1
            tries += 1
            if verdict.kind == "again" and tries <= self._patience.retries:
                continue
            raise self._error(verdict, tries)

    def _error(self, verdict: Verdict, tries: int) -> ModelAPIError:
        after = f" (after {tries} tries)" if tries > 1 else ""
        if verdict.kind == "cancelled":
            return ModelAPIError(
                self._model_name,
                f"its provider batch was cancelled before it was answered{after}; --resume --retry-failed sends it again",
            )
        if not verdict.status:
            return ModelAPIError(
                self._model_name, f"not answered by its provider batch{after}: {verdict.problem}"
            )
        body: Any
        try:
            fields = msgspec.json.decode(verdict.problem, type=dict[str, Any])
            body = fields.get("error", fields)
        except msgspec.MsgspecError:
            body = verdict.problem
        # sent again here, in batches, as often as it may be: nobody is to send it yet again by himself
        return ModelHTTPError(verdict.status, self._model_name, body, headers={"x-should-retry": "false"})

    async def _wait_for_room(self) -> None:
        """Until another batch has ended, or for as long as is waited between two looks."""
        with trio.move_on_after(self._patience.longest):
            await self._one_ended.wait()

    # ---------------------------------------------------------------- gathering

    def _put(self, name: str, run_id: str, body: bytes, headers: Mapping[str, str]) -> _Entry:
        line = self.api.line(name, self.endpoint, body)
        entry = self._entries[name] = _Entry(run_id)
        if len(line) > self.api.limits.size - 100:
            entry.tell(Verdict(name, "failed", 413, f"{len(line):,} bytes are more than a batch may have"))
            return entry
        key = tuple(sorted(headers.items()))
        gathering = self._gatherings.get(key)
        if gathering is not None and gathering.size + len(line) > self.api.limits.size - 100:
            self._seal(key)
            gathering = None
        if gathering is None:
            path = self._results.folder / f"requests-{secrets.token_hex(6)}.jsonl"
            gathering = self._gatherings[key] = Gathering(path, dict(headers))
            self._nursery.start_soon(self._linger, key, gathering)
        gathering.add(name, run_id, line)
        if len(gathering.entries) >= self._most:
            self._seal(key)
        return entry

    async def _linger(self, key: tuple[tuple[str, str], ...], gathering: Gathering) -> None:
        """Seals the batch once nothing has come for a moment."""
        while not gathering.sealed:
            before = len(gathering.entries)
            await trio.sleep(self._patience.linger)
            if not gathering.sealed and len(gathering.entries) == before:
                self._seal(key)

    def _seal(self, key: tuple[tuple[str, str], ...]) -> None:
        gathering = self._gatherings.pop(key)
        gathering.seal()
        self._nursery.start_soon(self._submit, gathering)

    # ---------------------------------------------------------------- submitting

    async def _submit(self, gathering: Gathering) -> None:
        record = BatchRecord(
            number=self._number(),
            api=self.api.name,
            model=self.name,
            base_url=self.base_url,
            endpoint=self.endpoint,
            state="intended",
            key=secrets.token_hex(12),
            intended_at=time.time(),
            requests=len(gathering.entries),
            headers=gathering.headers,
        )
        write_record(self._writer, record, gathering.entries)
        await self._writer.committed()  # from here on another process can find it at the provider
        names = [name for name, _ in gathering.entries]
        self._stands(record, "submitting")
        try:
            found = await self._create(record, gathering)
        except ModelAPIError as error:
            status = error.status_code if isinstance(error, ModelHTTPError) else 0
            said = error.body if isinstance(error, ModelHTTPError) else str(error)
            await self._close(record, "void", str(error))
            self._tell_all(names, "failed", status, _text(said))
            return
        finally:
            gathering.path.unlink(missing_ok=True)
        await self._carry(record, names, found)

    async def _create(self, record: BatchRecord, gathering: Gathering) -> str:
        """Submits; gives the batch's id. Whatever leaves open whether it was taken is found out before it is sent again.

        Raises:
            ModelAPIError: it is not taken.
        """
        wait, tries = self._patience.first, 0
        while True:
            try:
                return await self.api.create(record, gathering.path)
            except (KeyError, TypeError) as error:
                raise MalformedResponseError(
                    self._model_name, f"the answer to a batch has no id: {error!r}"
                ) from error
            except ModelAPIError as error:
                tries += 1
                status = error.status_code if isinstance(error, ModelHTTPError) else 500
                if status < 500 and status not in _PASSES:
                    raise
                failure = error
            await trio.sleep(wait)
            wait = self._patience.next(wait)
            if status >= 500:
                # an error status says that it is not taken, a lost connection says nothing
                settles = 0.0 if isinstance(failure, ModelHTTPError) else _SETTLES
                if (found := await self._find(record, settles)) is not None:
                    return found
            if tries > self._patience.retries:
                raise failure

    async def _find(self, record: BatchRecord, settles: float) -> str | None:
        """What the provider has of a batch that may have been submitted. Asks until it is told, and for ``settles`` seconds more where it
        is told that there is none: what was taken a moment ago may not be listed yet.

        Raises:
            ModelHTTPError: the key is refused.
        """
        wait = self._patience.first
        until = trio.current_time() + settles
        while True:
            try:
                found = await self.api.find(record)
            except ModelAPIError as error:
                if isinstance(error, ModelHTTPError) and error.status_code in {401, 403}:
                    raise
            else:
                if found is not None or trio.current_time() >= until:
                    return found
            await trio.sleep(wait)
            wait = self._patience.next(wait)

    # ---------------------------------------------------------------- going on

    def take_up(self, record: BatchRecord, entries: list[tuple[str, str]], forget: set[str]) -> None:
        """Go on with a batch of an earlier process. Blocks for as long as its results take to be read.

        Args:
            record: the batch.
            entries: its requests' custom ids and runs.
            forget: runs that are to be asked for anew.
        """
        wanted = {name: run_id for name, run_id in entries if run_id not in forget}
        if record.state in {"intended", "submitted"}:
            for name, run_id in wanted.items():
                self._entries[name] = _Entry(run_id)
            self._nursery.start_soon(self._take_up, record, list(wanted))
        elif record.state == "ended":
            for verdict, place in self._read(record):
                if verdict.kind == "succeeded" and verdict.custom_id in wanted:
                    entry = self._entries[verdict.custom_id] = _Entry(wanted[verdict.custom_id])
                    entry.tell(verdict, place)

    async def _take_up(self, record: BatchRecord, names: list[str]) -> None:
        found = record.id
        self._stands(record, "looking for it")
        if found is None:
            try:
                found = await self._find(record, max(0.0, _SETTLES - (time.time() - record.intended_at)))
            except ModelHTTPError as error:
                self._tell_all(names, "failed", error.status_code, _text(error.body))
                return
            if found is None:
                await self._close(record, "void", None)
                self._tell_all(names, "again", 0, "it never reached the provider", later="at once")
                return
        await self._carry(record, names, found)

    async def _carry(self, record: BatchRecord, names: list[str], batch_id: str) -> None:
        """From a batch's id to its results."""
        if record.state == "intended":
            record.id = batch_id
            record.becomes("submitted")
            write_record(self._writer, record)
            await self._writer.committed()
        try:
            seen = await self._until_ended(record)
        except BatchRefused as error:
            await self._close(record, "failed", str(error))
            if error.too_much and len(names) > 1:
                self._most = max(1, min(self._most, len(names) // 2))
                for name in names:
                    if (entry := self._entries.get(name)) is not None:
                        entry.tell(Verdict(name, "again", 0, str(error)), later="with room")
            else:
                self._tell_all(names, "failed", 400, f"the provider refused the batch: {error}")
            return
        except ModelHTTPError as error:  # there is no such batch, or the key may not see it
            if error.status_code == 404:
                await self._close(record, "failed", str(error))
            self._tell_all(names, "failed", error.status_code, _text(error.body))
            return
        found = await self._download(record, seen)
        ours = set(names)
        if found and not any(verdict.custom_id in ours for verdict, _ in found):
            # taken for ours by its time and size, and it is another's
            await self._close(record, "failed", "it is not ours")
            self._tell_all(names, "again", 0, "it never reached the provider", later="at once")
            return
        await self._close(record, "ended", None)
        for number, (verdict, place) in enumerate(found):
            if number % 500 == 499:
                await trio.lowlevel.checkpoint()
            ours.discard(verdict.custom_id)
            if (entry := self._entries.get(verdict.custom_id)) is not None and not entry.told.is_set():
                entry.tell(verdict, place)
        kind = "cancelled" if seen.cancelled else "again"
        self._tell_all(list(ours), kind, 0, f"the batch ended ({seen.status}) without it")

    async def _until_ended(self, record: BatchRecord) -> Seen:
        assert record.id is not None
        wait = self._patience.first
        while True:
            try:
                seen = await self.api.look(record.id)
            except ModelHTTPError as error:
                if error.status_code in {401, 403, 404}:
                    raise
                self._stands(record, f"cannot be seen: status {error.status_code}")
            except ModelAPIError as error:
                self._stands(record, f"cannot be seen: {error.message}")
            else:
                self._stands(record, seen.status, seen.counts)
                if seen.ended:
                    return seen
            await trio.sleep(wait)
            wait = self._patience.next(wait)

    async def _download(self, record: BatchRecord, seen: Seen) -> list[tuple[Verdict, Place]]:
        """Streams the results to disk; begins again where that breaks off."""
        wait = self._patience.first
        path = self._results.path(record.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        while True:
            try:
                with beside.open("wb", buffering=1 << 18) as file:
                    async with aclosing(self.api.results(seen)) as lines:
                        async for line in lines:
                            file.write(line + b"\n")
                beside.replace(path)
                return list(self._read(record))
            except ModelAPIError as error:
                self._stands(record, f"results cannot be read: {error.message}", seen.counts)
            await trio.sleep(wait)
            wait = self._patience.next(wait)

    def _read(self, record: BatchRecord) -> list[tuple[Verdict, Place]]:
        found: list[tuple[Verdict, Place]] = []
        offset = 0
        try:
            file = self._results.path(record.number).open("rb", buffering=1 << 18)
        except FileNotFoundError:
            return found
        with file:
            for line in file:
                place = Place(record.number, offset, len(line))
                offset += len(line)
                try:
                    found.append((self.api.verdict(line), place))
                except msgspec.MsgspecError:
                    continue
        return found

    # ---------------------------------------------------------------- telling

    def _stands(self, record: BatchRecord, status: str, counts: Counts | None = None) -> None:
        known = self.standing.get(record.number)
        self.standing[record.number] = (
            record,
            status,
            counts or (known[2] if known else Counts(record.requests, 0)),
        )

    async def _close(self, record: BatchRecord, state: Any, problem: str | None) -> None:
        """The batch is over; the journal says so before anybody is told."""
        record.becomes(state)
        record.problem = problem
        write_record(self._writer, record)
        await self._writer.committed()
        self.standing.pop(record.number, None)
        self._one_ended.set()
        self._one_ended = trio.Event()

    def _tell_all(
        self, names: list[str], kind: Kind, status: int, problem: str, *, later: Later | None = None
    ) -> None:
        for name in names:
            if (entry := self._entries.get(name)) is not None and not entry.told.is_set():
                entry.tell(Verdict(name, kind, status, problem), later=later)


def _text(body: object) -> str:
    return body if isinstance(body, str) else msgspec.json.encode(body).decode()
