"""Many short agent runs with a journal, in this process or over a cluster's workers. Prints one JSON object.

python bench/cases/cluster_runs.py --over here|local|ray [--runs N] [--workers N] [--per-worker N] [--seconds S]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from runmgr import Agent, ModelResponse, TextPart, open_supervisor
from runmgr.cluster import LocalCluster, LocalEngine, RayCluster
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage


def agent_of(seconds: float) -> Agent:
    async def answer(messages: Any, info: Any) -> ModelResponse:
        await trio.sleep(seconds)
        return ModelResponse(
            parts=[TextPart("the answer is 42")], usage=RequestUsage(input_tokens=12, output_tokens=5)
        )

    return Agent(FunctionModel(answer, model_name="steady"), name="steady")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    workers, each = options.workers, options.per_worker
    given: dict[str, Any] = {"max_running": workers * each}
    wire = {True: 0, False: 0}

    async def carry(_: str, to_worker: bool, data: bytes) -> list[bytes]:
        wire[to_worker] += len(data)
        return [data]

    if options.over == "local":
        given = {"cluster": LocalCluster(workers=workers, per_worker=each, engine=LocalEngine(carry))}
    elif options.over == "ray":
        given = {"cluster": RayCluster(address="local", workers=workers, per_worker=each)}
    agent = agent_of(options.seconds)
    with tempfile.TemporaryDirectory() as place:
        journal = Path(place) / "runs.sqlite"
        opened = time.perf_counter()
        async with open_supervisor(journal=journal, **given) as sup:
            while sum(worker.ready for worker in sup.snapshot().workers.values()) < workers:
                if options.over == "here":
                    break
                await trio.sleep(0.01)
            ready = time.perf_counter() - opened
            first = None
            began, began_cpu = time.perf_counter(), cpu()
            distinct = set()
            async with sup.map(agent, (f"prompt {n}" for n in range(options.runs))) as outcomes:
                async for outcome in outcomes:
                    assert outcome.succeeded, outcome.error
                    distinct.add(outcome.run_id)
                    if first is None:
                        first = time.perf_counter() - began
            seconds, used = time.perf_counter() - began, cpu() - began_cpu
            assert len(distinct) == options.runs
            assert sup.usage().requests == options.runs
            assert sup.usage().input_tokens == 12 * options.runs
        size = sum(path.stat().st_size for path in Path(place).iterdir())
    return {
        "over": options.over,
        "runs": options.runs,
        "ready_s": ready,
        "first_s": first,
        "seconds": seconds,
        "runs_per_s": options.runs / seconds,
        "cpu_us_per_run": 1e6 * used / options.runs,
        "bytes_to_worker_per_run": wire[True] / options.runs,
        "bytes_from_worker_per_run": wire[False] / options.runs,
        "journal_bytes_per_run": size / options.runs,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--over", choices=["here", "local", "ray"], default="here")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-worker", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--profile", metavar="FILE")
    options = parser.parse_args()
    if options.profile:
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
        result = trio.run(measured, options)
        profile.disable()
        profile.dump_stats(options.profile)
    else:
        result = trio.run(measured, options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
