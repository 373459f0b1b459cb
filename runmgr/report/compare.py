"""Batches side by side: what each came to, and the paired differences on the cases that they share.

A case is known by its input's content and by its number among equal inputs, not by its line: the files may differ in order and
length. Memory is about 200 bytes a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from runmgr.exceptions import UserError
from runmgr.report.batch_file import read_batch_file
from runmgr.report.lines import read_lines
from runmgr.report.paired import Difference, difference
from runmgr.report.statistics import Histogram
from runmgr.report.summary import ScoreSummary, Tally, in_order
from runmgr.report.transcript import as_text

__all__ = ("Comparison", "Pair", "Run", "Side", "compare", "load_runs", "pairs_of")

Key: TypeAlias = tuple[bytes, int, int]
"""Input's digest, number among equal inputs, epoch."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's own figures, over all of its runs."""

    name: str
    runs: int
    succeeded: int
    failed: int
    scores: dict[str, ScoreSummary]
    cost: Decimal | None
    input_tokens: int
    output_tokens: int
    latency_mean: float | None
    """Seconds a run, from start to end; the next two within 5 %."""
    latency_p50: float | None
    latency_p95: float | None

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate beside the baseline."""

    baseline: Side
    candidate: Side
    common: int
    """Runs of the same case and epoch that both have."""
    only_baseline: int
    only_candidate: int
    scores: dict[str, Difference]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A case and epoch that both ran."""

    index: int
    """In the candidate's input."""
    epoch: int
    input: str
    baseline: dict[str, float | None]
    candidate: dict[str, float | None]
    baseline_run: str
    candidate_run: str


class _Result(msgspec.Struct, frozen=True):
    index: int
    run_id: str
    at: int
    """The line's position among the file's, to find its input again."""
    scores: dict[str, float | None]


class Run:
    """A batch, or one variant of one, read for comparison."""

    def __init__(self, name: str, path: Path, epochs: int, variant: str | None) -> None:
        self.name = name
        self.path = path
        self.variant = variant
        self.results: dict[Key, _Result] = {}
        self.tally = Tally(epochs=epochs)
        self.latency = Histogram()
        self._seen: dict[tuple[bytes, int], list[_Result]] = {}

    def add(self, line: Any, at: int, *, failed_as: float | None) -> None:
        """Counts a result line."""
        self.tally.add(line)
        scores: dict[str, float | None] = line.scores
        if failed_as is not None and line.status == "failed":
            scores = {"": failed_as}
        digest = hashlib.blake2b(as_text(line.input).encode(errors="surrogatepass"), digest_size=12).digest()
        self._seen.setdefault((digest, line.epoch), []).append(_Result(line.index, line.run_id, at, scores))

    def settle(self) -> None:
        """All lines are in: equal inputs are numbered in the order of their cases."""
        for (digest, epoch), several in self._seen.items():
            several.sort(key=lambda r: r.index)
            for number, result in enumerate(several):
                self.results[digest, number, epoch] = result
        self._seen.clear()

    def side(self) -> Side:
        """Its own figures."""
        tally, seconds = self.tally, self.tally.seconds
        return Side(
            name=self.name,
            runs=tally.ended,
            succeeded=tally.succeeded,
            failed=tally.failed,
            scores=tally.scores(),
            cost=tally.cost,
            input_tokens=tally.usage.get("input_tokens", 0),
            output_tokens=tally.usage.get("output_tokens", 0),
            latency_mean=seconds.total / seconds.n if seconds.n else None,
            latency_p50=seconds.percentile(0.5),
            latency_p95=seconds.percentile(0.95),
        )


def load_runs(directories: Sequence[Path], *, failed_as: float | None = None) -> list[Run]:
    """Reads batches; of a matrix each variant is one, the first that was asked for first. Blocks.

    Args:
        directories: results directories.
        failed_as: the score of failed runs; None leaves them out of the pairs.

    Raises:
        UserError: a directory has no results.
    """
    runs: list[Run] = []
    names = _names(directories)
    for directory, name in zip(directories, names, strict=True):
        results = directory / "results.jsonl"
        if not results.exists():
            raise UserError(
                f"{directory}: no results.jsonl there; name the directory that a batch wrote (its --out)"
            )
        batch = read_batch_file(directory)
        here: dict[str | None, Run] = {}
        for at, line in enumerate(read_lines(results)):
            variant = line.variant or None
            run = here.get(variant)
            if run is None:
                run = here[variant] = Run(name, results, batch.epochs, variant)
            run.add(line, at, failed_as=failed_as)
        if not here:
            raise UserError(f"{results}: there are no results in it yet")
        several = len(here) > 1
        place = in_order(batch.labels)
        ordered = sorted(here.values(), key=lambda run: place(run.variant or ""))
        for run in ordered:
            run.settle()
            if several:
                run.name = f"{run.variant}" if len(directories) == 1 else f"{name} {run.variant}"
        runs += ordered
    if len(runs) < 2:
        raise UserError(f"{directories[0]}: one batch alone; name two or more to compare")
    return runs


def _names(directories: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [directory.resolve().parts for directory in directories]
    for size in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-size:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(directory) for directory in directories]


def compare(baseline: Run, candidate: Run, *, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """The candidate beside the baseline.

    Args:
        baseline: what it is measured against.
        candidate: what is measured.
        confidence: of the intervals.
        seed: of the bootstrap.

    Raises:
        UserError: they share no case, or no scorer.
    """
    common = [key for key in baseline.results if key in candidate.results]
    if not common:
        raise UserError(
            f"{baseline.name} and {candidate.name} share no case: their inputs differ "
            "(a case is known by its prompt as it was sent)"
        )
    one, other = baseline.side(), candidate.side()
    names = [name for name in one.scores if name in other.scores]
    cases: dict[tuple[bytes, int], int] = {}
    scores: dict[str, Difference] = {}
    for name in names:
        pairs = [
            (cases.setdefault(key[:2], len(cases)), a, b)
            for key in common
            if (a := _score(baseline.results[key], name)) is not None
            and (b := _score(candidate.results[key], name)) is not None
        ]
        if pairs:
            scores[name] = difference(pairs, confidence=confidence, seed=seed)
    return Comparison(
        baseline=one,
        candidate=other,
        common=len(common),
        only_baseline=len(baseline.results) - len(common),
        only_candidate=len(candidate.results) - len(common),
        scores=scores,
    )


def _score(result: _Result, name: str) -> float | None:
    return result.scores.get(name, result.scores.get(""))


def pairs_of(baseline: Run, candidate: Run) -> Iterator[Pair]:
    """The common cases with their inputs, in the order of the candidate's file. Reads that file again; a line at a time."""
    by_line = {
        result.at: (key, result) for key, result in candidate.results.items() if key in baseline.results
    }
    for at, line in enumerate(read_lines(candidate.path)):
        found = by_line.get(at)
        if found is not None:
            key, result = found
            before = baseline.results[key]
            yield Pair(
                index=result.index,
                epoch=key[2],
                input=as_text(line.input),
                baseline=before.scores,
                candidate=result.scores,
                baseline_run=before.run_id,
                candidate_run=result.run_id,
            )
