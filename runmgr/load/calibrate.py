"""The client itself, measured first: the same requests to a server that does nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import trio

from runmgr.load.config import LoadConfig
from runmgr.load.plan import make_plan
from runmgr.load.run import Watch, measure
from runmgr.load.summary import summarize

__all__ = ("calibrate",)

_SECONDS = 2.0
_WARMUP = 0.5
_TOKENS = 16
_AT_ONCE = 32


async def calibrate(config: LoadConfig, watch: Watch | None = None) -> dict[str, Any]:
    """Measure this client for two seconds at the load's concurrency (32 for an open loop) against a null server in a process of its own.

    Args:
        config: the load; its prompts are sent.
        watch: runs beside it.

    Returns:
        What this client can do here: ``requests_per_second`` at full speed, and the ``ttft_ms`` and ``alone_ttft_ms`` (one request at a
        time) that it reports of a server that needs no time: what it adds to what it measures.
    """
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(_null_server)
        assert process.stdout is not None
        url = b""
        while not url.endswith(b"\n"):
            url += await process.stdout.receive_some(256)
        base = attrs.evolve(
            config,
            base_url=url.decode().strip(),
            rates=None,
            trace=None,
            requests=None,
            duration=_SECONDS,
            warmup=_WARMUP,
            objectives=(),
            processes=1,
            output_tokens=None,
            turns=None,
            think=None,
            concurrency=config.concurrency or _AT_ONCE,
            out=None,
        )
        full = await _figures(base, watch)
        alone = await _figures(attrs.evolve(base, concurrency=1, duration=1.0, warmup=0.2), watch)
        process.kill()
        nursery.cancel_scope.cancel()
    return {
        "concurrency": base.concurrency,
        "tokens": _TOKENS,
        "requests_per_second": full["requests_per_second"],
        "ttft_ms": full["ttft_ms"],
        "alone_ttft_ms": alone["ttft_ms"],
        "loop_lag_ms": alone["validity"]["loop_lag_ms"],
    }


async def _figures(config: LoadConfig, watch: Watch | None) -> dict[str, Any]:
    part, _ = await measure(config, make_plan(config), lambda _: None, watch=[watch] if watch else [])
    return summarize(config, [part], status="complete")


async def _null_server(task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        [sys.executable, "-m", "runmgr.load.null", str(_TOKENS)],
        stdout=subprocess.PIPE,
        check=False,
        task_status=task_status,
    )
