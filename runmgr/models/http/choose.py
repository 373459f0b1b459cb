"""Which client serves a base URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runmgr.models.http.client import PoolClient
from runmgr.models.http.origin import parse_url
from runmgr.models.http.reply import HttpClient
from runmgr.models.http.timeouts import Timeouts

if TYPE_CHECKING:
    import httpx2

__all__ = ("http_client_for", "proxy_for")


def http_client_for(
    base_url: str,
    *,
    headers: Mapping[str, str],
    http_client: httpx2.AsyncClient | None = None,
    max_connections: int | None = None,
    timeouts: Timeouts | None = None,
) -> HttpClient:
    """The client to send through: the given one, else httpx2's stock one where the environment names a proxy for the URL, else
    our own pool.

    Raises:
        UserError: the URL or a header cannot be sent.
    """
    limits = timeouts or Timeouts()
    if http_client is not None:
        from runmgr.models.http.foreign import ForeignClient

        return ForeignClient(base_url, http_client, headers=headers, timeouts=limits)
    if (proxy := proxy_for(base_url)) is not None:
        from runmgr.models.http.proxied import ProxiedClient

        return ProxiedClient(
            base_url, proxy, headers=headers, max_connections=max_connections, timeouts=limits
        )
    return PoolClient(base_url, headers=headers, max_connections=max_connections, timeouts=limits)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``; on macOS and Windows the
    system's settings too) names for a URL. Loopback addresses are never reached through a proxy.
    """
    named = any(name.lower() in _PROXY_VARIABLES and value for name, value in os.environ.items())
    if not named and sys.platform not in {"win32", "darwin"}:
        return None
    from urllib.request import getproxies, proxy_bypass

    origin, _ = parse_url(url)
    if origin.host in {"localhost", "127.0.0.1", "::1"} or proxy_bypass(origin.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
