"""What every client here is: a base URL and limits of time."""

from __future__ import annotations

from runmgr.models.http.origin import shown_url
from runmgr.models.http.timeouts import Timeouts

__all__ = ("BaseClient",)


class BaseClient:
    """What a client is told of where it sends.

    Args:
        base_url: what paths are appended to.
        timeouts: where a request says nothing else.
    """

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        self._base_url = base_url
        # For errors and repr: the URL's user and query may be secrets.
        self._shown = shown_url(base_url).rstrip("/")
        self.timeouts = timeouts
        self.secrets: tuple[bytes, ...] = ()
        """Keys among the headers, which some servers repeat in their errors."""

    @property
    def base_url(self) -> str:
        """What paths are appended to."""
        return self._base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"
