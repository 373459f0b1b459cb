"""Arguments and figures that every child program shares. Standard library only: the peers import it too."""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument(
        "--turns", type=int, default=1, help="model requests a run; all but the last call one tool"
    )
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument(
        "--mode", choices=("rate", "memory", "tail", "flight", "growth", "cancel"), default="rate"
    )
    parser.add_argument("--journal", action="store_true")
    parser.add_argument("--events", action="store_true", help="with one subscriber that reads them all")
    parser.add_argument("--otel", action="store_true", help="instrumented, with OpenTelemetry's API only")
    parser.add_argument(
        "--collector",
        choices=("default", "commands"),
        default="default",
        help="Python's own settings, or those of `runmgr batch`",
    )
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: a machine with nothing else to do; for --mode tail",
    )
    return parser.parse_args()


def set_collector(args: argparse.Namespace) -> None:
    """Where asked to: have Python's collector look as seldom as ``runmgr batch`` has it; the same for every contender."""
    if args.collector == "commands":
        gc.collect()
        gc.freeze()
        in_flight = args.in_flight if args.mode in {"rate", "tail"} else args.runs
        # As runmgr/cli/collector.py, which the peers have not, has it.
        gc.set_threshold(5_000, max(1_000_000, 150 * in_flight) // 5_000, 100)


def rss_kib() -> float:
    """Resident memory of this process now, in KiB (Linux: second field of statm, in pages)."""
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Clock:
    """Wall and CPU seconds (user and system, all threads) since it was made."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.wall = now()
        self.cpu = self._cpu()

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def figures(self, runs: int) -> dict[str, float]:
        wall, cpu = self._now() - self.wall, self._cpu() - self.cpu
        return {
            "runs": runs,
            "wall_s": wall,
            "runs_per_s": runs / wall,
            "wall_us": wall / runs * 1e6,
            "cpu_us": cpu / runs * 1e6,
        }


def awaits(task: object) -> int:
    """How many coroutines deep a blocked trio task is."""
    depth, coroutine = 0, getattr(task, "coro", None)
    while coroutine is not None:
        depth += 1
        coroutine = getattr(coroutine, "cr_await", None)
    return depth


def deepest(tasks: object) -> int:
    """The deepest of some tasks' `awaits`."""
    return max(map(awaits, tasks))  # type: ignore[call-overload]


def report(figures: dict[str, float]) -> None:
    print(json.dumps(figures))


def memory_figures(before: float, after: float, runs: int) -> dict[str, float]:
    return {"runs": runs, "kib_per_run": (after - before) / runs}


Step = Callable[[int], str]
