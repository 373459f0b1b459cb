"""Scorers: what an output is worth beside its target, as a number; one file each.

A scorer is a callable of ``(output, target)``; the built-in ones are sync, cheap and never raise on a model's output.
"""

from runmgr.batch.scorers.custom import CustomScorer
from runmgr.batch.scorers.registry import BUILT_IN, BuiltInScorer, Scorer, load_scorer

__all__ = ("BUILT_IN", "BuiltInScorer", "CustomScorer", "Scorer", "load_scorer")
