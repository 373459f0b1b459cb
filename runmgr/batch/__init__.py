"""Batches: a model or an agent over a file of cases, scored, accounted and resumable.

`run_batch` is the door for Python; the command ``runmgr batch`` is a thin layer over it.
"""

from runmgr.batch.config import BatchConfig
from runmgr.batch.directory import new_directory
from runmgr.batch.run import BatchResult, run_batch
from runmgr.batch.state import BatchState

__all__ = ("BatchConfig", "BatchResult", "BatchState", "new_directory", "run_batch")
