"""One report and one view of a batch of many results, made up or given; prints the figures."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from runmgr.report.lines import ResultLine, encode_line

QUERIES = {
    "first page": {},
    "page 10,000": {"offset": 499_950},
    "slowest": {"sort": "seconds", "down": "1"},
    "by score": {"sort": "score f1"},
    "failed": {"status": "failed"},
    "wrong": {"scorer": "includes", "kind": "wrong"},
    "find a word": {"find": "99999"},
    "... next page": {"find": "99999", "offset": 10},
}


def write(directory: Path, runs: int) -> float:
    rng = random.Random(1)
    with (directory / "results.jsonl").open("wb") as file:
        for i in range(runs):
            at, ok = 1.7e9 + i / 500, rng.random() > 0.01
            line = ResultLine(
                index=i,
                run_id=f"{rng.getrandbits(64):016x}",
                status="succeeded" if ok else "failed",
                input=f"What is {i} + 1? Answer briefly, please.",
                output="the answer is " + "word " * rng.randint(5, 40) if ok else None,
                error=None if ok else {"type": "ModelHTTPError", "message": "status 500"},
                scores={"includes": float(rng.random() < 0.6), "f1": round(rng.random(), 3)} if ok else {},
                usage={"requests": 1, "input_tokens": 12, "output_tokens": 30},
                model="sim",
                queued_at=at,
                started_at=at + 0.1,
                finished_at=at + 0.1 + rng.expovariate(2),
            )
            file.write(encode_line(line))
    return (directory / "results.jsonl").stat().st_size / 1e6


def child(*words: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "runmgr", *words], text=True, **options)  # type: ignore[call-overload]


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def ask(url: str) -> tuple[dict[str, object], float]:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        data = json.loads(answer.read())
    return data, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--of", type=Path, help="a batch's directory, instead of results made up")
    options = parser.parse_args()
    figures: dict[str, object] = {"runs": options.runs}
    with tempfile.TemporaryDirectory() as folder:
        directory = options.of or Path(folder)
        if options.of is None:
            write(directory, options.runs)
        began = time.perf_counter()
        process = child("report", str(directory), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        figures["report_seconds"] = time.perf_counter() - began
        figures["report_rss_mb"] = used.ru_maxrss / 1024
        figures["report_mb"] = (directory / "report.html").stat().st_size / 1e6
        started = time.perf_counter()
        process = child("view", str(directory), "--port", "0", stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1].rstrip("/")
            figures["view_listens_seconds"] = time.perf_counter() - started
            _, first = ask(f"{url}/api/cases")
            while ask(f"{url}/api/summary")[0]["reading"] is not None:
                time.sleep(0.1)
            figures["view_first_page_ms"] = 1e3 * first
            figures["view_index_seconds"] = time.perf_counter() - started
            pages: dict[str, float] = {}
            for name, query in QUERIES.items():
                asked = f"{url}/api/cases?{urllib.parse.urlencode({'limit': 50, **query})}"
                pages[name] = 1e3 * (
                    ask(asked)[1]
                    if name == "find a word"
                    else statistics.median(ask(asked)[1] for _ in range(3))
                )
            run_id = ask(f"{url}/api/cases?limit=1&offset={options.runs // 2}")[0]["cases"][0]["run_id"]  # type: ignore[index]
            pages["a transcript"] = 1e3 * statistics.median(
                ask(f"{url}/api/run/{run_id}")[1] for _ in range(3)
            )
            pages["summary"] = 1e3 * statistics.median(ask(f"{url}/api/summary")[1] for _ in range(3))
            figures["pages_ms"] = pages
            figures["view_rss_mb"] = peak_mb(process.pid)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
