"""From a batch's directory to its report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from runmgr.exceptions import UserError
from runmgr.report.batch_file import read_batch_file
from runmgr.report.journaled import journaled_transcripts
from runmgr.report.lines import ResultLine, read_lines
from runmgr.report.page import PageInput, build_page
from runmgr.report.sample import sample
from runmgr.report.summary import Summary, Tally, read_summary, write_atomically
from runmgr.report.transcript import Entry

__all__ = ("tally_of", "write_report")


def tally_of(results: Path, *, epochs: int = 1, variants: Sequence[str] = ()) -> Tally:
    """Counts a results file; a line at a time. Blocks. The rest is as of `Tally`."""
    tally = Tally(epochs=epochs, variants=variants)
    for line in read_lines(results):
        tally.add(line)
    return tally


def write_report(
    directory: Path,
    *,
    tally: Tally | None = None,
    summary: Summary | None = None,
    journal: Path | None = None,
) -> Path:
    """Writes ``report.html`` from what lies beside it; constant memory, blocks.

    Args:
        directory: a batch's results directory.
        tally: the results' counts, where somebody has them; else the results are read.
        summary: the batch's summary; else it is read, and counted from the results where there is none.
        journal: where the runs' transcripts are; None leaves them out.

    Returns:
        The report's path.

    Raises:
        UserError: the directory holds no results.
    """
    results = directory / "results.jsonl"
    if not results.exists():
        raise UserError(
            f"{directory}: no results.jsonl there; name the directory that a batch wrote (its --out)"
        )
    batch = read_batch_file(directory)
    if tally is None:
        tally = tally_of(results, epochs=batch.epochs, variants=batch.labels)
    if summary is None:
        summary = read_summary(directory / "summary.json", ended=tally.ended) or tally.summary_so_far(
            batch.runs or tally.ended
        )
    lines, whole = sample(results, tally.failures)
    with nullcontext(_no_transcript) if journal is None else journaled_transcripts(journal) as transcript:
        page = build_page(
            PageInput(
                summary=summary,
                tally=tally,
                lines=lines,
                whole=whole,
                facts=batch.facts,
                epochs=batch.epochs,
                show=f"runmgr show {shlex.quote(str(directory))}",
                transcript=transcript,
            )
        )
    path = directory / "report.html"
    write_atomically(path, page)
    return path


def _no_transcript(_: ResultLine) -> Sequence[Entry] | None:
    return None
