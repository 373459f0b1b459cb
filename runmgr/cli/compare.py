"""``runmgr compare``: batches side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runmgr.exceptions import UserError
from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.report.compare import Comparison, Run, Side
    from runmgr.report.paired import Difference

__all__ = ("command",)

_TESTS = {"mcnemar": "McNemar, exact", "bootstrap": "paired bootstrap", "normal": "normal"}
_TITLE = 16
"""Columns of a terminal that the names of figures take."""
_COLUMN = 19
"""... and a score with its error."""


@click.command("compare")
@click.argument("directories", metavar="DIR DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--fail-if",
    "conditions",
    metavar="COND",
    multiple=True,
    help="Exit 1 where this holds of a candidate, e.g. 'numeric<-2%', 'numeric.high<0', 'cost>10%'. Repeatable.",
)
@click.option(
    "--confidence", metavar="C", type=float, default=0.95, show_default=True, help="Of the intervals."
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option(
    "--show", metavar="N", type=int, default=3, show_default=True, help="Cases to show each side won."
)
@click.option(
    "--failed-as-zero",
    is_flag=True,
    help="A failed run scores 0. Otherwise its case is left out of the pairs.",
)
@click.option(
    "--cases", metavar="FILE", type=click.Path(path_type=Path), help="Write every pair to FILE, as JSONL."
)
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Of loads: write a page of all of them to FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    directories: tuple[Path, ...],
    *,
    conditions: tuple[str, ...],
    confidence: float,
    seed: int,
    show: int,
    failed_as_zero: bool,
    cases: Path | None,
    report: Path | None,
    as_json: bool,
) -> int:
    """Compare batches on the cases that they share, or loads (runmgr load); the first is the baseline.

    Of a matrix each combination is one, so that one DIR may be enough. Differences are candidate minus baseline, paired by case.

    \b
    --fail-if METRIC<VALUE or METRIC>VALUE, with METRIC one of
      SCORER            the difference of the means; 2% is two points (0.02)
      SCORER.low/.high  the ends of its interval
      cost, latency, tokens   with %: relative to the baseline; else dollars, seconds, tokens
      failed            the share of failed runs; 1% is one point
      ttft.p99, e2e.mean, requests_per_second, errors, ...   of loads: any figure of the table; % relative; .low, .high
    """  # noqa: D301  \b is click's
    from runmgr.cli.directory import checked_directory
    from runmgr.report.compare import compare, load_runs
    from runmgr.report.gates import check_gates, parse_gate

    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence {confidence}: a share from 0.5 to below 1 is needed, e.g. 0.95")
    from runmgr.cli.load_compare import are_loads, compare_directories

    named = [checked_directory(directory) for directory in directories]
    if are_loads(named):
        return compare_directories(
            named, conditions=conditions, confidence=confidence, page=report, as_json=as_json
        )
    if report is not None:
        raise UserError("--report is of loads; a batch has its own report.html")
    runs = load_runs(named, failed_as=0.0 if failed_as_zero else None)
    baseline, candidates = runs[0], runs[1:]
    found = [compare(baseline, candidate, confidence=confidence, seed=seed) for candidate in candidates]
    broken: list[str] = []
    for comparison in found:
        gates = [parse_gate(text, list(comparison.scores)) for text in conditions]
        broken += check_gates(gates, comparison)
    if cases is not None:
        _write_cases(cases, baseline, candidates)
    if as_json:
        _print_json(found, broken, baseline, candidates)
    else:
        _print_tables(found, baseline, candidates, show)
    for sentence in broken:
        print(f"runmgr: regression: {text.printable(sentence)}", file=sys.stderr)
    return 1 if broken else 0


def _winners(baseline: Run, candidate: Run, scorer: str, most: int) -> tuple[list[Any], list[Any]]:
    """The first cases that the candidate won, and lost."""
    from runmgr.report.compare import pairs_of

    won: list[Any] = []
    lost: list[Any] = []
    for pair in pairs_of(baseline, candidate):
        a, b = (side.get(scorer, side.get("")) for side in (pair.baseline, pair.candidate))
        if a is not None and b is not None and a != b:
            several = won if b > a else lost
            several.append(pair)
            if len(several) > 4 * most + 100:
                _first(several, most)
    return _first(won, most), _first(lost, most)


def _first(pairs: list[Any], most: int) -> list[Any]:
    """The first so many by case; the list is cut to them."""
    pairs.sort(key=lambda pair: (pair.index, pair.epoch))
    del pairs[most:]
    return pairs


def _write_cases(path: Path, baseline: Run, candidates: list[Run]) -> None:
    import msgspec

    from runmgr.report.compare import pairs_of

    try:
        with path.open("wb") as file:
            for candidate in candidates:
                for pair in pairs_of(baseline, candidate):
                    row = {"candidate_name": candidate.name, **msgspec.structs.asdict(pair)}
                    file.write(msgspec.json.encode(row) + b"\n")
    except OSError as error:
        raise UserError(f"--cases {path}: cannot be written: {error.strerror or error}") from error


_MOST_LISTED = 1000


def _print_json(found: list[Comparison], broken: list[str], baseline: Run, candidates: list[Run]) -> None:
    import msgspec

    comparisons: list[dict[str, Any]] = []
    for comparison, candidate in zip(found, candidates, strict=True):
        scores: dict[str, Any] = {}
        for name, score in comparison.scores.items():
            won, lost = _winners(baseline, candidate, name, _MOST_LISTED)
            scores[name] = {
                **msgspec.structs.asdict(score),
                "won_cases": [pair.index for pair in won],
                "lost_cases": [pair.index for pair in lost],
            }
        comparisons.append({**msgspec.structs.asdict(comparison), "scores": scores})
        comparisons[-1]["baseline"] = comparison.baseline
        comparisons[-1]["candidate"] = comparison.candidate
    data = {"comparisons": comparisons, "regressions": broken}
    encoder = msgspec.json.Encoder(decimal_format="number")
    sys.stdout.write(msgspec.json.format(encoder.encode(data), indent=2).decode() + "\n")
    sys.stdout.flush()


def _print_tables(found: list[Comparison], baseline: Run, candidates: list[Run], show: int) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    # in tables as wide as the terminal holds, each with the baseline
    most = max(1, (console.width - _TITLE) // _COLUMN - 1)
    for start in range(0, len(found), most):
        if start:
            console.print()
        console.print(_sides([found[0].baseline, *(each.candidate for each in found[start : start + most])]))
    for comparison, candidate in zip(found, candidates, strict=True):
        console.print()
        shared = f"{text.count(comparison.common)} runs of the same cases"
        if comparison.only_baseline or comparison.only_candidate:
            shared += f" ({comparison.only_baseline:,} only in the baseline, {comparison.only_candidate:,} only here)"
        console.print(f"{candidate.name} - {baseline.name}: {shared}")
        if not comparison.scores:
            console.print("  no scorer that both have")
        for name, score in comparison.scores.items():
            console.print("  " + _sentence(name, score))
            if show > 0:
                won, lost = _winners(baseline, candidate, name, show)
                for title, several in ((f"won by {candidate.name}", won), (f"won by {baseline.name}", lost)):
                    for pair in several:
                        a, b = (side.get(name, side.get("")) for side in (pair.baseline, pair.candidate))
                        line = " ".join(text.printable(pair.input).split())
                        console.print(f"    {title}: case {pair.index}  {a:g} -> {b:g}  {line[:70]}")


def _sentence(name: str, score: Difference) -> str:
    words = f"{name}: {score.difference:+.4f} ({score.baseline:.4f} -> {score.candidate:.4f})"
    if score.low is not None and score.high is not None:
        words += f", {score.confidence:.0%} interval {score.low:+.4f} to {score.high:+.4f}"
    if score.p is not None and score.test is not None:
        p = "p < 0.0001" if score.p < 1e-4 else f"p = {score.p:.4f}"
        words += f", {p} ({_TESTS[score.test]})"
    return f"{words}; won {score.won:,}, lost {score.lost:,}, tied {score.tied:,}"


def _sides(sides: list[Side]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), show_edge=False)
    table.add_column("", no_wrap=True)
    for side in sides:
        table.add_column(Text(text.printable(side.name), overflow="fold"), justify="right")

    def row(title: str, cells: list[str]) -> None:
        table.add_row(Text(title), *map(Text, cells))

    row("runs", [text.count(s.runs) for s in sides])
    row("failed", [text.count(s.failed) for s in sides])
    for name in dict.fromkeys(name for s in sides for name in s.scores):
        row(
            name,
            [
                text.score(s.scores[name].mean, s.scores[name].stderr) if name in s.scores else "-"
                for s in sides
            ],
        )
    row("cost", [text.dollars(s.cost) for s in sides])
    row("tokens in", [text.count(s.input_tokens) for s in sides])
    row("tokens out", [text.count(s.output_tokens) for s in sides])
    row("latency mean", [text.duration(s.latency_mean) for s in sides])
    row("latency p50", [text.duration(s.latency_p50) for s in sides])
    row("latency p95", [text.duration(s.latency_p95) for s in sides])
    return table
