"""Every claim about what runmgr costs, in one table: what was measured, how it spread, what is claimed, whether that holds.

    python bench/run.py                    all of it: about 25 minutes on two quiet cores
    python bench/run.py --only tail,growth some of it
    python bench/run.py --short            counts instead of times: seconds, and the same on a busy machine

Contenders run in processes of their own and take turns; a ratio is taken within a round, and what counts is the median over the
rounds. A claim is *broken* where no round held it, and *close* where the median does not and a round did: that much is noise. Broken
claims give exit code 1. Python's garbage collector is left alone, but where a line says otherwise, and then in both contenders. JSON goes
to ``bench/results/run.json``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from run_short import short

from harness import BARE, LANGGRAPH, PYDANTIC_AI, ROOT, RUNMGR, Contender, save

SINGLE, THREE = ("--turns", 1), ("--turns", 3)
RUNS = {RUNMGR.name: 10_000, BARE.name: 40_000, PYDANTIC_AI.name: 600, LANGGRAPH.name: 1_500}
HTTP = Contender("runmgr", "cases/http_batch.py")
HTTP_PYDANTIC_AI = Contender("pydantic-ai", "peers/pydantic_ai_http.py", PYDANTIC_AI.environment)
HTTP_H11 = Contender("bare h11", "cases/http_bare_h11.py")
OTHERS = ("batch", "cancel", "flight", "http_client", "journal", "ledger", "load", "pool", "sim")
"""Benches with a script, a table and claims of their own."""


@dataclass(frozen=True)
class Claim:
    """One line of the table."""

    section: str
    what: str
    median: float
    low: float
    high: float
    claimed: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        worst_first = (self.median, self.high if self.at_least else self.low)
        held = [value >= self.claimed if self.at_least else value <= self.claimed for value in worst_first]
        return "holds" if held[0] else "close" if held[1] else "BROKEN"


@dataclass(frozen=True)
class Options:
    rounds: int
    scale: float


def _claim(section: str, what: str, values: list[float], claimed: float, *, at_least: bool = False) -> Claim:
    return Claim(section, what, statistics.median(values), min(values), max(values), claimed, at_least)


def _missing(one: Contender) -> bool:
    if one.available():
        return False
    print(f"  {one.name} is not set up: run `make bench`, which installs it in an environment of its own")
    return True


def _runs(one: Contender, options: Options, times: int = 1) -> tuple[str, int]:
    return "--runs", max(50, int(RUNS[one.name] * times * options.scale))


def overhead(options: Options) -> Iterator[Claim]:
    """Runs a second beside the peers, and beside a bare task a run that does the same awaits."""
    peers = [peer for peer in (PYDANTIC_AI, LANGGRAPH) if not _missing(peer)]
    for turns, label, over_graph in ((SINGLE, "single-turn", 7.0), (THREE, "three-turn", 8.0)):
        table = [
            {one.name: one.run(*turns, *_runs(one, options)) for one in (RUNMGR, BARE, *peers)}
            for _ in range(options.rounds)
        ]
        for name in table[0]:
            rate = statistics.median(row[name]["runs_per_s"] for row in table)
            cpu = statistics.median(row[name]["cpu_us"] for row in table)
            print(f"  {label:<12}{name:<12}{rate:>12,.0f} runs/s{cpu:>10,.1f} us CPU a run")
        for peer, least in ((PYDANTIC_AI, 20.0), (LANGGRAPH, over_graph)):
            if peer in peers:
                times = [row[RUNMGR.name]["runs_per_s"] / row[peer.name]["runs_per_s"] for row in table]
                yield _claim("overhead", f"{label}: times {peer.name}'s runs/s", times, least, at_least=True)
        times = [row[BARE.name]["runs_per_s"] / row[RUNMGR.name]["runs_per_s"] for row in table]
        yield _claim("overhead", f"{label}: bare trio's runs/s over runmgr's", times, 8.0)


def extras(options: Options) -> Iterator[Claim]:
    """What the journal, one subscriber and OpenTelemetry's API add to a run's CPU."""
    for turns, label in ((SINGLE, "single-turn"), (THREE, "three-turn")):
        table = []
        for _ in range(options.rounds):
            # More of them: what is told apart is a few microseconds, and one full collection more or less is two of 10,000 runs.
            common = (*turns, *_runs(RUNMGR, options, 2))
            table.append(
                {flag: RUNMGR.run(*common, *([flag] if flag else [])) for flag in ("", "--journal", "--events", "--otel")}
            )  # fmt: skip
        for flag, what, most in (
            ("--journal", "journal on", 1.3),
            ("--events", "one subscriber", 1.15),
            ("--otel", "OpenTelemetry's API", 1.05),
        ):
            values = [row[flag]["cpu_us"] / row[""]["cpu_us"] for row in table]
            yield _claim("extras", f"{label}: CPU with {what}", values, most)


def memory(options: Options) -> Iterator[Claim]:
    """KiB a run that waits for its model, from 1,000 to 200,000 of them."""
    contenders = [RUNMGR, *(peer for peer in (PYDANTIC_AI, LANGGRAPH) if not _missing(peer))]
    for runs in (1_000, 10_000, 200_000):
        some = contenders if runs == 1_000 else [RUNMGR]
        n = max(500, int(runs * options.scale))
        rounds = 1 if runs == 200_000 else min(3, options.rounds)
        table = [{one.name: one.run("--mode", "memory", "--runs", n) for one in some} for _ in range(rounds)]
        for name in table[0]:
            print(
                f"  {n:>7,} in flight {name:<12}{statistics.median(r[name]['kib_per_run'] for r in table):>8.1f} KiB a run"
            )
        values = [row[RUNMGR.name]["kib_per_run"] for row in table]
        yield _claim("memory", f"KiB a run, {n:,} in flight", values, 10.0)


def growth(options: Options) -> Iterator[Claim]:
    """How the time of a run grows from 1,000 to 200,000 in flight, beside how a bare task's does."""
    few, many = max(500, int(1_000 * options.scale)), max(2_000, int(200_000 * options.scale))
    values: list[float] = []
    for _ in range(min(2, options.rounds)):
        figures = {
            (one.name, runs): one.run("--mode", "growth", "--runs", runs)["cpu_us"]
            for one in (RUNMGR, BARE)
            for runs in (few, many)
        }
        grown = {name: figures[name, many] / figures[name, few] for name in (RUNMGR.name, BARE.name)}
        for name, times in grown.items():
            print(
                f"  {name:<12}{figures[name, few]:>8.0f} us at {few:,}, {figures[name, many]:.0f} us at {many:,}: {times:.2f} times"
            )
        values.append(grown[RUNMGR.name] / grown[BARE.name])
    yield _claim("growth", f"growth of the time a run, {few:,} to {many:,}, over bare trio's", values, 1.0)


def tail(options: Options) -> Iterator[Claim]:
    """10,000 runs of three 1-second turns, all at once, beside a bare task a run, by the wall: with Python's collector set as our
    commands set it, which is what is claimed, and as Python sets it, which is told. Both contenders alike."""
    yield from _tail(options, 10_000, 1.2, 5)


def long_tail(options: Options) -> Iterator[Claim]:
    """The same with 100,000 runs, once."""
    yield from _tail(options, 100_000, 1.5, 1)


def _tail(options: Options, runs: int, most: float, rounds: int) -> Iterator[Claim]:
    n = max(500, int(runs * options.scale))
    for collector in ("commands", "default"):
        common = (
            "--mode",
            "tail",
            *THREE,
            "--runs",
            n,
            "--in-flight",
            n,
            "--collector",
            collector,
        )
        table = [
            {one.name: one.run(*common) for one in (RUNMGR, BARE)} for _ in range(min(rounds, options.rounds))
        ]
        for name in table[0]:
            wall = statistics.median(row[name]["wall_s"] for row in table)
            cpu = statistics.median(row[name]["cpu_us"] for row in table)
            print(f"  {n:>7,} {name:<12}{wall:>8.2f} s{cpu:>10,.0f} us CPU a run ({collector} collector)")
        values = [row[RUNMGR.name]["wall_s"] / row[BARE.name]["wall_s"] for row in table]
        if collector == "default":
            told = statistics.median(values)
            print(
                f"  {told:.2f} times ({min(values):.2f} to {max(values):.2f}), the collector as Python sets it"
            )
            continue
        yield _claim(
            "tail", f"{n:,} runs, 3 x 1 s, over bare trio (the collector as in runmgr batch)", values, most
        )


def http(options: Options) -> Iterator[Claim]:
    """A batch over HTTP to a fast local server, 200 at once: the client's CPU a run."""
    contenders = [HTTP, HTTP_H11, *([] if _missing(HTTP_PYDANTIC_AI) else [HTTP_PYDANTIC_AI])]
    server = ROOT / ".venv/bin/python"
    counts = {HTTP.name: 10_000, HTTP_H11.name: 10_000, HTTP_PYDANTIC_AI.name: 2_000}
    table = []
    for _ in range(options.rounds):
        row: dict[str, dict[str, Any]] = {}
        for one in contenders:
            n = max(1_000, int(counts[one.name] * options.scale))
            row[one.name] = one.run("--connections", 200, "--requests", n, "--python", server)
        table.append(row)
    for name in table[0]:
        print(f"  {name:<12}{statistics.median(row[name]['cpu_us'] for row in table):>8.0f} us CPU a run")
    errors = [float(sum(figures["errors"] for figures in row.values())) for row in table]
    yield _claim("http", "errors", errors, 0.0)
    if HTTP_PYDANTIC_AI in contenders:
        values = [row[HTTP.name]["cpu_us"] / row[HTTP_PYDANTIC_AI.name]["cpu_us"] for row in table]
        yield _claim("http", "CPU a run over Pydantic AI's", values, 1 / 3)
    values = [row[HTTP.name]["cpu_us"] / row[HTTP_H11.name]["cpu_us"] for row in table]
    yield _claim("http", "CPU a run over bare h11's", values, 2.5)


def history(options: Options) -> Iterator[Claim]:
    """CPU of one run of 50, 100 and 200 turns: the power of the turns that it grows with, by a fit; 1 is linear."""
    case = Contender("history", "cases/history_runs.py")
    table = [case.run() for _ in range(options.rounds)]
    for turns in (50, 100, 200):
        print(
            f"  {turns:>4} turns{statistics.median(row[f'us_{turns}'] for row in table) / turns:>8.1f} us a turn"
        )
    yield _claim("history", "power of the turns that CPU grows with", [row["power"] for row in table], 1.1)
    yield _claim(
        "history", "power of the turns that memory grows with", [row["memory_power"] for row in table], 1.1
    )


def imports(options: Options) -> Iterator[Claim]:
    """Milliseconds until ``import runmgr`` is done, and ``runmgr --help``; the start of Python itself is in them."""
    python = str(RUNMGR.python)

    def timed(*command: str) -> float:
        began = time.perf_counter()
        subprocess.run([python, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return (time.perf_counter() - began) * 1_000

    n = max(3, options.rounds)
    timed("-c", "import runmgr")
    yield _claim("imports", "ms, import runmgr", [timed("-c", "import runmgr") for _ in range(n)], 250.0)
    whole = "import runmgr; [getattr(runmgr, name) for name in ('Agent', 'open_supervisor')]"
    values = [timed("-c", whole) for _ in range(n)]
    print(f"  with Agent and open_supervisor looked up: {statistics.median(values):.0f} ms")
    yield _claim("imports", "ms, runmgr --help", [timed("-m", "runmgr", "--help") for _ in range(n)], 400.0)


def others(options: Options) -> Iterator[Claim]:
    """The benches with claims of their own: the number of those that did not hold."""
    for name in OTHERS:
        if (ROOT / "bench" / f"{name}.py").exists():
            yield from other(name)


def other(name: str) -> Iterator[Claim]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / f"{name}.py")], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")
    failed = float(sum(line.startswith("NOT MET") for line in done.stdout.splitlines()))
    yield _claim(
        "others", f"bench/{name}.py: claims that did not hold", [failed or float(bool(done.returncode))], 0.0
    )


SECTIONS: dict[str, Callable[[Options], Iterator[Claim]]] = {
    section.__name__: section
    for section in (overhead, extras, memory, growth, tail, long_tail, http, history, imports, others)
}


def table_of(claims: list[Claim]) -> str:
    """The claims as lines."""
    lines = [f"{'claim':<66}{'measured':>10}{'spread':>18}{'claimed':>12}"]
    for claim in claims:
        spread = f"{claim.low:,.2f} to {claim.high:,.2f}"
        limit = f"{'>=' if claim.at_least else '<='} {claim.claimed:,.2f}"
        lines.append(f"{claim.what:<66}{claim.median:>10,.2f}{spread:>18}{limit:>12}  {claim.verdict}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of runs")
    parser.add_argument("--only", help=f"sections, with commas: {', '.join(SECTIONS)}")
    parser.add_argument(
        "--short", action="store_true", help="counts instead of times: what `make test` holds"
    )
    options = parser.parse_args()
    if options.short:
        sys.exit(short())
    chosen = options.only.split(",") if options.only else list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    claims: list[Claim] = []
    for name in chosen:
        print(f"\n{name}: {SECTIONS[name].__doc__}", flush=True)
        for claim in SECTIONS[name](Options(options.rounds, options.scale)):
            claims.append(claim)
            print(f"  {claim.what}: {claim.median:,.2f} {claim.verdict}", flush=True)
    print("\n" + table_of(claims))
    path = save(
        "run",
        {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "rounds": options.rounds,
            "scale": options.scale,
            "claims": [{**asdict(claim), "verdict": claim.verdict} for claim in claims],
        },
    )
    print(f"\nwritten to {path}")
    sys.exit(any(claim.verdict == "BROKEN" for claim in claims))


if __name__ == "__main__":
    main()
