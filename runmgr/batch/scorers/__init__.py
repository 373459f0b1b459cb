"""Scorers: what an output is worth beside its target, as a number; one file each.

A scorer is a callable of ``(output, target)``; the built-in ones are sync, cheap and never raise on a model's output. Judges ask a model.
"""

from runmgr.batch.scorers.builtin import BuiltInScorer
from runmgr.batch.scorers.custom import CustomScorer
from runmgr.batch.scorers.judge import Judge, PairwiseJudge
from runmgr.batch.scorers.registry import BUILT_IN, SCORERS, Scorer, load_scorer

__all__ = (
    "BUILT_IN",
    "SCORERS",
    "BuiltInScorer",
    "CustomScorer",
    "Judge",
    "PairwiseJudge",
    "Scorer",
    "load_scorer",
)
