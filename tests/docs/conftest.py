"""What runs the programs and commands of the documentation."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
AT_ONCE = 4
SECONDS = 60


@dataclass
class Done:
    """How a program ended, and what it wrote to stdout and stderr."""

    code: int
    output: str


class Launcher:
    """Runs jobs in forks of one interpreter that has imported everything; a few at once, where they are known before."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._ahead: list[str] = []
        self._waiting: dict[str, dict] = {}
        self._running: set[str] = set()
        self._codes: dict[str, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("launcher.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.wait()
        self._process.stdout.close()

    def workplace(self, name: str) -> Path:
        """A directory for one program, with the files of docs/examples in it."""
        place = self.folder / re.sub(r"\W+", "-", name)
        if not place.exists():
            shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("__pycache__"))
        return place

    def add(
        self,
        name: str,
        words: list[str],
        place: Path,
        stdin: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Have a program run, soon."""
        self._waiting[name] = {
            "id": name,
            "words": words,
            "cwd": str(place),
            "output": str(self.folder / f"{len(self._waiting)}-{len(self._codes)}.out"),
            "stdin": stdin,
            "environment": environment or {},
            "timeout": SECONDS,
        }
        self._ahead.append(name)

    def result(self, name: str) -> Done:
        """Wait for a program that was added."""
        if name in self._ahead:
            self._ahead.remove(name)
            self._ahead.insert(0, name)
        while True:
            while self._ahead and len(self._running) < AT_ONCE:
                job = self._ahead.pop(0)
                self._running.add(job)
                self._process.stdin.write(json.dumps(self._waiting[job]) + "\n")
            if name in self._codes:
                output = Path(self._waiting[name]["output"]).read_text(encoding="utf-8", errors="replace")
                return Done(self._codes[name], output)
            ended = json.loads(self._process.stdout.readline())
            self._running.discard(ended["id"])
            self._codes[ended["id"]] = ended["code"]


@pytest.fixture(scope="session")
def simulated():
    """The base URL of ``runmgr sim``, whose model calls one tool before it answers, where it is offered some."""
    answers = str(EXAMPLES / "questions.jsonl")
    command = [sys.executable, "-m", "runmgr", "sim", "--port", "0", "--calls", "1", "--answers", answers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield re.search(r"http://\S+", line)[0]
        process.terminate()
        process.stdout.read()


@pytest.fixture(scope="session")
def launcher(simulated, tmp_path_factory):
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": simulated,
        "OPENAI_API_KEY": "any-word",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    launcher = Launcher(tmp_path_factory.mktemp("docs"), environment)
    yield launcher
    launcher.close()
