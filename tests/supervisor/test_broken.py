"""A bug in runmgr itself ends the program, whoever waits for what."""

import pytest
import trio

from runmgr import Agent, open_supervisor
from runmgr.exceptions import RunmgrError
from runmgr.models.test import TestModel
from runmgr.supervisor.runtime import Runtime


def planted(self, *args, **kwargs):
    raise AttributeError("planted")


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_does_not_wait_for_runs_that_nobody_can_end(
    ordered, monkeypatch, autojump_clock, tmp_path
):
    monkeypatch.setattr(Runtime, "finish", planted)
    with trio.fail_after(60), pytest.raises(RunmgrError, match="internal error.*planted"):
        async with open_supervisor(max_running=2, journal=tmp_path / "runs.sqlite") as supervisor:
            async with supervisor.map(Agent(TestModel()), ["a", "b", "c"], ordered=ordered) as outcomes:
                async for _ in outcomes:
                    pass


async def test_a_handle_does_not_wait_either(monkeypatch, autojump_clock):
    monkeypatch.setattr(Runtime, "finish", planted)
    with trio.fail_after(60), pytest.raises(RunmgrError, match="internal error.*planted"):
        async with open_supervisor(max_running=1) as supervisor:
            await (await supervisor.submit(Agent(TestModel()), "a")).outcome()
