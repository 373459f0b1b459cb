"""What a request to a provider costs the client: CPU of whole ``OpenAIChatModel.request_once`` calls, message in to parts out.

Three claims, in one run, against a local server (epoll, one process) that answers after 200 ms:

1. 2,000 connections at once: no error, and at most 2.5 times the CPU of bare h11 on trio at 2,000.
2. It does not grow: at most 1.15 times our own CPU a request at 200 connections.
3. At most a quarter of the CPU of ``AsyncOpenAI`` at 500 at once.

Each contender is a process with a server of its own; ratios are taken within a round, and the median counts. The server must not be
what is measured: its share of a core is printed with each row, and a run in which it used nine tenths of one, or more CPU a request
than the client, does not count.

    python bench/http_client.py [--rounds N] [--scale X]
"""

from __future__ import annotations

import argparse
from typing import Any

from harness import ROOT, Contender, finish, median, ratio, save

OURS = Contender("runmgr", "cases/http_runmgr.py")
H11 = Contender("bare h11", "cases/http_bare_h11.py")
OPENAI = Contender("AsyncOpenAI", "peers/openai_http.py", "bench/peers/.venv-openai")
ROWS = [  # name, contender, connections, requests
    ("runmgr, 200", OURS, 200, 10_000),
    ("runmgr, 500", OURS, 500, 10_000),
    ("runmgr, 2000", OURS, 2_000, 20_000),
    ("bare h11, 200", H11, 200, 10_000),
    ("bare h11, 2000", H11, 2_000, 20_000),
    ("AsyncOpenAI, 500", OPENAI, 500, 3_000),
]
OVER_H11 = 2.5
OVER_OURSELVES = 1.15
UNDER_SDK = 0.25
SERVER_BUSY = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of requests")
    options = parser.parse_args()
    rows = [row for row in ROWS if row[1].available()]
    if len(rows) < len(ROWS):
        print("openai is not set up: run `make bench-http`, which installs it in an environment of its own")
    server = ROOT / ".venv/bin/python"

    def measured(one: Contender, connections: int, requests: int) -> dict[str, Any]:
        requests = max(5 * connections, int(requests * options.scale))  # fewer say nothing of a steady state
        return one.run("--connections", connections, "--requests", requests, "--python", server)

    table = [{name: measured(*row) for name, *row in rows} for _ in range(options.rounds)]
    failed: list[str] = []
    print(
        f"{'client, connections':<20}{'us CPU':>9}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}"
        f"{'client':>9}{'server':>9}{'server us':>11}"
    )
    for name in table[0]:
        errors = sum(row[name]["errors"] for row in table)
        busy, server_us = median(table, name, "server_busy"), median(table, name, "server_cpu_us")
        print(
            f"{name:<20}{median(table, name, 'cpu_us'):>9.0f}{median(table, name, 'requests_per_s'):>12,.0f}"
            f"{median(table, name, 'p50_ms'):>9.0f}{median(table, name, 'p99_ms'):>9.0f}{errors:>8}"
            f"{median(table, name, 'client_busy'):>9.0%}{busy:>9.0%}{server_us:>11.0f}"
        )
        if name.startswith("runmgr") and errors:
            failed.append(f"{name}: {errors} errors, claimed none")
        if busy > SERVER_BUSY or server_us > median(table, name, "cpu_us"):
            failed.append(f"{name}: the server was the limit ({busy:.0%} of a core), so nothing is shown")

    def claim(over: str, under: str, limit: float, what: str) -> None:
        if over not in table[0] or under not in table[0]:
            return
        middle, low, high = ratio(table, over, under, "cpu_us")
        print(f"{over} / {under}: {middle:.2f} ({low:.2f} to {high:.2f}), claimed at most {limit:g}")
        if middle > limit:
            failed.append(f"{what}: {middle:.2f}, claimed at most {limit:g}")

    print()
    claim("runmgr, 2000", "bare h11, 2000", OVER_H11, "over bare h11 at 2,000")
    claim("runmgr, 2000", "runmgr, 200", OVER_OURSELVES, "2,000 over 200 connections")
    claim("runmgr, 500", "AsyncOpenAI, 500", UNDER_SDK, "over AsyncOpenAI at 500")
    print(f"\nwritten to {save('http', table)}")
    finish(failed)


if __name__ == "__main__":
    main()
