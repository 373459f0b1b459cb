"""Scorers by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeAlias

import attrs

from runmgr.batch.loading import load_object
from runmgr.batch.scorers.custom import CustomScorer
from runmgr.batch.scorers.exact import exact
from runmgr.batch.scorers.includes import includes
from runmgr.batch.scorers.numeric import check_numeric_target, numeric
from runmgr.batch.scorers.regex import check_regex_target, regex
from runmgr.exceptions import UserError

__all__ = ("BUILT_IN", "BuiltInScorer", "Scorer", "load_scorer")


@attrs.frozen
class BuiltInScorer:
    """A scorer of two texts.

    Args:
        name: its key in the results.
        score: the score of (output, target).
        check: what is wrong with a target, or None; asked before anything is sent.
    """

    name: str
    score: Callable[[str, str], float]
    check: Callable[[str], str | None] | None = None


Scorer: TypeAlias = BuiltInScorer | CustomScorer

BUILT_IN: dict[str, BuiltInScorer] = {
    scorer.name: scorer
    for scorer in (
        BuiltInScorer("exact", exact),
        BuiltInScorer("includes", includes),
        BuiltInScorer("numeric", numeric, check_numeric_target),
        BuiltInScorer("regex", regex, check_regex_target),
    )
}


def load_scorer(spec: str) -> Scorer:
    """The scorer that ``--scorer`` names: one of ``BUILT_IN``, or ``module:name``. Imports the module.

    Raises:
        UserError: no such scorer, the module cannot be imported, or what it names cannot be called as a scorer.
    """
    if ":" in spec:
        function = load_object(spec, "--scorer")
        if not callable(function):
            raise UserError(f"--scorer {spec}: {function!r} cannot be called")
        return CustomScorer(spec.rpartition(":")[2], function)
    if spec in BUILT_IN:
        return BUILT_IN[spec]
    close = get_close_matches(spec, BUILT_IN, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"--scorer {spec}: unknown scorer; {hint}there are {', '.join(BUILT_IN)}, and module:name for your own"
    )
