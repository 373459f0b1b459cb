"""What the way through a `RunPool` costs: submission and result, beyond the run itself, with 1,000 outstanding.

The same runs (single-turn, ``FunctionModel``, 100 at once) through ``Supervisor.map`` in trio, and through a pool from asyncio
(1,000 tasks in ``await pool.run()``), from 8 threads (futures) and from one (``outcomes``). Beside them, for comparison, a
thread for each outstanding run that calls ``trio.from_thread.run``. Each in its own process, in turn; differences are taken
within a round.

With ``--memory``: resident memory of a pool whose queue is full all the time, every so many jobs, and whether any was lost.

    python bench/pool.py [--rounds N] [--runs N] [--memory]
"""

from __future__ import annotations

import argparse
import statistics

from harness import Contender, finish, median, save

CLAIM_US = 60.0
CLAIM_MIB = 2.0
"""How much resident memory may grow over the last four fifths of 100,000 jobs under a full queue."""
CASE = "cases/pool_runs.py"
BASE = "supervisor"
CLAIMED = ("asyncio", "threads", "map")
SHOWN = {
    BASE: "Supervisor.map, in trio",
    "asyncio": "pool.run, 1,000 asyncio tasks",
    "threads": "pool.submit, 8 threads",
    "map": "pool.outcomes, one thread",
    "from_thread": "trio.from_thread.run, 1,000 threads",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.memory:
        memory()
        return
    table: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        row = {}
        for door in SHOWN:
            runs = options.runs // 5 if door == "from_thread" else options.runs
            row[door] = Contender(door, CASE).run("--door", door, "--runs", runs)
        table.append(row)
    print(
        f"{options.runs:,} runs, 1,000 outstanding; microseconds a run, wall and CPU, and beyond the supervisor's own"
    )
    failed: list[str] = []
    for door, shown in SHOWN.items():
        beyond = sorted(row[door]["wall_us"] - row[BASE]["wall_us"] for row in table)
        cpu = statistics.median(row[door]["cpu_us"] - row[BASE]["cpu_us"] for row in table)
        middle = statistics.median(beyond)
        print(
            f"  {shown:<38}{median(table, door, 'wall_us'):>8.1f}{median(table, door, 'cpu_us'):>8.1f}"
            f"   + {middle:.1f} ({beyond[0]:.1f} to {beyond[-1]:.1f}), CPU + {cpu:.1f}"
        )
        if door in CLAIMED and middle >= CLAIM_US:
            failed.append(f"{shown}: {middle:.1f} us beyond the run itself, claimed under {CLAIM_US:.0f}")
    print(f"\nwritten to {save('pool', table)}")
    finish(failed)


def memory() -> None:
    found = Contender("memory", "cases/pool_memory.py").run()
    print("a full queue of 500, filled by 8 threads and 100 asyncio tasks: jobs ended, resident MiB")
    for jobs, kib in found["marks"]:
        print(f"  {jobs:>8,}{kib / 1024:>10.1f}")
    grown = (found["marks"][-1][1] - found["marks"][0][1]) / 1024
    print(f"grown by {grown:.2f} MiB; submit_nowait was refused {found['refused']:,} times")
    print(f"\nwritten to {save('pool_memory', found)}")
    failed: list[str] = []
    if grown > CLAIM_MIB:
        failed.append(f"memory grew by {grown:.1f} MiB, claimed at most {CLAIM_MIB:.0f}")
    if found["done"] != found["counted"]:
        failed.append(f"{found['counted']:,} runs succeeded, {found['done']:,} were told")
    finish(failed)


if __name__ == "__main__":
    main()
