"""``python -m runmgr.testing --seeds 1000``: the built-in simulation, seed after seed."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterable

from .book import Violation
from .simulation import INVARIANTS, Report, simulate

__all__ = ("main",)


def main() -> int:
    """Run seeds; gives 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m runmgr.testing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many [100]")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one [0]")
    parser.add_argument(
        "--seed", type=int, metavar="SEED", help="only this one, with its traceback if it fails"
    )
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="runs a seed [200]")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes [all processors]"
    )
    options = parser.parse_args()
    if options.seed is not None:
        print(_line(simulate(seed=options.seed, runs=options.runs)))
        return 0
    print("seed  what came of it; in every seed must hold: " + ", ".join(INVARIANTS))
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    failed: list[int] = []
    runs = crashes = disks = damaged = lost = 0
    work = [(seed, options.runs) for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(work))) as pool:
        results: Iterable[tuple[int, Report | str]] = pool.imap(_one, work)
        for seed, result in results:
            if isinstance(result, str):
                failed.append(seed)
                print(f"{seed:>5}  FAILED: {result}", flush=True)
                continue
            runs, crashes, lost = runs + result.runs, crashes + result.crashes, lost + result.lost
            disks, damaged = disks + result.disk_faults, damaged + result.damaged
            print(_line(result), flush=True)
    seconds = time.monotonic() - began
    print(
        f"{len(work)} seeds, {runs:,} runs, {crashes:,} crashes, {disks:,} disks that failed, {damaged:,} damaged journals, {lost:,} answers lost in them and asked for again, {seconds:.0f} s"
    )
    for seed in failed:
        print(f"failed: python -m runmgr.testing --seed {seed} --runs {options.runs}")
    if not failed:
        print("held in all: " + ", ".join(INVARIANTS))
    return bool(failed)


def _one(job: tuple[int, int]) -> tuple[int, Report | str]:
    seed, runs = job
    try:
        return seed, simulate(seed=seed, runs=runs)
    except Violation as violation:
        return seed, str(violation)
    except Exception:  # noqa: BLE001  whatever the supervisor raises is a failure of its seed
        return seed, traceback.format_exc()


def _line(report: Report) -> str:
    statuses = ", ".join(f"{count} {status}" for status, count in report.statuses.items())
    return (
        f"{report.seed:>5}  {report.runs} runs ({statuses}) in {report.processes} processes with {report.crashes} crashes, {report.disk_faults} failed disks, "
        f"{report.damaged} damaged journals; "
        f"{report.requests} requests, {report.lost} lost; {report.digest}"
    )
