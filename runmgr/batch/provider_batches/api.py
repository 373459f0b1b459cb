"""What a provider's batch API is to the rest: a few operations, and the limits of one batch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from runmgr.batch.provider_batches.records import BatchRecord

__all__ = ("Api", "BatchRefused", "Counts", "Kind", "Limits", "Seen", "Verdict")

Kind: TypeAlias = Literal["succeeded", "failed", "again", "cancelled"]
"""What became of one request: an answer; an error for good; nothing, or an error that may pass, so that it may be sent again; the
batch was cancelled before it came to it."""


@attrs.frozen
class Limits:
    """Of one batch: requests, and bytes of its file."""

    requests: int
    size: int


@attrs.frozen
class Counts:
    """How far a batch is: requests in all, and those that have been dealt with."""

    total: int = 0
    done: int = 0


@attrs.frozen
class Seen:
    """How a batch stands at the provider.

    Args:
        status: the provider's word.
        ended: whether there is no more to come.
        cancelled: whether somebody cancelled it.
        counts: how far it is.
        raw: the provider's whole answer.
    """

    status: str
    ended: bool
    cancelled: bool
    counts: Counts
    raw: dict[str, Any]


class BatchRefused(Exception):
    """The provider refused a batch whole, after it had taken it.

    Args:
        message: what it said.
        too_much: whether it is only that too much is waiting there already: the same requests may go later, in smaller batches.
    """

    def __init__(self, message: str, *, too_much: bool) -> None:
        super().__init__(message)
        self.too_much = too_much


@attrs.frozen
class Verdict:
    """What one line of the results says.

    Args:
        custom_id: of which request.
        kind: what became of it.
        status: the HTTP status of an error, 0 where it has none.
        problem: what the provider said of an error.
    """

    custom_id: str
    kind: Kind
    status: int = 0
    problem: str = ""


class Api(Protocol):
    """One provider's batch API. Operations raise `ModelAPIError`."""

    name: str
    limits: Limits

    def line(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """A request as a line of a batch's file, with its end."""
        ...

    async def create(self, record: BatchRecord, file: Path) -> str:
        """Submit a batch; gives its id. An error other than `ModelHTTPError` below 500 leaves open whether it was taken."""
        ...

    async def find(self, record: BatchRecord) -> str | None:
        """The id of a batch that may have been submitted; None where the provider has none such."""
        ...

    async def look(self, batch_id: str) -> Seen:
        """How a batch stands.

        Raises:
            BatchRefused: the provider does not do it.
        """
        ...

    def results(self, seen: Seen) -> AsyncGenerator[bytes]:
        """The lines of the results of a batch that has ended."""
        ...

    def verdict(self, line: bytes) -> Verdict:
        """What a line says; raises ``msgspec.MsgspecError`` where it says nothing."""
        ...

    def answer(self, line: bytes) -> bytes:
        """The body of the answer in a line of kind ``succeeded``."""
        ...

    async def cancel(self, batch_id: str) -> Seen:
        """Ask the provider to stop; what it has answered by then is charged, and stays."""
        ...
