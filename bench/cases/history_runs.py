"""One run of 50, 100 and 200 turns, each with a tool call: CPU and memory, and the power of the turns that each grows with.

The model says what was used: a function model that has to estimate counts the words of the whole history at each turn.
"""

from __future__ import annotations

import math
import time
import tracemalloc

import trio

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, UsageLimits, open_supervisor
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.usage import RequestUsage

from common import report

TURNS = (50, 100, 200)
turns = 0


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    await trio.lowlevel.checkpoint()
    usage = RequestUsage(input_tokens=10, output_tokens=5)
    turn = len(messages) // 2
    if turn + 1 < turns:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn, "b": 1}, f"call_{turn}")], usage=usage)
    return ModelResponse(parts=[TextPart("the answer is 42")], usage=usage)


agent = Agent(FunctionModel(answer), name="bench")


@agent.tool_plain
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def drive(runs: int) -> None:
    limits = UsageLimits(request_limit=None)
    async with open_supervisor(max_running=1, limits=limits) as supervisor:
        async with supervisor.map(agent, ("go" for _ in range(runs))) as outcomes:
            async for outcome in outcomes:
                assert outcome.status == "succeeded", outcome.error


def power(values: list[float]) -> float:
    """The slope of a line through the logarithms, by least squares."""
    xs, ys = [math.log(n) for n in TURNS], [math.log(value) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def main() -> None:
    global turns
    figures: dict[str, float] = {}
    turns = 5
    trio.run(drive, 20)
    for turns in TURNS:
        best = math.inf
        for _ in range(5):
            began = time.process_time()
            trio.run(drive, 4)
            best = min(best, (time.process_time() - began) / 4)
        figures[f"us_{turns}"] = best * 1e6
    for turns in TURNS:
        tracemalloc.start()
        trio.run(drive, 1)
        figures[f"peak_{turns}"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    figures["power"] = power([figures[f"us_{n}"] for n in TURNS])
    figures["memory_power"] = power([figures[f"peak_{n}"] for n in TURNS])
    report(figures)


main()
