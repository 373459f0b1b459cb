"""What all results of a batch come to: counted a line at a time, told as ``summary.json``."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from runmgr.report.lines import ResultLine
from runmgr.report.statistics import Histogram, ScoreStatistics

__all__ = (
    "BatchStatus",
    "JudgeSummary",
    "ModelSummary",
    "ScoreSummary",
    "Summary",
    "Tally",
    "in_order",
    "read_summary",
    "write_atomically",
)

BatchStatus: TypeAlias = Literal["complete", "interrupted", "budget_exhausted", "failed"]
_MOST_ERROR_KINDS = 50
_MOST_FAILURES = 100


class ScoreSummary(msgspec.Struct, frozen=True):
    """A scorer's figures; see `ScoreStatistics` for what they mean."""

    mean: float | None
    stderr: float | None
    n: int
    """Runs that were scored: those that succeeded and for which the scorer gave a number."""


class ModelSummary(msgspec.Struct, frozen=True):
    """What one model's runs come to."""

    runs: int
    succeeded: int
    failed: int
    cancelled: int
    usage: dict[str, Any]
    cost: Decimal | None
    scores: dict[str, ScoreSummary]


class JudgeSummary(msgspec.Struct, frozen=True):
    """What a judge was asked, over all resumes: in the totals, and in its model's figures of ``by_model``, too."""

    model: str | None
    """Who answered last."""
    runs: int
    """Questions to it."""
    failed: int
    usage: dict[str, Any]
    cost: Decimal | None


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``summary.json``."""

    status: BatchStatus
    runs: int
    """All runs of the batch: ended and remaining; of standard input, those read so far."""
    succeeded: int
    failed: int
    cancelled: int
    remaining: int
    usage: dict[str, Any]
    """Of all runs over all resumes, paid requests of failed and unfinished ones included."""
    cost: Decimal | None
    """US dollars; None (unknown) where the price of any request is unknown, never zero instead."""
    wall_seconds: float
    """Of this invocation."""
    scores: dict[str, ScoreSummary]
    by_model: dict[str, ModelSummary]
    """What each model's runs came to; usage and cost with what it used as a judge."""
    by_judge: dict[str, JudgeSummary] = {}
    """Of each judge among the scorers."""
    by_variant: dict[str, ModelSummary] = {}
    """Of a matrix: each combination of models and settings; empty otherwise."""
    reduced: dict[str, dict[str, ScoreSummary]] = {}
    """Scorer, then reducer: the epochs of each case as one score; see `runmgr.report.reducers`."""

    def to_json(self) -> bytes:
        """Indented JSON with a line end."""
        return msgspec.json.format(_encoder.encode(self), indent=2) + b"\n"


_encoder = msgspec.json.Encoder(decimal_format="number")


def read_summary(path: Path, *, ended: int | None = None) -> Summary | None:
    """A ``summary.json``, or None where there is none that can be read.

    Args:
        path: where it is.
        ended: how many results there are: the summary of fewer, left by what went on since, is none.
    """
    try:
        summary = msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    return summary if ended in {None, summary.runs - summary.remaining} else None


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that its readers see the old or the new one whole, whatever happens in between. Blocks."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class _Part:
    """Figures of some of the runs."""

    __slots__ = ("clustered", "cost", "cost_unknown", "scores", "statuses", "usage")

    def __init__(self, *, clustered: bool) -> None:
        self.statuses: Counter[str] = Counter()
        self.usage: dict[str, Any] = {}
        self.cost = Decimal(0)
        self.cost_unknown = 0
        self.scores: dict[str, ScoreStatistics] = {}
        self.clustered = clustered

    def add(self, line: ResultLine) -> None:
        self.statuses[line.status] += 1
        add_usage(self.usage, line.usage)
        if line.cost is not None:
            self.cost += line.cost
        elif line.usage.get("requests"):
            self.cost_unknown += 1
        for name, value in line.scores.items():
            statistics = self.scores.get(name)
            if statistics is None:
                statistics = self.scores[name] = ScoreStatistics(clustered=self.clustered)
            if value is not None:
                statistics.add(value, line.index)

    def total_cost(self) -> Decimal | None:
        return None if self.cost_unknown else self.cost

    def score_summaries(self) -> dict[str, ScoreSummary]:
        return {name: ScoreSummary(s.mean, s.stderr, s.n) for name, s in self.scores.items()}

    def summary(self) -> ModelSummary:
        return ModelSummary(
            self.statuses.total(),
            self.statuses["succeeded"],
            self.statuses["failed"],
            self.statuses["cancelled"],
            self.usage,
            self.total_cost(),
            self.score_summaries(),
        )


class Tally:
    """Counts results one by one; constant memory, but for 12 bytes a case and scorer where there are several epochs.

    Args:
        epochs: runs a case and combination; more than one makes standard errors clustered by case.
        variants: labels of a matrix's combinations, in the order in which they are shown; more than one has the same effect on what is over
            all of them.
    """

    def __init__(self, *, epochs: int = 1, variants: Sequence[str] = ()) -> None:
        self._epochs = epochs
        self._clustered = epochs > 1 or len(variants) > 1
        self._all = _Part(clustered=self._clustered)
        self._order = in_order(variants)
        self._variants: dict[str, _Part] = {}
        self._models: dict[str, _Part] = {}
        self.seconds = Histogram()
        """Seconds from start to end of each run that started."""
        self.costs = Histogram()
        """US dollars of each run of known price."""
        self.errors: Counter[str] = Counter()
        """Failed runs by the kind of their error."""
        self.failures: list[ResultLine] = []
        """The first failed run, and others evenly over all that failed: a hundred at most, fifty or more of many."""
        self._failures_between = 1
        self.first_started: float | None = None
        self.last_finished: float | None = None

    def add(self, line: ResultLine) -> None:
        """Counts a result."""
        whole = self._all
        name = line.model or "unknown"
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = self._another_model()
        whole.add(line)
        if model is not whole:
            model.add(line)
        if line.variant:
            variant = self._variants.get(line.variant)
            if variant is None:
                variant = self._variants[line.variant] = _Part(clustered=self._epochs > 1)
            variant.add(line)
        if line.cost is not None:
            self.costs.add(float(line.cost))
        if line.started_at is not None and line.finished_at is not None:
            self.seconds.add(max(line.finished_at - line.started_at, 0.0))
            if self.first_started is None or line.started_at < self.first_started:
                self.first_started = line.started_at
            if self.last_finished is None or line.finished_at > self.last_finished:
                self.last_finished = line.finished_at
        if line.error is not None and line.status == "failed":
            kind = str(line.error.get("type"))
            if kind in self.errors or len(self.errors) < _MOST_ERROR_KINDS:
                self.errors[kind] += 1
            if (self.failed - 1) % self._failures_between == 0:
                if len(self.failures) == _MOST_FAILURES:
                    del self.failures[1::2]
                    self._failures_between *= 2
                self.failures.append(line)

    def _another_model(self) -> _Part:
        """The figures of a model that is new: the whole's, as long as it is the only one, as in most batches."""
        if not self._models:
            return self._all
        for name, part in self._models.items():
            if part is self._all:
                self._models[name] = copy.deepcopy(part)
        return _Part(clustered=self._clustered)

    @property
    def ended(self) -> int:
        """Results counted."""
        return self._all.statuses.total()

    @property
    def succeeded(self) -> int:
        """... of which succeeded."""
        return self._all.statuses["succeeded"]

    @property
    def failed(self) -> int:
        """... of which failed."""
        return self._all.statuses["failed"]

    @property
    def cancelled(self) -> int:
        """... of which were cancelled."""
        return self._all.statuses["cancelled"]

    @property
    def usage(self) -> dict[str, Any]:
        """Sum over the results."""
        return self._all.usage

    @property
    def cost(self) -> Decimal | None:
        """Sum over the results; None where one is unknown."""
        return self._all.total_cost()

    @property
    def first_error(self) -> dict[str, Any] | None:
        """The first failed run's error."""
        return self.failures[0].error if self.failures else None

    def scores(self) -> dict[str, ScoreSummary]:
        """Mean, standard error and n by scorer."""
        return self._all.score_summaries()

    def summary(
        self,
        *,
        status: BatchStatus,
        runs: int,
        wall_seconds: float,
        usage: dict[str, Any] | None = None,
        cost: Decimal | Literal["results"] | None = "results",
        reduced: dict[str, dict[str, ScoreSummary]] | None = None,
        judges: dict[str, JudgeSummary] | None = None,
    ) -> Summary:
        """The whole.

        Args:
            status: how the batch ended.
            runs: all runs of the batch.
            wall_seconds: how long this invocation took.
            usage: what was spent with the runs that have not ended; None is the results' sum.
            cost: the same in dollars, None being unknown.
            reduced: what reducers made of the epochs.
            judges: what judges among the scorers used.
        """
        return Summary(
            status=status,
            runs=runs,
            succeeded=self.succeeded,
            failed=self.failed,
            cancelled=self.cancelled,
            remaining=max(runs - self.ended, 0),
            usage=self.usage if usage is None else usage,
            cost=self.cost if cost == "results" else cost,
            wall_seconds=round(wall_seconds, 3),
            scores=self.scores(),
            by_model=_with_judges(
                {name: part.summary() for name, part in self._models.items()}, judges or {}
            ),
            by_judge=judges or {},
            by_variant={
                name: self._variants[name].summary() for name in sorted(self._variants, key=self._order)
            },
            reduced=reduced or {},
        )

    def summary_so_far(self, runs: int) -> Summary:
        """That of a batch which has none yet: it runs, or was killed. The time is that from the first start to the last end.

        Args:
            runs: as of `summary`.
        """
        seconds = 0.0
        if self.first_started is not None and self.last_finished is not None:
            seconds = self.last_finished - self.first_started
        return self.summary(status="interrupted", runs=runs, wall_seconds=seconds)


def in_order(variants: Sequence[str]) -> Callable[[str], int]:
    """A key that sorts labels of a matrix's combinations as they were asked for: their results come in any order."""
    places = {label: place for place, label in enumerate(variants)}
    return lambda label: places.get(label, len(places))


def _with_judges(models: dict[str, ModelSummary], judges: dict[str, JudgeSummary]) -> dict[str, ModelSummary]:
    for judge in judges.values():
        if not judge.usage.get("requests"):
            continue
        name = judge.model or "unknown"
        own = models.get(name) or ModelSummary(0, 0, 0, 0, {}, Decimal(0), {})
        usage: dict[str, Any] = copy.deepcopy(own.usage)
        add_usage(usage, judge.usage)
        cost = None if own.cost is None or judge.cost is None else own.cost + judge.cost
        models[name] = msgspec.structs.replace(own, usage=usage, cost=cost)
    return models


def add_usage(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds numbers of equal names in place, one level of nesting deep (``details``)."""
    for name, value in more.items():
        if value.__class__ is int:
            if value or name not in total:
                total[name] = total.get(name, 0) + value
        elif isinstance(value, dict):
            inner = total.setdefault(name, {})
            for key, number in value.items():  # pyright: ignore[reportUnknownVariableType]
                inner[key] = inner.get(key, 0) + number
        elif isinstance(value, (int, float)):
            total[name] = total.get(name, 0) + value
