"""Opening connections: name resolution, TCP, TLS."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeAlias, cast

import trio
from trio.lowlevel import RunVar, wait_writable

from runmgr.models.http.errors import ConnectFailed, ConnectTimeout
from runmgr.models.http.origin import Origin
from runmgr.models.http.tls import TlsConnection
from runmgr.models.http.wire import Connection

__all__ = ("CONNECT_TIMEOUT", "Dialer", "default_ssl_context", "network_of_run")

CONNECT_TIMEOUT = 10.0
"""Seconds for name resolution, TCP and TLS together, unless told otherwise."""

Network: TypeAlias = Callable[[Origin, memoryview, int], Awaitable[Connection]]
"""What opens a connection in the place of `Dialer`: see `network_of_run`."""

network_of_run: RunVar[Network | None] = RunVar("runmgr.http.network", default=None)
"""Where the connections of this ``trio.run`` lead to; the real network where None. A simulation puts its own here."""

_KEEPALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
    if hasattr(socket, name)
)


@cache
def default_ssl_context() -> ssl.SSLContext:
    """The TLS settings and certificates that httpx2 uses: the system's, or those of ``SSL_CERT_FILE``/``SSL_CERT_DIR``.
    Made once a process; loading certificates takes tens of milliseconds.
    """
    from httpx2 import create_ssl_context

    return create_ssl_context()


class Dialer:
    """Opens connections to one origin.

    Args:
        origin: where.
        context: TLS settings; the default ones where None. Unused for http.
        timeout: seconds for one attempt.
        address: connect there instead of resolving the origin's host, whose name the certificate must still have.
    """

    __slots__ = ("_address", "_context", "_timeout", "origin")

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext | None = None,
        timeout: float = CONNECT_TIMEOUT,
        address: str | None = None,
    ) -> None:
        self.origin = origin
        self._context = context
        self._timeout = timeout
        self._address = address or (origin.host if origin.is_address else None)

    async def open(self, view: memoryview, generation: int) -> Connection:
        """Connect. Cancelling closes what was begun.

        Raises:
            ConnectFailed: with the reason.
            ConnectTimeout: it took longer than ``timeout``.
        """
        network = network_of_run.get()
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            if network is not None:
                return await network(self.origin, view, generation)
            sock = await (
                self._connect_name() if self._address is None else self._connect_address(self._address)
            )
            try:
                tune(sock)
                if self.origin.scheme == "http":
                    return Connection(sock, view, generation)
                context = self._context or default_ssl_context()
                connection = TlsConnection(sock, view, generation, context, self.origin.host)
                await connection.handshake()
                return connection
            except BaseException:
                sock.close()
                raise
        assert scope.cancelled_caught
        raise ConnectTimeout(f"no connection within {self._timeout:g} s")

    async def _connect_address(self, address: str) -> socket.socket:
        """Straight to an IP address, without the machinery for racing several."""
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectFailed(f"cannot open a socket: {_plain(error)}") from error
        try:
            sock.setblocking(False)
            code = sock.connect_ex((address, self.origin.port))
            if code in {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY}:
                await wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise ConnectFailed(f"cannot connect: {os.strerror(code)}")
        except OSError as error:
            sock.close()
            raise ConnectFailed(f"cannot connect: {_plain(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_name(self) -> socket.socket:
        """By name, racing its addresses (RFC 8305, trio's ``open_tcp_stream``)."""
        try:
            stream = await trio.open_tcp_stream(self.origin.host, self.origin.port)
        except OSError as error:
            raise ConnectFailed(f"cannot connect: {_plain(error)}") from error
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        return sock


def tune(sock: socket.socket) -> None:
    """No delay for small writes; let the kernel notice a dead peer during a long silence."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _plain(error: OSError) -> str:
    """The reason without the address, which the message already has; of a group, each distinct reason once."""
    if isinstance(error.__cause__, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error.__cause__)
        reasons = dict.fromkeys(_plain(one) for one in group.exceptions if isinstance(one, OSError))
        if reasons:
            return "; ".join(reasons)
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
