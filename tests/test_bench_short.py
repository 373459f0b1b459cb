"""The short form of the benches: what a run costs, in counts that a busy machine does not change."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HERE = (sys.implementation.name, *sys.version_info[:2], sys.platform)
COUNTED_ON = ("cpython", 3, 11, "linux")
"""Another version compiles the same code into other instructions, and trio waits in another way on another system."""


@pytest.mark.skipif(
    HERE != COUNTED_ON,
    reason=f"its ceilings were counted on {COUNTED_ON}, and instructions on {HERE} are others",
)
def test_no_run_costs_more_instructions_or_objects_than_it_may():
    done = subprocess.run(
        [sys.executable, "bench/run.py", "--short"], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout


def test_a_passed_ceiling_is_an_exit_code(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'bench'); import run_short; "
        "run_short.COUNTS = type('Fake', (), {'run': staticmethod(lambda: dict.fromkeys("
        "[*run_short.CEILINGS, 'waiting_objects', *(f'{name}_{turns}' for name in ('otel', 'bare') for turns in (1, 3)), "
        "'history_25', 'history_100'], 9_999.0))}); run_short.save = lambda name, value: name; "
        "sys.exit(run_short.short())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
