"""Sending through a proxy, with httpx2's stock client.

Its connections need awaiting to be closed, which nothing can do after ``trio.run`` has ended. So they are kept from one
request to the next only between entering the client (``async with model``, ``async with provider``) and leaving it; outside of
that every request has a connection of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx2
from trio.lowlevel import RunVar, RunVarToken

from runmgr.models.http.base import BaseClient
from runmgr.models.http.client import default_limit
from runmgr.models.http.foreign import ForeignClient, ForeignStream
from runmgr.models.http.headers import secrets_of
from runmgr.models.http.reply import Reply
from runmgr.models.http.timeouts import Timeouts

__all__ = ("ProxiedClient",)


class ProxiedClient(BaseClient):
    """Requests to one base URL through a proxy. Arguments as of ``PoolClient``."""

    def __init__(
        self,
        base_url: str,
        proxy: str,
        *,
        headers: Mapping[str, str],
        max_connections: int | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(base_url, timeouts)
        self._proxy = proxy
        self._headers = headers
        self.secrets = secrets_of(headers)
        self._limit = max_connections or default_limit()
        self._entered: RunVar[_Entered] = RunVar("runmgr.http.proxied")

    def _make(self, *, keep: bool) -> ForeignClient:
        stock = httpx2.AsyncClient(
            proxy=self._proxy,
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=self._limit,
                max_keepalive_connections=self._limit if keep else 0,
                keepalive_expiry=4.0,
            ),
        )
        return ForeignClient(self._base_url, stock, headers=self._headers, timeouts=self.timeouts)

    def _current(self) -> ForeignClient:
        try:
            return self._entered.get().client
        except LookupError:
            return self._make(keep=False)

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Reply:
        """As ``PoolClient.post``."""
        return await self._current().post(path, body, headers, timeouts)

    def stream(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> ForeignStream:
        """As ``PoolClient.stream``."""
        return self._current().stream(path, body, headers, timeouts)

    def resize(self, max_connections: int) -> None:
        """The limit of the client that is made at the next entering: httpx2's own cannot change."""
        self._limit = max_connections

    async def aclose(self) -> None:
        """Does nothing: connections are closed when the last user leaves."""

    async def __aenter__(self) -> Self:
        try:
            entered = self._entered.get()
        except LookupError:
            entered = _Entered(self._make(keep=True))
            entered.token = self._entered.set(entered)
        entered.users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._entered.get()
        entered.users -= 1
        if not entered.users:
            assert entered.token is not None
            self._entered.reset(entered.token)
            await entered.client._client.aclose()


class _Entered:
    """The client of one run, while somebody uses it."""

    def __init__(self, client: ForeignClient) -> None:
        self.client = client
        self.users = 0
        self.token: RunVarToken[_Entered] | None = None
