"""Every command that the documentation shows does what it shows.

In ``console`` blocks, lines that start with ``$ runmgr``, ``$ python`` or ``$ pytest`` are run, page by page, in a
directory that holds what docs/examples/ holds and the page's own files (see test_examples). What follows a command is
output that must come, in this order, white space and lines between aside; ``...`` stands for anything. A comment
``# exit code N`` says how the command ends; without one it is 2 where an error of ``runmgr`` is shown, else 0. The
server that a page starts is the one that runs here. Other commands are for the reader.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"\$ (?:\w+=\S* )*(runmgr|python|pytest) ")
SERVER = "http://127.0.0.1:8000/v1"


@dataclass
class Command:
    line: str
    shown: list[str] = field(default_factory=list)


def commands(page: str) -> list[Command]:
    found: list[Command] = []
    for block in BLOCK.finditer(page):
        command = None
        for line in block[1].replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                command = Command(line) if RUN.match(line) else None
                if command is not None:
                    found.append(command)
            elif command is not None and line.strip():
                command.shown.append(line)
    return found


PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if commands(page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", PAGES)
def test_commands_do_what_they_show(name, launcher, simulated):
    place = launcher.workplace(f"commands of {name}")
    for match in FILE.finditer(PAGES[name]):
        (place / match[1]).write_text(match[2], encoding="utf-8")
    for number, command in enumerate(commands(PAGES[name])):
        text, _, comment = command.line.removeprefix("$ ").partition("  # ")
        words = shlex.split(text.replace(SERVER, simulated))
        if words[:2] == ["runmgr", "sim"] and words[-1] == "&":
            check_server(words[1:-1], place)
            continue
        environment: dict[str, str] = {}
        while "=" in words[0]:
            key, _, value = words.pop(0).partition("=")
            environment[key] = value
        stdin = None
        if "<" in words:
            at = words.index("<")
            stdin = str(place / words[at + 1])
            del words[at : at + 2]
        launcher.add(f"{name} {number}", words, place, stdin, environment)
        done = launcher.result(f"{name} {number}")
        code = re.search(r"exit code (\d+)", comment)
        expected = int(code[1]) if code else 2 if "runmgr: error:" in "\n".join(command.shown) else 0
        assert done.code == expected, f"{command.line}\n{done.output}"
        check_output(command, done.output.replace(simulated, SERVER))


def check_server(words: list[str], place: Path) -> None:
    words = [word for word in words if not re.fullmatch(r"--port=?\d*|8000", word)]
    command = [sys.executable, "-m", "runmgr", *words, "--port", "0"]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        line = process.stdout.readline()
        process.terminate()
        assert line.startswith("listening on http://"), line + process.stdout.read()


def check_output(command: Command, output: str) -> None:
    rest = " ".join(output.split())
    for line in command.shown:
        pieces = [re.escape(" ".join(piece.split())) for piece in line.split("...")]
        match = re.search(r"\s*.*?\s*".join(pieces), rest)
        assert match, f"{command.line}\nshows\n  {line}\nbut gives\n{output}"
        rest = rest[match.end() :]
