"""A connection under TLS."""

from __future__ import annotations

import socket
import ssl

from trio.lowlevel import wait_readable

from runmgr.models.http.errors import BrokenConnection, ConnectFailed
from runmgr.models.http.wire import AGAIN, RECEIVE_SIZE, Connection

__all__ = ("TlsConnection",)


class TlsConnection(Connection):
    """A connection under TLS.

    The standard library's TLS engine works between two memory buffers, so that any ``ssl.SSLContext`` serves (those of
    ``truststore`` too, which check the certificate at the end of the handshake) and no second thread of control is needed.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(
        self,
        sock: socket.socket,
        view: memoryview,
        generation: int,
        context: ssl.SSLContext,
        host: str,
    ) -> None:
        super().__init__(sock, view, generation)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self) -> None:
        """Agree on TLS.

        Raises:
            ConnectFailed: no agreement, or the certificate is not to be trusted.
        """
        try:
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fetch()
                else:
                    await self._flush()
                    return
        except ssl.SSLError as error:
            raise ConnectFailed(f"no TLS connection: {error}") from error
        except (BrokenConnection, OSError) as error:
            raise ConnectFailed(f"the connection broke during the TLS handshake: {error}") from error

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await super().send(self._outgoing.read())

    async def _fetch(self) -> None:
        """Wait for ciphertext. An end of the connection becomes the engine's end of file."""
        while True:
            await wait_readable(self.sock)
            try:
                count = self.sock.recv_into(self._view)
            except AGAIN:
                continue
            if count:
                self._incoming.write(self._view[:count])
            else:
                self._incoming.write_eof()
            return

    def is_alive(self) -> bool:
        """Whether an idle connection still looks open; swallows what TLS itself sends in idle times."""
        try:
            while True:
                count = self.sock.recv_into(self._view)
                if not count:
                    return False
                self._incoming.write(self._view[:count])
        except AGAIN:
            pass
        except OSError:
            return False
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLError:
            return False
        return False

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.write(view) :]
            except ssl.SSLWantReadError:  # a renegotiation or key update wants to hear from the server first
                await self._flush()
                try:
                    await self._fetch()
                except OSError as error:
                    raise BrokenConnection(f"the connection broke while sending: {error}") from error
            except ssl.SSLError as error:
                raise BrokenConnection(f"the connection broke while sending: {error}") from error
        await self._flush()

    async def receive(self) -> None:
        while True:
            try:
                data = self._tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                try:
                    await self._flush()
                    await self._fetch()
                except (BrokenConnection, OSError) as error:
                    self._ended(error if isinstance(error, OSError) else OSError(error.message))
                    return
            except ssl.SSLZeroReturnError:
                self._ended(None)
                return
            except ssl.SSLEOFError as error:
                # No close_notify: an answer that ends with the connection may have been cut by anybody, but many
                # servers end like this. A length or chunks still tell; without either HTTP clients accept it.
                self._ended(None if self.head_done else error)
                return
            except ssl.SSLError as error:
                self._ended(error)
                return
            else:
                if not data:
                    self._ended(None)
                    return
                self._feed(memoryview(data))
                return
