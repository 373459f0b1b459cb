"""The table at a batch's end, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.batch import BatchResult

__all__ = ("print_summary",)


def print_summary(result: BatchResult) -> None:
    """Prints what the batch came to and where its files lie."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    summary = result.summary
    console = Console(stderr=True, highlight=False)
    table = Table(
        title=f"batch {summary.status.replace('_', ' ')}",
        title_justify="left",
        show_header=False,
        box=None,
        padding=(0, 2),
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")

    def row(name: str, value: str) -> None:
        table.add_row(Text(name), Text(text.printable(value)))  # as text: a model's words are no markup

    counts = [f"{text.count(summary.succeeded)} succeeded", f"{text.count(summary.failed)} failed"]
    counts += [
        f"{text.count(n)} {what}"
        for n, what in ((summary.cancelled, "cancelled"), (summary.remaining, "remaining"))
        if n
    ]
    row("runs", f"{text.count(summary.runs)}: " + ", ".join(counts))
    for name, score in summary.scores.items():
        if score.mean is None:
            row(name, "- (no run is scored)")
            continue
        whole = score.mean * score.n
        right = f"  ({text.count(round(whole))} of {text.count(score.n)}, {text.percent(score.mean)})"
        row(
            name,
            text.score(score.mean, score.stderr)
            + (right if abs(whole - round(whole)) < 1e-6 else f"  (n = {text.count(score.n)})"),
        )
    for name, several in summary.reduced.items():
        for reducer, score in several.items():
            row(
                f"{name} {reducer}",
                f"{text.score(score.mean, score.stderr)}  (n = {text.plural(score.n, 'case')})",
            )
    row("tokens", text.tokens(summary.usage))
    row("requests", text.count(summary.usage.get("requests", 0)))
    row("cost", text.dollars(summary.cost) + (" (a price is not known)" if summary.cost is None else ""))
    ran = summary.runs - summary.remaining - result.resumed
    rate = f", {ran / summary.wall_seconds:,.1f} runs/s" if summary.wall_seconds and ran > 0 else ""
    row("time", text.duration(summary.wall_seconds) + rate)
    if result.resumed:
        row("resumed", f"{text.plural(result.resumed, 'run')} had ended before")
    parts = summary.by_variant or summary.by_model
    if len(parts) > 1:
        for name, model in parts.items():
            words = [text.plural(model.runs, "run"), text.tokens(model.usage), text.dollars(model.cost)]
            words += [f"{scorer} {text.score(s.mean, s.stderr)}" for scorer, s in model.scores.items()]
            row(name, ", ".join(words))
    for name, judge in summary.by_judge.items():
        words = [text.plural(judge.runs, "question"), text.tokens(judge.usage), text.dollars(judge.cost)]
        row(f"judge {name}", f"{judge.model}: " + ", ".join(words))
    if summary.failed and result.first_failure:
        row("first failure", result.first_failure)
    row("results", str(result.directory.results))
    if result.directory.report.exists():
        row("report", str(result.directory.report))
    console.print(table)
