"""From an outcome to its scores."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import trio

from runmgr.batch.cases import Case, target_texts
from runmgr.batch.extract import extract
from runmgr.batch.results import plain
from runmgr.batch.scorers import BuiltInScorer, CustomScorer, Judge, PairwiseJudge, Scorer
from runmgr.batch.spending import GROUP, scope_of
from runmgr.exceptions import BudgetExhausted, RunCancelled, SupervisorClosed
from runmgr.records.budgets import Budget
from runmgr.records.outcomes import RunOutcome

__all__ = ("Scoring",)

_REMEMBERED = 256


class Scoring:
    """Scores outcomes with several scorers.

    A run that did not succeed has no scores. Where ``extract`` matches nowhere in an output, built-in scorers give 0 and a user's own gets
    None as the output. Judges are shown the whole output.

    Args:
        scorers: what scores.
        extract: takes the answer out of the output's text.
        target_extract: takes the answer out of the target's.
    """

    def __init__(
        self,
        scorers: tuple[Scorer, ...] = (),
        *,
        extract: re.Pattern[str] | None = None,
        target_extract: re.Pattern[str] | None = None,
    ) -> None:
        self._extract = extract
        self._target_extract = target_extract
        self._built_in = [s for s in scorers if isinstance(s, BuiltInScorer)]
        self._custom = [s for s in scorers if isinstance(s, CustomScorer)]
        self._judges = [s for s in scorers if isinstance(s, (Judge, PairwiseJudge))]
        self._order = [s.name for s in scorers]
        self._known: dict[int, tuple[Any, list[str]]] = {}
        self.supervisor: Any = None
        """Where judges run, and what custom scorers may submit to."""
        self.failures = 0
        """How often a scorer failed, or a user's returned no number; such a run is not scored by it."""
        self.first_failure: str | None = None

    @property
    def judges(self) -> bool:
        """Whether models judge."""
        return bool(self._judges)

    def group_budgets(self) -> dict[str, Budget] | None:
        """What judges may spend that have a budget of their own, by their runs' group."""
        return {
            GROUP + judge.name: budget for judge in self._judges if (budget := judge.budget()) is not None
        } or None

    @contextmanager
    def asking(self, supervisor: Any) -> Generator[None]:
        """While this lasts, judges are asked in this supervisor, and their caches are open.

        Raises:
            UserError: a cache cannot be opened.
        """
        self.supervisor = supervisor
        with ExitStack() as caches:
            for judge in self._judges:
                caches.enter_context(judge.open_cache())
            yield

    def notes(self) -> list[str]:
        """What people should know of the judges."""
        found: list[str] = []
        for judge in self._judges:
            if judge.unpaid:
                found.append(
                    f"{judge.name}: {judge.unpaid} runs are not judged: its own budget has no room for them; `runmgr score DIR` with a "
                    "larger one asks for those only (a verdict's upper bound must fit: max-tokens=N makes it smaller)"
                )
            if judge.cached:
                found.append(f"{judge.name}: {judge.cached} verdicts came from its cache")
        return found

    @property
    def waits(self) -> bool:
        """Whether scoring awaits something: a user's scorer, or a judge."""
        return bool(self._custom or self._judges)

    @property
    def asks(self) -> bool:
        """Whether scoring needs a supervisor to run in."""
        return bool(self._judges) or any(s.wants_supervisor for s in self._custom)

    def built_in(self, case: Case, outcome: RunOutcome) -> dict[str, float | None]:
        """Scores of the built-in scorers; never waits."""
        if not self._built_in or outcome.status != "succeeded":
            return {}
        answer = self._answer(outcome)
        if answer is None:
            return dict.fromkeys([s.name for s in self._built_in], 0.0)
        targets = self._targets(case)
        if len(targets) == 1:
            return {s.name: s.score(answer, targets[0]) for s in self._built_in}
        return {
            s.name: max((s.score(answer, target) for target in targets), default=0.0) for s in self._built_in
        }

    def _targets(self, case: Case) -> list[str]:
        """What counts as right. Kept for as many cases as may be on the way: epochs and combinations ask for the same again."""
        known = self._known.get(case.index)
        if known is not None and known[0] is case.target:
            return known[1]
        targets = target_texts(case.target)
        if self._target_extract is not None:
            targets = [
                found for text in targets if (found := extract(self._target_extract, text)) is not None
            ]
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[case.index] = (case.target, targets)
        return targets

    async def all(self, case: Case, outcome: RunOutcome) -> dict[str, float | None]:
        """Scores of all scorers; sync ones of the user's run in a worker thread, abandoned if this is cancelled.

        Raises:
            BudgetExhausted: the batch's budget has no room for a judge; the run is to be scored again on resume.
            SupervisorClosed: a judge cannot be asked any more; likewise.
            RunCancelled: a judge's run was cancelled; likewise.
        """
        scores = self.built_in(case, outcome)
        if outcome.status != "succeeded":
            return scores
        offered: dict[str, Any] = {
            "output": outcome.output if self._extract is None else self._answer(outcome),
            "target": case.target,
            "input": case.prompt,
            "outcome": outcome,
            "supervisor": self.supervisor,
        }
        for scorer in self._custom:
            scores[scorer.name] = await self._call(scorer, offered)
        whole = {**offered, "output": plain(outcome.output)}
        for judge in self._judges:
            scores[judge.name] = await self._ask(judge, whole)
        return {name: scores[name] for name in self._order}

    async def _call(self, scorer: CustomScorer, offered: Mapping[str, Any]) -> float | None:
        try:
            if scorer.is_async:
                value = await scorer.call(offered)
            else:
                value = await trio.to_thread.run_sync(scorer.call, offered, abandon_on_cancel=True)
            return scorer.checked(value)
        except (BudgetExhausted, SupervisorClosed):
            raise
        except Exception as error:  # noqa: BLE001  a user's scorer: its failure is said and counted, and stops nothing
            self._failed(scorer.name, offered, error)
            return None

    async def _ask(self, judge: Judge | PairwiseJudge, offered: Mapping[str, Any]) -> float | None:
        try:
            return await judge.score(offered)
        except BudgetExhausted as error:
            if error.scope != scope_of(judge.name):
                raise
            judge.unpaid += 1  # its own: the batch goes on without its verdicts
            return None
        except (SupervisorClosed, RunCancelled):
            raise
        except Exception as error:  # noqa: BLE001  a judge's failure is said and counted, and stops nothing
            self._failed(judge.name, offered, error)
            return None

    def _failed(self, name: str, offered: Mapping[str, Any], error: Exception) -> None:
        self.failures += 1
        if self.first_failure is None:
            run_id = offered["outcome"].run_id
            self.first_failure = f"scorer {name!r} on run {run_id}: {type(error).__name__}: {error}"

    def _answer(self, outcome: RunOutcome) -> str | None:
        output = outcome.output
        text = output if isinstance(output, str) else json.dumps(plain(output), ensure_ascii=False)
        return text if self._extract is None else extract(self._extract, text)
