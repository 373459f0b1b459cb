"""The batch itself: cases in, results out, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing, suppress
from typing import Any, TypeAlias

import attrs
import msgspec
import trio

from runmgr.batch.cases import Case
from runmgr.batch.config import BatchConfig
from runmgr.batch.dataset import with_dataset
from runmgr.batch.directory import BatchDirectory, Manifest, new_directory
from runmgr.batch.identity import Identity, fingerprint
from runmgr.batch.inputs import StdinSource
from runmgr.batch.plan import Plan, make_plan
from runmgr.batch.reading import Reading
from runmgr.batch.reports import BatchReport
from runmgr.batch.results import ResultsFile, no_room, plain
from runmgr.batch.resume import Finished, take_over
from runmgr.batch.scan import cases_of_file, cases_of_stdin, scan
from runmgr.batch.spending import judged, prices_at_hand, spent
from runmgr.batch.state import BatchState
from runmgr.batch.variants import Variant
from runmgr.concurrency import BareNursery
from runmgr.exceptions import BudgetExhausted, InputError, RunCancelled, SupervisorClosed, UserError
from runmgr.journal.tables import HashTable
from runmgr.records.budgets import Budget, RateLimit
from runmgr.records.outcomes import RunOutcome
from runmgr.report.lines import ResultLine
from runmgr.report.reducers import reduce_scores
from runmgr.report.summary import Summary, Tally, write_atomically
from runmgr.supervisor import RunSpec, Supervisor, open_supervisor

__all__ = ("BatchResult", "Watch", "run_batch")

Watch: TypeAlias = Callable[[BatchState], Awaitable[None]]
"""Something that runs beside a batch and sees its state: a progress display, a signal handler. Cancelled at its end."""

_SCORING_TASKS = 16
_MOST_SCORING = 1000
_MANY_RUNS = 100_000


@attrs.frozen(kw_only=True)
class BatchResult:
    """How a batch ended.

    Args:
        summary: what is in ``summary.json``.
        directory: where everything lies.
        exit_code: 0 done; 1 more failed than allowed; 2 bad input on stdin; 3 stopped by its budget; 130 interrupted.
        resumed: runs that had ended before this invocation.
        notes: what people should know.
        first_failure: type and message of one failed run's error.
        input_error: the bad line that stopped admission.
    """

    summary: Summary
    directory: BatchDirectory
    exit_code: int
    resumed: int = 0
    notes: tuple[str, ...] = ()
    first_failure: str | None = None
    input_error: InputError | None = None

    @property
    def report(self) -> BatchReport:
        """The results, to be looked into."""
        return BatchReport(self.directory.path)


async def run_batch(
    config: BatchConfig | None = None, *, watch: Sequence[Watch] = (), **options: Any
) -> BatchResult:
    """Runs a batch: checks everything, reads the input whole, sends, scores, and writes the results directory.

    Cancelling it leaves journal and results so that ``resume=True`` goes on from them; the summary is then not written.

    Args:
        config: what to do; or its fields as keyword arguments: ``run_batch(input='cases.jsonl', model='openai:gpt-4.1')``.
        watch: what runs beside it.
        options: the fields of `BatchConfig`.

    Raises:
        UserError: an argument, model, pattern or the results directory is wrong; nothing was sent. Or the results directory's disk is
            full: what ended is in the journal.
        InputError: the input is wrong; names file and line; nothing was sent.
        JournalError: the journal cannot be opened or written.
        KeyboardInterrupt: a watcher stopped it before anything was sent.
    """
    if config is None:
        config = BatchConfig(**options)
    elif options:
        config = attrs.evolve(config, **options)
    config = with_dataset(config)
    if config.out is None:
        config = attrs.evolve(config, out=new_directory())
    batch = _Batch(make_plan(config))
    result: BatchResult | None = None
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for each in watch:
            nursery.start_soon(each, batch.state)
        try:
            result = await batch.run()
        except Exception as error:  # noqa: BLE001  raised below, out of the nursery, bare
            failure = no_room(error, batch.directory.path) or error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None:
        raise KeyboardInterrupt
    return result


@attrs.define(eq=False)
class _Pending:
    """A run that has been handed to the supervisor and has not ended."""

    epoch: int
    case: Case
    variant: Variant


class _Batch:
    """One invocation."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config = plan.config
        self.per_case = plan.config.epochs * len(plan.variants)
        self.state = BatchState(
            tally=Tally(epochs=plan.config.epochs, variants=plan.manifest.labels),
            max_running=plan.config.max_running,
        )
        assert plan.config.out is not None
        self.directory = BatchDirectory.at(plan.config.out, plan.config.journal)
        self.input_error: InputError | None = None
        self.admitting = True
        self._shutting_down = False
        self._supervisor_stopped: Callable[[], bool] = lambda: False
        """By an error of its own, such as a full disk."""
        self._scoring = trio.CancelScope()
        self._limit = plan.config.failure_limit
        self._pending: dict[str, _Pending] = self.state.unfinished
        self._done: Finished | None = None
        self._cases = 0
        self._expected = 1000

    async def run(self) -> BatchResult | None:
        """The whole; None where it was stopped before anything was sent."""
        state = self.state
        with trio.CancelScope() as scope:
            state.on_stop = scope.cancel
            before = self.directory.check(self.plan.manifest, resume=self.config.resume)
            if before is not None:
                await self._check_provider_batches()
            ids = await self._read_input(before)
            if before is not None:
                await self._keep_finished(before, ids)
            self.directory.begin(
                msgspec.structs.replace(
                    self.plan.manifest, runs=state.total, created=before.created if before else ""
                )
            )
        if state.stopped is not None:
            return None
        results = ResultsFile(self.directory.results)
        try:
            async with BareNursery("writing results failed") as nursery:
                nursery.start_soon(results.flush_in_time)
                with prices_at_hand(variant.model for variant in self.plan.variants):
                    await self._send(results)
        finally:
            results.close()
        return self._finish()

    # ---------------------------------------------------------------- before anything is sent

    async def _read_input(self, before: Manifest | None) -> HashTable | None:
        """Checks the whole input, where it can be read twice; the ids of its runs, where some may have ended before."""
        source = self.plan.source
        if isinstance(source, StdinSource):
            return None
        identities = [] if before is None else self._identities(1000)

        def progress(rows: int) -> None:
            self.state.rows_read = rows

        found = await scan(
            source,
            self.plan.reader(),
            self.plan.selection,
            epochs=self.config.epochs,
            identities=identities,
            progress=progress,
        )
        self.state.total = found.cases * self.per_case
        self._expected = found.cases
        for identity in identities:
            identity.close()
        return found.ids

    def _identities(self, expected: int) -> list[Identity]:
        return [Identity(fingerprint(variant.identity), expected) for variant in self.plan.variants]

    async def _keep_finished(self, before: Manifest, ids: HashTable | None) -> None:
        """Takes over the results that are still of this batch."""
        state = self.state
        self._done = await take_over(
            self.directory,
            before,
            self.plan.manifest,
            ids=ids,
            retry_failed=self.config.retry_failed,
            tally=state.tally,
        )
        state.resumed = state.tally.ended
        state.notes += self._done.notes

    # ---------------------------------------------------------------- sending

    async def _send(self, results: ResultsFile) -> None:
        """Runs everything that has not ended, and writes each result as it comes."""
        state, config, plan = self.state, self.config, self.plan
        state.phase = "running"
        reading = Reading()
        options: dict[str, Any] = dict(plan.variants[0].options) if len(plan.variants) == 1 else {}
        if config.timeout is not None:
            options["timeout"] = config.timeout
        async with (
            self._specs(reading) as specs,
            open_supervisor(
                max_running=config.max_running,
                max_queued=max(1, min(config.max_running, 1000)),
                retries=config.retries,
                journal=self.directory.journal,
                resume=config.resume,
                retry_failed=config.retry_failed,
                interrupted_tools="fail",
                budget=self._budget(),
                group_budgets=plan.scoring.group_budgets(),
                rate_limits=self._rates(),
                cache=config.cache,
                cluster=config.cluster,
                remember=0,
            ) as sup,
            self._provider_batches(sup),
            sup.map(plan.agent, specs, **options) as outcomes,
        ):

            def stop() -> None:
                # every admitted run still gets an outcome, so what had ended by now is written as usual
                self.admitting = False
                self._shutting_down = True
                reading.stop()
                sup.cancel("shutdown")
                self._scoring.cancel()  # what was not scored in time is in the journal

            self._supervisor_stopped = lambda: sup._runtime.stop_reason is not None
            state.on_stop = stop
            state.models = lambda: sup.snapshot().models
            # `SupervisorClosed` is raised after the last outcome, because there was more to submit
            with plan.scoring.asking(sup), suppress(SupervisorClosed):
                if plan.scoring.waits:
                    await self._take_and_wait(outcomes, results)
                else:
                    async for outcome in outcomes:
                        self._ended(outcome, results)
            journal, snapshot = sup._runtime.journal, sup.snapshot()
            if journal is not None and not self.admitting:
                journal.earlier.leave_the_rest()
            budget, lost = snapshot.budget, snapshot.lost
            if state.stopped == "budget_exhausted" and lost:
                tokens, cost = lost.get("input_tokens", 0) + lost.get("output_tokens", 0), lost.get("cost")
                state.notes.append(
                    f"of the budget, up to {tokens:,} tokens{f' and ${cost}' if cost else ''} are counted for requests "
                    "that were cut off, by a kill or an error: providers may have charged for them"
                )
            if budget is not None and budget.unbounded:
                state.notes.append(
                    f"the budget is not hard: {budget.unbounded} requests had no max_tokens, and each counts as 4,096 output "
                    f"tokens until it is answered (the longest answer had {budget.largest_output or 0:,}): add --set max_tokens=N"
                )
        state.on_stop = state.models = None

    # ---------------------------------------------------------------- by way of providers' batches

    async def _check_provider_batches(self) -> None:
        """Before a resume: what providers are still working on is not asked for a second time.

        Raises:
            UserError: there are such batches, and ``via_batch_api`` is not asked for.
        """
        from runmgr.batch.provider_batches import forget_claims, open_batches

        if self.config.via_batch_api:
            await forget_claims(self.directory.journal)
        elif pending := open_batches(self.directory.journal):
            raise UserError(
                f"{self.directory.path}: {len(pending)} of its batches may still be at the provider; add --via-batch-api to collect "
                f"them, or cancel them first: runmgr provider-batches {self.directory.path} --cancel"
            )

    @asynccontextmanager
    async def _provider_batches(self, sup: Supervisor) -> AsyncGenerator[None]:
        if not self.config.via_batch_api:
            yield
            return
        from runmgr.batch.provider_batches import Patience, open_provider_batches

        patience = Patience(retries=self.config.retries)
        if self.config.poll is not None:
            patience = attrs.evolve(patience, longest=self.config.poll)
        run_journal = sup._runtime.journal
        assert run_journal is not None
        models = {id(variant.model): variant.model for variant in self.plan.variants}
        async with open_provider_batches(
            list(models.values()),
            writer=run_journal.writer,
            folder=self.directory.path / "provider-batches",
            patience=patience,
            retry_failed=self.config.retry_failed,
        ) as lanes:

            def standing() -> list[tuple[str, str, int, int]]:
                return [
                    (record.id or "-", status, counts.done, counts.total)
                    for lane in lanes
                    for record, status, counts in lane.standing.values()
                ]

            self.state.provider_batches = standing
            try:
                yield
            finally:
                self.state.provider_batches = None
                if left := standing():
                    self.state.notes.append(
                        f"{len(left)} of its batches go on at the provider ({', '.join(each[0] for each in left[:3])}"
                        f"{', ...' if len(left) > 3 else ''}): --resume collects them; to cancel them: "
                        f"runmgr provider-batches {self.directory.path} --cancel"
                    )

    def _ended(self, outcome: RunOutcome, results: ResultsFile) -> None:
        pending = self._pending.pop(outcome.run_id, None)
        if pending is None or not self._counts(outcome):
            return
        self._write(outcome, pending, self.plan.scoring.built_in(pending.case, outcome), results)

    async def _take_and_wait(self, outcomes: AsyncIterator[RunOutcome], results: ResultsFile) -> None:
        """Scores a few outcomes at a time: a user's scorer may wait."""
        send, receive = trio.open_memory_channel[RunOutcome](0)

        async def score_some(channel: trio.MemoryReceiveChannel[RunOutcome]) -> None:
            async with channel:
                async for outcome in channel:
                    pending = self._pending.pop(outcome.run_id, None)
                    if pending is not None and self._counts(outcome):
                        scores = await self._scores(pending.case, outcome)
                        if scores is not None:
                            self._write(outcome, pending, scores, results)

        async with trio.open_nursery() as nursery:
            self._scoring = nursery.cancel_scope
            async with send, receive:
                # a judge is asked as many things at once as there are runs
                most = _MOST_SCORING if self.plan.scoring.asks else _SCORING_TASKS
                for _ in range(max(_SCORING_TASKS, min(self.config.max_running, most))):
                    nursery.start_soon(score_some, receive.clone())
                async for outcome in outcomes:
                    await send.send(outcome)

    async def _scores(self, case: Case, outcome: RunOutcome) -> dict[str, float | None] | None:
        """The scores; None where judges cannot be asked any more: the run is scored when the batch goes on."""
        try:
            return await self.plan.scoring.all(case, outcome)
        except BudgetExhausted:
            self.admitting = False
            self.state.stopped = self.state.stopped or "budget_exhausted"
        except (SupervisorClosed, RunCancelled):
            self.admitting = False
        return None

    def _counts(self, outcome: RunOutcome) -> bool:
        """Whether it is a result: what a shutdown or a budget stopped goes on later."""
        if outcome.status == "cancelled" and (self._shutting_down or self._supervisor_stopped()):
            return False
        if outcome.error is not None and outcome.error.type == "BudgetExhausted":
            self.admitting = False
            self.state.stopped = self.state.stopped or "budget_exhausted"
            return False
        return True

    def _write(
        self, outcome: RunOutcome, pending: _Pending, scores: dict[str, float | None], results: ResultsFile
    ) -> None:
        line = ResultLine(
            index=pending.case.index,
            epoch=pending.epoch,
            run_id=outcome.run_id,
            status=str(outcome.status),
            input=pending.case.input,
            output=plain(outcome.output),
            error=None
            if outcome.error is None
            else {"type": outcome.error.type, "message": outcome.error.message},
            scores=scores,
            usage=msgspec.to_builtins(outcome.usage),
            cost=outcome.cost,
            model=outcome.model,
            attempts=outcome.attempts,
            queued_at=outcome.queued_at,
            started_at=outcome.started_at,
            finished_at=outcome.finished_at,
            variant=pending.variant.label or msgspec.UNSET,
        )
        results.write(line)
        tally = self.state.tally
        tally.add(line)
        if outcome.replayed:
            self.state.resumed += 1
        elif (
            self._limit is not None
            and line.status == "failed"
            and tally.failed > self._limit.allowed(self.state.total, tally.ended)
        ):
            self.state.stop("failed")

    # ---------------------------------------------------------------- what to run

    @asynccontextmanager
    async def _specs(self, reading: Reading) -> AsyncGenerator[Iterator[RunSpec] | AsyncIterator[RunSpec]]:
        """The runs that have not ended, as their cases are read."""
        identities = self._identities(self._expected)
        source, selection = self.plan.source, self.plan.selection
        reader = self.plan.reader()
        try:
            if isinstance(source, StdinSource):
                async with aclosing(
                    self._specs_of_stdin(cases_of_stdin(source, reader, selection), identities)
                ) as specs:
                    yield reading.until_stopped(specs)
            else:
                with closing(
                    self._specs_of_file(cases_of_file(source, reader, selection), identities)
                ) as specs:
                    yield specs
        finally:
            for identity in identities:
                identity.close()

    def _specs_of_file(self, cases: Iterator[Case], identities: list[Identity]) -> Generator[RunSpec]:
        try:
            for case in cases:
                for spec in self._runs_of(case, identities):
                    if not self.admitting:
                        return
                    yield spec
        except InputError as error:  # the file has changed since it was read whole
            self._stop_admitting(error)

    async def _specs_of_stdin(
        self, cases: AsyncGenerator[Case], identities: list[Identity]
    ) -> AsyncGenerator[RunSpec]:
        try:
            async with aclosing(cases):
                async for case in cases:
                    for spec in self._runs_of(case, identities):
                        if not self.admitting:
                            return
                        yield spec
            self.state.total = self._cases * self.per_case
        except InputError as error:
            self._stop_admitting(error)

    def _stop_admitting(self, error: InputError) -> None:
        self.input_error = error
        self.admitting = False

    def _runs_of(self, case: Case, identities: list[Identity]) -> Iterator[RunSpec]:
        """A case's runs, the combinations of a matrix in turn, so that none is ahead of the others."""
        self._cases += 1
        digests = [identity.next_case(case.content, case.target) for identity in identities]
        several = len(identities) > 1
        for epoch in range(1, self.config.epochs + 1):
            for identity, digest, variant in zip(identities, digests, self.plan.variants, strict=True):
                run_id = identity.run_id(digest, epoch)
                self.state.admitted += 1
                if self._done is not None and run_id in self._done:
                    continue
                try:
                    prompt, history = case.sent()
                except (UserError, OSError) as error:
                    raise InputError(f"case {case.index}: {error}", source=self.plan.source.name) from error
                self._pending[run_id] = _Pending(epoch, case, variant)
                if several:
                    yield RunSpec(
                        prompt=prompt,
                        run_id=run_id,
                        message_history=history,
                        group=variant.label,
                        cache_salt=epoch,
                        **variant.options,
                    )
                else:
                    yield RunSpec(prompt=prompt, run_id=run_id, message_history=history, cache_salt=epoch)

    def _budget(self) -> Budget | None:
        config = self.config
        if config.budget_usd is None and config.budget_tokens is None:
            return None
        return Budget(cost=config.budget_usd, tokens=config.budget_tokens)

    def _rates(self) -> RateLimit | None:
        config = self.config
        if config.rpm is None and config.tpm is None:
            return None
        return RateLimit(requests_per_minute=config.rpm, tokens_per_minute=config.tpm)

    # ---------------------------------------------------------------- the end

    def _finish(self) -> BatchResult:
        state, scoring = self.state, self.plan.scoring
        state.phase = "finishing"
        runs = state.total if state.total is not None else self._cases * self.per_case
        if state.total is not None and state.tally.ended >= runs and state.stopped != "failed":
            state.stopped = None  # it came too late to stop anything
        status = state.stopped or ("failed" if self.input_error else "complete")
        usage, cost = spent(self.directory.journal, state.tally)
        summary = state.tally.summary(
            status=status,
            runs=runs,
            wall_seconds=trio.current_time() - state.started,
            usage=usage,
            cost=cost,
            reduced=reduce_scores(self.directory.results, self.config.reducers),
            judges=judged(self.directory.journal) if scoring.judges else None,
        )
        write_atomically(self.directory.summary, summary.to_json())
        if self.config.report:
            from runmgr.report import write_report

            # after Ctrl-C there is no time to look transcripts up among millions
            hurried = status == "interrupted" and state.tally.ended > _MANY_RUNS
            journal = None if hurried else self.directory.journal
            write_report(self.directory.path, tally=state.tally, summary=summary, journal=journal)
        if scoring.failures:
            state.notes.append(
                f"{scoring.failures} times a scorer failed and the run is not scored by it; first: {scoring.first_failure}"
            )
        state.notes += scoring.notes()
        error = state.tally.first_error
        state.unfinished.clear()
        state.phase = "done"
        return BatchResult(
            summary=summary,
            directory=self.directory,
            exit_code=self._exit_code(),
            resumed=state.resumed,
            notes=tuple(state.notes),
            first_failure=None if error is None else f"{error.get('type')}: {error.get('message')}",
            input_error=self.input_error,
        )

    def _exit_code(self) -> int:
        stopped = self.state.stopped
        if stopped == "interrupted":
            return 130
        if self.input_error is not None:
            return 2
        if stopped == "budget_exhausted":
            return 3
        return int(stopped == "failed" or (self._limit is None and self.state.tally.failed > 0))
