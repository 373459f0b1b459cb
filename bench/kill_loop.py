"""`kill -9` again and again: a batch of 1,319 questions with tools against a server that fails, killed at random moments.

Each life of `runmgr batch --resume` is killed after a random number of newly answered requests, by the server's own count.
At the end the results must be whole, and what the server answered in full may exceed what was needed by no more than what was
in flight at the kills: by what had been asked for and was not yet in the journal, one answer a place at most. Where it was is told,
of one instant, for which the process is stopped and then killed where it stands: ``in_work`` by the server's own count;
``unread``, in the kernel's buffers on the way to the client or the server; ``uncommitted``, read by the client less than a commit ago.

    python bench/kill_loop.py --server SERVER.py --solutions SOLUTIONS.jsonl --input TEST.jsonl [--kills 50]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
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


def in_buffers(base: str) -> tuple[int, int]:
    """Answers that lie in the kernel's buffers of the client's connections, and requests that lie in those of the server's."""
    port = int(base.removesuffix("/v1").rpartition(":")[2])
    answers = requests = 0
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if int(queues.rpartition(":")[2], 16):
            answers += int(remote.rpartition(":")[2], 16) == port
            requests += int(local.rpartition(":")[2], 16) == port
    return answers, requests


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
    failed: list[str] = []
    if len(ids) != len(rows) or max(ids.values()) != 1:
        failed.append(f"{len(rows)} results, each once: {len(ids)}, at most {max(ids.values())} times")
    if options.limit is None and correct != options.correct:
        failed.append(f"{options.correct} correct: {correct}")
    result["uncommitted"] = extra - result["in_work"] - result["unread"]
    result["bound"] = result["kills"] * options.max_running
    if extra > result["bound"]:
        failed.append(
            f"{extra} extra answers, of {options.max_running} places at {result['kills']} kills: more than one answer a place"
        )
    if result["uncommitted"] > result["bound"] // 4:
        failed.append(f"{result['uncommitted']} of them had been read: more than one in four places a kill")
    print(json.dumps(result, indent=2))
    print(
        f"{extra} answers beyond the {need} needed, in flight to the client at {result['kills']} kills: sent, and their answers not yet in the "
        f"journal.\n  {result['in_work']} in work at the server, by its own count\n  {result['unread']} answered, in the kernel's buffers\n"
        f"  {result['uncommitted']} read, and not committed\nThe bound is one a place: {result['kills']} kills x {options.max_running} places = {result['bound']}"
    )
    print(f"written to {save('kill_loop', result)}")
    finish(failed)


def loop(options: argparse.Namespace, rng: random.Random, base: str, out: Path, need: int) -> dict[str, int]:
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
    kills = in_work = unread = lives = 0
    most = 3 * need // (2 * options.kills)  # so that the kills are spread over the whole batch
    while True:
        lives += 1
        before = stats(base).get("completed", 0)
        print(f"life {lives}: {before} answered, {kills} kills", file=sys.stderr)
        child = subprocess.Popen(command, cwd=ROOT, env=environment)
        goal = before + rng.randint(1, most)
        while child.poll() is None:
            if kills < options.kills and stats(base).get("completed", 0) >= goal:
                child.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
                answers, requests = in_buffers(base)  # first: what is answered in between counts in neither
                seen = stats(base)
                child.kill()
                child.wait()
                in_work += being_answered(seen)
                unread += answers + requests
                kills += 1
                break
            time.sleep(0.01)
        else:
            if child.returncode not in {0, 1}:
                raise SystemExit(f"the batch ended with exit code {child.returncode}")
            break
        time.sleep(2 * options.latency)  # what was in flight comes to its end, and is counted by then
    return {
        "kills": kills,
        "lives": lives,
        "answered": stats(base)["completed"],
        "in_work": in_work,
        "unread": unread,
    }


if __name__ == "__main__":
    main()
