"""Headers: ours, and checks of those that users give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from runmgr.exceptions import UserError

__all__ = ("checked_headers", "json_headers", "secrets_of", "user_agent", "without_secrets")


@cache
def user_agent() -> str:
    """How we introduce ourselves."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"runmgr/{version('runmgr')}"
    except PackageNotFoundError:
        return "runmgr"


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names, refused where they would break out of their line. Never shows a value.

    Raises:
        UserError: a name or a value cannot be sent.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not name or not name.isascii() or any(character <= " " or character == ":" for character in name):
            raise UserError(f"{name!r} is not the name of an HTTP header")
        text = str(value).strip(" \t")
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            raise UserError(f"The value of header {name!r} has characters that HTTP cannot carry.") from None
        if any(character < " " and character != "\t" for character in text):
            raise UserError(f"The value of header {name!r} has a line break or control character.")
        if name.lower() != "content-length":
            checked[name.lower()] = text
    return checked


def json_headers(own: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of requests that send JSON and want JSON, with a client's own added or in their place.

    Raises:
        UserError: a header cannot be sent.
    """
    return {
        "accept": "application/json",
        "user-agent": user_agent(),
        "content-type": "application/json",
    } | checked_headers(own or {})


_SECRET = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization"})
_SHORTEST = 8
"""Characters; a word like "key" is nobody's secret, and stands in many texts."""


def secrets_of(headers: Mapping[str, str]) -> tuple[bytes, ...]:
    """What nobody may read in an error: the keys among headers, longest first."""
    found = {
        text.rpartition(" ")[2].encode("latin-1", "replace")
        for name, text in headers.items()
        if name.lower() in _SECRET
    }
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True))


def without_secrets(data: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """What a server answered, without the keys that it was sent."""
    for secret in secrets:
        data = data.replace(secret, b"[secret]")
    return data
