"""Where requests go: a URL taken apart once."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import attrs

from runmgr.exceptions import UserError

__all__ = ("Origin", "joined", "parse_url", "public_url", "shown_url")

_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class Origin:
    """Scheme, host and port: what one connection can serve."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The ``Host`` header: port left out where it is the scheme's own, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if _PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, so that no name needs resolving."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_url(url: str) -> tuple[Origin, str]:
    """Split an absolute URL into its origin and its request target (path and query; ``/`` where empty).

    Raises:
        UserError: not http or https, no host, or a port that is no port; the message names the URL without credentials.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(
            f"{shown_url(url)!r} is not a URL: {error}. Use one like 'https://api.openai.com/v1'."
        ) from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise UserError(
            f"{shown_url(url)!r} is not an http or https URL with a host. Use one like 'https://api.openai.com/v1'."
        )
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    if any(character <= " " or character == "\x7f" for character in target + host):
        raise UserError(f"{shown_url(url)!r} has a space or control character: percent-encode it.")
    if not target.isascii():
        from urllib.parse import quote

        target = quote(target, safe="/?&=%:@!$'()*+,;~[]")
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme]), target


def joined(path: str, operation: str, query: str) -> str:
    """A request target: an operation, which may have a query, below a base URL's path, with the base URL's own query behind it."""
    if not query:
        return path + operation
    return f"{path}{operation}{'&' if '?' in operation else '?'}{query}"


def public_url(url: str) -> str:
    """A URL as it is where it has neither user information nor a query, else as ``shown_url`` shows it."""
    return shown_url(url) if "@" in url or "?" in url else url


def shown_url(url: str) -> str:
    """A URL as errors may show it: without user information, query (both may hold secrets) or fragment."""
    head = url.split("#", 1)[0].split("?", 1)[0]
    scheme, separator, rest = head.partition("://")
    if not separator:
        return head
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
