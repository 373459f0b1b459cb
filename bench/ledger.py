"""What accounting, reservation and the rate door cost a request, when nothing waits.

A run sends requests with one message to a model that answers at once, through a supervisor with three nested budgets
(tokens and cost), requests and tokens a minute and a limit in flight; the time of asking the model itself is taken away. In
processes of their own; medians of batches of 20 requests (short, so that few are interrupted by whatever else
the machine does), and the median over the rounds.

    python bench/ledger.py [--rounds N] [--batches N]
"""

from __future__ import annotations

import argparse
import statistics

from harness import Contender, finish, save

CLAIM_US = 15.0  # issue "Budgets to the cent, and as fast as the provider allows"
ALL = "ledger, three budgets, rate"
LEDGER = Contender("ledger", "cases/ledger_requests.py")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=1_000)
    options = parser.parse_args()
    table = [LEDGER.run("--batches", options.batches) for _ in range(options.rounds)]
    medians = {name: statistics.median(row[name]["median_us"] for row in table) for name in table[0]}
    print("microseconds a request above the model's own")
    for name, middle in medians.items():
        low = min(row[name]["median_us"] for row in table)
        high = max(row[name]["median_us"] for row in table)
        print(f"  {name:<28}{middle:>8.1f}   ({low:.1f} to {high:.1f})")
    print(f"\nwritten to {save('ledger', table)}")
    failed: list[str] = []
    if medians[ALL] >= CLAIM_US:
        failed.append(f"{ALL}: {medians[ALL]:.1f} us a request, claimed under {CLAIM_US:g}")
    finish(failed)


if __name__ == "__main__":
    main()
