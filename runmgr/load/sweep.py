"""The highest rate that meets the service levels, by search.

The rate is doubled from the lowest until one misses, then the gap between the last that met and the first that missed is halved
(geometrically) until it is narrower than the precision. Which rate comes next is a function of what was found, and of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from runmgr.exceptions import UserError

__all__ = ("Sweep", "next_rate", "parse_sweep", "sweep")

PRECISION = 0.05
_MOST_STEPS = 20


@attrs.frozen
class Sweep:
    """Where to search.

    Args:
        low: lowest rate.
        high: highest rate.
        precision: the answer is within this share below the true one.
    """

    low: float
    high: float
    precision: float = PRECISION


def parse_sweep(text: str) -> Sweep:
    """``1..200``: between which rates to search.

    Raises:
        UserError: it is none.
    """
    low, dots, high = text.partition("..")
    try:
        found = Sweep(float(low), float(high))
    except ValueError:
        found = Sweep(0, 0)
    if not dots or not 0 < found.low < found.high < math.inf:
        raise UserError(f"--sweep {text}: the lowest and the highest rate to try are needed, e.g. 1..200")
    return found


def next_rate(where: Sweep, tried: Sequence[tuple[float, bool]]) -> float | None:
    """The rate to try next; None when the search is over.

    Args:
        where: the limits.
        tried: rates and whether each met.
    """
    met = max((rate for rate, good in tried if good), default=None)
    missed = min((rate for rate, good in tried if not good), default=None)
    if len(tried) >= _MOST_STEPS:
        return None
    if met is None:
        return None if missed is not None else where.low
    if missed is None:
        return None if met >= where.high else min(2 * met, where.high)
    if missed <= met * (1 + where.precision):
        return None
    return float(f"{math.sqrt(met * missed):.4g}")


async def sweep(
    where: Sweep, measure: Callable[[float], Awaitable[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], float | None]:
    """Search; gives a row a rate tried, in order, and the highest rate that met.

    Args:
        where: the limits.
        measure: a rate's summary. One that was interrupted ends the search.
    """
    rows: list[dict[str, Any]] = []
    tried: list[tuple[float, bool]] = []
    while (rate := next_rate(where, tried)) is not None:
        summary = await measure(rate)
        good, why = judge(summary)
        rows.append(_row(rate, summary, good, why))
        if summary["status"] == "interrupted":
            break
        tried.append((rate, good))
        if summary["validity"]["verdict"] == "invalid" and not good:
            rows[-1]["why"] = f"{why}; the client is at its own limit, so this may not be the server's"
    return rows, max((rate for rate, good in tried if good), default=None)


def judge(summary: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether a rate is met: every service level, and the server keeps up; and what is missed."""
    missed = [name for name, one in summary["slo"].items() if not one["met"]]
    if missed:
        return False, f"missed: {', '.join(missed)}"
    counted = summary["counted"]
    if not counted:
        return False, "nothing ended"
    if "errors" not in summary["slo"] and summary["failed"] > 0.01 * summary["requests"]:
        return False, f"{summary['failed']} of {summary['requests']} failed"
    if summary["kept_up"] is False:
        offered, ended = summary["offered_per_second"], summary["requests_per_second"]
        return False, f"{ended:.4g} of {offered:.4g} requests a second ended: a queue grows"
    return True, None


def _row(rate: float, summary: dict[str, Any], good: bool, why: str | None) -> dict[str, Any]:
    return {
        "rate": rate,
        "met": good,
        "why": why,
        **{
            name: summary.get(name)
            for name in (
                "status",
                "requests",
                "succeeded",
                "failed",
                "offered_per_second",
                "requests_per_second",
                "output_tokens_per_second",
                "concurrency",
                "ttft_ms",
                "itl_ms",
                "tpot_ms",
                "e2e_ms",
                "schedule_lag_ms",
                "goodput",
                "slo",
                "validity",
            )
        },
    }
