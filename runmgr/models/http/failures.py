"""From the transport's errors and error statuses to the exceptions that users see."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from runmgr.exceptions import (
    MalformedResponseError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
)
from runmgr.models.http.errors import (
    ConnectFailed,
    ConnectTimeout,
    HttpError,
    HttpTimeout,
    MalformedResponse,
)
from runmgr.models.http.reply import Reply

__all__ = ("api_error", "http_error", "kept_headers")

# What an error needs of an answer's headers: when to come back, what was asked, whether to.
_KEPT = (
    "date",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-request-id",
    "request-id",
    "apim-request-id",
    "cf-ray",
    "content-type",
)
_KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit")


def api_error(error: HttpError, model_name: str) -> ModelAPIError:
    """The exception of a transport error; its message names the URL."""
    if isinstance(error, MalformedResponse):
        return MalformedResponseError(model_name, str(error))
    kind = ModelTimeoutError if isinstance(error, HttpTimeout) else ModelConnectionError
    found = kind(model_name, str(error))
    found._unsent = isinstance(error, ConnectFailed | ConnectTimeout)
    return found


def http_error(reply: Reply, model_name: str, *, unwrap: bool = True) -> ModelHTTPError:
    """The exception of an error status: ``body`` is the ``error`` object of the answer where there is one (and ``unwrap``), else
    the decoded body, else its text; of the headers, those about limits, retrying and the request's id are kept.
    """
    body: Any
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = reply.body[:4096].decode("utf-8", "replace").strip()
    else:
        match body:
            case [{"error": _}]:  # Google's answer to a streamed request
                body = cast("list[Any]", body)[0]
            case _:
                pass
        if unwrap and isinstance(body, dict):
            body = cast("dict[str, Any]", body).get("error", cast("dict[str, Any]", body))
    return ModelHTTPError(reply.status, model_name, body, headers=kept_headers(reply))


def kept_headers(reply: Reply) -> dict[str, str]:
    """The headers of an answer that an error needs: about limits, retrying and the request's id."""
    return {
        name: value
        for name, value in reply.headers.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
