"""Whole runs through the public supervisor with ``FunctionModel``."""

from __future__ import annotations

import tempfile

import trio
import trio.testing

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, open_supervisor
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel

from common import Clock, arguments, memory_figures, report, rss_kib

args = arguments()
gate: trio.Event | None = None


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if gate is not None:
        await gate.wait()
    if args.mode == "tail":
        await trio.sleep(1)
    await trio.lowlevel.checkpoint()
    turn = len(messages) // 2
    if turn + 1 < args.turns:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn, "b": 1}, f"call_{turn}")])
    return ModelResponse(parts=[TextPart("the answer is 42")])


agent = Agent(FunctionModel(answer), name="bench")


@agent.tool_plain
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def many(runs: int, journal: str | None = None, max_running: int | None = None) -> None:
    async with open_supervisor(
        max_running=max_running or args.in_flight, max_queued=100, journal=journal
    ) as supervisor:
        async with supervisor.map(agent, (f"prompt {index}" for index in range(runs))) as outcomes:
            async for outcome in outcomes:
                assert outcome.status == "succeeded", outcome.error


async def flight() -> None:
    """All blocked at once: how long they take to start, what they hold, how long cancelling them as a whole takes."""
    before, began = rss_kib(), trio.current_time()
    async with open_supervisor(max_running=args.runs, max_queued=args.runs) as supervisor:
        handles = [await supervisor.submit(agent, f"prompt {index}") for index in range(args.runs)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        started, held = trio.current_time() - began - 0.05, rss_kib()
        began = trio.current_time()
        supervisor.cancel("the bench is over")
    cancelled = trio.current_time() - began
    assert all([(await handle.outcome()).status == "cancelled" for handle in handles])
    report({**memory_figures(before, held, args.runs), "submit_s": started, "cancel_s": cancelled})


async def main() -> None:
    global gate
    if args.mode == "flight":
        gate = trio.Event()
        await flight()
        return
    await many(200)
    if args.mode in {"rate", "tail"}:
        with tempfile.TemporaryDirectory() as directory:
            clock = Clock()
            await many(args.runs, f"{directory}/journal.sqlite" if args.journal else None)
            report(clock.figures(args.runs))
        return
    gate = trio.Event()
    before = rss_kib()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, args.runs, None, args.runs)
        await trio.testing.wait_all_tasks_blocked(0.05)
        report(memory_figures(before, rss_kib(), args.runs))
        gate.set()


trio.run(main)
