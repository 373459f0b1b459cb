"""What every bench shares: children in their own interpreters, taken in turn, and medians of ratios.

Each contender runs as a process of its own, in its own environment, and prints one JSON object. Contenders take turns
(A B C, A B C, ...), so that a machine that drifts drifts for all; a ratio is taken within a round, and the median over the
rounds is what counts. Nothing touches ``gc`` but ``--collector commands``, in all.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Contender:
    """A child program, the environment it runs in, and the name that the table shows."""

    name: str
    script: str
    environment: str = ".venv"

    @property
    def python(self) -> Path:
        return ROOT / self.environment / "bin" / "python"

    def available(self) -> bool:
        return self.python.exists()

    def run(self, *args: object) -> dict[str, Any]:
        """Run once; the child's last line of standard output is its result."""
        done = subprocess.run(
            [str(self.python), str(ROOT / "bench" / self.script), *map(str, args)],
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            text=True,
        )
        return json.loads(done.stdout.strip().splitlines()[-1])


RUNMGR = Contender("runmgr", "cases/runmgr_runs.py")
BARE = Contender("bare trio", "cases/bare_trio.py")
PYDANTIC_AI = Contender("pydantic-ai", "peers/pydantic_ai_runs.py", "bench/peers/.venv-pydantic-ai")
LANGGRAPH = Contender("langgraph", "peers/langgraph_runs.py", "bench/peers/.venv-langgraph")


def rounds(contenders: list[Contender], n: int, *args: object) -> list[dict[str, dict[str, Any]]]:
    """``n`` rounds; in each, every contender once, in order."""
    return [{one.name: one.run(*args) for one in contenders} for _ in range(n)]


def median(table: list[dict[str, dict[str, Any]]], name: str, figure: str) -> float:
    """The median of one contender's figure over the rounds."""
    return statistics.median(row[name][figure] for row in table)


def ratio(
    table: list[dict[str, dict[str, Any]]], over: str, under: str, figure: str
) -> tuple[float, float, float]:
    """Median, smallest and largest of ``over``/``under``, each taken within a round."""
    each = sorted(row[over][figure] / row[under][figure] for row in table)
    return statistics.median(each), each[0], each[-1]


def save(name: str, value: object) -> Path:
    """Write a bench's figures as JSON under ``bench/results``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return path


def finish(failed: list[str]) -> None:
    """Exit 1 and name the claims that did not hold; exit 0 where all did."""
    for line in failed:
        print(f"NOT MET: {line}")
    sys.exit(1 if failed else 0)
