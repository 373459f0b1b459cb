"""What a run costs: runs a second and memory in flight, beside Pydantic AI under a semaphore and a bare trio task per run.

Whole runs through the public ``open_supervisor(...).map(...)`` with ``FunctionModel``; single-turn, and three-turn with
two tool calls; 100 at once. Every contender does the same awaits (one checkpoint a model request, an async tool) in its own
process, in turn; ratios are taken within a round. The journal is off unless the row says so.

    python bench/overhead.py [--rounds N] [--scale X]
"""

from __future__ import annotations

import argparse

from harness import BARE, LANGGRAPH, PYDANTIC_AI, RUNMGR, finish, median, ratio, rounds, save

CLAIM_OVER_PYDANTIC_AI = 8.0  # issue "An AgentRun on trio"; becomes 20 later
RUNS = {RUNMGR.name: 10_000, BARE.name: 40_000, PYDANTIC_AI.name: 600, LANGGRAPH.name: 1_500}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of runs")
    options = parser.parse_args()
    peers = [peer for peer in (PYDANTIC_AI,) if peer.available()]
    failed: list[str] = []
    results: dict[str, object] = {}
    if not peers:
        print(
            "pydantic-ai is not set up: run `make bench-overhead`, which installs it in an environment of its own"
        )
    for turns, label in ((1, "single-turn"), (3, "three-turn, two tool calls")):
        table = []
        for _ in range(options.rounds):
            row = {}
            for one in (RUNMGR, BARE, *peers):
                row[one.name] = one.run(
                    "--turns", turns, "--runs", max(50, int(RUNS[one.name] * options.scale))
                )
            row["runmgr, journal"] = RUNMGR.run(
                "--turns", turns, "--runs", max(50, int(RUNS[RUNMGR.name] * options.scale)), "--journal"
            )
            table.append(row)
        print(f"\n{label}, 100 at once")
        for name in table[0]:
            print(
                f"  {name:<18}{median(table, name, 'runs_per_s'):>12,.0f} runs/s {median(table, name, 'cpu_us'):>10,.1f} us CPU a run"
            )
        for peer in peers:
            middle, low, high = ratio(table, RUNMGR.name, peer.name, "runs_per_s")
            print(f"  runmgr / {peer.name}: {middle:.1f} times the runs/s ({low:.1f} to {high:.1f})")
            if peer is PYDANTIC_AI and middle < CLAIM_OVER_PYDANTIC_AI:
                failed.append(
                    f"{label}: {middle:.1f} times Pydantic AI, claimed at least {CLAIM_OVER_PYDANTIC_AI:.0f}"
                )
        middle, low, high = ratio(table, BARE.name, RUNMGR.name, "runs_per_s")
        print(f"  bare trio / runmgr: {middle:.1f} ({low:.1f} to {high:.1f})")
        results[label] = table
    table = rounds(
        [RUNMGR, BARE, *peers],
        min(options.rounds, 3),
        "--mode",
        "memory",
        "--runs",
        max(500, int(10_000 * options.scale)),
    )
    print("\nin flight, each blocked in a model call")
    for name in table[0]:
        print(f"  {name:<18}{median(table, name, 'kib_per_run'):>12,.1f} KiB a run")
    results["in flight"] = table
    print(f"\nwritten to {save('overhead', results)}")
    finish(failed)


if __name__ == "__main__":
    main()
