"""Cancelling one run among 10,000 whose turns of 1 s go on at full load: how long until its outcome is there.

python bench/cancel.py [--rounds N] [--runs N]
"""

from __future__ import annotations

import argparse

from harness import RUNMGR, finish, median, rounds, save

CLAIM_MS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    table = rounds([RUNMGR], options.rounds, "--mode", "cancel", "--runs", options.runs)
    figures = {
        figure: median(table, RUNMGR.name, figure) for figure in ("p50_ms", "p90_ms", "max_ms", "turns_per_s")
    }
    print(
        f"  median {figures['p50_ms']:.1f} ms, 90 % within {figures['p90_ms']:.1f} ms, slowest {figures['max_ms']:.1f} ms, while "
        f"{figures['turns_per_s']:,.0f} turns a second go on"
    )
    print(f"written to {save('cancel', table)}")
    finish(
        []
        if figures["p50_ms"] < CLAIM_MS
        else [f"median {figures['p50_ms']:.1f} ms, claimed under {CLAIM_MS} ms"]
    )


if __name__ == "__main__":
    main()
