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
from runmgr.concurrency import BareNursery
from runmgr.exceptions import UserError
from runmgr.records.budgets import Budget, RateLimit
from runmgr.records.events import RequestSettled
from runmgr.records.outcomes import RunError
from runmgr.supervisor import RunSpec, open_supervisor

__all__ = ("Figures", "RequestSample", "Samples", "limits_of", "run_pilot", "samples_of")

_ROWS_BETWEEN_CHECKPOINTS = 250


class RequestSample(NamedTuple):
    """One model request."""

    input_tokens: int
    output_tokens: int
    seconds: float


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
        total: runs of the whole batch.
        model: the model that is asked.
        max_tokens: of an answer, as its requests say.
        pilot: how many cases were asked for it.
        failed: how many of those failed.
        pilot_usage: what they used.
        pilot_cost: dollars; None where unknown.
    """

    runs: list[list[RequestSample]]
    total: int
    model: Any
    max_tokens: int | None
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
    specs = [
        RunSpec(prompt=prompt, message_history=history, **variant.options)
        for case in drawn
        for prompt, history in (case.sent(),)
        for variant in variants
    ]
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
                        requests.setdefault(event.run_id, []).append(sample)

        async with BareNursery() as nursery:
            await nursery.start(listen)
            async with sup.map(plan.agent, specs) as outcomes:
                async for outcome in outcomes:
                    if not outcome.succeeded:
                        failed += 1
                        why = outcome.error
            await trio.lowlevel.checkpoint()
        if failed == len(specs) and why is not None:
            raise UserError(f"none of the pilot's {failed} runs succeeded: {why.type}: {why.message}")
        usage, cost = sup.usage(), sup.cost()
    settings: Any = variants[0].options.get("model_settings") or {}
    return Samples(
        runs=list(requests.values()),
        total=count * config.epochs * len(variants),
        model=variants[0].model,
        max_tokens=settings.get("max_tokens"),
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
    settings: Any = plan.variants[0].options.get("model_settings") or {}
    return Samples(
        runs=[[request] * figures.requests],
        total=count * config.epochs * len(plan.variants),
        model=plan.variants[0].model,
        max_tokens=settings.get("max_tokens"),
    )


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
