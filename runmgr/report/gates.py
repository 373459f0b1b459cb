"""``--fail-if``: when a comparison is a regression, as ``METRIC OP VALUE``.

``numeric<-2%``
    the candidate's mean is more than two points (0.02) below the baseline's.
``numeric.high<0``
    significantly worse: the whole interval of the difference is below zero.
``numeric.low<-5%``
    a loss of more than five points cannot be ruled out.
``cost>10%``, ``latency>10%``, ``tokens>10%``
    more than ten per cent above the baseline; without ``%`` in dollars, mean seconds a run, and tokens.
``failed>1%``
    the share of failed runs is more than a point above the baseline's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

from runmgr.exceptions import UserError
from runmgr.report.compare import Comparison, Side

__all__ = ("Gate", "check_gates", "parse_gate")

_FORM = re.compile(r"\s*(.+?)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*")
_FIGURES = ("cost", "latency", "tokens", "failed")
_ENDS = ("low", "high")


@attrs.frozen
class Gate:
    """One condition under which a comparison fails.

    Args:
        text: as it was written.
        metric: a scorer, or cost, latency, tokens, failed.
        end: of a scorer: the interval's ``low`` or ``high`` end instead of the difference itself.
        operator: how the change is compared.
        value: with what.
        percent: whether it was written with ``%``.
    """

    text: str
    metric: str
    end: Literal["", "low", "high"]
    operator: str
    value: float
    percent: bool


def parse_gate(text: str, scorers: Sequence[str]) -> Gate:
    """The condition that a text is.

    Args:
        text: ``METRIC OP VALUE``.
        scorers: the scorers that both sides have.

    Raises:
        UserError: it is none, or its metric is unknown.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UserError(
            f"--fail-if {text!r}: write it as METRIC<VALUE or METRIC>VALUE, e.g. 'numeric<-2%' or 'cost>10%'"
        )
    metric = found[1]
    end: Literal["", "low", "high"] = ""
    if metric not in scorers and metric not in _FIGURES:
        name, dot, last = metric.rpartition(".")
        if dot and last in _ENDS and name in scorers:
            metric, end = name, last
        else:
            known = ", ".join([*scorers, *(f"{name}.{e}" for name in scorers for e in _ENDS), *_FIGURES])
            raise UserError(
                f"--fail-if {text!r}: no metric {metric!r} that both sides have; there are {known}"
            )
    return Gate(
        text.strip(),
        metric,
        end,
        found[2],
        float(found[3]),
        bool(found[4]),
    )


def check_gates(gates: Sequence[Gate], comparison: Comparison) -> list[str]:
    """The conditions that hold, each as a sentence for people.

    Raises:
        UserError: a condition cannot be judged, e.g. a cost is unknown: that must not pass for "no regression".
    """
    return [said for gate in gates if (said := _check(gate, comparison))]


def _check(gate: Gate, comparison: Comparison) -> str | None:
    change = _change(gate, comparison)
    value = gate.value / 100 if gate.percent else gate.value
    holds = {
        "<": change < value,
        "<=": change <= value,
        ">": change > value,
        ">=": change >= value,
    }[gate.operator]
    if not holds:
        return None
    shown = f"{change * 100:+.2f}%" if gate.percent else f"{change:+.6g}"
    return f"{gate.text}: {gate.metric}{'.' + gate.end if gate.end else ''} of {comparison.candidate.name} is {shown}"


def _change(gate: Gate, comparison: Comparison) -> float:
    if gate.metric in comparison.scores:
        score = comparison.scores[gate.metric]
        found = score.difference if not gate.end else getattr(score, gate.end)
        if found is None:
            raise UserError(f"--fail-if {gate.text!r}: {score.cases} case is too few for an interval")
        return found
    before, now = _figure(gate, comparison.baseline), _figure(gate, comparison.candidate)
    if not gate.percent or gate.metric == "failed":
        return now - before
    if before == 0:
        raise UserError(
            f"--fail-if {gate.text!r}: the baseline's {gate.metric} is 0; write the limit without %"
        )
    return now / before - 1


def _figure(gate: Gate, side: Side) -> float:
    figure = {
        "cost": side.cost,
        "latency": side.latency_mean,
        "tokens": side.tokens,
        "failed": side.failed / side.runs if side.runs else None,
    }[gate.metric]
    if figure is None:
        raise UserError(f"--fail-if {gate.text!r}: the {gate.metric} of {side.name} is unknown")
    return float(figure)
