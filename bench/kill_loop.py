"""`kill -9` again and again: a batch of 1,319 questions with tools against a server that fails, killed at random moments.

Each life of `runmgr batch --resume` is killed after a random number of newly answered requests, by the server's own count.
At the end the results must be whole, and what the server answered in full may exceed what was needed by no more than what was
in flight at the kills: in work by the server's count, or answered in the 20 ms before.

    python bench/kill_loop.py --server SERVER.py --solutions SOLUTIONS.jsonl --input TEST.jsonl [--kills 50]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import ROOT, finish, save

MODEL = "175b_verification"
ANNOTATION = re.compile(r"<<([^=>]*)=([^>]*)>>")


def needed(solutions: Path, questions: set[str]) -> int:
    """Requests that the batch takes when nothing goes wrong: one for each calculation, and one for the text."""
    count = 0
    with solutions.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["question"].strip() in questions:
                count += len(ANNOTATION.findall(row[MODEL]["solution"])) + 1
    return count


def stats(base: str) -> dict[str, int]:
    host, port = base.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            data += connection.recv(65_536)
    return json.loads(data.partition(b"\r\n\r\n")[2])


def being_answered(seen: dict[str, int]) -> int:
    """Requests that the server is working on and will answer in full."""
    faults = sum(count for name, count in seen.items() if name.startswith("fault"))
    return seen["requests"] - seen.get("completed", 0) - faults - seen.get("limited", 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--solutions", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--max-running", type=int, default=50)
    parser.add_argument("--latency", type=float, default=0.4)
    parser.add_argument("--fault-rate", type=float, default=0.05)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--correct", type=int, default=742)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with options.input.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][: options.limit]
    need = needed(options.solutions, {row["question"].strip() for row in rows})
    server = subprocess.Popen(
        [sys.executable, options.server, "--solutions", options.solutions, "--latency", str(options.latency),
         "--fault-rate", str(options.fault_rate), "--seed", str(options.seed)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    began = time.monotonic()
    try:
        assert server.stdout is not None
        base = server.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as out:
            result = loop(options, rng, base, Path(out) / "batch", need)
            lines = (Path(out) / "batch" / "results.jsonl").read_text(encoding="utf-8").splitlines()
            summary = json.loads((Path(out) / "batch" / "summary.json").read_text(encoding="utf-8"))
    finally:
        server.kill()
        server.wait()
    ids = Counter(json.loads(line)["run_id"] for line in lines)
    correct = round(summary["scores"]["numeric"]["mean"] * summary["scores"]["numeric"]["n"])
    extra = result["answered"] - need
    result |= {
        "results": len(lines),
        "correct": correct,
        "needed": need,
        "extra": extra,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result, indent=2))
    failed: list[str] = []
    if len(ids) != len(rows) or max(ids.values()) != 1:
        failed.append(f"{len(rows)} results, each once: {len(ids)}, at most {max(ids.values())} times")
    if options.limit is None and correct != options.correct:
        failed.append(f"{options.correct} correct: {correct}")
    if extra > result["in_flight_at_kills"]:
        failed.append(
            f"extra answers {extra} over those in flight at the kills, {result['in_flight_at_kills']}"
        )
    print(f"written to {save('kill_loop', result)}")
    finish(failed)


def loop(
    options: argparse.Namespace, rng: random.Random, base: str, out: Path, need: int
) -> dict[str, object]:
    """Lives and kills."""
    command = [
        sys.executable, "-m", "runmgr", "batch", options.input, "--model", f"openai:{MODEL}", "--base-url", base,
        "--agent", "bench.cases.calculator_agent:agent", "--prompt-field", "question", "--target-field", "answer",
        "--target-extract", r"#### (.+)", "--extract", "A: (.+)", "--scorer", "numeric", "--max-running", options.max_running, "--out", out, "--resume",
        "--quiet",
    ]  # fmt: skip
    if options.limit is not None:
        command += ["--limit", options.limit]
    command = list(map(str, command))
    environment = {"OPENAI_API_KEY": "none", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    kills = in_flight = lives = 0
    most = 3 * need // (2 * options.kills)  # so that the kills are spread over the whole batch
    while True:
        lives += 1
        before = stats(base).get("completed", 0)
        print(f"life {lives}: {before} answered, {kills} kills", file=sys.stderr)
        child = subprocess.Popen(command, cwd=ROOT, env=environment)
        goal = before + rng.randint(1, most)
        earlier = seen = stats(base)
        while child.poll() is None:
            earlier, seen = seen, stats(base)
            if kills < options.kills and seen.get("completed", 0) >= goal:
                child.kill()
                # Answers come in bursts, and it is a burst that reaches the goal: what was answered since the last look, 20 ms
                # ago, is on the way to the client.
                after = stats(base)
                in_flight += being_answered(after) + after.get("completed", 0) - earlier.get("completed", 0)
                child.wait()
                kills += 1
                break
            time.sleep(0.02)
        else:
            if child.returncode not in {0, 1}:
                raise SystemExit(f"the batch ended with exit code {child.returncode}")
            break
        time.sleep(2 * options.latency)  # what was in flight comes to its end, and is counted by then
    return {
        "kills": kills,
        "lives": lives,
        "answered": stats(base)["completed"],
        "in_flight_at_kills": in_flight,
    }


if __name__ == "__main__":
    main()
