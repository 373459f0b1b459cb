"""``report.html`` of a load: one file, no script, nothing from the network; the shell is the batch report's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from runmgr.load.charts import chart, plain
from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures
from runmgr.report import svg, text
from runmgr.report.page import asset, content_hash

__all__ = ("build_page", "build_sweep_page", "page_of")

_STYLE = """
figure { flex: 0 1 calc((100% - 32px) / 3); min-width: 300px; }
svg .line { fill: none; stroke: var(--accent); stroke-width: 1.6; }
svg .second { stroke: var(--warn); } svg .third { stroke: var(--bad); }
svg .fourth { stroke: #8250df; } svg .fifth { stroke: #0a8a8a; } svg .sixth { stroke: #b35900; }
.k4 { color: #8250df; } .k5 { color: #0a8a8a; } .k6 { color: #b35900; }
svg .dot { fill: var(--accent); } svg .dot.missed { fill: var(--bad); }
svg .steady { fill: var(--line); opacity: 0.35; }
.key { font-size: 12px; } .key span { margin-right: 12px; } .k1 { color: var(--accent); } .k2 { color: var(--warn); } .k3 { color: var(--bad); }
.valid, .met { color: var(--good); } .doubtful { color: var(--warn); } .invalid, .missed { color: var(--bad); }
"""


class _Shown:
    """A histogram as `svg.histogram` takes one."""

    def __init__(self, histogram: Histogram) -> None:
        self.bars = histogram.bars
        self._of = histogram

    def percentile(self, share: float) -> float | None:
        return self._of.percentile(share * 100)


def build_page(summary: dict[str, Any], measures: Measures) -> bytes:
    """The page of one load."""
    noun = summary["kind"]
    window = summary["window"]
    tiles = [
        (text.count(summary["requests"]), noun),
        (text.count(summary["failed"]), "failed"),
        (_number(summary["requests_per_second"]), f"{noun}/s, steady"),
        (_number(summary["output_tokens_per_second"]), "output tokens/s"),
        (_number(summary["concurrency"]["mean"]), "in flight, mean"),
        (_ms(summary["ttft_ms"]["p50"]), "TTFT median"),
        (_ms(summary["ttft_ms"]["p99"]), "TTFT p99"),
        (_ms(summary["e2e_ms"]["p99"]), "end to end p99"),
        (_ms(summary["schedule_lag_ms"]["p99"]), "schedule lag p99"),
    ]
    verdict = summary["validity"]["verdict"]
    body = [
        _heading("Load", summary["status"], verdict),
        _facts(summary["load"]),
        _tiles(tiles),
        _list([*summary["validity"]["reasons"], *summary["notes"]]),
        _objectives(summary["slo"]),
        '<div class="figures">',
        *_over_time(measures, None if window is None else (window["from"], window["to"]), noun),
        *(
            svg.histogram(_Shown(measures.times[name]), title, text.duration)  # pyright: ignore[reportArgumentType]
            for name, title in (
                ("ttft", "Time to first token"),
                ("itl", "Inter-token latency"),
                ("e2e", "End to end"),
                ("lag", "Schedule lag"),
                ("tool", "Tool time a run"),
                ("model", "Model time a run"),
            )
            if measures.times[name].n
        ),
        "</div>",
        _percentiles(summary),
        _sources(summary.get("sources", {})),
        _errors(summary["errors"]),
    ]
    return page_of("runmgr load", "".join(body))


def build_sweep_page(summary: dict[str, Any]) -> bytes:
    """The page of a sweep."""
    rows = sorted(summary["steps"], key=lambda row: row["rate"])
    best = summary["best_rate"]

    def points(get: Callable[[dict[str, Any]], float | None]) -> list[tuple[float, float]]:
        return [(row["rate"], value) for row in rows if (value := get(row)) is not None]

    heads = ("rate", "met", "requests/s", "tokens/s", "TTFT p50", "TTFT p99", "ITL p99", "e2e p99", "client")
    table = "".join(
        "<tr>"
        + "".join(
            f'<td class="number">{escape(value)}</td>'
            for value in (
                f"{row['rate']:g}",
                "yes" if row["met"] else "no",
                _number(row["requests_per_second"]),
                _number(row["output_tokens_per_second"]),
                _ms(row["ttft_ms"]["p50"]),
                _ms(row["ttft_ms"]["p99"]),
                _ms(row["itl_ms"]["p99"]),
                _ms(row["e2e_ms"]["p99"]),
                row["validity"]["verdict"],
            )
        )
        + "</tr>"
        for row in rows
    )
    body = [
        _heading("Sweep", summary["status"]),
        _facts(summary["load"]),
        _tiles(
            [
                ("-" if best is None else f"{best:g}/s", "highest rate that met"),
                (text.count(len(rows)), "rates tried"),
                (text.count(summary["requests"]), "requests"),
            ]
        ),
        _list(summary["notes"]),
        '<div class="figures">',
        chart(
            "Requests a second that ended, against the rate",
            [("ended", points(lambda r: r["requests_per_second"]))],
            plain,
            rows=rows,
        ),
        chart(
            "Time to first token (ms), against the rate",
            [(name, points(lambda r, n=name: r["ttft_ms"][n])) for name in ("p50", "p90", "p99")],
            plain,
            log=True,
        ),
        chart(
            "Inter-token latency (ms), against the rate",
            [(name, points(lambda r, n=name: r["itl_ms"][n])) for name in ("p50", "p90", "p99")],
            plain,
        ),
        chart(
            "Output tokens a second, against the rate",
            [("tokens/s", points(lambda r: r["output_tokens_per_second"]))],
            plain,
        ),
        "</div><h2>Rates</h2><div class='scroll'><table><thead><tr>",
        *(f'<th class="number">{name}</th>' for name in heads),
        f"</tr></thead><tbody>{table}</tbody></table></div>",
    ]
    return page_of("runmgr load sweep", "".join(body))


def page_of(title: str, body: str) -> bytes:
    """A whole page: one file, no script, nothing from the network."""
    style = asset("page.css") + _STYLE
    policy = f"default-src 'none'; style-src {content_hash(style)}; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}</body></html>\n"
    ).encode()


def _heading(title: str, *badges: str) -> str:
    shown = " ".join(f'<span class="badge {escape(one)}">{escape(one)}</span>' for one in badges)
    return f"<h1>{title} {shown}</h1>"


def _facts(load: dict[str, Any]) -> str:
    return (
        "<div>"
        + "".join(
            f'<span class="dim">{escape(name.replace("_", " "))}</span> <span class="mono">{escape(str(value))}</span>&ensp; '
            for name, value in load.items()
            if value is not None
        )
        + "</div>"
    )


def _tiles(tiles: Sequence[tuple[str, str]]) -> str:
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _objectives(slo: dict[str, dict[str, Any]]) -> str:
    if not slo:
        return ""
    rows = ""
    for name, one in slo.items():
        times = "limit_ms" in one
        limit = _ms(one["limit_ms"]) if times else f"{one['limit']:.1%}"
        value = one["value_ms"] if times else one["value"]
        shown = "never" if value is None else _ms(value) if times else f"{value:.2%}"
        word = "met" if one["met"] else "missed"
        rows += (
            f'<tr><td class="mono">{escape(name)}</td><td class="number">{shown}</td>'
            f'<td class="number">{limit}</td><td class="{word}">{word}</td></tr>'
        )
    heads = '<tr><th>service level</th><th class="number">measured</th><th class="number">limit</th><th></th></tr>'
    return f"<h2>Service levels</h2><table><thead>{heads}</thead><tbody>{rows}</tbody></table>"


_NAMES = {
    "ttft_ms": "TTFT, from when it was due",
    "ttft_from_send_ms": "TTFT, from the send",
    "itl_ms": "inter-token latency",
    "tpot_ms": "time per output token",
    "e2e_ms": "end to end, from when it was due",
    "e2e_from_send_ms": "end to end, from the send",
    "first_tool_ms": "first tool call",
    "model_ms": "in models, a run",
    "tool_ms": "in tools, a run",
    "overhead_ms": "overhead, a run",
    "schedule_lag_ms": "schedule lag",
}


def _percentiles(summary: dict[str, Any]) -> str:
    columns = ("n", "mean", "min", "p50", "p75", "p90", "p95", "p99", "p99.9", "max")
    rows = ""
    for key, name in _NAMES.items():
        figures = summary.get(key)
        if figures and figures["n"]:
            cells = "".join(
                f'<td class="number">{text.count(figures["n"]) if one == "n" else _number(figures[one])}</td>'
                for one in columns
            )
            rows += f"<tr><td>{name}</td>{cells}</tr>"
    heads = "<th>milliseconds</th>" + "".join(f'<th class="number">{one}</th>' for one in columns)
    return f'<h2>Latencies</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _sources(sources: dict[str, dict[str, Any]]) -> str:
    if not sources:
        return ""
    rows = "".join(
        f'<tr><td class="mono">{escape(name)}</td>'
        + "".join(
            f'<td class="number">{cell}</td>'
            for cell in (
                text.count(one["requests"]),
                text.count(one["failed"]),
                _ms(one["ttft_ms"]["p50"]),
                _ms(one["ttft_ms"]["p99"]),
                _ms(one["e2e_ms"]["p50"]),
                _ms(one["e2e_ms"]["p99"]),
            )
        )
        + "</tr>"
        for name, one in sources.items()
    )
    heads = "".join(
        f'<th class="number">{one}</th>'
        for one in ("requests", "failed", "TTFT p50", "TTFT p99", "e2e p50", "e2e p99")
    )
    return f"<h2>By source</h2><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _errors(errors: dict[str, dict[str, Any]]) -> str:
    if not errors:
        return ""
    rows = "".join(
        f'<tr><td class="mono">{escape(kind)}</td><td class="number">{text.count(one["count"])}</td>'
        f"<td>{escape(str(one['example']))}</td></tr>"
        for kind, one in errors.items()
    )
    heads = '<tr><th>error</th><th class="number">requests</th><th>one of them</th></tr>'
    return f"<h2>Failures</h2><table><thead>{heads}</thead><tbody>{rows}</tbody></table>"


def _over_time(measures: Measures, steady: tuple[float, float] | None, noun: str) -> list[str]:
    length = measures.slice_seconds
    slices = sorted(measures.moments.items())

    def line(get: Callable[[Any], float | None]) -> list[tuple[float, float]]:
        return [((n + 0.5) * length, value) for n, one in slices if (value := get(one)) is not None]

    def at(name: str, percent: float) -> Callable[[Any], float | None]:
        def get(moment: Any) -> float | None:
            value = getattr(moment, name).percentile(percent)
            return None if value is None else value * 1e3

        return get

    charts = [
        chart(
            "Time to first token (ms), by when requests were due",
            [("median", line(at("ttft", 50))), ("p99", line(at("ttft", 99)))],
            text.duration,
            steady=steady,
        ),
        chart(
            "End to end (ms), by when they were due",
            [("median", line(at("e2e", 50))), ("p99", line(at("e2e", 99)))],
            text.duration,
            steady=steady,
        ),
        chart(
            f"{noun.capitalize()} a second",
            [
                ("due", line(lambda m: m.scheduled / length)),
                ("succeeded", line(lambda m: m.succeeded / length)),
                ("failed", line(lambda m: m.failed / length)),
            ],
            text.duration,
            steady=steady,
        ),
        chart(
            f"{noun.capitalize()} in flight",
            [("mean", line(lambda m: m.busy / length))],
            text.duration,
            steady=steady,
        ),
        chart(
            "Output tokens a second, by when requests ended",
            [("tokens", line(lambda m: m.tokens / length))],
            text.duration,
            steady=steady,
        ),
    ]
    return [one for one in charts if one]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms" if value < 10_000 else f"{value / 1e3:,.1f} s"
