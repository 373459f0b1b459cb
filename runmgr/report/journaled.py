"""Transcripts for a page, out of the journal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runmgr.exceptions import JournalError
from runmgr.journal import open_journal
from runmgr.report.lines import ResultLine
from runmgr.report.transcript import Entry, entries

__all__ = ("MOST_TRANSCRIPTS", "journaled_transcripts")

MOST_TRANSCRIPTS = 500


@contextmanager
def journaled_transcripts(journal: Path) -> Generator[Callable[[ResultLine], Sequence[Entry] | None]]:
    """A function from a result to what its run said, for runs of which input and output are not all: several requests,
    or tools. None for the others, for those beyond the first 500, and where the journal cannot be read.
    """
    try:
        reader = open_journal(journal)
    except JournalError:
        yield lambda _: None
        return
    left = MOST_TRANSCRIPTS

    def transcript(line: ResultLine) -> Sequence[Entry] | None:
        nonlocal left
        if not left or (line.usage.get("requests", 0) <= 1 and not line.usage.get("tool_calls")):
            return None
        left -= 1
        try:
            outcome = reader.outcome(line.run_id)
        except JournalError:
            return None
        return None if outcome is None else entries(outcome.messages)

    with reader:
        yield transcript
