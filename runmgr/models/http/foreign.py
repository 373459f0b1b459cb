"""Sending through an ``httpx2.AsyncClient``: a user's own, or the stock one where a proxy has to be used.

httpx2's timeouts are for one read at a time, so the whole call is bounded here.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Self

import httpx2
import trio

from runmgr.exceptions import UserError
from runmgr.models.http.base import BaseClient
from runmgr.models.http.errors import (
    BrokenConnection,
    ConnectFailed,
    ConnectTimeout,
    HttpError,
    HttpTimeout,
    MalformedResponse,
)
from runmgr.models.http.headers import checked_headers, json_headers, secrets_of
from runmgr.models.http.origin import joined, parse_url
from runmgr.models.http.reply import MAX_BODY, Reply
from runmgr.models.http.timeouts import Timeouts

__all__ = ("ForeignClient", "ForeignStream")


class ForeignClient(BaseClient):
    """Requests to one base URL through a client that somebody else made, and closes.

    Args:
        base_url: what paths are appended to.
        client: the client.
        headers: sent with every request. Never shown in errors or ``repr``.
        timeouts: where a request says nothing else; used instead of the client's own.
    """

    def __init__(
        self,
        base_url: str,
        client: httpx2.AsyncClient,
        *,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        origin, target = parse_url(base_url)
        super().__init__(base_url, timeouts)
        path, _, self._query = target.partition("?")
        # Without user information, which httpx2 would put in the place of our key.
        self._url = f"{origin}{path.rstrip('/')}"
        self._client = client
        self._headers = json_headers(headers)
        self.secrets = secrets_of(headers or {})

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply:
        """POST and read the whole answer, whatever its status. Arguments and errors as of ``PoolClient.post``."""
        async with self.stream(path, body, headers, timeouts) as answer:
            parts: list[bytes] = []
            size = 0
            while data := await answer.receive():
                parts.append(data)
                size += len(data)
                if size > MAX_BODY:
                    raise answer.located(MalformedResponse(f"the answer is larger than {MAX_BODY} bytes"))
            return Reply(answer.head.status, answer.head.raw_headers, b"".join(parts))
        raise AssertionError

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> ForeignStream:
        """POST and read the answer as it comes. As ``PoolClient.stream``."""
        limits = timeouts or self.timeouts
        request = self._client.build_request(
            "POST",
            joined(self._url, path, self._query),
            content=body,
            headers=self._headers | checked_headers(headers) if headers else self._headers,
            timeout=httpx2.Timeout(
                None, connect=limits.connect, read=_longer(limits.first_byte, limits.between), pool=None
            ),
        )
        return ForeignStream(self._client, request, limits, self._shown + path)

    def resize(self, max_connections: int) -> None:
        """Does nothing: the client's limits are its owner's."""

    async def aclose(self) -> None:
        """Does nothing: who made the client closes it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _longer(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(a, b)


class ForeignStream:
    """The answer of ``ForeignClient.stream``."""

    __slots__ = ("_chunks", "_client", "_end", "_limits", "_request", "_response", "_shown", "head")

    def __init__(
        self, client: httpx2.AsyncClient, request: httpx2.Request, limits: Timeouts, shown: str
    ) -> None:
        self._client = client
        self._request = request
        self._limits = limits
        self._shown = shown
        self._response: httpx2.Response | None = None
        self._chunks: AsyncGenerator[bytes] | None = None
        self._end = 0.0
        self.head = Reply(0, [], b"")

    async def __aenter__(self) -> Self:
        limits = self._limits
        now = trio.current_time()
        self._end = math.inf if limits.total is None else now + limits.total
        deadline = self._end if limits.first_byte is None else min(self._end, now + limits.first_byte)
        with trio.CancelScope(deadline=deadline) as scope:
            try:
                self._response = response = await self._client.send(self._request, stream=True)
            except Exception as error:
                raise self._mapped(error) from error
            self._chunks = response.aiter_bytes()
            self.head = Reply(response.status_code, response.headers.raw, b"")
        if scope.cancelled_caught:
            raise self._timed_out(limits.first_byte, "no answer")
        return self

    async def receive(self) -> bytes:
        """The next bytes; ``b''`` at the end."""
        if self._chunks is None:
            return b""
        between = self._limits.between
        deadline = self._end if between is None else min(self._end, trio.current_time() + between)
        data = b""
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                while not data:
                    data = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._chunks = None
            return b""
        except Exception as error:
            self._chunks = None
            raise self._mapped(error, inside=True) from error
        if scope.cancelled_caught:
            self._chunks = None
            raise self._timed_out(between, "silent inside an answer")
        return data

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            # An answer left early is closed, not read to its end; closing does not depend on the server.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                if self._chunks is not None:
                    await self._chunks.aclose()
                await self._response.aclose()
        self._chunks = None

    def located(self, error: HttpError) -> HttpError:
        """The error with the URL."""
        error.url = self._shown
        return error

    def _timed_out(self, limit: float | None, what: str) -> HttpError:
        total = self._limits.total
        if total is not None and trio.current_time() >= self._end:
            return self.located(HttpTimeout(f"no whole answer within {total:g} s"))
        return self.located(HttpTimeout(f"{what} for {limit:g} s"))

    def _mapped(self, error: Exception, *, inside: bool = False) -> Exception:
        """An httpx2 error as one of ours; others stay as they are."""
        text = str(error) or type(error).__name__
        if isinstance(error, httpx2.RequestError):
            # The error stays the cause of ours; its request has our key among its headers, and whatever the URL holds.
            error.request = httpx2.Request("POST", self._shown)
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            ours: HttpError = ConnectTimeout(f"timed out: {type(error).__name__}")
        elif isinstance(error, httpx2.TimeoutException):
            ours = HttpTimeout(f"timed out: {type(error).__name__}")
        elif isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
            ours = ConnectFailed(f"cannot connect: {text}")
        elif isinstance(error, httpx2.NetworkError | httpx2.ProtocolError):
            ours = (
                MalformedResponse(f"the answer was cut short: {text}")
                if inside
                else BrokenConnection(f"the server closed the connection without an answer: {text}")
            )
        elif isinstance(error, httpx2.DecodingError):
            ours = MalformedResponse(f"the answer does not decompress: {text}")
        elif isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            return UserError(f"{self._shown}: {text}")
        elif isinstance(error, httpx2.HTTPError):
            ours = BrokenConnection(text)
        else:
            return error
        return self.located(ours)
