"""What a results directory already holds of a batch."""

from __future__ import annotations

import attrs
import msgspec

from runmgr.batch.directory import BatchDirectory, Manifest
from runmgr.batch.identity import id_key
from runmgr.batch.results import rebuild
from runmgr.exceptions import UserError
from runmgr.journal.tables import HashTable
from runmgr.report.lines import ResultLine
from runmgr.report.summary import Tally

__all__ = ("Finished", "take_over")


@attrs.define(eq=False)
class Finished:
    """The runs whose results stand.

    Args:
        notes: what people should know of what was left out.
    """

    _ids: HashTable
    notes: list[str] = attrs.field(factory=list[str])

    def __contains__(self, run_id: str) -> bool:
        return bool((self._ids.get(id_key(run_id)) or 0) & 1)


async def take_over(
    directory: BatchDirectory,
    before: Manifest,
    now: Manifest,
    *,
    ids: HashTable | None,
    retry_failed: bool,
    tally: Tally,
) -> Finished:
    """Keeps the results that are still of this batch, each under its case's present index; takes out the others, and torn lines.

    What is taken out although its run has ended is written again when the run is submitted again: the journal gives its outcome.

    Args:
        directory: whose results they are.
        before: what the batch was.
        now: what it is now.
        ids: each run's id and twice its case's index, lowest bit 0; None where they are not known yet (standard input).
        retry_failed: whether results that did not succeed are taken out.
        tally: counts what is kept.

    Raises:
        UserError: most results are of other cases; the file is left as it was.
    """
    done = HashTable() if ids is None else ids
    kept = dropped = 0
    score_again = before.scoring != now.scoring and directory.journal.exists()

    def keep(line: ResultLine) -> ResultLine | None:
        nonlocal kept, dropped
        key = id_key(line.run_id)
        value = done.get(key)
        if value is None and ids is not None:
            dropped += 1
            return None
        value = value or 0
        if value & 1:
            return None  # written twice
        kept += 1
        if score_again or (retry_failed and line.status != "succeeded"):
            return None
        done.set(key, value | 1)
        if ids is not None and line.index != value >> 1:
            line = msgspec.structs.replace(line, index=value >> 1)
        tally.add(line)
        return line

    def accept() -> None:
        if dropped and (not kept or (dropped > kept and before.input != now.input)):
            raise UserError(
                f"{directory.path}: holds the results of another batch (of {before.input}: {dropped} of its "
                f"{dropped + kept} runs are not in {now.input}); choose another --out"
            )

    await rebuild(directory.results, keep, accept)
    finished = Finished(done)
    if dropped:
        finished.notes.append(
            f"{dropped} results are of cases that are no longer in the input, or beyond --limit: left out"
        )
    if score_again and kept:
        finished.notes.append(
            "scorers or patterns have changed: all outputs are scored again, and none is asked for again"
        )
    return finished
