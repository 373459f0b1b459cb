"""Scorers of two texts: sync, cheap, never raising on a model's output."""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ("BuiltInScorer",)


@attrs.frozen
class BuiltInScorer:
    """A scorer of two texts.

    Args:
        name: its key in the results.
        score: the score of (output, target).
        check: what is wrong with a target, or None; asked before anything is sent.
    """

    name: str
    score: Callable[[str, str], float]
    check: Callable[[str], str | None] | None = None
