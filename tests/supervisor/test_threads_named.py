"""A sync tool's thread that outlives its run is named in the outcome."""

from __future__ import annotations

import threading

import trio

from runmgr.agent import Agent
from runmgr.messages import ModelResponse, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import open_supervisor
from runmgr.tools.threads import tool_threads


async def test_an_abandoned_thread_is_in_the_outcome():
    begun, release = threading.Event(), threading.Event()

    async def answer(messages, info):
        return ModelResponse(parts=[ToolCallPart("stubborn", {}, "c")])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    def stubborn() -> str:
        begun.set()
        release.wait(20)
        return "too late"

    tool_threads().grace = 0.05
    try:
        async with open_supervisor() as sup:
            handle = await sup.submit(agent, "go")
            while not begun.is_set():
                await trio.sleep(0.01)
            handle.cancel("enough")
            outcome = await handle.outcome()
        assert outcome.status == "cancelled"
        assert outcome.abandoned_threads == ("stubborn",)
    finally:
        release.set()
