"""``bleu`` and ``chrf`` of one output, by sacrebleu (Post 2018)."""

from __future__ import annotations

from collections.abc import Callable

from runmgr.batch.scorers.needs import library

__all__ = ("bleu", "chrf")


def bleu() -> Callable[[str, str], float]:
    """A scorer: sentence BLEU with sacrebleu's defaults (13a tokens, exponential smoothing), from 0 to 1.

    Their mean is no corpus BLEU.

    Raises:
        UserError: sacrebleu is not installed.
    """
    sentence = library("sacrebleu", "bleu").sentence_bleu

    def score(output: str, target: str) -> float:
        return min(float(sentence(output, [target]).score) / 100, 1.0)

    return score


def chrf() -> Callable[[str, str], float]:
    """A scorer: sentence chrF2 with sacrebleu's defaults, from 0 to 1.

    Raises:
        UserError: sacrebleu is not installed.
    """
    sentence = library("sacrebleu", "chrf").sentence_chrf

    def score(output: str, target: str) -> float:
        return min(float(sentence(output, [target]).score) / 100, 1.0)

    return score
