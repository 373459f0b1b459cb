"""OpenAI's batch API: https://platform.openai.com/docs/guides/batch and .../docs/api-reference/batch.

A JSONL file is uploaded with purpose ``batch``, a batch is made of it, and its output and error files are read when it has ended. Up to
50,000 requests and 200 MB a file; all of one endpoint.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from runmgr.batch.provider_batches.api import BatchRefused, Counts, Kind, Limits, Seen, Verdict
from runmgr.batch.provider_batches.http import BatchHttp
from runmgr.batch.provider_batches.records import BatchRecord

__all__ = ("OpenAIBatches",)

_ENDED = frozenset({"completed", "expired", "cancelled"})
_KEY = "runmgr_batch"
_SKEW = 300.0
"""Seconds that the provider's clock may be behind ours."""
_PAGES = 20
_TOO_MUCH = frozenset({"token_limit_exceeded"})
_PASSES = frozenset({408, 409, 429})


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: dict[str, Any] | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


class OpenAIBatches:
    """See `Api`.

    Args:
        http: how the provider is spoken to.
    """

    name = "openai"
    limits = Limits(50_000, 200_000_000)

    def __init__(self, http: BatchHttp) -> None:
        self._http = http

    def line(self, custom_id: str, endpoint: str, body: bytes) -> bytes:
        """``{"custom_id", "method", "url", "body"}``."""
        return (
            msgspec.json.encode(
                {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": msgspec.Raw(body)}
            )
            + b"\n"
        )

    async def create(self, record: BatchRecord, file: Path) -> str:
        """Upload the file, and make a batch of it that carries the record's key."""
        with file.open("rb") as content:
            uploaded = await self._http.json(
                "POST",
                "/files",
                data={"purpose": "batch"},
                files={"file": (f"runmgr-{record.key}.jsonl", content, "application/jsonl")},
            )
        made = await self._http.json(
            "POST",
            "/batches",
            body={
                "input_file_id": uploaded["id"],
                "endpoint": record.endpoint,
                "completion_window": "24h",
                "metadata": {_KEY: record.key},
            },
        )
        return str(made["id"])

    async def find(self, record: BatchRecord) -> str | None:
        """By the key in its metadata; the newest batches first, as the provider lists them."""
        after: str | None = None
        for _ in range(_PAGES):
            page = await self._http.json(
                "GET", "/batches", params={"limit": 100} | ({"after": after} if after else {})
            )
            listed: list[dict[str, Any]] = page.get("data") or []
            for batch in listed:
                metadata: dict[str, Any] = batch.get("metadata") or {}
                if metadata.get(_KEY) == record.key:
                    return str(batch["id"])
                if float(batch.get("created_at") or 0) < record.intended_at - _SKEW:
                    return None
            if not listed or not page.get("has_more"):
                return None
            after = str(listed[-1]["id"])
        return None

    async def look(self, batch_id: str) -> Seen:
        """``GET /batches/{id}``.

        Raises:
            BatchRefused: the provider found a mistake in the whole batch.
            ModelAPIError: as `BatchHttp.json`.
        """
        seen = _seen(await self._http.json("GET", f"/batches/{batch_id}"))
        if seen.status == "failed":
            listed: dict[str, Any] = seen.raw.get("errors") or {}
            errors: list[dict[str, Any]] = listed.get("data") or []
            said = "; ".join(
                f"{each.get('message') or each.get('code')}"
                + (f" (line {each['line']})" if each.get("line") is not None else "")
                for each in errors[:3]
            )
            raise BatchRefused(
                said or "no reason given",
                too_much=bool(errors) and all(each.get("code") in _TOO_MUCH for each in errors),
            )
        return seen

    async def results(self, seen: Seen) -> AsyncGenerator[bytes]:
        """The output file's lines, then the error file's."""
        for name in ("output_file_id", "error_file_id"):
            if file_id := seen.raw.get(name):
                async with aclosing(self._http.lines(f"/files/{file_id}/content")) as lines:
                    async for line in lines:
                        yield line

    def verdict(self, line: bytes) -> Verdict:
        """By the status of the response, else by the error's code."""
        found = _decode_line(line)
        response, error = found.response, found.error
        if response is None or (error is not None and response.status_code in {0, 200}):
            code = str((error or {}).get("code") or "")
            kind: Kind = "cancelled" if code == "batch_cancelled" else "again"
            return Verdict(found.custom_id, kind, 0, str((error or {}).get("message") or code))
        status = response.status_code
        if status == 200:
            return Verdict(found.custom_id, "succeeded")
        again = status in _PASSES or status >= 500
        return Verdict(found.custom_id, "again" if again else "failed", status, bytes(response.body).decode())

    def answer(self, line: bytes) -> bytes:
        """``response.body``."""
        response = _decode_line(line).response
        assert response is not None
        return bytes(response.body)

    async def cancel(self, batch_id: str) -> Seen:
        """``POST /batches/{id}/cancel``."""
        return _seen(await self._http.json("POST", f"/batches/{batch_id}/cancel"))


def _seen(batch: dict[str, Any]) -> Seen:
    status = str(batch.get("status"))
    counts: dict[str, int] = batch.get("request_counts") or {}
    return Seen(
        status,
        status in _ENDED,
        status == "cancelled",
        Counts(counts.get("total", 0), counts.get("completed", 0) + counts.get("failed", 0)),
        batch,
    )
