"""Label values, of which there may be only so many: each makes a time series of its own, kept for ever by whoever collects them."""

from __future__ import annotations

__all__ = ("OTHER", "Labels")

OTHER = "(other)"
"""What those are called that came when there were enough."""


class Labels:
    """The values of one label; the first so many keep their names, later ones share `OTHER`.

    Args:
        limit: how many keep their names.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        known = self._known
        if value in known:
            return value
        if len(known) < self._limit:
            known.add(value)
            return value
        return OTHER
