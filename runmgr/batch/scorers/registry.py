"""Scorers by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import TypeAlias

from runmgr.batch.loading import load_object
from runmgr.batch.scorers.builtin import BuiltInScorer
from runmgr.batch.scorers.custom import CustomScorer
from runmgr.batch.scorers.exact import exact
from runmgr.batch.scorers.f1 import f1
from runmgr.batch.scorers.includes import includes
from runmgr.batch.scorers.judge import Judge, PairwiseJudge, make_judge, make_pairwise
from runmgr.batch.scorers.numeric import ABS_TOLERANCE, REL_TOLERANCE, check_numeric_target, numeric
from runmgr.batch.scorers.options import Options, split_spec
from runmgr.batch.scorers.regex import check_regex_target, regex
from runmgr.exceptions import UserError

__all__ = ("BUILT_IN", "SCORERS", "BuiltInScorer", "Scorer", "load_scorer")

Scorer: TypeAlias = BuiltInScorer | CustomScorer | Judge | PairwiseJudge

BUILT_IN: dict[str, BuiltInScorer] = {
    scorer.name: scorer
    for scorer in (
        BuiltInScorer("exact", exact),
        BuiltInScorer("includes", includes),
        BuiltInScorer("numeric", numeric, check_numeric_target),
        BuiltInScorer("regex", regex, check_regex_target),
        BuiltInScorer("f1", f1),
    )
}
"""Those that need no options and no library."""


def _numeric(name: str, options: Options) -> Scorer:
    rel = options.number("rel", REL_TOLERANCE)
    absolute = options.number("abs", ABS_TOLERANCE)
    options.end()
    return BuiltInScorer(name, partial(numeric, rel=rel, absolute=absolute), check_numeric_target)


def _json(name: str, options: Options) -> Scorer:
    from runmgr.batch.scorers.json_match import JsonMatch

    match = JsonMatch(options.text("path") or "", options.text("target_path") or "")
    options.end()
    return BuiltInScorer(name, match)


def _edit(name: str, options: Options) -> Scorer:
    from runmgr.batch.scorers.edit import edit_similarity

    options.end()
    return BuiltInScorer(name, edit_similarity())


def _bleu(name: str, options: Options) -> Scorer:
    from runmgr.batch.scorers import bleu

    options.end()
    return BuiltInScorer(name, bleu.bleu())


def _chrf(name: str, options: Options) -> Scorer:
    from runmgr.batch.scorers import bleu

    options.end()
    return BuiltInScorer(name, bleu.chrf())


def _rouge(name: str, options: Options) -> Scorer:
    from runmgr.batch.scorers.rouge import VARIANTS, rouge

    variant = options.choice("variant", VARIANTS)
    stem = options.choice("stem", ("no", "yes")) == "yes"
    options.end()
    return BuiltInScorer(name, rouge(variant, stem=stem))


_MAKERS: dict[str, Callable[[str, Options], Scorer]] = {
    "numeric": _numeric,
    "json": _json,
    "edit": _edit,
    "bleu": _bleu,
    "chrf": _chrf,
    "rouge": _rouge,
    "judge": make_judge,
    "pairwise": make_pairwise,
}
SCORERS = tuple(dict.fromkeys((*BUILT_IN, *_MAKERS)))


def load_scorer(spec: str) -> Scorer:
    """The scorer that ``--scorer`` names: one of ``SCORERS``, with options after commas, or ``module:name``. Imports what it needs.

    Every scorer takes ``as=NAME``, the key in the results.

    Raises:
        UserError: no such scorer or option, the module cannot be imported, or what it names cannot be called as a scorer.
    """
    name, values = split_spec(spec)
    key = values.pop("as", "")
    if ":" in name:
        function = load_object(name, "--scorer")
        if values:
            raise UserError(f"--scorer {spec}: a function of yours takes no options but as=NAME")
        if isinstance(function, (BuiltInScorer, CustomScorer, Judge, PairwiseJudge)):
            return function
        if not callable(function):
            raise UserError(f"--scorer {name}: {function!r} cannot be called")
        return CustomScorer(key or name.rpartition(":")[2], function)
    options = Options(name, values)
    if name in _MAKERS:
        return _MAKERS[name](key or name, options)
    if name in BUILT_IN:
        options.end()
        found = BUILT_IN[name]
        return BuiltInScorer(key or name, found.score, found.check)
    close = get_close_matches(name, SCORERS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"--scorer {spec}: unknown scorer; {hint}there are {', '.join(SCORERS)}, and module:name for your own"
    )
