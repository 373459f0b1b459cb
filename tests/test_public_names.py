"""What `import runmgr` promises."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import runmgr

SOURCE = Path(runmgr.__file__)


def test_every_public_name_is_there():
    for name in runmgr.__all__:
        assert getattr(runmgr, name) is not None


def test_type_checkers_and_the_table_agree():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name)
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(module, name) for name, module in runmgr._HOME.items()}
    assert sorted(runmgr.__all__) == sorted(runmgr._HOME)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Agnet"):
        runmgr.Agnet  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import runmgr, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"trio", "pydantic", "httpx2", "rich", "opentelemetry", "genai_prices"} & set(loaded)
