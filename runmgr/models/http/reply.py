"""What a request comes back with, and what models send requests through."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from runmgr.models.http.timeouts import Timeouts

__all__ = ("MAX_BODY", "MAX_STREAM", "HttpClient", "Reply", "ReplyStream", "read_all")

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that is read whole, before and after decompression; a larger one is an error."""

MAX_STREAM = 1024 * 1024 * 1024
"""Bytes that a compressed stream may become."""


class Reply:
    """An answer, or the head of one.

    Args:
        status: the HTTP status.
        raw_headers: names and values as sent.
        body: the whole body, decompressed; empty for the head of a stream.
    """

    __slots__ = ("body", "raw_headers", "status")

    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.body = body

    @property
    def headers(self) -> dict[str, str]:
        """Headers with lower-case names; values of repeated ones joined by commas."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def __repr__(self) -> str:
        return f"<Reply {self.status}, {len(self.body)} bytes>"


class ReplyStream(Protocol):
    """An answer that is read as it arrives. Leaving its block early closes the connection."""

    @property
    def head(self) -> Reply:
        """Status and headers."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, never empty ones; ``b''`` at the end."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class HttpClient(Protocol):
    """What models send through."""

    @property
    def base_url(self) -> str: ...
    @property
    def timeouts(self) -> Timeouts: ...

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply: ...

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> ReplyStream: ...

    def resize(self, max_connections: int) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


async def read_all(stream: ReplyStream, limit: int = MAX_BODY) -> bytes:
    """Everything that is left of a stream, up to ``limit`` bytes; what is more is cut off."""
    parts: list[bytes] = []
    while limit > 0 and (data := await stream.receive()):
        parts.append(data[:limit])
        limit -= len(data)
    return b"".join(parts)
