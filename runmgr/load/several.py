"""The page of several loads side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from runmgr.load.charts import MOST_LINES, chart, plain
from runmgr.load.compare import FigureDifference
from runmgr.load.page import page_of
from runmgr.load.results import LoadedRun
from runmgr.report import text

__all__ = ("build_comparison_page",)

_SLICES = 60


def build_comparison_page(
    runs: Sequence[LoadedRun], found: Sequence[Mapping[str, FigureDifference]], confidence: float
) -> bytes:
    """The page: charts of all (the first six), and each candidate's changes against the first.

    Args:
        runs: the loads, the baseline first.
        found: what changed, by candidate.
        confidence: of the intervals.
    """
    shown = runs[:MOST_LINES]

    def lines(name: str) -> list[tuple[str, list[tuple[float, float]]]]:
        return [(run.name, _over_time(run.due_at, run.times[name])) for run in shown if name in run.times]

    def shares(name: str) -> list[tuple[str, list[tuple[float, float]]]]:
        return [(run.name, _quantiles(run.times[name])) for run in shown if name in run.times]

    figures = [
        chart("Time to first token, median (ms), by when requests were due", lines("ttft"), text.duration),
        chart("End to end, median (ms), by when they were due", lines("e2e"), text.duration),
        chart("Time to first token (ms) at each percentile", shares("ttft"), plain, log=True),
        chart("End to end (ms) at each percentile", shares("e2e"), plain, log=True),
        chart("Time per output token (ms) at each percentile", shares("tpot"), plain),
        chart(
            "Requests a second that succeeded",
            [(run.name, _rates(run)) for run in shown],
            text.duration,
        ),
    ]
    body = [
        "<h1>Loads side by side</h1>",
        "<ul>",
        *(
            f"<li>{escape(run.name)}: {text.count(run.summary['requests'])} {escape(run.summary['kind'])}, "
            f'client <span class="{escape(run.summary["validity"]["verdict"])}">{escape(run.summary["validity"]["verdict"])}</span></li>'
            for run in runs
        ),
        "</ul>",
        '<div class="figures">',
        *figures,
        "</div>",
        *(_table(runs[0], run, one, confidence) for run, one in zip(runs[1:], found, strict=True)),
    ]
    return page_of("runmgr compare", "".join(body))


def _table(
    baseline: LoadedRun, candidate: LoadedRun, found: Mapping[str, FigureDifference], confidence: float
) -> str:
    rows = ""
    for name, one in found.items():
        scale = 100 if name == "errors" else 1
        relative = "-" if one.relative is None else f"{one.relative:+.1%}"
        interval = (
            "too few"
            if one.low is None or one.high is None
            else f"{one.low * scale:+,.2f} to {one.high * scale:+,.2f}"
        )
        verdict = "" if one.better is None else "better" if one.better else "worse"
        colour = {"": "", "better": "met", "worse": "missed"}[verdict]
        cells = (
            f"{one.baseline.value * scale:,.2f}",
            f"{one.candidate.value * scale:,.2f}",
            f"{one.difference * scale:+,.2f}",
            relative,
            interval,
        )
        rows += (
            f'<tr><td class="mono">{escape(name)}</td>'
            + "".join(f'<td class="number">{cell}</td>' for cell in cells)
            + f'<td class="{colour}">{verdict}</td></tr>'
        )
    heads = "".join(
        f'<th class="number">{escape(title)}</th>'
        for title in (baseline.name, candidate.name, "change", "", f"{confidence:.0%} interval")
    )
    return (
        f"<h2>{escape(candidate.name)} against {escape(baseline.name)}</h2><div class='scroll'><table><thead><tr>"
        f"<th>ms, a second, %</th>{heads}<th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _over_time(moments: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Medians of slices of time."""
    if len(moments) != len(values) or not moments:  # not every one had a first token
        return []
    begin, end = moments[0], moments[-1]
    width = (end - begin) / _SLICES or 1.0
    slices: dict[int, list[float]] = {}
    for at, value in zip(moments, values, strict=True):
        slices.setdefault(min(_SLICES - 1, int((at - begin) / width)), []).append(value)
    return [
        (begin + (number + 0.5) * width, sorted(inside)[len(inside) // 2])
        for number, inside in sorted(slices.items())
    ]


def _quantiles(values: Sequence[float]) -> list[tuple[float, float]]:
    ordered, n = sorted(values), len(values)
    return [(percent, ordered[min(n - 1, int(percent / 100 * n))]) for percent in range(100)]


def _rates(run: LoadedRun) -> list[tuple[float, float]]:
    if not run.ended_at:
        return []
    end = max(at for at, _ in run.ended_at)
    width = end / _SLICES or 1.0
    counts = [0.0] * _SLICES
    for at, amount in run.ended_at:
        counts[min(_SLICES - 1, int(at / width))] += amount
    return [((number + 0.5) * width, count / width) for number, count in enumerate(counts)]
