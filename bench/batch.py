"""What a batch costs, whole: 100,000 simulated runs with two scorers, beside Inspect AI doing 2,000 of the same with mockllm.

Both read cases, ask an in-process model that answers at once, score every answer twice, and write their log: runmgr its journal, results,
summary and report, Inspect its ``.eval`` file. The contenders take turns; the ratio of runs a second is taken within a round.

    python bench/batch.py [--rounds N] [--scale X]
"""

from __future__ import annotations

import argparse

from harness import Contender, finish, median, ratio, save

RUNMGR = Contender("runmgr", "cases/batch_run.py")
INSPECT = Contender("inspect", "peers/inspect_runs.py", "bench/peers/.venv-inspect")
CLAIM_SECONDS = 60.0
CLAIM_RSS_MB = 300.0
CLAIM_OVER_INSPECT = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="three, not five: one takes a minute and a half on two busy cores",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of runs")
    options = parser.parse_args()
    runs = max(100, int(100_000 * options.scale))
    peers = [peer for peer in (INSPECT,) if peer.available()]
    if not peers:
        print(
            "inspect-ai is not set up: run `make bench-batch`, which installs it in an environment of its own"
        )
    table = []
    for _ in range(options.rounds):
        row = {RUNMGR.name: RUNMGR.run("--runs", runs)}
        for peer in peers:
            row[peer.name] = peer.run("--runs", max(100, int(2_000 * options.scale)))
        table.append(row)
    print(f"\na batch with two scorers, 200 at once ({options.rounds} rounds)")
    for name in table[0]:
        print(
            f"  {name:<10}{table[0][name]['runs']:>9,} runs {median(table, name, 'seconds'):>8,.1f} s "
            f"{median(table, name, 'runs_per_s'):>9,.0f} runs/s {median(table, name, 'cpu_us'):>9,.0f} us CPU a run "
            f"{median(table, name, 'rss_mb'):>7,.0f} MB"
        )
    failed: list[str] = []
    seconds, rss = median(table, RUNMGR.name, "seconds"), median(table, RUNMGR.name, "rss_mb")
    if seconds > CLAIM_SECONDS * options.scale:
        failed.append(
            f"{runs:,} runs took {seconds:.1f} s, claimed at most {CLAIM_SECONDS * options.scale:.0f}"
        )
    if rss > CLAIM_RSS_MB:
        failed.append(f"{rss:.0f} MB, claimed at most {CLAIM_RSS_MB:.0f}")
    for peer in peers:
        middle, low, high = ratio(table, RUNMGR.name, peer.name, "runs_per_s")
        print(f"  runmgr / {peer.name}: {middle:.1f} times the runs/s ({low:.1f} to {high:.1f})")
        if middle < CLAIM_OVER_INSPECT:
            failed.append(f"{middle:.1f} times {peer.name}, claimed at least {CLAIM_OVER_INSPECT:.0f}")
    print(f"\nwritten to {save('batch', table)}")
    finish(failed)


if __name__ == "__main__":
    main()
