"""Batches: a model, an agent, a graph or a function over cases, scored, accounted and resumable.

`run_batch` is the door for Python, and `evaluate` the same from a program that does not run trio; the command ``runmgr batch`` is a thin layer over it.
"""

from runmgr.batch.cases import Case
from runmgr.batch.config import BatchConfig
from runmgr.batch.dataset import Dataset
from runmgr.batch.directory import new_directory
from runmgr.batch.reports import BatchReport
from runmgr.batch.rescoring import rescore
from runmgr.batch.run import BatchResult, run_batch
from runmgr.batch.scorers import Judge, PairwiseJudge, Scorer
from runmgr.batch.state import BatchState
from runmgr.batch.sync import evaluate

__all__ = (
    "BatchConfig",
    "BatchReport",
    "BatchResult",
    "BatchState",
    "Case",
    "Dataset",
    "Judge",
    "PairwiseJudge",
    "Scorer",
    "evaluate",
    "new_directory",
    "rescore",
    "run_batch",
)
