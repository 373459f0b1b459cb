"""The HTTP door: every request to a provider leaves through here."""

from __future__ import annotations

from runmgr.models.http.choose import http_client_for
from runmgr.models.http.client import PoolClient, default_limit
from runmgr.models.http.errors import (
    BrokenConnection,
    ConnectFailed,
    HttpError,
    HttpTimeout,
    MalformedResponse,
)
from runmgr.models.http.exchange import PoolStream
from runmgr.models.http.reply import MAX_BODY, HttpClient, Reply, ReplyStream, read_all
from runmgr.models.http.timed import Sink
from runmgr.models.http.timeouts import Timeouts, timeouts_of

__all__ = (
    "MAX_BODY",
    "BrokenConnection",
    "ConnectFailed",
    "HttpClient",
    "HttpError",
    "HttpTimeout",
    "MalformedResponse",
    "PoolClient",
    "PoolStream",
    "Reply",
    "ReplyStream",
    "Sink",
    "Timeouts",
    "default_limit",
    "http_client_for",
    "read_all",
    "timeouts_of",
)
