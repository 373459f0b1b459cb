"""What is sent when: files read, target and schedule made, before anything is sent."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from runmgr.load.arrivals import arrivals
from runmgr.load.config import DEFAULT_SECONDS, LoadConfig
from runmgr.load.drive import Target
from runmgr.load.prompts import (
    FilePrompts,
    MixedPrompts,
    Prompts,
    SyntheticPrompts,
    TracePrompts,
    read_prompts,
)
from runmgr.load.trace import TraceRow, read_trace
from runmgr.models.sim_config import Distribution

if TYPE_CHECKING:
    from runmgr.load.chat import ChatTarget

__all__ = ("Plan", "make_plan")

DEFAULT_INPUT = 64
_MOST_CONNECTIONS = 1 << 20


@attrs.frozen
class Plan:
    """What is sent when.

    Args:
        target: where to.
        schedule: index and moment of each request (open loop), or None.
        indices: of the requests (closed loop), or None.
        total: how many there will be, where known.
        until: when sending is over, where known, in seconds since the start.
        talks: whether what is sent may be followed by further turns.
        beside: runs in the load's nursery while it does.
    """

    target: Target
    schedule: Iterator[tuple[int, float]] | None
    indices: Iterator[int] | None
    total: int | None
    until: float | None
    talks: bool = False
    beside: Callable[[], Awaitable[None]] | None = None


def make_plan(config: LoadConfig, *, target: Target | None = None, share: tuple[int, int] = (0, 1)) -> Plan:
    """Read files, make target and schedule. Blocks on the disk.

    Args:
        config: the load.
        target: where to, instead of the server that ``config`` names.
        share: which of how many processes this is: it sends every request whose index leaves this remainder.

    Raises:
        UserError: a file or an argument is wrong.
    """
    rows = _trace(config)
    talks = False
    beside: Callable[[], Awaitable[None]] | None = None
    if target is None:
        prompts = _prompts(config, rows)
        talks = prompts.talks
        chat = _target(config, prompts)
        beside = None if chat.gather is None else chat.gather.run
        target = chat
    mine, of = share
    total = config.requests if rows is None else len(rows)
    duration = config.duration
    if duration is None and config.requests is None and rows is None:
        duration = DEFAULT_SECONDS
    if config.concurrency is not None:
        indices = itertools.count(mine, of) if total is None else iter(range(mine, total, of))
        return Plan(target, None, indices, None if talks else total, duration, talks, beside)
    moments: Iterator[float]
    if rows is not None:
        moments = (row.at for row in rows)
    else:
        assert config.rates is not None
        moments = arrivals(
            config.rates,
            config.arrival,
            duration=duration,
            seed=config.seed,
            burstiness=config.burstiness,
        )
    if total is not None:
        moments = itertools.islice(moments, total)
    schedule = enumerate(moments)
    if of > 1:
        schedule = ((index, moment) for index, moment in schedule if index % of == mine)
    if talks:
        return Plan(target, schedule, None, None, duration, talks, beside)
    until = config.sending_seconds if rows is None else duration
    return Plan(target, schedule, None, total, until, talks, beside)


def _trace(config: LoadConfig) -> list[TraceRow] | None:
    if config.trace is None:
        return None
    rows = read_trace(
        config.trace,
        time_scale=config.time_scale,
        length_scale=config.length_scale,
        until=config.duration,
    )
    return rows if config.requests is None else rows[: config.requests]


def _target(config: LoadConfig, prompts: Prompts) -> ChatTarget:
    from runmgr.load.chat import ChatTarget
    from runmgr.load.tokenizer import load_tokenizer
    from runmgr.models.http import PoolClient, default_limit

    assert config.base_url is not None
    key = os.environ.get("OPENAI_API_KEY")
    client = PoolClient(
        config.base_url.rstrip("/"),
        headers={
            "accept": "text/event-stream",
            "content-type": "application/json",
            "authorization": f"Bearer {key or 'api-key-not-set'}",
        },
        # An open loop must not wait for a connection: what the process may open is the limit, and lateness is reported.
        max_connections=config.concurrency or _most_connections(default_limit()),
    )
    tokenizer = None if config.tokenizer is None else load_tokenizer(config.tokenizer)
    return ChatTarget(
        client, prompts, timeout=config.timeout, tokenizer=tokenizer, every=config.defs == "vllm"
    )


def _most_connections(least: int) -> int:
    try:
        import resource
    except ImportError:
        return least
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(least, soft - 64)


def _prompts(config: LoadConfig, rows: list[TraceRow] | None) -> Prompts:
    model, fields, seed = config.model_name, config.fields, config.seed
    if rows is not None:
        return TracePrompts(model, rows, length_scale=config.length_scale, fields=fields, seed=seed)
    if config.prompts:
        sources = [
            (
                one.name,
                one.weight,
                FilePrompts(
                    model,
                    read_prompts(Path(one.name)),
                    output=config.output_tokens,
                    think=config.think,
                    fields=fields,
                    seed=seed,
                ),
            )
            for one in config.prompts
        ]
        return sources[0][2] if len(sources) == 1 else MixedPrompts(sources, seed)
    return SyntheticPrompts(
        model,
        input=config.input_tokens or Distribution(a=DEFAULT_INPUT),
        output=config.output_tokens,
        turns=config.turns,
        think=config.think,
        fields=fields,
        seed=seed,
        prefix=config.prefix_tokens,
    )
