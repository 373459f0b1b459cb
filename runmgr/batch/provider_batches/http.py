"""A few large exchanges with a provider: files up, results down. httpx2 as it is; these are not on the hot path."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from runmgr.exceptions import MalformedResponseError, ModelConnectionError, ModelTimeoutError
from runmgr.models.http import Reply
from runmgr.models.http.choose import proxy_for
from runmgr.models.http.failures import http_error

if TYPE_CHECKING:
    import httpx2

__all__ = ("BatchHttp", "open_http", "parts")

_MOST_RESULTS = 8 * 1024**3
"""Bytes of one file of results; more is not read."""
_UNSENT = frozenset({"host", "content-type", "content-length", "accept-encoding", "connection"})


class BatchHttp:
    """What batch APIs are spoken through. Every method raises a `ModelAPIError` that names the URL where the exchange fails.

    Args:
        client: connections and keys.
        base_url: what paths are appended to.
        model_name: for errors.
        unwrap: whether ``ModelHTTPError.body`` is the ``error`` object of an answer.
    """

    def __init__(
        self, client: httpx2.AsyncClient | _WithHeaders, base_url: str, model_name: str, *, unwrap: bool
    ) -> None:
        self._client = client
        self.base_url = base_url.rstrip("/")
        self._model_name = model_name
        self._unwrap = unwrap

    def url(self, path: str) -> str:
        """Where a path is; a whole URL is only followed to the provider's own host, which alone may see the key."""
        if path.startswith(("http://", "https://")):
            own, theirs = urlsplit(self.base_url), urlsplit(path)
            if (own.scheme, own.netloc) == (theirs.scheme, theirs.netloc):
                return path
            path = theirs.path + (f"?{theirs.query}" if theirs.query else "")
            return f"{own.scheme}://{own.netloc}{path}"
        return self.base_url + path

    async def json(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """One exchange; the answer is a JSON object.

        Args:
            method: of HTTP.
            path: below the base URL.
            body: sent as JSON, where given.
            params: of the query.
            headers: besides the client's own.
            options: what httpx2's ``request`` takes (``content``, ``files``, ``data``).

        Raises:
            ModelAPIError: the status is not 200, nothing came, or no JSON object did; by its kinds, as a model raises them.
        """
        given = dict(headers or {})
        if body is not None:
            options["content"] = msgspec.json.encode(body)
            given["content-type"] = "application/json"
        url = self.url(path)
        with _named(url, self._model_name):
            answer = await self._client.request(method, url, params=params, headers=given, **options)
        if answer.status_code != 200:
            raise http_error(
                Reply(answer.status_code, answer.headers.raw, answer.content),
                self._model_name,
                unwrap=self._unwrap,
            )
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise MalformedResponseError(
                self._model_name, f"{url}: the answer is no JSON object: {error}"
            ) from error

    async def lines(self, path: str) -> AsyncGenerator[bytes]:
        """The lines of a file at the provider, as they come. Close it (``aclosing``) where it is left early.

        Raises:
            ModelAPIError: the status is not 200, it broke off or took too long, or is too large; by its kinds.
        """
        import httpx2

        url = self.url(path)
        rest = b""
        total = 0
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.status_code != 200:
                    raise http_error(
                        Reply(answer.status_code, answer.headers.raw, await answer.aread()),
                        self._model_name,
                        unwrap=self._unwrap,
                    )
                async for data in answer.aiter_bytes(1 << 16):
                    total += len(data)
                    if total > _MOST_RESULTS:
                        raise MalformedResponseError(
                            self._model_name, f"{url}: more than {_MOST_RESULTS:,} bytes of results"
                        )
                    *whole, rest = (rest + data).split(b"\n")
                    for line in whole:
                        if line.strip():
                            yield line
        except httpx2.TimeoutException as error:
            raise ModelTimeoutError(self._model_name, f"{url}: {error or 'too slow'}") from error
        except httpx2.TransportError as error:
            raise ModelConnectionError(self._model_name, f"{url}: {error or 'connection lost'}") from error
        if rest.strip():
            yield rest


@contextmanager
def _named(url: str, model_name: str) -> Generator[None]:
    """Transport errors as errors of the model that name the URL."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise ModelTimeoutError(model_name, f"{url}: {error or 'too slow'}") from error
    except httpx2.TransportError as error:
        raise ModelConnectionError(model_name, f"{url}: {error or 'connection lost'}") from error


@asynccontextmanager
async def open_http(model: Any, *, unwrap: bool) -> AsyncGenerator[BatchHttp]:
    """A client for a model's provider: its key, its URL, its proxy; a user's own ``httpx2.AsyncClient`` where it has one."""
    import httpx2

    from runmgr.models.http.foreign import ForeignClient

    own: Any = model.client
    headers = {name: value for name, value in own._headers.items() if name.lower() not in _UNSENT}
    if isinstance(own, ForeignClient):
        yield BatchHttp(_WithHeaders(own._client, headers), model.base_url, model.model_name, unwrap=unwrap)
        return
    async with httpx2.AsyncClient(
        headers=headers,
        proxy=proxy_for(model.base_url),
        trust_env=False,
        timeout=httpx2.Timeout(120.0, connect=10.0),
    ) as client:
        yield BatchHttp(client, model.base_url, model.model_name, unwrap=unwrap)


class _WithHeaders:
    """A user's client, with the provider's headers on each request and nothing changed in it."""

    def __init__(self, client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
        self._client = client
        self._headers = headers

    async def request(self, method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> Any:
        return await self._client.request(method, url, headers=self._headers | dict(headers), **options)

    def stream(self, method: str, url: str) -> Any:
        return self._client.stream(method, url, headers=self._headers)


async def parts(path: Path, before: bytes, between: bytes, after: bytes) -> AsyncIterator[bytes]:
    """A file's lines as one body, a little at a time: ``before``, the lines with ``between`` in place of their ends, ``after``."""
    pieces: list[bytes] = [before]
    size = 0
    with path.open("rb", buffering=1 << 18) as file:
        for number, line in enumerate(file):
            pieces += [between if number else b"", line.rstrip(b"\n")]
            size += len(line)
            if size > 1 << 18:
                yield b"".join(pieces)
                pieces, size = [], 0
    yield b"".join([*pieces, after])
