"""Kill -9 of a Ray worker at a random moment, ten times; of the driver, which is resumed; and Ctrl-C.

    python bench/ray_kills.py [--rounds N] [--runs N] [--seed N]

Needs Ray, and a network namespace with only loopback: ``make bench-ray-kills``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from harness import ROOT, save

sys.path.insert(0, str(ROOT / "tests" / "ray"))

from agents import shouter

from runmgr import RunSpec, open_supervisor
from runmgr.cluster import RayCluster


def workers() -> set[int]:
    """Processes of Ray workers that are alive."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ray::_RayWorker" in title:
                found.add(int(entry.name))
    return found


async def one_worker_dies(runs: int, rng: random.Random, journal: Path) -> dict[str, Any]:
    """A round: every outcome must come once, with what one run uses."""
    began = time.perf_counter()
    cluster = RayCluster(address="local", workers=2, per_worker=1_000, silence=5.0)
    seen: set[str] = set()
    requests = tokens = 0
    at = rng.randrange(runs // 20, runs - runs // 10)
    async with open_supervisor(cluster=cluster, journal=journal) as sup:
        specs = (RunSpec(prompt=f"p{n}", run_id=f"r{n}") for n in range(runs))
        async with sup.map(shouter, specs) as outcomes:
            async for outcome in outcomes:
                assert outcome.succeeded, outcome.error
                assert outcome.run_id not in seen, "told twice"
                assert outcome.output == "P" + outcome.run_id[1:]
                seen.add(outcome.run_id)
                requests += outcome.usage.requests
                tokens += outcome.usage.input_tokens
                if len(seen) == at:
                    os.kill(rng.choice(sorted(workers())), signal.SIGKILL)
        twice = sup.usage(by="status").get("superseded")
        lost = sup.snapshot().workers_lost
        assert sup.usage().requests == requests + (0 if twice is None else twice.requests)
    assert (len(seen), requests, tokens) == (runs, runs, 3 * runs)
    assert lost == 1, f"{lost} workers were lost"
    return {
        "killed_after": at,
        "distinct": len(seen),
        "requests": requests,
        "seconds": time.perf_counter() - began,
    }


def start(journal: Path, runs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/ray/program.py"), str(journal), str(runs)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/ray'}"},
    )


def read_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.split()[1:]
    raise AssertionError(f"it ended with {process.wait()} and did not say {word!r}")


def until_gone(before: set[int]) -> float:
    began = time.monotonic()
    while workers() - before:
        assert time.monotonic() - began < 60, "workers are alive a minute later"
        time.sleep(0.05)
    return time.monotonic() - began


def the_driver_dies(runs: int, rng: random.Random, journal: Path) -> dict[str, Any]:
    before = workers()
    first = start(journal, runs)
    read_until(first, "begun")
    time.sleep(rng.uniform(0.2, 3))
    first.kill()
    first.wait()
    gone = until_gone(before)
    second = start(journal, runs)
    distinct, replayed = map(int, read_until(second, "done"))
    assert second.wait() == 0
    assert distinct == runs
    assert gone < 10, f"workers were alive for {gone:.1f} s"
    return {"distinct": distinct, "replayed": replayed, "workers_gone_after_s": gone}


def interrupted(journal: Path) -> dict[str, Any]:
    before = workers()
    program = start(journal, 1_000_000)
    read_until(program, "begun")
    time.sleep(1)
    began = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)
    assert program.stdout is not None
    program.stdout.read()
    assert program.wait() == 0
    until_gone(before)
    seconds = time.monotonic() - began
    return {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--drivers", type=int, default=3, help="how often the driver is killed")
    parser.add_argument("--interrupts", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    import ray

    table: dict[str, Any] = {"worker_kills": [], "driver_kills": [], "interrupts": []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.interrupts):
            table["interrupts"].append(interrupted(Path(place) / f"i{number}.sqlite"))
            print(f"  Ctrl-C: ended after {table['interrupts'][-1]['seconds']:.1f} s", flush=True)
        for number in range(options.drivers):
            row = the_driver_dies(options.runs, rng, Path(place) / f"d{number}.sqlite")
            table["driver_kills"].append(row)
            print(
                f"  driver killed: {row['distinct']:,} distinct, {row['replayed']:,} of them from the journal; workers gone after "
                f"{row['workers_gone_after_s']:.1f} s",
                flush=True,
            )
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address="127.0.0.1",
        )
        for number in range(options.rounds):
            row = trio.run(one_worker_dies, options.runs, rng, Path(place) / f"w{number}.sqlite")
            table["worker_kills"].append(row)
            print(
                f"  worker killed after {row['killed_after']:,}: {row['distinct']:,} distinct, usage exact, {row['seconds']:.0f} s",
                flush=True,
            )
        ray.shutdown()
    print(f"written to {save('ray_kills', table)}")
    slow = max((row["seconds"] for row in table["interrupts"]), default=0.0)
    if slow >= 5:
        sys.exit(f"Ctrl-C took {slow:.1f} s, claimed under 5")


if __name__ == "__main__":
    main()
