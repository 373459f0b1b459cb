"""Whole runs through the public supervisor with ``FunctionModel``."""

from __future__ import annotations

import tempfile
import time
from random import Random

import trio
import trio.testing
from cpu_clock import CpuClock

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, UsageLimits, open_supervisor
from runmgr.concurrency import Timers, open_timers
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.supervisor import Supervisor
from runmgr.usage import RequestUsage

from common import Clock, arguments, deepest, memory_figures, report, rss_kib, set_collector

args = arguments()
gate: trio.Event | None = None
timers: Timers | None = None


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


async def answer_for_ever(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A provider that takes a second, says what was used, and always wants the tool: one shared timer and no work of its own, so
    that the load is the supervisor's and not the model's."""
    assert timers is not None
    await timers.sleep(1)
    usage = RequestUsage(input_tokens=10, output_tokens=5)
    return ModelResponse(parts=[ToolCallPart("add", {"a": 1, "b": 1}, f"call_{len(messages)}")], usage=usage)


agent = Agent(
    FunctionModel(answer_for_ever if args.mode == "cancel" else answer),
    name="bench",
    instrument=True if args.otel else None,
)


@agent.tool_plain
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def look(supervisor: Supervisor, started: trio.Event) -> None:
    """A subscriber that reads everything."""
    async with supervisor.subscribe() as events:
        started.set()
        async for _ in events:
            pass


async def many(runs: int, journal: str | None = None, max_running: int | None = None) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(
            max_running=max_running or args.in_flight, max_queued=100, journal=journal
        ) as supervisor,
    ):
        if args.events:
            started = trio.Event()
            nursery.start_soon(look, supervisor, started)
            await started.wait()
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
        depth = deepest(supervisor._runtime.actors.child_tasks)
        clock = Clock()
        supervisor.cancel("the bench is over")
    ended = clock.figures(args.runs)
    assert all([(await handle.outcome()).status == "cancelled" for handle in handles])
    report(
        {
            **memory_figures(before, held, args.runs),
            "submit_s": started,
            "cancel_s": ended["wall_s"],
            "cancel_cpu_us": ended["cpu_us"],
            "depth": depth,
        }
    )


async def growth() -> None:
    """All in flight at once, then let go: CPU of their whole lives, from submission to outcome."""
    assert gate is not None
    clock = Clock()
    async with open_supervisor(max_running=args.runs, max_queued=args.runs) as supervisor:
        handles = [await supervisor.submit(agent, f"prompt {index}") for index in range(args.runs)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
    figures = clock.figures(args.runs)
    assert all([(await handle.outcome()).status == "succeeded" for handle in handles])
    report(figures)


async def cancel() -> None:
    """One of many is cancelled, again and again, while the turns of all others go on: how long until its outcome is there."""
    random = Random(0)
    times: list[float] = []
    limits = UsageLimits(request_limit=None)
    global timers
    async with (
        open_timers() as timers,
        open_supervisor(max_running=args.runs, max_queued=args.runs, limits=limits) as supervisor,
    ):
        handles = [await supervisor.submit(agent, f"prompt {index}") for index in range(args.runs)]
        await trio.sleep(2)
        clock, requests = Clock(), supervisor.usage().requests
        for handle in random.sample(handles, 100):
            await trio.sleep(random.uniform(0, 0.1))
            began = time.perf_counter()
            handle.cancel("the bench wants it")
            assert (await handle.outcome()).status == "cancelled"
            times.append((time.perf_counter() - began) * 1_000)
        turns = supervisor.usage().requests - requests
        wall = clock.figures(args.runs)["wall_s"]
        supervisor.cancel()
    times.sort()
    report(
        {
            "runs": args.runs,
            "turns_per_s": turns / wall,
            "p50_ms": times[50],
            "p90_ms": times[90],
            "max_ms": times[-1],
        }
    )


async def main() -> None:
    global gate
    if args.mode == "cancel":
        await cancel()
        return
    if args.mode in {"flight", "growth"}:
        gate = trio.Event()
        await (flight() if args.mode == "flight" else growth())
        return
    if args.mode in {"rate", "tail"}:
        with tempfile.TemporaryDirectory() as directory:
            # What is measured is warm, the journal with its imports as much as all else.
            await many(200, f"{directory}/warm.sqlite" if args.journal else None)
            clock = Clock(trio.current_time)
            await many(args.runs, f"{directory}/journal.sqlite" if args.journal else None)
            report(clock.figures(args.runs))
        return
    await many(200)
    gate = trio.Event()
    before = rss_kib()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, args.runs, None, args.runs)
        await trio.testing.wait_all_tasks_blocked(0.05)
        report(memory_figures(before, rss_kib(), args.runs))
        gate.set()


set_collector(args)
trio.run(main, clock=CpuClock() if args.clock == "cpu" else None)
