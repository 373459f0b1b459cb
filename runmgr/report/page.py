"""``report.html``: one file, nothing from the network, nothing of a model's taken for markup.

The cases travel as JSON in a data block and reach the page as text nodes; a content security policy allows the page's own script
and style by their hashes and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import attrs

from runmgr.report import svg, text
from runmgr.report.lines import ResultLine
from runmgr.report.summary import Summary, Tally
from runmgr.report.transcript import Entry, as_text

__all__ = ("MOST_BYTES", "PageInput", "asset", "build_page", "content_hash", "figures")

MOST_BYTES = 1_900_000
"""A page stays under 2 MB: texts are cut shorter until it does."""

_CUTS = (20_000, 4_000, 1_500, 600, 250, 100, 40)


@attrs.frozen(kw_only=True)
class PageInput:
    """What a page is made of.

    Args:
        summary: the whole batch's figures.
        tally: the same counts, with the distributions.
        lines: the cases to show.
        whole: whether they are all.
        facts: name and value of what the batch was: model, input, settings.
        epochs: runs a case.
        show: the command that shows a run's transcript, to be followed by a run id.
        transcript: a run's messages as entries, where they say more than input and output; None where they do not.
    """

    summary: Summary
    tally: Tally
    lines: Sequence[ResultLine]
    whole: bool
    facts: Sequence[tuple[str, str]] = ()
    epochs: int = 1
    show: str = "runmgr show DIR"
    transcript: Callable[[ResultLine], Sequence[Entry] | None] = lambda _: None


def build_page(given: PageInput) -> bytes:
    """The page; under 2 MB, as long as the number of cases is what `sample` gives."""
    script, style = asset("page.js"), asset("page.css")
    before = (
        _head(given, script, style)
        + figures(given.summary, given.tally, given.lines, whole=given.whole)
        + _cases_frame(given)
    )
    after = f"<script>{script}</script></body></html>\n"
    room = MOST_BYTES - len(before.encode()) - len(after.encode())
    transcripts = [given.transcript(line) for line in given.lines]
    block = b""
    for longest in _CUTS:
        block = _data_block(given, transcripts, longest)
        if len(block) <= room:
            break
        if longest <= _CUTS[2]:
            transcripts = [None] * len(transcripts)
    return b"".join(
        (before.encode(), b'<script type="application/json" id="data">', block, b"</script>", after.encode())
    )


@cache
def asset(name: str) -> str:
    """The text of a file that is shipped beside this module."""
    return files("runmgr.report").joinpath(name).read_text(encoding="utf-8")


def content_hash(code: str) -> str:
    """How a content security policy names one script or style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"


def _head(given: PageInput, script: str, style: str) -> str:
    summary = given.summary
    policy = f"default-src 'none'; script-src {content_hash(script)}; style-src {content_hash(style)}; base-uri 'none'; form-action 'none'"
    facts = "".join(
        f'<span class="dim">{escape(name)}</span> <span class="mono">{escape(value)}</span>&ensp; '
        for name, value in given.facts
    )
    tiles = [
        (text.count(summary.runs), "runs"),
        (text.count(summary.succeeded), "succeeded"),
        (text.count(summary.failed), "failed"),
        *[
            (text.count(number), name)
            for number, name in ((summary.cancelled, "cancelled"), (summary.remaining, "remaining"))
            if number
        ],
        *[
            (text.score(score.mean, score.stderr), f"{name} (n = {text.count(score.n)})")
            for name, score in summary.scores.items()
        ],
        (text.count(summary.usage.get("input_tokens", 0)), "input tokens"),
        (text.count(summary.usage.get("output_tokens", 0)), "output tokens"),
        (text.dollars(summary.cost), "cost"),
        (text.duration(summary.wall_seconds), "wall time"),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>runmgr batch</title><style>{style}</style></head><body>"
        f'<h1>Batch <span class="badge {escape(summary.status)}">{escape(summary.status.replace("_", " "))}</span></h1>'
        f"<div>{facts}</div>"
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for value, name in tiles
        )
        + "</div>"
    )


def figures(summary: Summary, tally: Tally, lines: Sequence[ResultLine] = (), *, whole: bool = True) -> str:
    """Plots, and tables of combinations or models and of errors, as HTML in which every name is escaped.

    Args:
        summary: the whole batch's figures.
        tally: the same counts, with the distributions.
        lines: the runs that are points of a plot over time.
        whole: whether they are all.
    """
    shares = [
        (name, score.mean, text.percent(score.mean) if 0 <= score.mean <= 1 else f"{score.mean:.3f}")
        for name, score in summary.scores.items()
        if score.mean is not None
    ]
    plots = [
        svg.bar_rows(shares, "Mean scores"),
        svg.histogram(tally.seconds, "Seconds a run, from start to end", text.duration),
        svg.points(
            _latencies(lines),
            "Seconds a run, by when it began" + ("" if whole else " (sample)"),
            text.duration,
        ),
        svg.histogram(tally.costs, "Dollars a run", lambda value: f"${value:.2g}")
        if tally.costs.total
        else "",
    ]
    parts = ['<div class="figures">', *plots, "</div>"]
    several = summary.by_variant or summary.by_model
    if len(several) > 1:
        rows = "".join(
            f'<tr><td class="mono">{escape(name)}</td>'
            + "".join(
                f'<td class="number">{escape(value)}</td>'
                for value in (
                    text.count(model.runs),
                    text.count(model.failed),
                    text.count(model.usage.get("input_tokens", 0)),
                    text.count(model.usage.get("output_tokens", 0)),
                    text.dollars(model.cost),
                    ", ".join(
                        f"{scorer} {text.score(s.mean, s.stderr)}" for scorer, s in model.scores.items()
                    ),
                )
            )
            + "</tr>"
            for name, model in several.items()
        )
        heads = "".join(
            f'<th class="number">{name}</th>'
            for name in ("runs", "failed", "tokens in", "out", "cost", "scores")
        )
        parts.append(
            f'<h2>{"Combinations" if summary.by_variant else "Models"}</h2><div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        )
    if tally.errors:
        kinds = "".join(
            f'<tr><td class="mono">{escape(kind)}</td><td class="number">{text.count(number)}</td></tr>'
            for kind, number in tally.errors.most_common()
        )
        heads = '<tr><th>error</th><th class="number">runs</th></tr>'
        parts.append(f"<h2>Failures</h2><table><thead>{heads}</thead><tbody>{kinds}</tbody></table>")
    return "".join(parts)


def _latencies(lines: Sequence[ResultLine]) -> list[tuple[float, float, bool]]:
    """When each run began, how long it took, whether it failed."""
    return [
        (line.started_at, max(line.finished_at - line.started_at, 0.0), line.status == "failed")
        for line in lines
        if line.started_at is not None and line.finished_at is not None
    ]


def _cases_frame(given: PageInput) -> str:
    note = ""
    if not given.whole:
        note = (
            f'<p class="dim">A sample of {text.count(len(given.lines))} of {text.count(given.tally.ended)} results, failed ones among them; '
            "the figures above are of all. The rest is in results.jsonl.</p>"
        )
    statuses = "".join(f"<option>{name}</option>" for name in ("succeeded", "failed", "cancelled"))
    return (
        f'<h2>Cases</h2>{note}<div class="controls"><input id="find" type="search" placeholder="find in inputs and outputs" '
        'aria-label="find in inputs and outputs"><select id="status" aria-label="status"><option value="">any status</option>'
        f'{statuses}</select><select id="score" aria-label="score"><option value="">any score</option></select>'
        '<button id="before">previous</button><button id="after">next</button><span class="dim" id="count"></span></div>'
        '<div class="scroll"><table id="cases"><thead><tr></tr></thead><tbody></tbody></table></div>'
    )


def _data_block(given: PageInput, transcripts: Sequence[Sequence[Entry] | None], longest: int) -> bytes:
    scorers = list(given.summary.scores)
    data = {
        "epochs": given.epochs,
        "scorers": scorers,
        "show": given.show,
        "cases": [_case(line, said, longest) for line, said in zip(given.lines, transcripts, strict=True)],
    }
    # `<` never appears, so no text can end the block or begin a tag or a comment
    return (
        json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .encode(errors="replace")
    )


def _case(line: ResultLine, said: Sequence[Entry] | None, longest: int) -> dict[str, Any]:
    cut = False

    def short(value: Any) -> str:
        nonlocal cut
        whole = as_text(value)
        if len(whole) <= longest:
            return whole
        cut = True
        return whole[:longest] + " …"

    seconds = (
        None
        if line.started_at is None or line.finished_at is None
        else max(line.finished_at - line.started_at, 0.0)
    )
    case: dict[str, Any] = {
        "index": line.index,
        "epoch": line.epoch,
        "run_id": line.run_id,
        "status": line.status,
        "scores": line.scores,
        "seconds": None if seconds is None else round(seconds, 4),
        "tokens_in": line.usage.get("input_tokens", 0),
        "tokens_out": line.usage.get("output_tokens", 0),
        "cost": None if line.cost is None else float(line.cost),
        "input": short(line.input),
        "output": short(line.output),
        "error": None
        if line.error is None
        else {"type": str(line.error.get("type")), "message": short(line.error.get("message"))},
        "model": line.model,
        "attempts": line.attempts,
    }
    if line.variant:
        case["variant"] = line.variant
    if said is not None:
        case["transcript"] = [
            {"kind": e.kind, "text": short(e.text), "name": e.name, "note": e.note} for e in said
        ]
    if cut:
        case["cut"] = True
    return case
