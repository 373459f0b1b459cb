"""The same runs by LangGraph's prebuilt agent under a semaphore: model, tools and the loop between them as its users write them."""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "cases"))

from common import Clock, arguments, memory_figures, report, rss_kib  # noqa: E402
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, BaseMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration, ChatResult  # noqa: E402
from langchain_core.tools import tool  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it has moved to a package of its own, which does the same
    from langgraph.prebuilt import create_react_agent

args = arguments()
gate: asyncio.Event | None = None
blocked = 0


class Model(BaseChatModel):
    """Answers as the other contenders' models do."""

    @property
    def _llm_type(self) -> str:
        return "bench"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *rest: Any, **options: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *rest: Any, **options: Any) -> ChatResult:
        global blocked
        if gate is not None:
            blocked += 1
            await gate.wait()
        await asyncio.sleep(0)
        turn = len(messages) // 2
        if turn + 1 < args.turns:
            call = {"name": "add", "args": {"a": turn, "b": 1}, "id": f"call_{turn}"}
            message = AIMessage("", tool_calls=[call])
        else:
            message = AIMessage("the answer is 42")
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    agent = create_react_agent(Model(), [add])


async def many(runs: int, in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)

    async def one(prompt: str) -> None:
        try:
            result = await agent.ainvoke({"messages": [("user", prompt)]})
            assert result["messages"][-1].content == "the answer is 42"
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for index in range(runs):
            await slots.acquire()
            group.create_task(one(f"prompt {index}"))


async def main() -> None:
    global gate
    await many(100, args.in_flight)
    if args.mode == "rate":
        clock = Clock()
        await many(args.runs, args.in_flight)
        report(clock.figures(args.runs))
        return
    gate = asyncio.Event()
    before = rss_kib()
    task = asyncio.create_task(many(args.runs, args.runs))
    while blocked < args.runs:
        await asyncio.sleep(0.05)
    report(memory_figures(before, rss_kib(), args.runs))
    gate.set()
    await task


asyncio.run(main())
