"""``edit``: how few letters must change, by rapidfuzz."""

from __future__ import annotations

from collections.abc import Callable

from runmgr.batch.scorers.needs import library

__all__ = ("edit_similarity",)


def edit_similarity() -> Callable[[str, str], float]:
    """A scorer: 1 - Levenshtein distance / length of the longer text; 1 is the same text.

    Raises:
        UserError: rapidfuzz is not installed.
    """
    similarity: Callable[..., float] = library("rapidfuzz.distance.Levenshtein", "edit").normalized_similarity

    def score(output: str, target: str) -> float:
        return float(similarity(output.strip(), target.strip()))

    return score
