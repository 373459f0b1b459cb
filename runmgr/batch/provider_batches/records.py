"""What the journal keeps of provider batches: which requests of which runs are in which of them, and how they stand.

A record is written three times: as an intent before anything is sent, with the provider's id once it has one, and when its
results are on disk. So another process finds out where this one was, whatever ended it. See `STATES`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, Literal, TypeAlias

import msgspec

from runmgr.exceptions import JournalError
from runmgr.journal import JournalReader, JournalWriter

__all__ = ("OPEN", "STATES", "BatchRecord", "custom_id", "read_records", "write_record")

State: TypeAlias = Literal["intended", "submitted", "ended", "void", "failed"]

STATES: Final[dict[str, tuple[str, ...]]] = {
    "intended": ("submitted", "void"),
    "submitted": ("ended", "failed"),
    "ended": (),
    "void": (),
    "failed": (),
}
"""What may follow on what.

``intended``: about to be sent; the provider may have it under an id that is not known here. ``submitted``: the provider has it.
``ended``: its results are on disk. ``void``: it never reached the provider. ``failed``: the provider refused it whole.
"""

OPEN: Final = frozenset({"intended", "submitted"})
"""States in which the provider has work, or may have."""

_PREFIX = "provider_batch/"
_ENTRIES = "/entries"
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")


class BatchRecord(msgspec.Struct, kw_only=True):
    """One batch at a provider.

    Args:
        number: counts this journal's batches, from 1.
        api: whose: ``openai`` or ``anthropic``.
        model: the model that is asked, as ``provider:name``.
        base_url: where the provider is.
        endpoint: the operation that each of its requests is of.
        state: how it stands.
        key: says at the provider that the batch is this one, where the provider keeps such a thing (OpenAI's ``metadata``).
        intended_at: Unix seconds, before it was sent.
        requests: how many.
        id: the provider's.
        headers: sent with it, besides the client's own.
        problem: what the provider said where it refused it.
    """

    number: int
    api: str
    model: str
    base_url: str
    endpoint: str
    state: State
    key: str
    intended_at: float
    requests: int
    id: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    problem: str | None = None

    def becomes(self, state: State) -> None:
        """Go on to another state of `STATES`."""
        assert state in STATES[self.state], f"{self.state} -> {state}"
        self.state = state


def write_record(
    writer: JournalWriter, record: BatchRecord, entries: list[tuple[str, str]] | None = None
) -> None:
    """Append the record to the journal; the caller awaits ``writer.committed()``.

    Args:
        writer: the journal.
        record: the batch.
        entries: each request's custom id and its run's; written once, with the intent.
    """
    key = f"{_PREFIX}{record.number}"
    if entries is not None:
        writer.set_meta(key + _ENTRIES, entries)
    writer.set_meta(key, record)


def read_records(reader: JournalReader) -> list[tuple[BatchRecord, list[tuple[str, str]]]]:
    """All of a journal's provider batches, the oldest first, each with its requests' custom ids and runs. Blocks.

    Raises:
        JournalError: it cannot be read, or holds something else under these names.
    """
    meta = {key: value for key, value in reader.all_meta().items() if key.startswith(_PREFIX)}
    found: list[tuple[BatchRecord, list[tuple[str, str]]]] = []
    for key, value in meta.items():
        if key.endswith(_ENTRIES):
            continue
        entries: Any = meta.get(key + _ENTRIES) or []
        try:
            found.append(
                (msgspec.convert(value, BatchRecord), msgspec.convert(entries, list[tuple[str, str]]))
            )
        except msgspec.ValidationError as error:
            raise JournalError(f"{reader.path}: {key} is damaged: {error}") from error
    return sorted(found, key=lambda pair: pair[0].number)


def custom_id(run_id: str, body: bytes, attempt: int) -> str:
    """A request's name within its batch: its run, what it asks, and how often that has been sent, from 1.

    Anthropic takes 1 to 64 characters of ``[a-zA-Z0-9_-]``; OpenAI any text.
    """
    run = run_id if _SAFE.match(run_id) else hashlib.blake2b(run_id.encode(), digest_size=16).hexdigest()
    return f"{run}-{hashlib.blake2b(body, digest_size=6).hexdigest()}-{attempt}"
