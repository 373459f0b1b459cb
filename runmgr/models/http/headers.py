"""Headers: ours, and checks of those that users give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from runmgr.exceptions import UserError

__all__ = ("checked_headers", "json_headers", "user_agent")


@cache
def user_agent() -> str:
    """How we introduce ourselves."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"runmgr/{version('runmgr')}"
    except PackageNotFoundError:
        return "runmgr"


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names, refused where they would break out of their line. Never shows a value."""
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
