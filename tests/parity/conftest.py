"""Scenarios that run twice in one process: with Pydantic AI on asyncio, and, their imports replaced, with runmgr on trio.

A scenario is a function ``check_...(show)`` in ``scenarios/``: what it shows, returns and raises must read the same. It is
written for Pydantic AI, and translated as people translate their own programs: other imports, and trio for asyncio.
"""

import asyncio
import contextlib
import inspect
import re
import sys
import types
import warnings
from pathlib import Path

import pytest
import trio

SCENARIOS = Path(__file__).parent / "scenarios"
TRANSLATED = (
    (r"\bpydantic_graph\b", "runmgr.graph"),
    (r"\bpydantic_ai\b", "runmgr"),
    (r"\bimport asyncio\b", "import trio as asyncio"),
)
MASKS = (
    (r"(, )?timestamp=datetime\.datetime\((\([^)]*\)|[^()])*\)", ""),
    (r'"timestamp":\s*"[^"]*"', '"timestamp":"T"'),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r"pyd_ai_[0-9a-f]{32}", "ID"),
    (r" at 0x[0-9a-f]+", ""),
    (r"\bscenarios_(t?here)_\w+\.", ""),
    (r"\bpydantic_graph\b", "runmgr.graph"),
    (r"\bpydantic_ai\b", "runmgr"),
    (r"\brunmgr(\._?[a-z_]+)*\.(?=[A-Za-z_])", ""),
)


def plain(value):
    """Text that is the same for equal things of both libraries."""
    text = value if isinstance(value, str) else repr(value)
    for pattern, shown in MASKS:
        text = re.sub(pattern, shown, text)
    return text


def failure(error):
    """An exception and its causes, with the first part of its module's name."""
    shown = []
    while error is not None and len(shown) < 4:
        module = type(error).__module__.split(".")[0]
        module = "library" if module in {"pydantic_ai", "pydantic_graph", "runmgr"} else module
        shown.append(f"{module}.{type(error).__name__}: {plain(str(error))}")
        if isinstance(error, BaseExceptionGroup):
            shown += [failure(each) for each in error.exceptions]
        error = error.__cause__
    return " <= ".join(shown)


def load(name, *, translate):
    """The scenarios of a file by name, written or translated."""
    path = SCENARIOS / f"{name}.py"
    source = path.read_text()
    if translate:
        for pattern, instead in TRANSLATED:
            source = re.sub(pattern, instead, source)
    module = types.ModuleType(f"scenarios_{'there' if not translate else 'here'}_{name}")
    sys.modules[module.__name__] = module  # dataclasses and annotations look there
    exec(compile(source, str(path), "exec"), module.__dict__)
    return {key: value for key, value in vars(module).items() if key.startswith("check_")}


@contextlib.contextmanager
def event_loop():
    """The loop that Pydantic AI's synchronous forms find: closed here, since they would leave theirs to the collector."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.set_event_loop(None)


def run(scenario, *, on_trio):
    """What a scenario shows, and how it ends, as lines."""
    lines = []

    def show(*values):
        lines.append(" ".join(map(plain, values)))

    async def main():
        return await scenario(show)

    try:
        if not inspect.iscoroutinefunction(scenario):
            with contextlib.nullcontext() if on_trio else event_loop():
                returned = scenario(show)
        else:
            returned = trio.run(main) if on_trio else asyncio.run(main())
        if returned is not None:
            show(returned)
    except Exception as error:
        lines.append(f"raised {failure(error)}")
    return lines


def pytest_generate_tests(metafunc):
    if "scenario" in metafunc.fixturenames:
        found = [
            f"{path.stem}.{name}"
            for path in sorted(SCENARIOS.glob("*.py"))
            for name in re.findall(r"^(?:async )?def check_(\w+)\(show\)", path.read_text(), re.MULTILINE)
        ]
        metafunc.parametrize("scenario", found)


_loaded = {}


@pytest.fixture
def both(scenario):
    """What a scenario comes to with Pydantic AI, and with runmgr."""
    file, _, name = scenario.partition(".")
    results = []
    for translate in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pydantic AI's own, of generators it leaves to the garbage collector
            if (file, translate) not in _loaded:
                _loaded[file, translate] = load(file, translate=translate)
            results.append(run(_loaded[file, translate][f"check_{name}"], on_trio=translate))
    return results
