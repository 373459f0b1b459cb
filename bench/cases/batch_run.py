"""One batch by ``runmgr batch``'s own command, in this process: sim model, two scorers, journal, results, summary, report."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from runmgr.cli import main

parser = argparse.ArgumentParser()
parser.add_argument("--runs", type=int, default=100_000)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    cases, out = Path(folder) / "cases.jsonl", Path(folder) / "out"
    with cases.open("w") as file:
        for i in range(args.runs):
            file.write(json.dumps({"prompt": f"What is {i} + 1? Answer briefly.", "target": "the"}) + "\n")
    command = [
        "runmgr",
        "batch",
        str(cases),
        "--model",
        "sim:",
        "--target-field",
        "target",
        "--scorer",
        "includes",
    ]
    sys.argv = [*command, "--scorer", "f1", "--out", str(out), "--quiet", "--max-running", "200"]
    began, cpu = time.perf_counter(), time.process_time()
    code = main()
    seconds, busy = time.perf_counter() - began, time.process_time() - cpu
    summary = json.loads((out / "summary.json").read_bytes())
    assert code == 0, code
    assert summary["succeeded"] == args.runs
    assert {name: score["n"] for name, score in summary["scores"].items()} == dict.fromkeys(
        ("includes", "f1"), args.runs
    )
    report = (out / "report.html").stat().st_size

print(
    json.dumps(
        {
            "runs": args.runs,
            "seconds": seconds,
            "runs_per_s": args.runs / seconds,
            "cpu_us": 1e6 * busy / args.runs,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "report_kb": report / 1024,
        }
    )
)
