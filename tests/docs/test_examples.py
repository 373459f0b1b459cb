"""Every program of the README and of docs/ runs as it stands, against the simulated server.

A fenced block marked ``python`` is a whole program; fragments are marked ``py`` and are not run. A program talks to
``openai:`` models through the usual environment variables, which here point at ``runmgr sim`` on loopback.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def programs():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), 1):
            yield pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{number}")
    for script in sorted((ROOT / "docs" / "examples").glob("*.py")):
        if not script.name.startswith("_") and "runmgr sim" not in script.read_text(encoding="utf-8"):
            yield pytest.param(script.read_text(encoding="utf-8"), id=str(script.relative_to(ROOT)))


@pytest.fixture(scope="module")
def simulated():
    command = [sys.executable, "-m", "runmgr", "sim", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield re.search(r"http://\S+", line)[0]
        process.terminate()
        process.stdout.read()


@pytest.mark.parametrize("program", list(programs()))
def test_program_runs(program, simulated, tmp_path):
    environment = {**os.environ, "OPENAI_BASE_URL": simulated, "OPENAI_API_KEY": "any-word"}
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
