"""What one run takes: measured on a few cases, or told."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import attrs
import trio

from runmgr.batch.cases import Case
from runmgr.batch.config import BatchConfig
from runmgr.batch.dataset import with_dataset
from runmgr.batch.inputs import StdinSource
from runmgr.batch.plan import make_plan
from runmgr.batch.scan import cases_of_file
from runmgr.batch.variants import Variant
from runmgr.concurrency import BareNursery
from runmgr.exceptions import UserError
from runmgr.records.budgets import Budget, RateLimit
from runmgr.records.events import RequestSettled
from runmgr.records.outcomes import RunError
from runmgr.supervisor import RunSpec, open_supervisor

__all__ = ("Asked", "Figures", "RequestSample", "Samples", "limits_of", "run_pilot", "samples_of")

_ROWS_BETWEEN_CHECKPOINTS = 250


class RequestSample(NamedTuple):
    """One model request."""

    input_tokens: int
    output_tokens: int
    seconds: float


class _Named(NamedTuple):
    """A model of which no more is known than who it is."""

    system: str | None
    model_name: str
    base_url: str | None = None


_NOBODY = _Named(None, "unknown")
"""Whom functions and graphs ask, as long as they have not asked anybody."""


class Asked(NamedTuple):
    """Whom a run asks, and for how much."""

    model: Any
    """A `Model`, or what is known of one."""
    max_tokens: int | None = None
    seconds: float = 0.0
    """How long a run takes that asks nobody."""


@attrs.frozen(kw_only=True)
class Figures:
    """What a run takes, as told.

    Args:
        input_tokens: of one request.
        output_tokens: of one request.
        latency: seconds of one request.
        requests: of one run.
    """

    input_tokens: int
    output_tokens: int
    latency: float = 5.0
    requests: int = 1


@attrs.frozen(kw_only=True)
class Samples:
    """What runs take.

    Args:
        runs: the requests of each.
        asked: whom each of these asks.
        total: runs of the whole batch.
        pilot: how many cases were asked for it.
        failed: how many of those failed.
        pilot_usage: what they used.
        pilot_cost: dollars; None where unknown.
    """

    runs: list[list[RequestSample]]
    asked: list[Asked]
    total: int
    pilot: int = 0
    failed: int = 0
    pilot_usage: Any = None
    pilot_cost: Any = None


def limits_of(config: BatchConfig) -> dict[str, Any]:
    """Budget and rates of a batch, as `open_supervisor` takes them."""
    budget: Budget | None = None
    if config.budget_usd is not None or config.budget_tokens is not None:
        budget = Budget(cost=config.budget_usd, tokens=config.budget_tokens)
    rates: RateLimit | None = None
    if config.rpm is not None or config.tpm is not None:
        rates = RateLimit(requests_per_minute=config.rpm, tokens_per_minute=config.tpm)
    return {"budget": budget, "rate_limits": rates, "retries": config.retries}


async def run_pilot(config: BatchConfig, cases: int) -> Samples:
    """Ask for a few cases, drawn over the whole input, and measure. Costs what they cost; writes nothing.

    They are asked directly, and charged in full, where the batch itself is to go by way of the provider's batch API.

    Args:
        config: the batch.
        cases: how many.

    Raises:
        UserError: an argument is wrong, or none of the cases succeeded.
        InputError: the input is wrong; names file and line.
    """
    config = with_dataset(config)
    plan = make_plan(config)
    drawn, count = await _draw(config, plan, cases)
    if not count:
        raise UserError("there are no cases in the input: nothing to plan")
    requests: dict[str, list[RequestSample]] = {}
    failed = 0
    why: RunError | None = None
    variants = plan.variants
    asked: dict[str, Asked] = {}
    spans: dict[str, float] = {}
    of_children: list[RequestSample] = []
    specs: list[RunSpec] = []
    for case in drawn:
        prompt, history = case.sent()
        for variant in variants:
            run_id = f"pilot-{len(specs)}"
            asked[run_id] = _asked(variant)
            requests[run_id] = []
            options = _directly(variant.options)
            specs.append(RunSpec(prompt=prompt, run_id=run_id, message_history=history, **options))
    async with open_supervisor(
        max_running=config.max_running, max_queued=max(1, len(drawn) * len(variants)), **limits_of(config)
    ) as sup:

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            async with sup.subscribe(
                filter=lambda event: isinstance(event, RequestSettled), buffer=100_000
            ) as events:
                task_status.started()
                async for event in events:
                    if isinstance(event, RequestSettled):
                        sample = RequestSample(
                            event.usage.input_tokens, event.usage.output_tokens, event.seconds
                        )
                        requests.get(event.run_id, of_children).append(sample)
                        if event.run_id in asked and asked[event.run_id].model is _NOBODY:
                            asked[event.run_id] = Asked(_Named(event.provider, event.model))

        async with BareNursery() as nursery:
            await nursery.start(listen)
            async with sup.map(plan.agent, specs) as outcomes:
                async for outcome in outcomes:
                    if not outcome.succeeded:
                        failed += 1
                        why = outcome.error
                    elif asked[outcome.run_id].model is _NOBODY and outcome.started_at is not None:
                        spans[outcome.run_id] = max(0.0, (outcome.finished_at or 0.0) - outcome.started_at)
            await trio.lowlevel.checkpoint()
        if failed == len(specs) and why is not None:
            raise UserError(f"none of the pilot's {failed} runs succeeded: {why.type}: {why.message}")
        usage, cost = sup.usage(), sup.cost()
    for run_id, seconds in spans.items():
        # of the others it is told by their requests, which wait for limits in the batch as they will
        if not requests[run_id]:
            asked[run_id] = Asked(_NOBODY, seconds=seconds)
    counted = [run_id for run_id, sent in requests.items() if sent or run_id in spans]
    for number, run_id in enumerate(counted):
        requests[run_id] += of_children[number :: len(counted)]
    return Samples(
        runs=[requests[run_id] for run_id in counted],
        asked=[asked[run_id] for run_id in counted],
        total=count * config.epochs * len(variants),
        pilot=len(drawn),
        failed=failed,
        pilot_usage=usage,
        pilot_cost=cost,
    )


async def samples_of(config: BatchConfig, figures: Figures) -> Samples:
    """The same from what was told; sends nothing.

    Raises:
        UserError: an argument is wrong.
        InputError: the input is wrong; names file and line.
    """
    config = with_dataset(config)
    plan = make_plan(config)
    _, count = await _draw(config, plan, 0)
    if not count:
        raise UserError("there are no cases in the input: nothing to plan")
    request = RequestSample(figures.input_tokens, figures.output_tokens, figures.latency)
    return Samples(
        runs=[[request] * figures.requests for _ in plan.variants],
        asked=[_asked(variant) for variant in plan.variants],
        total=count * config.epochs * len(plan.variants),
    )


def _asked(variant: Variant) -> Asked:
    settings: Any = variant.options.get("model_settings") or {}
    return Asked(_NOBODY if variant.model is None else variant.model, settings.get("max_tokens"))


def _directly(options: dict[str, Any]) -> dict[str, Any]:
    """A variant's options without the way through a provider's batches: a pilot waits for its answers."""
    from runmgr.batch.provider_batches import ProviderBatchModel

    model = options.get("model")
    return {**options, "model": model.wrapped} if isinstance(model, ProviderBatchModel) else options


async def _draw(config: BatchConfig, plan: Any, most: int) -> tuple[list[Case], int]:
    """A sample of the cases and how many there are, in one reading (reservoir sampling: Vitter 1985, algorithm R)."""
    if isinstance(plan.source, StdinSource):
        raise UserError("a plan needs a file: standard input can be read only once")
    await plan.selection.draw(plan.source, plan.reader())
    rng = random.Random(config.seed)
    drawn: list[Case] = []
    count = 0
    for case in cases_of_file(plan.source, plan.reader(), plan.selection):
        count += 1
        if len(drawn) < most:
            drawn.append(case)
        elif most and (place := rng.randrange(count)) < most:
            drawn[place] = case
        if count % _ROWS_BETWEEN_CHECKPOINTS == 0:
            await trio.lowlevel.checkpoint()
    return drawn, count
