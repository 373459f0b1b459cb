"""Runs that have ended are freed as they are forgotten: what goes round in a cycle would wait for Python's collector, with all that it holds."""

import gc

import pytest

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, open_supervisor
from runmgr.models.function import FunctionModel


async def answer(messages, info):
    if len(messages) == 1:
        return ModelResponse([ToolCallPart("add", {"a": 1, "b": 2}, "c")])
    return ModelResponse([TextPart("3")])


async def add(a: int, b: int) -> int:
    return a + b


agent = Agent(FunctionModel(answer), tools=[add])


async def garbage(runs, journal, *, events):
    """How many objects only the collector finds, after so many runs."""
    gc.collect()
    gc.disable()
    try:
        async with open_supervisor(max_running=20, max_queued=20, journal=journal, remember=0) as supervisor:
            async with supervisor.subscribe() if events else supervisor.map(agent, []):
                async with supervisor.map(agent, map(str, range(runs))) as outcomes:
                    async for outcome in outcomes:
                        assert outcome.status == "succeeded", outcome.error
            del outcome
            return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("journal", [False, True])
async def test_runs_that_have_ended_leave_nothing_to_the_collector(tmp_path, journal, events):
    await garbage(10, tmp_path / "warm.sqlite" if journal else None, events=events)
    few, many = [
        await garbage(runs, tmp_path / f"{runs}.sqlite" if journal else None, events=events)
        for runs in (100, 500)
    ]
    assert many - few < 200, (few, many)
