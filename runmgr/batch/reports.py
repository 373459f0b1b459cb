"""A batch's results in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from runmgr.exceptions import JournalError, UserError
from runmgr.report.lines import ResultLine, read_lines
from runmgr.report.summary import ScoreSummary, Summary, read_summary

__all__ = ("BatchReport",)


class BatchReport:
    """What a batch came to; reads its directory when it is asked.

    Args:
        directory: a batch's results directory.

    Raises:
        UserError: there is no batch there.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        found = read_summary(self.directory / "summary.json")
        if found is None:
            raise UserError(f"{self.directory}: no summary.json there; name the directory that a batch wrote")
        self.summary: Summary = found

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{name} {score.mean:.4f}" for name, score in self.scores.items() if score.mean is not None
        )
        return f"BatchReport({str(self.directory)!r}, {self.summary.status}, {self.summary.runs} runs{', ' + scores if scores else ''})"

    @property
    def scores(self) -> dict[str, ScoreSummary]:
        """Mean, standard error and n by scorer."""
        return self.summary.scores

    def results(self) -> Iterator[ResultLine]:
        """The runs' results, as they ended; one at a time in memory. Blocks on the disk."""
        return read_lines(self.directory / "results.jsonl")

    def messages(self, run_id: str) -> list[Any]:
        """A run's messages, out of the journal. Blocks on the disk.

        Raises:
            JournalError: there is no journal.
            UserError: no such run.
        """
        from runmgr.journal import open_journal

        with open_journal(self.directory / "journal.sqlite") as reader:
            outcome = reader.outcome(run_id)
        if outcome is None:
            raise UserError(f"{self.directory}: no run {run_id!r} there")
        return outcome.messages

    def interval(
        self,
        scorer: str,
        *,
        confidence: float = 0.95,
        method: Literal["bootstrap", "normal"] = "bootstrap",
        seed: int = 0,
    ) -> tuple[float, float]:
        """The interval of a scorer's mean: percentile bootstrap over cases, or mean and standard error. Blocks.

        See `runmgr.report.paired` for the sources.

        Raises:
            UserError: no such scorer, or fewer than two cases.
        """
        from statistics import NormalDist

        from runmgr.report.paired import bootstrap_means, interval_of

        score = self.scores.get(scorer)
        if score is None:
            raise UserError(f"no scorer {scorer!r}; there are {', '.join(self.scores) or 'none'}")
        if score.mean is None or score.stderr is None:
            raise UserError(f"{scorer!r}: {score.n} scored runs are too few for an interval")
        if method == "normal":
            reach = NormalDist().inv_cdf(0.5 + confidence / 2) * score.stderr
            return score.mean - reach, score.mean + reach
        clusters: dict[int, tuple[float, int]] = {}
        for line in self.results():
            value = line.scores.get(scorer)
            if value is not None:
                total, count = clusters.get(line.index, (0.0, 0))
                clusters[line.index] = (total + value, count + 1)
        return interval_of(bootstrap_means(list(clusters.values()), seed=seed), confidence)

    def compare(self, baseline: BatchReport | str | Path) -> Any:
        """This batch beside a baseline: a `runmgr.report.compare.Comparison`. Blocks.

        Raises:
            UserError: they share no case.
        """
        from runmgr.report.compare import compare, load_runs

        other = baseline.directory if isinstance(baseline, BatchReport) else Path(baseline)
        before, *_, now = load_runs([other, self.directory])
        return compare(before, now)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A flat dict a run: ``score_NAME``, ``seconds``, ``input_tokens``, ... Holds all in memory."""
        return [_flat(line, list(self.scores)) for line in self.results()]

    def to_polars(self) -> Any:
        """A ``polars.DataFrame`` of `to_dicts`.

        Raises:
            UserError: polars is not installed.
        """
        return _frames("polars").from_dicts(self.to_dicts(), infer_schema_length=None)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` of `to_dicts`.

        Raises:
            UserError: pandas is not installed.
        """
        make: Callable[..., Any] = _frames("pandas").DataFrame
        return make(self.to_dicts())

    def to_inspect_log(self, path: str | Path | None = None) -> Path:
        """Writes the batch as a log of Inspect AI's (JSON, version 2), for its viewer and its readers. Blocks.

        Args:
            path: the file; its ending must be ``.json``. By default ``inspect.json`` in the batch's directory.

        Raises:
            UserError: another ending.
        """
        from runmgr.report.inspect_log import write_inspect_log

        target = Path(path) if path is not None else self.directory / "inspect.json"
        if target.suffix != ".json":
            raise UserError(f"{target}: Inspect reads logs by their ending, which must be .json here")
        try:
            write_inspect_log(self.directory, self.summary, target)
        except JournalError as error:
            raise UserError(str(error)) from error
        return target


def _frames(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed: pip install 'runmgr[frames]'") from error


def _flat(line: ResultLine, scorers: list[str]) -> dict[str, Any]:
    from runmgr.report.transcript import as_text

    seconds = (
        None if line.started_at is None or line.finished_at is None else line.finished_at - line.started_at
    )
    return {
        "index": line.index,
        "epoch": line.epoch,
        "run_id": line.run_id,
        "variant": line.variant or None,
        "model": line.model,
        "status": line.status,
        "input": as_text(line.input),
        "output": None if line.output is None else as_text(line.output),
        "error": None if line.error is None else f"{line.error.get('type')}: {line.error.get('message')}",
        **{f"score_{name}": line.scores.get(name) for name in scorers},
        "requests": line.usage.get("requests", 0),
        "input_tokens": line.usage.get("input_tokens", 0),
        "output_tokens": line.usage.get("output_tokens", 0),
        "cost": None if line.cost is None else float(line.cost),
        "attempts": line.attempts,
        "seconds": seconds,
    }
