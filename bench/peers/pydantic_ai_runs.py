"""The same runs by Pydantic AI under a semaphore: what its users write today."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "cases"))

from common import Clock, arguments, memory_figures, report, rss_kib  # noqa: E402
from pydantic_ai import Agent  # noqa: E402
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart  # noqa: E402
from pydantic_ai.models.function import AgentInfo, FunctionModel  # noqa: E402

args = arguments()
gate: asyncio.Event | None = None
blocked = 0


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    global blocked
    if gate is not None:
        blocked += 1
        await gate.wait()
    await asyncio.sleep(0)
    turn = len(messages) // 2
    if turn + 1 < args.turns:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn, "b": 1}, f"call_{turn}")])
    return ModelResponse(parts=[TextPart("the answer is 42")])


agent = Agent(FunctionModel(answer), name="bench")


@agent.tool_plain
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def many(runs: int, in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)

    async def one(prompt: str) -> None:
        try:
            result = await agent.run(prompt)
            assert result.output == "the answer is 42"
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for index in range(runs):
            await slots.acquire()
            group.create_task(one(f"prompt {index}"))


async def main() -> None:
    global gate
    await many(200, args.in_flight)
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
