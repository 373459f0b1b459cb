"""Every program of the README, of docs/ and of docs/examples/ runs as it stands, with warnings as errors.

A fenced block marked ``python`` is a whole program; fragments are marked ``py`` and are not run. A block marked
``python file=NAME`` is a file that the programs and commands of its page find beside them. A program talks to
``openai:`` models through the usual environment variables, which here point at ``runmgr sim`` on loopback.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}


def programs():
    for page, text in PAGES.items():
        for number, match in enumerate(BLOCK.finditer(text), 1):
            yield f"{page}:{number}", match[1], text
    for script in sorted((ROOT / "docs" / "examples").glob("*.py")):
        text = script.read_text(encoding="utf-8")
        if "runmgr sim" not in text:  # it starts a server of its own
            yield str(script.relative_to(ROOT)), text, ""


AHEAD = 3
PROGRAMS = {name: (program, page) for name, program, page in programs()}


@pytest.fixture(scope="module")
def run(launcher, request):
    """Gives a program's end; those that are asked for next are then on their way."""
    asked = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.module is request.module and item.originalname == "test_program_runs"
    ]
    begun = set()

    def begin(name):
        begun.add(name)
        program, page = PROGRAMS[name]
        place = launcher.workplace(name)
        for match in FILE.finditer(page):
            (place / match[1]).write_text(match[2], encoding="utf-8")
        (place / "program.py").write_text(program, encoding="utf-8")
        launcher.add(name, ["python", "program.py"], place)

    def run(name):
        for each in asked[asked.index(name) :][:AHEAD]:  # not all: another process may run the rest
            if each not in begun:
                begin(each)
        return launcher.result(name)

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_runs(name, run):
    done = run(name)
    assert done.code == 0, done.output
    assert "Exception ignored" not in done.output, done.output
