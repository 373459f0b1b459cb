"""Whether a result can be believed, and whether it is good enough: the verdict of validity, and the service levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures
from runmgr.load.slo import Objective

__all__ = ("Verdict", "judge_objectives", "judge_validity", "keeps_up")

CPU_DOUBTFUL, CPU_INVALID = 0.75, 0.92
"""Share of one core that the client uses: above, its own queueing shows in the latencies."""

LAG_DOUBTFUL, LAG_INVALID = 0.005, 0.010
"""Seconds of lateness at the 99th percentile, of the loop and of the schedule."""


@attrs.frozen
class Verdict:
    """Whether a result can be believed.

    Args:
        verdict: ``valid``, ``doubtful`` (the client adds to what it measures) or ``invalid`` (it measures itself).
        reasons: what is wrong, and what to do.
        notes: what to know besides.
    """

    verdict: Literal["valid", "doubtful", "invalid"]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


def judge_validity(
    measures: Measures,
    loop_lag: Histogram,
    cpu: float | None,
    *,
    open_loop: bool,
    offered: float | None,
    achieved: float | None,
    seconds: float,
) -> Verdict:
    """Judge the client.

    Args:
        measures: what was measured.
        loop_lag: the loop's lateness.
        cpu: share of one core that the busiest process used.
        open_loop: whether there was a schedule.
        offered: requests a second sent in the steady window.
        achieved: requests a second that ended in it.
        seconds: how long it was.
    """
    worst = 0
    reasons: list[str] = []
    if cpu is not None and cpu > CPU_DOUBTFUL:
        worst = 2 if cpu > CPU_INVALID else 1
        reasons.append(
            f"the client used {cpu:.0%} of its core: part of the latency is its own; use --processes, or send less"
        )
    late = loop_lag.percentile(99)
    if late is not None and late > LAG_DOUBTFUL:
        worst = max(worst, 2 if late > LAG_INVALID else 1)
        reasons.append(
            f"the client's loop was {late * 1e3:.1f} ms late at the 99th percentile: so much may be added to any latency"
        )
    lag = measures.times["lag"].percentile(99)
    if open_loop and lag is not None and lag > LAG_DOUBTFUL:
        worst = max(worst, 2 if lag > LAG_INVALID else 1)
        reasons.append(
            f"requests were sent {lag * 1e3:.1f} ms late at the 99th percentile: the schedule was not kept"
        )
    counted = measures.totals["counted"]
    notes: list[str] = []
    if not counted:
        notes.append("no request was due after the warm-up and ended: there are no figures")
    elif counted < 100:
        notes.append(f"{counted} requests: too few for a 99th percentile")
    elif counted < 1000:
        notes.append(f"{counted} requests: too few for a p99.9")
    if open_loop and offered and achieved is not None and not keeps_up(measures, offered, achieved, seconds):
        notes.append(
            f"{achieved:.3g} of {offered:.3g} requests a second ended in the window: the server did not keep up, or the load was short "
            "beside its latency; a queue that grows has no steady latency"
        )
    if measures.counted["chunks"]:
        notes.append(
            "the provider gave no usage for "
            f"{measures.counted['chunks']} requests: their tokens are pieces of content, which may hold more or less than a token"
        )
    tokens, chunks = measures.totals["output_tokens"], measures.totals["chunks"]
    if measures.counted["usage"] and tokens and chunks and not 0.9 < chunks / tokens < 1.1:
        notes.append(
            f"{chunks / tokens:.2f} pieces a token: itl is between pieces, tpot per token; compare tools by tpot"
        )
    return Verdict(("valid", "doubtful", "invalid")[worst], tuple(reasons), tuple(notes))


def keeps_up(measures: Measures, offered: float, achieved: float, seconds: float) -> bool:
    """Whether about as many requests ended in the steady window as were sent.

    Those that were on their way at its end, though no queue grew, are allowed for by the tenth percentile of the latency: where a
    queue grows, that stays near the latency without one.
    """
    quick = measures.times["e2e"].percentile(10) or 0.0
    return achieved + offered * min(1.0, quick / seconds if seconds > 0 else 1.0) >= 0.9 * offered


def judge_objectives(
    objectives: Sequence[Objective], measures: Measures
) -> tuple[dict[str, dict[str, Any]], bool]:
    """Each service level with what was measured, and whether all are met. What failed is slower than every limit.

    A service level of which nothing was measured is missed.
    """
    told: dict[str, dict[str, Any]] = {}
    all_met = True
    totals = measures.totals
    counted = totals["counted"]
    for one in objectives:
        match one.measure:
            case "goodput":
                share = totals["good"] / counted if counted else None
                met = share is not None and share >= one.limit
                told[one.name] = {"limit": one.limit, "value": share, "met": met}
            case "errors":
                share = totals["counted_failed"] / counted if counted else None
                met = share is not None and share <= one.limit
                told[one.name] = {"limit": one.limit, "value": share, "met": met}
            case name:
                value = measures.times[name].percentile(one.percentile, failures=True)
                met = value is not None and value <= one.limit
                shown = None if value is None or value == math.inf else round(value * 1e3, 4)
                told[one.name] = {"limit_ms": round(one.limit * 1e3, 4), "value_ms": shown, "met": met}
        all_met = all_met and met
    return told, all_met
