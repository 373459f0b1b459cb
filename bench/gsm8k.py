"""GSM8K, ten epochs, against a local server: who is the bottleneck? CPU seconds of both sides, and the server's own bound.

Twice: with a server that takes 200 ms an answer, quick for a model; there 200 at once are bound by it, whoever asks. And with one that answers at
once, which no provider does: there both sides are only CPU, and the server, which looks recorded answers up, needs less of it than
runmgr, which renders, sends, journals, scores and writes results.

    python bench/gsm8k.py --server FILE --solutions FILE --input FILE [--epochs N] [--rounds N]
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import finish, save

RUNNING = 200
LATENCIES = (0.2, 0.0)
CLAIM_OF_BOUND = 0.85
"""Share of the server's bound (200 at once, 200 ms each) that a batch reaches, its beginning and end included."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def once(options: argparse.Namespace, latency: float) -> dict[str, float]:
    server = subprocess.Popen(
        [sys.executable, options.server, "--solutions", options.solutions, "--latency", str(latency)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            words = ["--prompt-field", "question", "--target-field", "answer", "--scorer", "numeric"]
            words += ["--extract", "A: ?(-?[0-9.,]+)", "--target-extract", "#### (-?[0-9.,]+)"]
            words += [
                "--epochs",
                str(options.epochs),
                "--max-running",
                "200",
                "--out",
                folder + "/out",
                "--quiet",
            ]
            before, began = cpu_seconds(server.pid), time.perf_counter()
            client = subprocess.Popen(
                [
                    *(sys.executable, "-m", "runmgr", "batch", str(Path(options.input).resolve())),
                    *("--model", "openai:175b_verification", "--base-url", url, *words),
                ],
                cwd=folder,
                env={**os.environ, "OPENAI_API_KEY": "none"},
            )
            _, status, used = os.wait4(client.pid, 0)
            client.returncode = status
            wall = time.perf_counter() - began
            assert status == 0, status
            summary = json.loads(Path(folder, "out", "summary.json").read_text())
        runs = summary["succeeded"]
        assert abs(summary["scores"]["numeric"]["mean"] - 742 / 1319) < 1e-9
        return {
            "runs": runs,
            "bound": runs * latency / RUNNING,
            "seconds": wall,
            "sending_seconds": summary["wall_seconds"],
            "server_cpu": cpu_seconds(server.pid) - before,
            "client_cpu": used.ru_utime + used.ru_stime,
            "client_rss_mb": used.ru_maxrss / 1024,
        }
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("server", "solutions", "input"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # as an installer does: where PYTHONDONTWRITEBYTECODE is set, each start would compile what was edited last
    compileall.compile_dir(Path(__file__).parent.parent / "runmgr", quiet=1)
    figures: dict[str, list[dict[str, float]]] = {}
    failed: list[str] = []
    for latency in LATENCIES:
        rounds = figures[f"latency={latency}"] = [once(options, latency) for _ in range(options.rounds)]

        def middle(name: str, rounds: list[dict[str, float]] = rounds) -> float:
            return statistics.median(each[name] for each in rounds)

        runs, sending = middle("runs"), middle("sending_seconds")
        print(
            f"\nGSM8K x {options.epochs}, the server takes {1e3 * latency:.0f} ms: {runs:,.0f} runs ({options.rounds} rounds)"
        )
        print(
            f"  {middle('seconds'):.1f} s in all, {sending:.1f} s from first to last request, {runs / sending:,.0f} runs/s"
            + (f"; the server's bound is {middle('bound'):.1f} s" if latency else "")
        )
        for name in ("server", "client"):
            cpu = middle(f"{name}_cpu")
            print(
                f"  {name}  {cpu:6.1f} s CPU  {1e6 * cpu / runs:6,.0f} us a run  {cpu / middle('seconds'):5.0%} of a core"
            )
        print(f"  client  {middle('client_rss_mb'):.0f} MB RSS")
        if latency and middle("bound") / sending < CLAIM_OF_BOUND:
            failed.append(
                f"{middle('bound') / sending:.0%} of the server's bound, claimed at least {CLAIM_OF_BOUND:.0%}"
            )
    print(f"\nwritten to {save('gsm8k', figures)}")
    finish(failed)


if __name__ == "__main__":
    main()
