"""``runmgr compare --fail-if`` for loads: when a change is a regression, as ``METRIC OP VALUE``.

``ttft.p99>10%``
    more than ten per cent above the baseline; without ``%`` in milliseconds (rates: a second; errors: 1% is one point).
``requests_per_second.high<0``
    significantly worse: the whole interval of the difference is below zero.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping

import attrs

from runmgr.exceptions import UserError
from runmgr.load.compare import FigureDifference

__all__ = ("LoadGate", "check_load_gates", "parse_load_gate")

_FORM = re.compile(r"\s*([a-z0-9_.]+?)(\.low|\.high)?\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*(%?)\s*")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@attrs.frozen
class LoadGate:
    """One condition under which a comparison fails.

    Args:
        text: as it was written.
        metric: a figure's name.
        end: which end of the interval instead of the difference: ``low``, ``high`` or nothing.
        sign: how the change is compared.
        value: with what.
        percent: whether relative to the baseline.
    """

    text: str
    metric: str
    end: str
    sign: str
    value: float
    percent: bool


def parse_load_gate(text: str, known: Mapping[str, object]) -> LoadGate:
    """The condition that a text is.

    Raises:
        UserError: it is none, or of a figure that the loads do not both have.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UserError(f"--fail-if {text}: METRIC<VALUE or METRIC>VALUE is needed, e.g. 'ttft.p99>10%'")
    if match[1] not in known:
        raise UserError(f"--fail-if {text}: {match[1]} is none of {', '.join(sorted(known))}")
    return LoadGate(text, match[1], (match[2] or "").lstrip("."), match[3], float(match[4]), bool(match[5]))


def check_load_gates(gates: list[LoadGate], found: Mapping[str, FigureDifference]) -> list[str]:
    """A sentence for each condition that holds. An interval that is not known fails nothing."""
    broken: list[str] = []
    for gate in gates:
        one = found[gate.metric]
        change = one.low if gate.end == "low" else one.high if gate.end == "high" else one.difference
        limit = gate.value
        if gate.percent:
            limit = gate.value / 100 * (1 if gate.metric == "errors" else one.baseline.value)
        if change is not None and _OPERATORS[gate.sign](change, limit):
            broken.append(
                f"{gate.text}: {one.baseline.value:.4g} -> {one.candidate.value:.4g} ({change:+.4g})"
            )
    return broken
