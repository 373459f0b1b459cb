"""What a batch has spent, with the runs that have not ended."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from runmgr.exceptions import JournalError
from runmgr.journal import open_journal
from runmgr.models import Model
from runmgr.report.summary import JudgeSummary, Tally, add_usage
from runmgr.supervisor.pricing import Prices
from runmgr.usage import RequestUsage

__all__ = ("GROUP", "judged", "prices_at_hand", "scope_of", "spent")

GROUP = "scorer "
"""A judge's runs are of the group of this and its name."""
_HEAD_START = 0.1
"""Seconds in which the first requests are sent, undisturbed."""


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


@contextmanager
def prices_at_hand(models: Iterable[Any]) -> Generator[None]:
    """Looks the models' prices up beside what goes on in the block: the table takes a quarter of a second to import, for which the first answers
    would wait. It begins once the first requests are sent; leaving waits for it. In a plain thread, which is neither scheduled nor timed by trio.

    Args:
        models: whom the batch asks; what is no `Model` is passed over.
    """

    def look_up() -> None:
        if left.wait(_HEAD_START):
            return
        for model in models:
            if isinstance(model, Model):
                prices.price(model.system, model.model_name, nothing)

    left, prices, nothing = threading.Event(), Prices(), RequestUsage()
    thread = threading.Thread(target=look_up, name="runmgr prices", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def scope_of(judge: str) -> str:
    """How `BudgetExhausted` names the budget of a judge of this name."""
    return f"group {GROUP + judge!r}"


def judged(journal: Path) -> dict[str, JudgeSummary]:
    """What each judge was asked over all resumes, by its name. Blocks for as long as the journal takes to be read.

    Args:
        journal: the batch's journal.
    """
    found: dict[str, JudgeSummary] = {}
    try:
        with open_journal(journal) as reader:
            for outcome in reader.outcomes():
                if not outcome.group.startswith(GROUP):
                    continue
                name = outcome.group.removeprefix(GROUP)
                before = found.get(name) or JudgeSummary(None, 0, 0, {}, Decimal(0))
                add_usage(before.usage, msgspec.to_builtins(outcome.usage))
                unknown = outcome.cost is None and bool(outcome.usage.requests)
                found[name] = JudgeSummary(
                    outcome.model or before.model,
                    before.runs + 1,
                    before.failed + (outcome.status == "failed"),
                    before.usage,
                    None if unknown or before.cost is None else before.cost + (outcome.cost or 0),
                )
    except JournalError:
        return {}
    return found
