"""``summary.json``: the figures of a load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from runmgr.load.config import LoadConfig, Weighted
from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures, Moment
from runmgr.load.state import Mark
from runmgr.load.verdict import judge_objectives, judge_validity, keeps_up

__all__ = ("Part", "merged", "summarize", "summarize_sweep")


@attrs.frozen(kw_only=True)
class Part:
    """What one process saw of a load.

    Args:
        measures: its requests.
        first: its counts at the end of the warm-up; None when it never came so far.
        last: its counts when sending ended, or was stopped.
        loop_lag: its loop's lateness.
        cancelled: requests that were dropped.
        most_in_flight: at once.
    """

    measures: Measures
    first: Mark | None
    last: Mark
    loop_lag: Histogram
    cancelled: int
    most_in_flight: int


def summarize(
    config: LoadConfig, parts: Sequence[Part], *, status: str, calibration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The figures, as JSON values.

    Args:
        config: the load.
        parts: what each process saw.
        status: ``complete`` or ``interrupted``.
        calibration: the client's own figures, where they were taken.
    """
    measures = merged(config, parts)
    loop_lag = Histogram()
    for part in parts:
        loop_lag.merge(part.loop_lag)
    window = _window(parts, measures)
    open_loop = config.concurrency is None
    rates = window["rates"]
    verdict = judge_validity(
        measures,
        loop_lag,
        window["cpu"],
        open_loop=open_loop,
        offered=rates.get("offered_per_second"),
        achieved=rates.get("requests_per_second"),
        seconds=window["seconds"],
    )
    objectives, met = judge_objectives(config.objectives, measures)
    times, totals = measures.times, measures.totals
    noun = "runs" if config.agent else "requests"
    whole: dict[str, Any] = {
        "status": status,
        "kind": noun,
        "load": _load(config),
        "requests": totals["ended"],
        "succeeded": totals["succeeded"],
        "failed": totals["failed"],
        "cancelled": totals["cancelled"],
        "errors": {
            kind: {"count": count, "example": measures.examples.get(kind)}
            for kind, count in measures.errors.most_common()
        },
        "retries": totals["retries"],
        "counted": totals["counted"],
        "window": window["shown"],
        **rates,
        "concurrency": window["concurrency"],
        "overall": _overall(measures),
        "input_tokens": totals["input_tokens"],
        "output_tokens": totals["output_tokens"],
        "cached_tokens": totals["cached_tokens"] if totals["cached_of"] else None,
        "kept_up": keeps_up(
            measures, rates["offered_per_second"], rates["requests_per_second"], window["seconds"]
        )
        if open_loop and rates.get("offered_per_second")
        else None,
        "prefix_cache_share": round(totals["cached_tokens"] / totals["cached_of"], 4)
        if totals["cached_of"]
        else None,
        "tokens_from": dict(measures.counted),
        "defs": config.defs,
        "ttft_ms": times["ttft"].figures(),
        "itl_ms": times["itl"].figures(),
        "tpot_ms": times["tpot"].figures(),
        "e2e_ms": times["e2e"].figures(),
        "ttft_from_send_ms": times["ttft_from_send"].figures(),
        "e2e_from_send_ms": times["e2e_from_send"].figures(),
        "schedule_lag_ms": times["lag"].figures(),
    }
    if times["first_tool"].n:
        whole["first_tool_ms"] = times["first_tool"].figures()
    if totals["conversations"]:
        whole["conversations"] = {
            "begun": totals["conversations"],
            "turns": _share(totals["counted"], totals["conversations"]),
        }
    if measures.sources:
        whole["sources"] = {name: _source(one) for name, one in sorted(measures.sources.items())}
    if config.agent:
        succeeded = totals["counted"] - totals["counted_failed"]
        whole["turns"] = {"total": totals["turns"], "mean": _share(totals["turns"], succeeded)}
        whole["tool_calls"] = {"total": totals["tool_calls"], "mean": _share(totals["tool_calls"], succeeded)}
        for name in ("model", "tool", "overhead"):
            whole[f"{name}_ms"] = times[name].figures()
    whole["goodput"] = {
        "good": totals["good"],
        "share": _share(totals["good"], totals["counted"]),
        "per_second": window["good_per_second"],
    }
    whole["slo"] = objectives
    whole["slo_met"] = met if objectives else None
    whole["validity"] = {
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "client_cpu": window["cpu"],
        "loop_lag_ms": loop_lag.figures(),
    }
    whole["notes"] = list(verdict.notes)
    whole["over_time"] = _over_time(measures)
    if calibration is not None:
        whole["calibration"] = calibration
    return whole


def merged(config: LoadConfig, parts: Sequence[Part]) -> Measures:
    """What all processes measured, added up."""
    measures = Measures(
        warmup=config.warmup, until=config.counted_until, objectives=config.objectives, defs=config.defs
    )
    for part in parts:
        measures.merge(part.measures)
    return measures


def summarize_sweep(config: LoadConfig, rows: Sequence[dict[str, Any]], best: float | None) -> dict[str, Any]:
    """The figures of a sweep, as JSON values."""
    interrupted = any(row["status"] == "interrupted" for row in rows)
    notes = [f"at {row['rate']:g}/s: {row['why']}" for row in rows if row["why"]]
    at_best = next((row for row in rows if row["rate"] == best), None)
    if config.sweep is not None and best == config.sweep.high:
        notes.append("the highest rate to be tried met everything: the limit is above it")
    return {
        "status": "interrupted" if interrupted else "complete",
        "kind": "sweep",
        "load": _load(config),
        "requests": sum(row["requests"] for row in rows),
        "succeeded": sum(row["succeeded"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "best_rate": best,
        "at_best": at_best,
        "schedule_lag_ms": None if at_best is None else at_best["schedule_lag_ms"],
        "slo_met": best is not None,
        "steps": list(rows),
        "notes": notes,
    }


def _names(several: Sequence[Weighted]) -> str | None:
    if len(several) < 2:
        return several[0].name if several else None
    return ", ".join(f"{one.name}={one.weight:g}" for one in several)


def _load(config: LoadConfig) -> dict[str, Any]:
    if config.concurrency is not None:
        mode: dict[str, Any] = {"mode": "closed", "concurrency": config.concurrency}
    elif config.sweep is not None:
        mode = {
            "mode": "sweep",
            "low": config.sweep.low,
            "high": config.sweep.high,
            "precision": config.sweep.precision,
            "arrival": config.arrival,
        }
    elif config.trace is not None:
        mode = {
            "mode": "trace",
            "trace": str(config.trace),
            "time_scale": config.time_scale,
            "length_scale": config.length_scale,
        }
    else:
        mode = {"mode": "open", "rate": str(config.rates), "arrival": config.arrival}
        if config.arrival == "gamma":
            mode["burstiness"] = config.burstiness
    return {
        "base_url": config.base_url,
        "model": config.model,
        "agent": _names(config.agent),
        "prompts": _names(config.prompts),
        **mode,
        "duration": config.duration,
        "requests": config.requests,
        "warmup": config.warmup,
        "cooldown": config.cooldown,
        "seed": config.seed,
        "processes": config.processes,
    }


def _window(parts: Sequence[Part], measures: Measures) -> dict[str, Any]:
    """The steady window: from the warm-up's end to the end of sending; the drain is no part of it."""
    whole = [(part.first, part.last) for part in parts if part.first is not None]
    begin = max((first.at for first, _ in whole), default=0.0)
    end = min((last.at for _, last in whole), default=0.0)
    seconds = end - begin
    if not whole or seconds <= 0:
        return {
            "shown": None,
            "seconds": 0.0,
            "rates": {"requests_per_second": None, "output_tokens_per_second": None},
            "concurrency": {"mean": None, "max": max((part.most_in_flight for part in parts), default=0)},
            "cpu": None,
            "good_per_second": None,
        }

    def rate(name: str) -> float:
        """Summed over processes, each over its own window: they differ by milliseconds."""
        return sum(
            (getattr(last, name) - getattr(first, name)) / (last.at - first.at)
            for first, last in whole
            if last.at > first.at
        )

    totals = measures.totals
    # Tokens are told at the end of a request, pieces as they arrive: so pieces say when, and tokens how many.
    a_piece = totals["output_tokens"] / totals["chunks"] if totals["chunks"] else 0.0
    tokens = rate("chunks") * a_piece if totals["chunks"] else rate("tokens")
    return {
        "seconds": seconds,
        "shown": {"from": round(begin, 4), "to": round(end, 4), "seconds": round(seconds, 4)},
        "rates": {
            "requests_per_second": round(rate("succeeded"), 4),
            "failures_per_second": round(rate("failed"), 4),
            "offered_per_second": round(rate("sent"), 4),
            "output_tokens_per_second": round(tokens, 3),
        },
        "concurrency": {
            "mean": round(rate("area"), 3),
            "max": sum(part.most_in_flight for part in parts),
        },
        "cpu": round(
            max(
                (
                    (last.cpu - first.cpu) / (last.at - first.at)
                    for first, last in whole
                    if last.at > first.at
                ),
                default=0.0,
            ),
            4,
        ),
        "good_per_second": round(rate("good"), 4),
    }


def _overall(measures: Measures) -> dict[str, Any]:
    """From the first request sent to the end of the last, warm-up and drain included."""
    seconds = measures.last_at - measures.first_at
    if not 0 < seconds < float("inf"):
        return {"seconds": None, "requests_per_second": None}
    return {
        "seconds": round(seconds, 4),
        "requests_per_second": round(measures.totals["succeeded"] / seconds, 4),
    }


def _over_time(measures: Measures) -> list[dict[str, Any]]:
    """What happened in each slice of time, warm-up and drain among them."""
    width = measures.slice_seconds

    def ms(value: float | None) -> float | None:
        return None if value is None else round(value * 1e3, 4)

    return [
        {
            "from": number * width,
            "to": (number + 1) * width,
            "due": one.scheduled,
            "succeeded": one.succeeded,
            "failed": one.failed,
            "output_tokens": one.tokens,
            "in_flight": round(one.busy / width, 3),
            "ttft_p50_ms": ms(one.ttft.percentile(50)),
            "ttft_p99_ms": ms(one.ttft.percentile(99)),
            "e2e_p50_ms": ms(one.e2e.percentile(50)),
            "e2e_p99_ms": ms(one.e2e.percentile(99)),
        }
        for number, one in sorted(measures.moments.items())
    ]


def _source(one: Moment) -> dict[str, Any]:
    """One prompt file's or agent's requests."""
    return {
        "requests": one.scheduled,
        "succeeded": one.succeeded,
        "failed": one.failed,
        "output_tokens": one.tokens,
        "ttft_ms": one.ttft.figures(),
        "e2e_ms": one.e2e.figures(),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
