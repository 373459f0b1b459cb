"""Taking an answer out of a text by a regular expression."""

from __future__ import annotations

import re

from runmgr.exceptions import UserError

__all__ = ("compile_pattern", "extract")


def compile_pattern(pattern: str, option: str) -> re.Pattern[str]:
    """The compiled pattern.

    Raises:
        UserError: it is no regular expression; points at the place.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        at = f" at position {error.pos}" if error.pos is not None else ""
        raise UserError(f"{option} {pattern!r} is no regular expression: {error.msg}{at}") from error


def extract(pattern: re.Pattern[str], text: str) -> str | None:
    """What the pattern's last match holds, or None where it matches nowhere.

    The last, because models reason first and answer last. Of a match with groups the first group that took part counts, of one
    without any the whole match.
    """
    last = None
    for match in pattern.finditer(text):
        last = match
    if last is None:
        return None
    if pattern.groups == 1:
        return last[1] or ""
    if pattern.groups:
        return next((group for group in last.groups() if group is not None), "")
    return last[0]
