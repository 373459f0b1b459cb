"""What a batch would send."""

from __future__ import annotations

from itertools import islice
from typing import Any

import attrs

from runmgr.batch.cases import Case
from runmgr.batch.config import BatchConfig
from runmgr.batch.dataset import with_dataset
from runmgr.batch.inputs import StdinSource
from runmgr.batch.plan import make_plan
from runmgr.batch.scan import cases_of_file, scan

__all__ = ("Preview", "PreviewedCase", "preview")


@attrs.frozen
class PreviewedCase:
    """A case as it would be sent.

    Args:
        index: its place in the input.
        instructions: of the batch; an agent's own are not shown.
        messages: what is said, as ``[{"role", "content"}]``.
        target: what is right.
    """

    index: int
    instructions: str | None
    messages: list[dict[str, Any]]
    target: Any


@attrs.frozen
class Preview:
    """What a batch would send.

    Args:
        first: the first cases.
        cases: how many there are; None of standard input, which is not read.
        runs: how many runs; likewise.
        variants: the matrix's labels.
    """

    first: list[PreviewedCase]
    cases: int | None
    runs: int | None
    variants: list[str]


async def preview(config: BatchConfig, *, most: int = 3) -> Preview:
    """Checks everything that `run_batch` checks before it sends, and sends and writes nothing.

    Args:
        config: the batch.
        most: how many cases to show.

    Raises:
        UserError: an argument, a model or a pattern is wrong.
        InputError: the input is wrong; names file and line.
    """
    plan = make_plan(with_dataset(config))
    labels = [variant.label for variant in plan.variants]
    if isinstance(plan.source, StdinSource):
        return Preview([], None, None, labels)
    found = await scan(
        plan.source,
        plan.reader(),
        plan.selection,
        epochs=config.epochs,
        identities=(),
        progress=lambda _: None,
    )
    first = [
        PreviewedCase(case.index, config.instructions, _messages(case), case.target)
        for case in islice(cases_of_file(plan.source, plan.reader(), plan.selection), most)
    ]
    return Preview(first, found.cases, found.cases * config.epochs * len(labels), labels)


def _messages(case: Case) -> list[dict[str, Any]]:
    shown = case.input
    messages: list[dict[str, Any]] = [{"role": "user", "content": shown}] if isinstance(shown, str) else shown
    leading = [m for m in messages[:1] if m["role"] == "system"]
    return [*leading, *case.shots, *messages[len(leading) :]]
