"""``regex``: the target is a pattern that the output must match somewhere."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ("check_regex_target", "regex")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def regex(output: str, target: str) -> float:
    """1 if the target, a Python regular expression, matches somewhere in the output."""
    return float(_compiled(target).search(output) is not None)


def check_regex_target(target: str) -> str | None:
    """What is wrong with a target, or None."""
    try:
        _compiled(target)
    except re.error as error:
        return f"the target {target!r} is no regular expression, which scorer 'regex' needs: {error}"
    return None
