"""Several epochs of a case as one score: mean, mode, max, pass@k."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from runmgr.exceptions import UserError
from runmgr.report.lines import read_lines
from runmgr.report.statistics import ScoreStatistics
from runmgr.report.summary import ScoreSummary

__all__ = ("Reducer", "check_reducers", "parse_reducer", "pass_at_k", "reduce_scores")

Reducer: TypeAlias = Callable[[Sequence[float]], "float | None"]


def pass_at_k(n: int, correct: int, k: int) -> float | None:
    """The probability that at least one of k runs is right, estimated without bias from n runs: ``1 - C(n - c, k) / C(n, k)``.

    None where there are fewer than k runs.

    Source: M. Chen et al., "Evaluating Large Language Models Trained on Code" (2021), arXiv:2107.03374, section 2.1; as the product there,
    which does not overflow.
    """
    if n < k:
        return None
    if n - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def _mode(scores: Sequence[float]) -> float | None:
    """The most frequent score; of several the lowest: a tie is no success."""
    counts = Counter(scores)
    most = max(counts.values())
    return min(score for score, count in counts.items() if count == most)


def parse_reducer(name: str) -> Reducer:
    """``mean``, ``mode``, ``max`` or ``pass@K``.

    Raises:
        UserError: it is none of these.
    """
    if name == "mean":
        return lambda scores: math.fsum(scores) / len(scores)
    if name == "mode":
        return _mode
    if name == "max":
        return max
    found = re.fullmatch(r"pass@([1-9]\d{0,5})", name)
    if found is None:
        raise UserError(f"--reducer {name}: there are mean, mode, max and pass@K (e.g. pass@5)")
    k = int(found[1])
    return lambda scores: pass_at_k(len(scores), sum(score >= 1 for score in scores), k)


def check_reducers(names: Iterable[str], epochs: int) -> None:
    """Whether these are reducers, and there are enough epochs for each.

    Raises:
        UserError: one is none, or needs more.
    """
    for name in names:
        parse_reducer(name)
        _, at, k = name.partition("@")
        if at and int(k) > epochs:
            raise UserError(
                f"--reducer {name}: {k} runs of each case are needed, and there {'is 1' if epochs == 1 else f'are {epochs}'} (--epochs)"
            )


def reduce_scores(results: Path, names: Iterable[str]) -> dict[str, dict[str, ScoreSummary]]:
    """Scorer -> reducer -> figures over cases, of a results file; 8 bytes a score. Blocks.

    A run that was not scored does not count; of a matrix each combination is a case of its own. ``n`` is the number of cases that have
    enough runs.

    Raises:
        UserError: a reducer is unknown.
    """
    reducers = {name: parse_reducer(name) for name in names}
    if not reducers:
        return {}
    values: dict[str, dict[tuple[str, int], array[float]]] = {}
    for line in read_lines(results):
        for scorer, score in line.scores.items():
            if score is not None:
                cases = values.setdefault(scorer, {})
                cases.setdefault((line.variant or "", line.index), array("d")).append(score)
    found: dict[str, dict[str, ScoreSummary]] = {}
    for scorer, cases in values.items():
        found[scorer] = {}
        for name, reduce in reducers.items():
            statistics = ScoreStatistics(clustered=len({variant for variant, _ in cases}) > 1)
            for (_, case), scores in cases.items():
                reduced = reduce(scores)
                if reduced is not None:
                    statistics.add(reduced, case)
            found[scorer][name] = ScoreSummary(statistics.mean, statistics.stderr, statistics.n)
    return found
