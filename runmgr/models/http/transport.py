"""httpx2 over our pool: a transport for its ``AsyncClient``.

For programs that want httpx2's API (redirects, authentication, cookies, event hooks) and connections that stay cheap by the
thousand. Models do not go this way; building httpx2's requests and responses costs more than sending them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from runmgr.exceptions import UserError
from runmgr.models.http.client import default_limit
from runmgr.models.http.connect import CONNECT_TIMEOUT
from runmgr.models.http.errors import (
    BrokenConnection,
    ConnectFailed,
    HttpError,
    HttpTimeout,
)
from runmgr.models.http.exchange import PoolStream
from runmgr.models.http.local import PoolKey, existing_pool, pool_of_run
from runmgr.models.http.origin import Origin
from runmgr.models.http.pool import IDLE_EXPIRY
from runmgr.models.http.timeouts import DEFAULT_TOTAL, Timeouts

__all__ = ("PoolTransport", "http_client")


def http_client(
    *,
    max_connections: int | None = None,
    total: float | None = DEFAULT_TOTAL,
    verify: ssl.SSLContext | bool = True,
    **options: Any,
) -> httpx2.AsyncClient:
    """An ``httpx2.AsyncClient`` over our pool, HTTP/1.1 only.

    Args:
        max_connections: connections to one origin.
        total: seconds for a whole call; httpx2's own timeouts (which default to none here) are for its phases.
        verify: as httpx2's.
        options: anything else that ``httpx2.AsyncClient`` takes.
    """
    transport = PoolTransport(max_connections=max_connections, total=total, verify=verify)
    options.setdefault("timeout", None)
    return httpx2.AsyncClient(transport=transport, **options)


class PoolTransport(httpx2.AsyncBaseTransport):
    """A transport whose connections are those of the running ``trio.run``. Arguments as of ``http_client``."""

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        total: float | None = DEFAULT_TOTAL,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._limit = max_connections or default_limit()
        self._total = total
        self._context = None if verify is True else httpx2.create_ssl_context(verify=verify)
        self._keys: set[PoolKey] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; the response's stream is read as the caller reads it."""
        url = request.url
        if url.scheme not in {"http", "https"}:
            raise httpx2.UnsupportedProtocol(f"{url.scheme!r} is not served here: http and https are")
        origin = Origin(
            url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        )
        times: dict[str, float | None] = request.extensions.get("timeout", {})
        connect = times.get("connect") or CONNECT_TIMEOUT
        read = times.get("read")
        limits = Timeouts(connect=connect, first_byte=read, between=read, total=self._total)
        key = PoolKey(origin, self._context, connect, self._limit, IDLE_EXPIRY)
        self._keys.add(key)
        body = await request.aread()
        shown = str(url.copy_with(username=None, password=None, query=None, fragment=None))
        stream = PoolStream(
            pool_of_run(key), shown, _written(request, body), limits, headless=request.method == "HEAD"
        )
        try:
            await stream.__aenter__()
        except HttpError as error:
            raise _theirs(error) from error
        head = stream.head
        # What is read has been decompressed here, so httpx2 must not try to.
        headers = (
            [
                (name, value)
                for name, value in head.raw_headers
                if name.lower() not in {b"content-encoding", b"transfer-encoding", b"content-length"}
            ]
            if any(name.lower() == b"content-encoding" for name, _ in head.raw_headers)
            else head.raw_headers
        )
        return httpx2.Response(
            head.status, headers=headers, stream=_Body(stream), extensions={"http_version": b"HTTP/1.1"}
        )

    async def aclose(self) -> None:
        """Close the idle connections that this transport's requests used."""
        for key in self._keys:
            if (pool := existing_pool(key)) is not None:
                pool.close_idle()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: PoolStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._stream.receive():
                yield data
        except HttpError as error:
            raise _theirs(error) from error

    async def aclose(self) -> None:
        await self._stream.__aexit__(None, None, None)


def _written(request: httpx2.Request, body: bytes) -> bytes:
    """The request as it goes over the wire."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    chunked = False
    for name, value in request.headers.raw:
        if any(byte in value for byte in b"\r\n\0") or any(byte in name for byte in b"\r\n\0: "):
            raise UserError(f"header {name!r} has a line break or another character that HTTP cannot carry")
        if name.lower() == b"transfer-encoding":
            chunked = True  # the body is sent whole
        else:
            lines.append(b"%b: %b" % (name, value))
    if chunked:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _theirs(error: HttpError) -> httpx2.TransportError:
    text = str(error)
    if isinstance(error, HttpTimeout):
        return httpx2.ReadTimeout(text)
    if isinstance(error, ConnectFailed):
        return httpx2.ConnectError(text)
    if isinstance(error, BrokenConnection):
        return httpx2.ReadError(text)
    return httpx2.RemoteProtocolError(text)
