"""A batch from a program that does not run trio: a script, a test."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from runmgr.batch.reports import BatchReport
from runmgr.batch.run import run_batch

__all__ = ("evaluate",)


def evaluate(cases: Any, **options: Any) -> BatchReport:
    """Runs a batch to its end and gives its report. Blocks; not to be called within trio.

    Three lines are a test::

        def test_the_agent_knows_its_capitals(tmp_path):
            report = evaluate([Case("Capital of France?", "Paris")], agent=agent, scorers=["includes"], out=tmp_path / "evals")
            assert report.scores["includes"].mean == 1

    Args:
        cases: what `run_batch` takes as ``input``; also a list of `Case` values or of texts.
        options: the fields of `BatchConfig`.

    Raises:
        UserError, InputError: as `run_batch`.
    """
    result = trio.run(partial(run_batch, input=cases, **options))
    return result.report
