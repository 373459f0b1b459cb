"""A load from its configuration to its results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from runmgr.exceptions import UserError
from runmgr.load.arrivals import Rates
from runmgr.load.config import SWEEP_SECONDS, LoadConfig
from runmgr.load.drive import drive_closed, drive_open
from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures
from runmgr.load.plan import Plan, make_plan
from runmgr.load.prompts import read_prompts
from runmgr.load.record import Record
from runmgr.load.state import LoadState
from runmgr.load.summary import Part, merged, summarize, summarize_sweep
from runmgr.load.watch import watch_loop
from runmgr.load.write import RequestsFile, make_directory, write_summary

__all__ = ("LoadResult", "Watch", "measure", "run_load")

Watch = Callable[[LoadState], Awaitable[None]]
"""Runs beside a load until it is cancelled: a display, a signal handler."""

_MOST_RUNS = 100_000
_ONE = Rates((1.0,))


@attrs.frozen
class LoadResult:
    """What came of a load.

    Args:
        summary: as in ``summary.json``.
        out: where the files are.
        exit_code: as a command ends with it: 0; 1: a service level missed, or too many requests failed; 130: interrupted.
    """

    summary: dict[str, Any]
    out: Path | None
    exit_code: int


async def run_load(
    config: LoadConfig, *, agent: Any = None, model: Any = None, watch: Sequence[Watch] = ()
) -> LoadResult:
    """Run a load and write its results.

    Args:
        config: what to do.
        agent: the agent that ``config.agent`` names, to be run instead of single requests; a list where it names several.
        model: a model for it instead of its own.
        watch: what runs beside it.

    Cancelling drops what is in flight; what ended is in ``requests.jsonl`` then, and there is no summary. ``LoadState.stop`` ends it early
    with everything written.

    Raises:
        UserError: a file or an argument is wrong; nothing was sent.
    """
    calibration = None
    if config.calibrate:
        from runmgr.load.calibrate import calibrate

        make_plan(attrs.evolve(config, sweep=None, rates=_ONE) if config.sweep else config)
        calibration = await calibrate(config, watch[0] if watch else None)
    if config.out is not None:
        make_directory(config.out)
    if config.sweep is not None:
        return await _swept(config, agent, model, watch, calibration)
    parts, stopped = await _parts(config, agent, model, watch)
    return finish(config, parts, stopped, calibration)


async def _parts(
    config: LoadConfig, agent: Any, model: Any, watch: Sequence[Watch], *, mode: str = "wb"
) -> tuple[list[Part], str | None]:
    """Send, in this process or in several; lines go to the directory's ``requests.jsonl``."""
    if agent is not None:
        from runmgr.load.agents import AgentEntry, AgentTarget
        from runmgr.supervisor import open_supervisor

        agents: list[Any] = list(agent) if isinstance(agent, list | tuple) else [agent]  # pyright: ignore[reportUnknownArgumentType]
        several = [(_texts(one.name), one) for one in config.prompts]
        names = config.agent if len(agents) > 1 else [one for _, one in several]
        entries = [
            AgentEntry(
                names[number].name if number < len(names) else "",
                names[number].weight if number < len(names) else 1.0,
                agents[number % len(agents)],
                several[number % len(several)][0],
            )
            for number in range(max(len(agents), len(several)))
        ]
        # What holds an open loop back must be the model and the agent's limits, not the number of places.
        places = config.concurrency or _MOST_RUNS
        async with open_supervisor(
            max_running=places, max_queued=places, cluster=config.cluster
        ) as supervisor:
            target = AgentTarget(
                supervisor,
                entries,
                seed=config.seed,
                model=model,
                timeout=config.timeout,
                elsewhere=config.cluster is not None,
            )
            if config.cluster is not None:
                await target.ready(config.cluster.workers)
            part, stopped = await _recorded(config, make_plan(config, target=target), watch, mode)
            # Resends are made behind the run's back: the supervisor has counted them, the warm-up's too.
            models = supervisor.snapshot().models.values()
            part.measures.totals["retries"] = sum(model.resent for model in models)
        return [part], stopped
    if config.processes > 1:
        from runmgr.load.processes import measure_in_processes

        return await measure_in_processes(config, watch, mode=mode)
    part, stopped = await _recorded(config, make_plan(config), watch, mode)
    return [part], stopped


async def _swept(
    config: LoadConfig,
    agent: Any,
    model: Any,
    watch: Sequence[Watch],
    calibration: dict[str, Any] | None,
) -> LoadResult:
    from runmgr.load.sweep import sweep

    assert config.sweep is not None
    began = True

    async def at(rate: float) -> dict[str, Any]:
        nonlocal began
        step = attrs.evolve(
            config,
            sweep=None,
            rates=Rates((rate,)),
            duration=config.duration or (SWEEP_SECONDS if config.requests is None else None),
        )
        parts, stopped = await _parts(step, agent, model, watch, mode="wb" if began else "ab")
        began = False
        return summarize(step, parts, status="interrupted" if stopped else "complete")

    rows, best = await sweep(config.sweep, at)
    summary = summarize_sweep(config, rows, best)
    if calibration is not None:
        summary["calibration"] = calibration
    if config.out is not None:
        from runmgr.load.page import build_sweep_page

        write_summary(config.out / "summary.json", summary)
        (config.out / "report.html").write_bytes(build_sweep_page(summary))
    code = 130 if summary["status"] == "interrupted" else int(best is None)
    return LoadResult(summary, config.out, code)


async def _recorded(
    config: LoadConfig, plan: Plan, watch: Sequence[Watch], mode: str
) -> tuple[Part, str | None]:
    if config.out is None:
        return await measure(config, plan, lambda _: None, watch=watch)
    with RequestsFile(config.out / "requests.jsonl", chunks=config.record_chunks, mode=mode) as lines:
        return await measure(config, plan, lines.add, watch=watch)


def finish(
    config: LoadConfig, parts: Sequence[Part], stopped: str | None, calibration: dict[str, Any] | None = None
) -> LoadResult:
    """Summary, files and exit code. Blocks on the disk."""
    summary = summarize(
        config, parts, status="interrupted" if stopped else "complete", calibration=calibration
    )
    if config.out is not None:
        from runmgr.load.page import build_page

        write_summary(config.out / "summary.json", summary)
        (config.out / "report.html").write_bytes(build_page(summary, merged(config, parts)))
    return LoadResult(summary, config.out, exit_code_of(config, summary))


def exit_code_of(config: LoadConfig, summary: dict[str, Any]) -> int:
    """How the command ends."""
    if summary["status"] == "interrupted":
        return 130
    failed, ended = summary["failed"], summary["requests"]
    if summary["slo_met"] is False or (failed and failed == ended):
        return 1
    if config.max_failures is not None:
        text = config.max_failures
        limit = float(text[:-1]) / 100 * ended if text.endswith("%") else float(text)
        return int(failed > limit)
    return 0


def _texts(name: str) -> list[str]:
    prompts = read_prompts(Path(name))
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise UserError(f"--prompts {name}: an agent is run on texts, not on messages")
    return prompts


async def measure(
    config: LoadConfig,
    plan: Plan,
    ended: Callable[[Record], None],
    *,
    watch: Sequence[Watch] = (),
    started: float | None = None,
) -> tuple[Part, str | None]:
    """Send what is planned; gives what was measured, and why it was stopped early, if it was.

    Args:
        config: the load.
        plan: what to send when.
        ended: is told of each request that ended.
        watch: what runs beside it.
        started: when time begins, on trio's clock; now where None.
    """
    state = LoadState(
        trio.current_time() if started is None else started, total=plan.total, duration=plan.until
    )
    measures = Measures(
        warmup=config.warmup, until=config.counted_until, objectives=config.objectives, defs=config.defs
    )
    loop_lag = Histogram()

    def one(record: Record) -> None:
        state.good += measures.add(record)
        ended(record)

    async with trio.open_nursery() as nursery:
        for each in watch:
            nursery.start_soon(each, state)
        if plan.beside is not None:
            nursery.start_soon(plan.beside)
        nursery.start_soon(partial(watch_loop, loop_lag, config.warmup))
        if state.elapsed >= config.warmup:
            state.first = state.mark()
        else:
            nursery.start_soon(_mark_first, state, config.warmup)
        if config.cooldown:
            nursery.start_soon(_mark_last, state, config.counted_until)
        with state.scope:
            if plan.schedule is not None:
                await drive_open(plan.schedule, plan.target, state, one, until=plan.until, talks=plan.talks)
            else:
                assert plan.indices is not None
                await drive_closed(
                    plan.indices,
                    config.concurrency or 1,
                    plan.target,
                    state,
                    one,
                    until=plan.until,
                    talks=plan.talks,
                )
        state.phase = "done"
        nursery.cancel_scope.cancel()
    part = Part(
        measures=measures,
        first=state.first,
        last=state.last or state.mark(),
        loop_lag=loop_lag,
        cancelled=state.cancelled,
        most_in_flight=state.most_in_flight,
    )
    return part, state.stopped


async def _mark_last(state: LoadState, at: float) -> None:
    await trio.sleep_until(state.started + at)
    if state.last is None:
        state.last = state.mark()


async def _mark_first(state: LoadState, warmup: float) -> None:
    await trio.sleep_until(state.started + warmup)
    state.first = state.mark()
