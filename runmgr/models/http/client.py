"""Requests to one base URL, over the connections of the running ``trio.run``."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from runmgr.models.http.base import BaseClient
from runmgr.models.http.exchange import PoolStream, exchange
from runmgr.models.http.headers import checked_headers, json_headers, secrets_of
from runmgr.models.http.local import PoolKey, existing_pool, pool_of_run
from runmgr.models.http.origin import joined, parse_url
from runmgr.models.http.pool import IDLE_EXPIRY, Pool
from runmgr.models.http.reply import Reply
from runmgr.models.http.timed import Sink, timed_exchange
from runmgr.models.http.timeouts import Timeouts

__all__ = ("PoolClient", "default_limit")


def default_limit() -> int:
    """Connections to one origin where nothing else is said: 1,000, or what three quarters of the process's limit of open files allow."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000 if soft == resource.RLIM_INFINITY else max(1, min(1_000, soft * 3 // 4))


class PoolClient(BaseClient):
    """Requests to one base URL.

    Holds settings and no connection; those belong to the running ``trio.run`` (see ``local``), so a client may be a
    global, and be used in one run after another or in several threads.

    Args:
        base_url: what paths are appended to.
        headers: sent with every request. Never shown in errors or ``repr``.
        max_connections: connections to the origin, shared with clients of the same settings.
        timeouts: where a request says nothing else.
        ssl_context: TLS settings; httpx2's defaults where None.
        idle_expiry: seconds an idle connection is kept.

    Raises:
        UserError: the URL or a header cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        max_connections: int | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        ssl_context: ssl.SSLContext | None = None,
        idle_expiry: float = IDLE_EXPIRY,
    ) -> None:
        origin, target = parse_url(base_url)
        super().__init__(base_url, timeouts)
        path, _, self._query = target.partition("?")
        self._path = path.rstrip("/")
        self._key = PoolKey(
            origin, ssl_context, timeouts.connect, max_connections or default_limit(), idle_expiry
        )
        self._headers = {
            "host": origin.authority,
            "accept-encoding": "gzip, deflate",
            "connection": "keep-alive",
        } | json_headers(headers)
        self._prefixes: dict[str, bytes] = {}
        self.secrets = secrets_of(headers or {})

    # -------------------------------------------------------------- sending

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply:
        """POST and read the whole answer, whatever its status.

        Args:
            path: appended to the base URL, with a leading slash.
            body: sent as it is.
            headers: replace or add to the client's own.
            timeouts: instead of the client's own.

        A kept connection that turns out closed before the first byte of an answer is replaced once by a new one. Cancelling
        closes the connection at once.

        Raises:
            HttpError: one of its subclasses, with the URL.
            UserError: a header cannot be sent.
        """
        request = self._request(path, body, headers)
        return await exchange(pool_of_run(self._key), self._shown + path, request, timeouts or self.timeouts)

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> PoolStream:
        """POST and read the answer as it comes: ``async with client.stream(...) as answer``, where entering waits for the
        answer's head. Arguments and errors as of ``post``.
        """
        return PoolStream(
            pool_of_run(self._key),
            self._shown + path,
            self._request(path, body, headers),
            timeouts or self.timeouts,
        )

    async def timed(self, path: str, body: bytes, sink: Sink, timeouts: Timeouts | None = None) -> int:
        """POST and hand the answer's bytes to ``sink`` as they arrive; gives the status. For who measures: see ``timed_exchange``."""
        return await timed_exchange(
            pool_of_run(self._key),
            self._shown + path,
            self._request(path, body, None),
            timeouts or self.timeouts,
            sink,
        )

    def _request(self, path: str, body: bytes, headers: Mapping[str, str] | None) -> bytes:
        if headers:
            prefix = self._head(path, self._headers | checked_headers(headers))
        else:
            prefix = self._prefixes.get(path)
            if prefix is None:
                prefix = self._prefixes[path] = self._head(path, self._headers)
        return b"%b%d\r\n\r\n%b" % (prefix, len(body), body)

    def _head(self, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"POST {joined(self._path, path, self._query)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append("content-length: ")
        return "\r\n".join(lines).encode("latin-1")

    # -------------------------------------------------------------- connections

    def pool(self) -> Pool:
        """The running ``trio.run``'s connections for these settings."""
        return pool_of_run(self._key)

    def resize(self, max_connections: int) -> None:
        """Change how many connections the running ``trio.run`` may have open to this origin. Lowering interrupts nobody."""
        pool_of_run(self._key).resize(max_connections)

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when their answers are read. The client stays usable. Idempotent."""
        pool = existing_pool(self._key)
        if pool is not None:
            pool.close_idle()

    async def __aenter__(self) -> Self:
        """Be a user of the pool until the block ends; the last one to leave closes its idle connections."""
        pool_of_run(self._key).users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool = pool_of_run(self._key)
        pool.users -= 1
        if not pool.users:
            pool.close_idle()
