"""Anthropic's message batches: https://platform.claude.com/docs/en/build-with-claude/batch-processing.

One request holds all of a batch: up to 100,000 requests and 256 MB. The API keeps no text of ours with a batch; one whose id was lost is
known by when it was made and how many requests it has, and by the names of these once its results can be read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from runmgr.batch.provider_batches.api import Counts, Kind, Limits, Seen, Verdict
from runmgr.batch.provider_batches.http import BatchHttp, parts
from runmgr.batch.provider_batches.records import BatchRecord
from runmgr.batch.provider_batches.spool import size_of
from runmgr.models.anthropic_response import STATUSES

__all__ = ("AnthropicBatches",)

_PATH = "/v1/messages/batches"
_SKEW = 300.0
"""Seconds that the provider's clock may be off ours."""
_LATEST = 3600.0
"""Seconds after the intent within which a batch is made, if it is."""
_PAGES = 20
_FINAL = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "billing_error",
    }
)


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


_decode_line = msgspec.json.Decoder(_Line).decode


class AnthropicBatches:
    """See `Api`.

    Args:
        http: how the provider is spoken to.
        taken: ids of batches that are known to be others.
    """

    name = "anthropic"
    limits = Limits(100_000, 256_000_000)

    def __init__(self, http: BatchHttp, taken: set[str]) -> None:
        self._http = http
        self._taken = taken

    def line(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """``{"custom_id", "params"}``."""
        del endpoint
        return msgspec.json.encode({"custom_id": custom_id, "params": msgspec.Raw(body)}) + b"\n"

    async def create(self, record: BatchRecord, file: Path) -> str:
        """``POST /v1/messages/batches`` with the file's lines as ``requests``."""
        before, after = b'{"requests":[', b"]}"
        # each line's end becomes a comma, but the last
        size = len(before) + size_of(file) - 1 + len(after)
        made = await self._http.json(
            "POST",
            _PATH + ("?beta=true" if record.headers else ""),
            content=parts(file, before, b",", after),
            headers={"content-type": "application/json", "content-length": str(size), **record.headers},
        )
        self._taken.add(str(made["id"]))
        return str(made["id"])

    async def find(self, record: BatchRecord) -> str | None:
        """By when it was made and how many requests it has, among those that are not known to be others."""
        after: str | None = None
        for _ in range(_PAGES):
            page = await self._http.json(
                "GET", _PATH, params={"limit": 100} | ({"after_id": after} if after else {})
            )
            listed: list[dict[str, Any]] = page.get("data") or []
            for batch in listed:
                made = _unix(batch.get("created_at"))
                if made < record.intended_at - _SKEW:
                    return None
                counts: dict[str, int] = batch.get("request_counts") or {}
                if (
                    batch["id"] not in self._taken
                    and made < record.intended_at + _LATEST
                    and sum(counts.values()) == record.requests
                ):
                    self._taken.add(str(batch["id"]))
                    return str(batch["id"])
            if not listed or not page.get("has_more"):
                return None
            after = str(page.get("last_id") or listed[-1]["id"])
        return None

    async def look(self, batch_id: str) -> Seen:
        """``GET /v1/messages/batches/{id}``."""
        return _seen(await self._http.json("GET", f"{_PATH}/{batch_id}"))

    async def results(self, seen: Seen) -> AsyncGenerator[bytes]:
        """The lines at ``results_url``."""
        url = seen.raw.get("results_url") or f"{_PATH}/{seen.raw['id']}/results"
        async with aclosing(self._http.lines(str(url))) as lines:
            async for line in lines:
                yield line

    def verdict(self, line: bytes) -> Verdict:
        """By the result's type; an error by its own."""
        found = _decode_line(line)
        result = found.result
        if result.type == "succeeded":
            return Verdict(found.custom_id, "succeeded")
        if result.type == "canceled":
            return Verdict(found.custom_id, "cancelled", 0, "it was cancelled")
        if result.type == "expired":
            return Verdict(found.custom_id, "again", 0, "it expired")
        error: dict[str, Any] = (result.error or {}).get("error") or result.error or {}
        name = str(error.get("type"))
        kind: Kind = "failed" if name in _FINAL else "again"
        return Verdict(found.custom_id, kind, STATUSES.get(name, 500), msgspec.json.encode(error).decode())

    def answer(self, line: bytes) -> bytes:
        """``result.message``."""
        return bytes(_decode_line(line).result.message)

    async def cancel(self, batch_id: str) -> Seen:
        """``POST /v1/messages/batches/{id}/cancel``."""
        return _seen(await self._http.json("POST", f"{_PATH}/{batch_id}/cancel"))


def _unix(text: Any) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _seen(batch: dict[str, Any]) -> Seen:
    counts: dict[str, int] = batch.get("request_counts") or {}
    total = sum(counts.values())
    return Seen(
        str(batch.get("processing_status")),
        batch.get("processing_status") == "ended",
        batch.get("cancel_initiated_at") is not None,
        Counts(total, total - counts.get("processing", 0)),
        batch,
    )
