"""`open_supervisor`: the block, what it is made of, and how it is left."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from os import PathLike
from typing import TYPE_CHECKING, Literal

import trio

from runmgr.concurrency import check_in_trio, open_timers
from runmgr.exceptions import UserError
from runmgr.models.retry import RetryPolicy

from .breaker import BREAKER, BreakerPolicy
from .family import Family
from .gates import Gates
from .groups import has_cancelled, not_cancelled, raise_bare
from .interrupted import InterruptedTools
from .journaling import open_run_journal
from .runtime import Runtime
from .supervisor import Supervisor, checked

if TYPE_CHECKING:
    from runmgr.records.budgets import Budget, CachePolicy, Hedge, Price, RateLimit, RestartPolicy
    from runmgr.usage import UsageLimits

    from .bounds import CountTokens
    from .elsewhere import Cluster

__all__ = ("open_supervisor",)


@asynccontextmanager
async def open_supervisor(
    *,
    max_running: int | None = None,
    max_queued: int = 1_000,
    max_parked: int = 1_000,
    max_depth: int = 8,
    max_children: int = 10_000,
    group_weights: Mapping[str, float] | None = None,
    group_limits: Mapping[str, int] | None = None,
    limits: UsageLimits | None = None,
    budget: Budget | None = None,
    group_budgets: Mapping[str, Budget] | Budget | None = None,
    run_budget: Budget | None = None,
    rate_limits: Mapping[str, RateLimit] | RateLimit | None = None,
    prices: Mapping[str, Price] | None = None,
    tokenizers: Mapping[str, CountTokens] | None = None,
    restart: RestartPolicy | None = None,
    max_failures: float | None = None,
    min_sample: int = 20,
    journal: str | PathLike[str] | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    interrupted_tools: InterruptedTools = "ask",
    durability: Literal["process", "power"] = "process",
    journal_thread: bool | None = None,
    retries: int | RetryPolicy = 8,
    hedge: Hedge | None = None,
    breaker: BreakerPolicy | None = BREAKER,
    cache: CachePolicy | str | PathLike[str] | None = None,
    cluster: Cluster | None = None,
    remember: int = 1_000,
    rng: random.Random | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncGenerator[Supervisor, None]:
    """Open a supervisor. Leaving the block waits for every run; nothing outlives it.

    An exception or a cancellation in the block cancels every run, waits for their ends and comes out bare.

    Args:
        max_running: runs that hold a place at once; 100 when left out, with a ``cluster`` as many as that has places.
        max_queued: runs that wait for a place; beyond it `submit` waits.
        max_parked: runs that give up their place because they are paused or wait for other runs; beyond it they keep it.
        max_depth: how many levels of child runs there may be below a run that was submitted from outside.
        max_children: how many runs there may be below one, at all levels, over its whole life.
        group_weights: shares of groups where not 1: a group of weight 2 gets two places for each of another's.
        group_limits: places that a group may hold at once, where not all.
        limits: `UsageLimits` of every run that does not bring its own.
        budget: what all runs together may spend.
        group_budgets: what a group's runs together may spend: by group, or one for each group.
        run_budget: what each run may spend that brings no ``budget`` of its own.
        rate_limits: how fast models may be asked: by model name (or ``system:name``), or one for each.
        prices: what models cost, by model name, where the published table does not know or you pay otherwise.
        tokenizers: by model name (or ``system:name``), a function from a text to the number of its tokens: what bounds of requests
            are counted with where there is a budget of tokens or cost, instead of bytes. Called in the event loop.
        breaker: when a model is taken for dead and only probed, while requests to it wait; None: never.
        restart: which failed runs begin again.
        max_failures: failed runs (a whole number), or their share of the ended ones (a number below 1, over at least
            ``min_sample``), beyond which everything stops and `TooManyFailures` is raised from the block.
        min_sample: see ``max_failures``.
        journal: file to keep every run in; None keeps nothing.
        resume: go on with what the journal holds: finished runs are not run again, unfinished ones go on from their last
            checkpoint, when they are submitted again under their ``run_id``.
        retry_failed: run those again that the journal holds as failed or cancelled.
        interrupted_tools: what becomes of a resumed run one of whose tools was running when its process ended. ``'ask'``: where
            all are declared ``idempotent=True`` they are called again; else the run is paused, and `RunHandle.question` says what
            it waits for. ``'repeat'``: they are called again, all of them. ``'fail'``: nobody is there to ask; those that
            say nothing are called again, with one that is declared ``idempotent=False`` the run fails.
        durability: ``'process'`` survives the end of the process, ``'power'`` that of the machine.
        journal_thread: write it in a thread (True) or in the event loop (False: for virtual time, which would jump while a
            thread works); by the clock when left out.
        retries: resends of one request, or a whole policy.
        hedge: send a second copy of requests that are slow.
        cache: answer requests that were answered before from this SQLite file, and send equal requests in flight once; only
            between runs of equal ``cache_salt``. Off by default.
        cluster: where runs are worked on, instead of in this process: a `runmgr.cluster.RayCluster`. Everything else is here
            as ever: handles, outcomes, events, budgets, journal.
        remember: how many ended runs `get`, deduplication by ``run_id`` and ``usage(by='run')`` know one by one.
        rng: source of the jitter.
        wall_clock: Unix seconds, read once; from there on trio's clock counts.

    Raises:
        UserError: an argument is wrong.
        JournalError: the journal cannot be opened or written.
        TooManyFailures: see ``max_failures``.
        RunmgrError: a task of the supervisor itself failed: a bug in runmgr.
    """
    check_in_trio()
    for name, count in (tokenizers or {}).items():
        if not callable(count):
            raise UserError(
                f"tokenizers[{name!r}] must be a function from a text to the number of its tokens, not {count!r}: "
                "lambda text: len(encoding.encode(text)), say"
            )
    if max_running is None:
        max_running = 100 if cluster is None else cluster.places
    runtime = Runtime(
        max_running=checked("max_running", max_running, 1),
        max_queued=checked("max_queued", max_queued, 0),
        max_parked=checked("max_parked", max_parked, 0),
        family=Family(checked("max_depth", max_depth, 0), checked("max_children", max_children, 0)),
        group_weights=group_weights,
        group_limits={
            group: checked(f"group_limits[{group!r}]", limit, 0)
            for group, limit in (group_limits or {}).items()
        },
        limits=limits,
        max_failures=max_failures,
        min_sample=min_sample,
        remember=checked("remember", remember, 0),
        retry_failed=retry_failed,
        interrupted_tools=interrupted_tools,
        gates=lambda ledger: Gates(
            ledger,
            rate_limits=rate_limits,
            prices=prices,
            tokenizers=tokenizers,
            retry_policy=RetryPolicy(max_retries=retries) if isinstance(retries, int) else retries,
            restart=restart,
            rng=rng or random.Random(),
            hedge=hedge,
            max_running=max_running,
            breaker=breaker,
        ),
        wall_clock=wall_clock,
    )

    if cluster is not None:
        runtime.told = {
            "prices": prices,
            "tokenizers": tokenizers,
            "retries": retries,
            "hedge": hedge,
            "breaker": breaker,
            "restart": restart,
            "cache": cache,
            "run_budget": run_budget,
        }

    def set_up() -> None:
        runtime.gates.set_up_budgets(budget, group_budgets, run_budget)

    if journal is None:
        async with _open(runtime, set_up, cache, cluster) as sup:
            yield sup
    else:
        async with (
            open_run_journal(
                runtime, journal, resume=resume, durability=durability, threaded=journal_thread
            ) as runtime.journal,
            _open(runtime, set_up, cache, cluster) as sup,
        ):
            yield sup


@asynccontextmanager
async def _open(
    runtime: Runtime,
    set_up: Callable[[], None],
    cache: CachePolicy | str | PathLike[str] | None,
    cluster: Cluster | None,
) -> AsyncGenerator[Supervisor, None]:
    """The block itself: its nurseries, and how it is left."""
    sup = runtime.facade = Supervisor(runtime)
    set_up()  # with what the journal says of earlier processes
    if cache is not None and cluster is None:
        from .cache import open_cache

        runtime.gates.cache = open_cache(cache)
    body_error: BaseException | None = None
    try:
        async with open_timers() as runtime.gates.timers, trio.open_nursery() as services:
            runtime.services = runtime.gates.services = services
            await services.start(_own_actors, runtime)
            try:
                async with nullcontext() if cluster is None else cluster.open(runtime) as runtime.carrier:
                    try:
                        yield sup
                        runtime.channels.ended(None)
                        await runtime.wait_idle()
                    except BaseException as error:
                        interrupted = isinstance(error, trio.Cancelled)
                        runtime.stop(
                            "shutdown" if interrupted else f"the block raised {type(error).__name__}"
                        )
                        if has_cancelled(error):
                            raise  # it belongs to a scope outside, or to the nursery here, which takes it
                        body_error = error
                    finally:
                        runtime.close("its block has been left")
                        runtime.channels.ended(None)
                        with trio.CancelScope(shield=True):
                            await runtime.wait_idle()
                            await runtime.gates.close_models()
                            if runtime.gates.cache is not None:
                                runtime.gates.cache.close()
            finally:
                runtime.events.close()
                services.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_bare(group, internal=runtime.broken is not None)
    if body_error is not None:
        raise body_error
    if runtime.escalation is not None:
        raise runtime.escalation


async def _own_actors(runtime: Runtime, *, task_status: trio.TaskStatus[None]) -> None:
    """Own the actors: a nursery of their own, so that all can be cancelled while the block's body goes on."""
    try:
        async with trio.open_nursery() as actors:
            runtime.actors = actors
            task_status.started()
            await trio.sleep_forever()
    except BaseException as error:
        if not_cancelled(error) is not None:
            runtime.breaks(error)
        raise
