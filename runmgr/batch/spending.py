"""What a batch has spent, with the runs that have not ended."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from runmgr.exceptions import JournalError
from runmgr.journal import open_journal
from runmgr.report.summary import Tally

__all__ = ("spent",)


def spent(journal: Path, tally: Tally) -> tuple[dict[str, Any], Decimal | None]:
    """Usage and cost over all resumes: what the journal says, else the results' sum. Blocks for one small read.

    Args:
        journal: the batch's journal.
        tally: its results.
    """
    try:
        with open_journal(journal) as reader:
            said: dict[str, Any] | None = reader.meta("spent")
    except JournalError:
        said = None
    if said is None:
        return tally.usage, tally.cost
    return said["usage"], None if said["unpriced"] else Decimal(said["cost"])
