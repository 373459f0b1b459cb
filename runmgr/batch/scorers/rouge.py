"""``rouge`` (Lin 2004), by rouge-score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runmgr.batch.scorers.needs import library

__all__ = ("VARIANTS", "rouge")

VARIANTS = ("rougeL", "rouge1", "rouge2", "rougeLsum")


def rouge(variant: str = "rougeL", *, stem: bool = False) -> Callable[[str, str], float]:
    """A scorer: the F measure of a ROUGE variant, from 0 to 1.

    Args:
        variant: one of ``VARIANTS``.
        stem: by word stems (Porter).

    Raises:
        UserError: rouge-score is not installed.
    """
    scorer: Any = library("rouge_score.rouge_scorer", "rouge").RougeScorer([variant], use_stemmer=stem)

    def score(output: str, target: str) -> float:
        return float(scorer.score(target, output)[variant].fmeasure)

    return score
