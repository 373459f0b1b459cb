"""Fetching files that are named by URL, for providers that take them only as bytes.

The URL may come from a stranger, so it must not reach what only this machine can reach (server-side request forgery): each address
of the host is looked at before connecting to exactly that address, at every redirect anew, and private, loopback, link-local and
otherwise special addresses are refused unless allowed.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin

import trio

from runmgr.exceptions import UserError
from runmgr.models.http.connect import Dialer
from runmgr.models.http.errors import ConnectFailed, HttpError
from runmgr.models.http.exchange import PoolStream
from runmgr.models.http.headers import user_agent
from runmgr.models.http.origin import Origin, parse_url, shown_url
from runmgr.models.http.pool import Pool
from runmgr.models.http.timeouts import Timeouts

__all__ = ("MAX_FILE", "download")

MAX_FILE = 50 * 1024 * 1024
"""Bytes of a file that is fetched; what the providers themselves take in a request is less."""

_REDIRECTS = 5
_LIMITS = Timeouts(total=60.0)


async def download(url: str, *, limit: int = MAX_FILE, allow_local: bool = False) -> tuple[bytes, str | None]:
    """Fetch a file.

    Args:
        url: an http or https URL.
        limit: bytes that the file may have.
        allow_local: let it come from private and loopback addresses.

    Returns:
        The bytes, and their media type as the server tells it, without parameters.

    Raises:
        UserError: the URL is none, it leads to a local address, the server answered with an error, or the file is too large.
        HttpError: the transport failed.
    """
    for _ in range(_REDIRECTS + 1):
        origin, target = parse_url(url)
        shown = shown_url(url)
        pool = Pool(Dialer(origin, address=await _address(origin, shown, allow_local=allow_local)), 1)
        head = (
            f"GET {target} HTTP/1.1\r\nhost: {origin.authority}\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\n"
            f"user-agent: {user_agent()}\r\nconnection: close\r\n\r\n"
        )
        try:
            async with PoolStream(pool, shown, head.encode("latin-1"), _LIMITS) as answer:
                headers = answer.head.headers
                if answer.head.status in {301, 302, 303, 307, 308} and (location := headers.get("location")):
                    url = urljoin(url, location)
                    continue
                if answer.head.status != 200:
                    raise UserError(
                        f"{shown} cannot be fetched: the server answered with status {answer.head.status}"
                    )
                data = await answer.read(limit + 1)
                if len(data) > limit:
                    raise UserError(f"{shown} is larger than {limit} bytes")
                return data, headers.get("content-type", "").partition(";")[0].strip().lower() or None
        finally:
            pool.close_idle()
    raise UserError(f"{shown_url(url)} cannot be fetched: more than {_REDIRECTS} redirects")


async def _address(origin: Origin, shown: str, *, allow_local: bool) -> str:
    """The address to connect to; none of the host's addresses may be local."""
    try:
        with trio.fail_after(_LIMITS.connect):
            found = await trio.socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        failed: HttpError = ConnectFailed(f"cannot resolve the name: {error}")
        failed.url = shown
        raise failed from error
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_local:
        for address in addresses:
            if not _is_public(address):
                raise UserError(
                    f"{shown} leads to {address}, which is not a public address. If that is meant, allow it with "
                    "force_download='allow-local'."
                )
    return addresses[0]


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast
