"""Threads of sync tools that outlive their timeout or their run are named in the outcome."""

import threading

import pytest
import trio

from runmgr.agent import Agent
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import open_supervisor
from runmgr.tools import tool_threads


@pytest.mark.parametrize("timeout", [0.05, None])
async def test_threads_left_behind_are_named(timeout):
    def model(messages, info):
        return ModelResponse([TextPart("done")] if len(messages) > 1 else [ToolCallPart("block", {})])

    begun, release = threading.Event(), threading.Event()
    agent = Agent(FunctionModel(model), tool_timeout=timeout)

    @agent.tool_plain
    def block() -> str:
        begun.set()
        release.wait(10)
        return "too late"

    tool_threads().grace = 0.05
    try:
        async with open_supervisor() as sup:
            handle = await sup.submit(agent, "?")
            await trio.to_thread.run_sync(begun.wait)
            if timeout is None:
                handle.cancel("enough")
            outcome = await handle.outcome()
            assert outcome.status == ("succeeded" if timeout else "cancelled")
            assert outcome.abandoned_threads == ("block",)
            if timeout:
                assert (await handle.result()).abandoned_threads == ("block",)
    finally:
        release.set()
