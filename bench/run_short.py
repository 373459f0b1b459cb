"""The short form of ``bench/run.py``: counts, which a busy machine does not disturb, against the numbers that they may not pass.

Bytecode instructions stand for time where time is too noisy to gate on. They are not time (what C does between two of them is not
seen), so the ceilings here are what was counted when the timed claims were last looked at, with a little room: they catch what is
added to every run without anybody noticing. Lower them when a count goes down.
"""

from __future__ import annotations

import json
import os
import sys

from harness import Contender, save

COUNTS = Contender("counts", "cases/counts.py")

CEILINGS: dict[str, float] = {
    "plain_1": 5_250,
    "plain_3": 8_850,
    "events_1": 6_150,
    "events_3": 10_350,
    "journal_1": 6_350,
    "journal_3": 11_600,
}
"""Instructions a run: single-turn and three-turn; with one subscriber; with a journal (the writer's thread is not counted, but how
often it is waited for is, and that is oftener where the machine is busy: up to 180 instructions)."""
WAITING_OBJECTS = 33.0
"""Objects that Python's collector looks at for each run that waits: its full collections take time in proportion."""
OTEL = 1.03
"""With OpenTelemetry's API and nothing that records, over without."""
OVER_BARE = 8.0
"""Over a bare task that does the same awaits."""
HISTORY = 1.05
"""Instructions a turn of a run of 100 turns over those of one of 25: 1 is linear."""
NEWER = 1.25
"""Other versions of Python have other instructions."""


def short() -> int:
    """Count, print the table, give the exit code."""
    os.environ["PYTHONHASHSEED"] = "0"  # the order of sets is the same each time
    figures = COUNTS.run()
    room = 1.0 if sys.version_info[:2] == (3, 11) else NEWER
    rows: list[tuple[str, float, float]] = [
        (f"instructions a run, {name}", figures[name], most * room) for name, most in CEILINGS.items()
    ]
    rows.append(("objects the collector tracks, a waiting run", figures["waiting_objects"], WAITING_OBJECTS))
    for turns in (1, 3):
        otel = figures[f"otel_{turns}"] / figures[f"plain_{turns}"]
        rows.append((f"OpenTelemetry's API over none, {turns} turn(s)", otel, OTEL))
        bare = figures[f"plain_{turns}"] / figures[f"bare_{turns}"]
        rows.append((f"over a bare task, {turns} turn(s)", bare, OVER_BARE))
    linear = figures["history_100"] / figures["history_25"] / 4
    rows.append(("a turn of 100 over a turn of 25", linear, HISTORY))
    for what, value, most in rows:
        print(
            f"{what:<48}{value:>12,.2f}{'at most':>10}{most:>12,.2f}  {'holds' if value <= most else 'BROKEN'}"
        )
    print(f"written to {save('short', json.loads(json.dumps(figures)))}")
    return int(any(value > most for _, value, most in rows))
