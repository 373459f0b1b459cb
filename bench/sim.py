"""CPU that ``runmgr sim`` spends on an instant 16-token stream, beside Starlette on hypercorn's trio worker.

    python bench/sim.py [--requests N]

Claim: no more than half of theirs. Processor time of the server's process, so that a busy machine changes little. Linux only.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import ROOT, finish, save

PYTHON = str(ROOT / ".venv" / "bin" / "python")
SERVERS = {"runmgr sim": ["-m", "runmgr", "sim", "--port"], "starlette": ["bench/cases/sim_starlette.py"]}


def load(url: str, requests: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        words = f"-m runmgr load --base-url {url} --model openai:m --concurrency 16 --requests {requests} -q --out {out}"
        subprocess.run([PYTHON, *words.split()], check=True, cwd=ROOT)


def spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def microseconds(words: list[str], requests: int) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([PYTHON, *words, str(port)], stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        load(f"http://127.0.0.1:{port}/v1", 200)
        before = spent(process.pid)
        load(f"http://127.0.0.1:{port}/v1", requests)
        return (spent(process.pid) - before) / requests * 1e6
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    found = {name: microseconds(words, options.requests) for name, words in SERVERS.items()}
    for name, value in found.items():
        print(f"{name:<12}{value:>8,.0f} us of CPU a request")
    print(f"written to {save('sim', found)}")
    over = found["runmgr sim"] > found["starlette"] / 2
    finish(["more than half of Starlette's"] if over else [])


if __name__ == "__main__":
    sys.exit(main())
