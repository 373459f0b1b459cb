"""What the clients of ``bench/http_client.py`` share: arguments, the server to talk to, and figures. Standard library only."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPT = [
    {"role": "system", "content": "You are a careful assistant. " * 4},
    {"role": "user", "content": "How many eggs does Janet sell at the market every day? " * 4},
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--requests", type=int, default=4_000, help="measured ones, over all connections")
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--python", default=sys.executable, help="what runs the server")
    return parser.parse_args()


class Server:
    """The server in a process of its own, and the client's figures while it is measured."""

    def __init__(self, delay: float, python: str) -> None:
        self.process = subprocess.Popen(
            [python, str(Path(__file__).parent / "http_server.py"), "--delay", str(delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._read()["port"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word)
        self.process.stdin.flush()

    def start(self) -> None:
        """Measure from here: every connection is open and has been used."""
        self._tell("start")
        time.sleep(0.05)
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def stop(self, requests: int, errors: int, latencies: list[float]) -> None:
        """Print the figures and end the server."""
        wall, cpu = time.perf_counter() - self.wall, cpu_seconds() - self.cpu
        self._tell("stop")
        server = self._read()
        self.process.communicate("")
        latencies.sort()
        print(
            json.dumps({
                "requests": requests,
                "errors": errors,
                "wall_s": wall,
                "requests_per_s": requests / wall,
                "cpu_us": cpu / requests * 1e6,
                "client_busy": cpu / wall,
                "p50_ms": latencies[len(latencies) // 2] * 1e3,
                "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
                "server_cpu_us": server["cpu_us"],
                "server_busy": server["busy"],
                "server_late_p99_ms": server["late_p99_ms"],
            })
        )  # fmt: skip


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
