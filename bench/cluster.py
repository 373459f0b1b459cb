"""20,000 agent runs of 50 ms over two Ray workers of 1,000, with a journal, beside one runmgr process that does the same.

    python bench/cluster.py [--rounds N] [--runs N]

Needs Ray, and a network namespace with only loopback: ``make bench-cluster``. ``local`` is the same as ``ray`` without other
processes: driver and workers in one event loop, which shows what a run costs both together.
"""

from __future__ import annotations

import argparse
import os
import sys

from harness import Contender, finish, median, ratio, save

CLAIM_RATIO = 1.0
CLAIM_FIRST_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20_000)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = "."
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    case = "cases/cluster_runs.py"
    contenders = [Contender(name, case, ".venv-ray") for name in ("here", "local", "ray")]
    if not contenders[0].available():
        sys.exit("there is no .venv-ray: make bench-cluster makes it")
    table: list[dict[str, dict[str, object]]] = []
    for _ in range(options.rounds):
        row: dict[str, dict[str, object]] = {}
        for one in contenders:
            row[one.name] = one.run("--over", one.name, "--runs", options.runs)
        table.append(row)
    for name in ("here", "local", "ray"):
        print(
            f"  {name:<6}{median(table, name, 'seconds'):>7.2f} s, {median(table, name, 'runs_per_s'):>6.0f} runs/s, "
            f"{median(table, name, 'cpu_us_per_run'):>4.0f} us CPU a run in this process, first outcome after "
            f"{median(table, name, 'first_s'):.2f} s, workers ready after {median(table, name, 'ready_s'):.1f} s, "
            f"{median(table, name, 'journal_bytes_per_run'):.0f} bytes of journal a run"
        )
    middle, low, high = ratio(table, "ray", "here", "seconds")
    print(f"  seconds, ray / here: {middle:.2f} ({low:.2f} to {high:.2f})")
    print(f"written to {save('cluster', table)}")
    failed: list[str] = []
    if middle > CLAIM_RATIO:
        failed.append(f"ray takes {middle:.2f} times one process, claimed at most {CLAIM_RATIO}")
    if median(table, "ray", "first_s") > CLAIM_FIRST_SECONDS:
        failed.append(f"the first outcome came after more than {CLAIM_FIRST_SECONDS} s")
    finish(failed)


if __name__ == "__main__":
    main()
