"""From samples and limits to a forecast with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from runmgr.batch.config import BatchConfig
from runmgr.batch.planning.pilot import Samples, limits_of
from runmgr.batch.planning.replay import Replayed, replay
from runmgr.usage import RunUsage

__all__ = ("Estimate", "Forecast", "forecast")

MOST_RUNS = 2_000
"""Runs that are simulated; of more, the rest is extrapolated from the last half of these."""
REPLICATES = (3, 24)
"""Simulations: at least, and at most."""
SECONDS = 2.5
"""Once there are enough simulations, no new one begins after this long."""


@attrs.frozen
class Estimate:
    """A figure and the interval of the middle 90 % of the simulations."""

    value: float
    low: float
    high: float


@attrs.frozen(kw_only=True)
class Forecast:
    """What a batch will take.

    Args:
        runs: of the whole batch.
        ended: runs that end before a budget stops it; all of them, mostly.
        seconds: wall time; None by way of a provider's batch API, which takes its own.
        requests: model requests.
        input_tokens: tokens.
        output_tokens: tokens.
        cost: dollars; None where the price is unknown.
        limited_by: what the wall time comes from.
        pilot: cases that were asked for it.
        simulations: how many there were.
        simulated: runs of each; below ``runs``, the rest is extrapolated.
    """

    runs: int
    ended: Estimate
    seconds: Estimate | None
    requests: Estimate
    input_tokens: Estimate
    output_tokens: Estimate
    cost: Estimate | None
    limited_by: str
    pilot: int
    simulations: int
    simulated: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return attrs.asdict(self)


def forecast(
    config: BatchConfig, samples: Samples, *, watch: Callable[[], float] = time.perf_counter
) -> Forecast:
    """Simulate the batch in virtual time, several times; blocks for a few seconds.

    Args:
        config: the batch.
        samples: what runs take.
        watch: a clock, in seconds.
    """
    options = {"max_running": config.max_running, **limits_of(config)}
    began = watch()
    runs = min(samples.total, MOST_RUNS)
    if runs < samples.total:
        options["budget"] = None  # it is applied to the extrapolated figures
    found: list[Replayed] = []
    least, most = REPLICATES
    for seed in range(most):
        whole = replay(samples, runs, seed, **options)
        if runs < samples.total:
            half = replay(samples, runs // 2, seed, **options)
            whole = _extrapolated(config, whole, half, runs, samples.total)
        found.append(whole)
        if len(found) >= least and watch() - began > SECONDS:
            break
    costs = [float(one.cost) for one in found if one.cost is not None]
    seconds = _estimate([one.seconds for one in found])
    return Forecast(
        runs=samples.total,
        ended=_estimate([one.ended for one in found]),
        seconds=None if config.via_batch_api else seconds,
        requests=_estimate([one.usage.requests for one in found]),
        input_tokens=_estimate([one.usage.input_tokens for one in found]),
        output_tokens=_estimate([one.usage.output_tokens for one in found]),
        cost=_estimate(costs) if len(costs) == len(found) else None,
        limited_by=_limited_by(config, samples, found[0], seconds.value),
        pilot=samples.pilot,
        simulations=len(found),
        simulated=runs,
    )


def _extrapolated(config: BatchConfig, whole: Replayed, half: Replayed, runs: int, total: int) -> Replayed:
    more = (total - runs) / (runs - runs // 2)
    factor = total / runs
    usage = whole.usage
    share = 1.0
    tokens = usage.total_tokens * factor
    cost = None if whole.cost is None else whole.cost * Decimal(str(factor))
    if config.budget_tokens is not None and tokens > config.budget_tokens:
        share = min(share, config.budget_tokens / tokens)
    if config.budget_usd is not None and cost is not None and cost > Decimal(str(config.budget_usd)):
        share = min(share, float(Decimal(str(config.budget_usd)) / cost))
    return Replayed(
        (whole.seconds + (whole.seconds - half.seconds) * more) * share,
        int(whole.ended * factor * share),
        RunUsage(
            requests=round(usage.requests * factor * share),
            input_tokens=round(usage.input_tokens * factor * share),
            output_tokens=round(usage.output_tokens * factor * share),
        ),
        None if cost is None else cost * Decimal(str(share)),
    )


def _estimate(values: list[Any]) -> Estimate:
    ordered = sorted(float(value) for value in values)
    last = len(ordered) - 1
    return Estimate(sum(ordered) / len(ordered), ordered[round(0.05 * last)], ordered[round(0.95 * last)])


def _limited_by(config: BatchConfig, samples: Samples, found: Replayed, seconds: float) -> str:
    """What alone would take the longest."""
    if config.via_batch_api:
        turns = max(len(run) for run in samples.runs)
        return "the provider: within 24 hours, mostly sooner" + (
            f", for each of a run's {turns} turns" if turns > 1 else ""
        )
    spans = [sum(request.seconds for request in run) for run in samples.runs]
    spans = [span + asked.seconds for span, asked in zip(spans, samples.asked, strict=True)]
    what = "the model's latency" if found.usage.requests else "how long a run takes"
    alone = {f"{what} and --max-running": sum(spans) / max(1, len(spans)) * found.ended / config.max_running}
    if config.rpm is not None:
        alone["requests a minute (--rpm)"] = 60 * found.usage.requests / config.rpm
    if config.tpm is not None:
        alone["tokens a minute (--tpm)"] = 60 * found.usage.total_tokens / config.tpm
    name = max(alone, key=lambda each: alone[each])
    if found.ended < samples.total and (config.budget_tokens is not None or config.budget_usd is not None):
        return f"the budget, which stops it; until then {name}"
    return name if alone[name] > 0.5 * seconds else "the slowest runs"
