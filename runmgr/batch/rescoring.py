"""Scoring a finished batch again: its outputs are asked for nowhere, only judges are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from runmgr.batch.cases import Case, CaseReader
from runmgr.batch.directory import BatchDirectory, Manifest
from runmgr.batch.identity import Identity, fingerprint
from runmgr.batch.inputs import StdinSource, open_sources
from runmgr.batch.plan import make_scoring
from runmgr.batch.results import rebuild
from runmgr.batch.run import BatchResult
from runmgr.batch.scoring import Scoring
from runmgr.batch.spending import judged, spent
from runmgr.exceptions import JournalError, UserError
from runmgr.journal import JournalReader, open_journal
from runmgr.records.budgets import Budget
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.report.lines import ResultLine, read_lines
from runmgr.report.reducers import check_reducers, reduce_scores
from runmgr.report.summary import Tally, read_summary, write_atomically
from runmgr.supervisor import open_supervisor
from runmgr.usage import RunUsage

__all__ = ("rescore",)


async def rescore(
    path: Path,
    *,
    scorers: Sequence[Any] = (),
    add: bool = False,
    extract: str | None = None,
    target_extract: str | None = None,
    target_field: str | None = None,
    reducers: Sequence[str] = (),
    journal: Path | None = None,
    max_running: int = 100,
    budget_tokens: int | None = None,
    cases: Any = None,
) -> BatchResult:
    """Scores a batch's results again; writes results, summary and report anew. Holds the targets and the new scores in memory.

    Cancelling it leaves the directory as it was; what judges have said is in the journal.

    Args:
        path: the results directory.
        scorers: as of a batch; none takes those of the batch.
        add: keep the scores that are there, and add these.
        extract: as of a batch; None takes that of the batch, an empty one none.
        target_extract: likewise.
        target_field: the field of the input that holds the expected answer; None takes that of the batch.
        reducers: of the epochs, for the summary; none takes those of the batch.
        journal: the journal's file.
        max_running: judges at once.
        budget_tokens: tokens that batch and judges together may use.
        cases: the input, where it was rows in memory: the same `Dataset` or list.

    Raises:
        UserError: no batch there, a scorer is wrong, or the input is gone or another.
        BudgetExhausted: there is no room for a judge; nothing was written.
    """
    directory = BatchDirectory.at(path, journal)
    manifest = directory.read_manifest()
    if manifest is None or not directory.results.exists():
        raise UserError(f"{path}: no batch there; name the directory that a batch wrote (its --out)")
    check_reducers(reducers, manifest.epochs)
    old = manifest.scoring
    names: list[Any] = list(scorers) or ([] if add else list(old.get("scorers") or ()))
    if not names:
        raise UserError("--scorer is needed: the batch has none of its own")
    patterns = {
        key: (old.get(key) if said is None else said or None)
        for key, said in (("extract", extract), ("target_extract", target_extract))
    }
    if add and any(patterns[key] != old.get(key) for key in patterns):
        raise UserError(
            "--add goes with the batch's own --extract and --target-extract: the scores that are there are by them"
        )
    field = target_field or manifest.identity.get("target_field")
    scoring, found = make_scoring(
        names, patterns["extract"], patterns["target_extract"], has_targets=field is not None
    )
    targets = _targets(manifest, field, {line.run_id for line in read_lines(directory.results)}, cases)
    scores = await _score_all(
        directory, scoring, targets, max_running=max_running, budget_tokens=budget_tokens
    )
    tally = Tally(epochs=manifest.epochs, variants=manifest.labels)

    def keep(line: ResultLine) -> ResultLine:
        new = scores.get(line.run_id, {})
        line = msgspec.structs.replace(line, scores={**line.scores, **new} if add else new)
        tally.add(line)
        return line

    await rebuild(directory.results, keep)
    said = [spec if isinstance(spec, str) else scorer.name for spec, scorer in zip(names, found, strict=True)]
    kept = [spec for spec in old.get("scorers") or () if spec not in said] if add else []
    manifest.scoring = {"scorers": [*kept, *said], **patterns}
    directory.begin(manifest)
    return _finish(directory, manifest, tally, scoring, reducers)


def _finish(
    directory: BatchDirectory, manifest: Manifest, tally: Tally, scoring: Scoring, reducers: Sequence[str]
) -> BatchResult:
    from runmgr.report import write_report

    before = read_summary(directory.summary)
    usage, cost = spent(directory.journal, tally)
    summary = tally.summary(
        status="interrupted" if before is None else before.status,
        runs=(manifest.runs or tally.ended) if before is None else before.runs,
        wall_seconds=0.0 if before is None else before.wall_seconds,
        usage=usage,
        cost=cost,
        reduced=reduce_scores(directory.results, reducers or manifest.selection.get("reducers") or ()),
        judges=judged(directory.journal),
    )
    write_atomically(directory.summary, summary.to_json())
    write_report(directory.path, tally=tally, summary=summary, journal=directory.journal)
    notes: list[str] = []
    if scoring.failures:
        notes.append(
            f"{scoring.failures} times a scorer failed and the run is not scored by it; first: {scoring.first_failure}"
        )
    notes += scoring.notes()
    return BatchResult(
        summary=summary, directory=directory, exit_code=0, resumed=tally.ended, notes=tuple(notes)
    )


def _targets(manifest: Manifest, field: str | None, wanted: set[str], cases: Any) -> dict[str, Any]:
    """Each run's target, from the input; run ids are worked out as they were when the batch ran.

    Raises:
        UserError: the input is gone, was standard input, or is another.
    """
    if field is None:
        return {}
    if cases is None and (manifest.input == "-" or manifest.input.startswith("<")):
        what = "standard input" if manifest.input == "-" else "rows in memory"
        raise UserError(f"the batch's input was {what}: there are no targets to score against any more")
    source = open_sources(manifest.input.split("\n") if cases is None else cases)
    assert not isinstance(source, StdinSource)
    identity = manifest.identity
    template: Any = None
    if identity.get("prompt") or identity.get("chat"):
        from runmgr.batch.cases import compile_template
        from runmgr.batch.chat import load_chat

        template = (
            compile_template(identity["prompt"])
            if identity.get("prompt")
            else load_chat(identity["chat"], compile_template)
        )
    reader = CaseReader(
        source,
        prompt_field=identity.get("prompt_field"),
        template=template,
        image_field=identity.get("image_field"),
        target_field=identity.get("target_field"),
    )
    identities = [Identity(fingerprint(each)) for each in manifest.variants or [identity]]
    where = manifest.selection.get("where")
    if where:
        from runmgr.batch.cases import compile_where

        holds = compile_where(where)
    else:
        holds = _always
    found: dict[str, Any] = {}
    for row, fields in source.rows():
        if not holds(fields):
            continue
        case = reader.read(row, fields)
        for each in identities:
            digest = each.next_case(case.content, case.target)
            for epoch in range(1, manifest.epochs + 1):
                run_id = each.run_id(digest, epoch)
                if run_id in wanted:
                    found[run_id] = fields.get(field)
    for each in identities:
        each.close()
    if len(found) < len(wanted):
        raise UserError(
            f"{source.name}: {len(wanted) - len(found)} of the batch's {len(wanted)} runs are not in it: it has changed since"
        )
    return found


def _always(_: dict[str, Any]) -> bool:
    return True


@asynccontextmanager
async def _supervisor(
    directory: BatchDirectory, scoring: Scoring, max_running: int, budget_tokens: int | None
) -> AsyncGenerator[None]:
    if not scoring.asks:
        yield
        return
    budget = None if budget_tokens is None else Budget(tokens=budget_tokens)
    async with open_supervisor(
        max_running=max_running,
        journal=directory.journal,
        resume=True,
        remember=0,
        budget=budget,
        group_budgets=scoring.group_budgets(),
    ) as sup:
        with scoring.asking(sup):
            yield


async def _score_all(
    directory: BatchDirectory,
    scoring: Scoring,
    targets: dict[str, Any],
    *,
    max_running: int,
    budget_tokens: int | None,
) -> dict[str, dict[str, float | None]]:
    scores: dict[str, dict[str, float | None]] = {}
    reader: JournalReader | None = None
    if scoring.waits and directory.journal.exists():
        try:
            reader = open_journal(directory.journal)
        except JournalError:
            reader = None

    async def score_some(channel: trio.MemoryReceiveChannel[ResultLine]) -> None:
        async with channel:
            async for line in channel:
                outcome = _outcome(line, reader)
                case = Case(line.input, targets.get(line.run_id), line.index)
                scores[line.run_id] = await scoring.all(case, outcome)

    failure: Exception | None = None
    try:
        async with _supervisor(directory, scoring, max_running, budget_tokens):
            try:
                async with trio.open_nursery() as nursery:
                    send, receive = trio.open_memory_channel[ResultLine](0)
                    async with send, receive:
                        for _ in range(max_running if scoring.waits else 1):
                            nursery.start_soon(score_some, receive.clone())
                        for line in read_lines(directory.results):
                            await send.send(line)
            except* Exception as group:  # noqa: BLE001  the first of them is raised below, bare
                failure = _first(group)
    finally:
        if reader is not None:
            reader.close()
    if failure is not None:
        raise failure
    return scores


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


def _outcome(line: ResultLine, reader: JournalReader | None) -> RunOutcome:
    """The run's outcome: with its messages where the journal has it."""
    if reader is not None:
        found = reader.outcome(line.run_id)
        if found is not None:
            return found
    error = line.error
    return RunOutcome(
        run_id=line.run_id,
        index=line.index,
        status=RunState(line.status),
        output=line.output,
        error=None if error is None else RunError(str(error.get("type")), str(error.get("message"))),
        usage=msgspec.convert(line.usage, RunUsage, strict=False),
        cost=line.cost,
        attempts=line.attempts,
        model=line.model,
        input=line.input,
    )
