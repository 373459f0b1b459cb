"""100,000 runs in flight at once in one process, each blocked in a model call: memory, submission, cancelling them as a whole.

Beside as many bare trio tasks, each as many awaits deep as a run is, in a process of its own in the same round. Both with the
collector as our commands set it (``runmgr/cli/collector.py``); ``--collector default`` leaves it alone in both.

    python bench/flight.py [--rounds N] [--runs N] [--collector default|commands]
"""

from __future__ import annotations

import argparse

from harness import BARE, RUNMGR, finish, median, ratio, rounds, save

CLAIM_KIB = 10.0
CLAIM_SUBMIT_SECONDS = 20.0
CLAIM_CANCEL_RATIO = 2.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--collector", choices=("commands", "default"), default="commands")
    options = parser.parse_args()
    table = rounds(
        [RUNMGR, BARE],
        options.rounds,
        "--mode",
        "flight",
        "--runs",
        options.runs,
        "--collector",
        options.collector,
    )
    for name in (RUNMGR.name, BARE.name):
        figures = {
            figure: median(table, name, figure)
            for figure in ("kib_per_run", "submit_s", "cancel_s", "cancel_cpu_us", "depth")
        }
        print(
            f"  {name:<12}{figures['kib_per_run']:>6.1f} KiB a run, submitted in {figures['submit_s']:.1f} s, cancelled in "
            f"{figures['cancel_s']:.1f} s ({figures['cancel_cpu_us']:.0f} us CPU a run), {figures['depth']:.0f} awaits deep"
        )
    middle, low, high = ratio(table, RUNMGR.name, BARE.name, "cancel_s")
    print(f"  cancelling, runmgr / bare trio: {middle:.2f} ({low:.2f} to {high:.2f})")
    print(f"written to {save('flight', table)}")
    failed = []
    if median(table, RUNMGR.name, "depth") != median(table, BARE.name, "depth"):
        failed.append("the tasks are not equally deep: set DEPTH in bench/cases/bare_trio.py")
    memory, submitted = median(table, RUNMGR.name, "kib_per_run"), median(table, RUNMGR.name, "submit_s")
    if memory > CLAIM_KIB:
        failed.append(f"{memory:.1f} KiB a run, claimed at most {CLAIM_KIB}")
    if submitted > CLAIM_SUBMIT_SECONDS:
        failed.append(f"submitted in {submitted:.1f} s, claimed under {CLAIM_SUBMIT_SECONDS}")
    if middle > CLAIM_CANCEL_RATIO:
        failed.append(f"cancelling takes {middle:.2f} times bare trio, claimed at most {CLAIM_CANCEL_RATIO}")
    finish(failed)


if __name__ == "__main__":
    main()
