"""The same scenario run with Pydantic AI 1.46 and with runmgr: what comes out must read the same."""

import asyncio
import importlib
import re
from types import SimpleNamespace

import pytest
import trio

MODULES = ("messages", "usage", "exceptions", "builtin_tools", "profiles", "models")
MODELS = ("test", "function", "wrapper", "fallback")


def library(package):
    names = {}
    for module in (*MODULES, *(f"models.{name}" for name in MODELS)):
        names.update(vars(importlib.import_module(f"{package}.{module}")))
    return SimpleNamespace(**names, library=package)


def plain(value):
    """Text that is the same for equal things of both libraries."""
    text = repr(value)
    text = re.sub(r"(, )?timestamp=datetime\.datetime\((\([^)]*\)|[^()])*\)", "", text)
    text = re.sub(r"pyd_ai_[0-9a-f]{32}", "ID", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"(pydantic_ai|runmgr)\.", "", text)


@pytest.fixture(scope="session")
def ours():
    return library("runmgr")


@pytest.fixture(scope="session")
def theirs():
    found = library("pydantic_ai")
    found.ToolDefinition = importlib.import_module("pydantic_ai.tools").ToolDefinition
    found.OutputObjectDefinition = importlib.import_module("pydantic_ai._output").OutputObjectDefinition
    return found


@pytest.fixture(scope="session")
def same(ours, theirs):
    """Calls an async scenario with each library, and compares. Returns what runmgr's gave."""

    def compare(scenario, *args):
        results = []
        for lib, run in ((theirs, lambda main: asyncio.run(main())), (ours, trio.run)):

            async def main(lib=lib):
                try:
                    return plain(await scenario(lib, *args))
                except Exception as error:
                    return f"{type(error).__name__}: {plain(str(error))}"

            results.append(run(main))
        assert results[1] == results[0]
        return results[1]

    return compare
