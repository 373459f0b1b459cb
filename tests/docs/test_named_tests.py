"""Tests that the documentation names are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[([^\]`]+)\])?`")
FOUND = {
    match[0].strip("`"): (page.name, *match.groups())
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for match in NAMED.finditer(page.read_text(encoding="utf-8"))
}


def test_there_are_some():
    assert len(FOUND) > 50


@pytest.mark.parametrize("named", FOUND)
def test_a_named_test_is_there(named):
    _, file, function, case = FOUND[named]
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert function in functions
    if case is not None:
        assert any(isinstance(node, ast.Constant) and node.value == case for node in ast.walk(tree))


def test_every_mistake_that_is_held_is_on_the_page():
    tree = ast.parse((ROOT / "tests/cli/test_mistakes.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MISTAKES"
    )
    held = {key.value for key in table.keys}
    assert held == {case for _, _, _, case in FOUND.values() if case is not None}
