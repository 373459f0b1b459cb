"""What can go wrong below the meaning of an answer.

These never leave the package: models turn them into ``runmgr.exceptions``, which know the model's name. Their messages
name the URL, without user information or query, and never a header.
"""

from __future__ import annotations

__all__ = (
    "BrokenConnection",
    "ConnectFailed",
    "ConnectTimeout",
    "HttpError",
    "HttpTimeout",
    "MalformedResponse",
)


class HttpError(Exception):
    """Base of the transport's errors.

    Args:
        message: what happened.

    ``url`` is filled in by whoever knows where the request went.
    """

    url: str = ""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.url}: {self.message}" if self.url else self.message


class ConnectFailed(HttpError):
    """No connection: name not resolved, refused, unreachable, TLS not agreed on. Nothing was sent."""


class BrokenConnection(HttpError):
    """The connection ended before the answer began."""


class HttpTimeout(HttpError):
    """Slower than the timeout that the message names."""


class ConnectTimeout(HttpTimeout):
    """No connection in time. Nothing was sent."""


class MalformedResponse(HttpError):
    """The answer was not HTTP, was cut short, did not decompress, or was larger than the limit."""
