"""A bare trio task per run that does the same awaits: one checkpoint a model request, one await a tool, a limit on running."""

from __future__ import annotations

import math

import trio
import trio.testing
from cpu_clock import CpuClock

from common import Clock, arguments, deepest, memory_figures, report, rss_kib, set_collector

args = arguments()


async def tool(a: int, b: int) -> int:
    return a + b


async def model(messages: list[str], gate: trio.Event | None) -> str:
    if gate is not None:
        await gate.wait()
    if args.mode == "tail":
        await trio.sleep(1)
    await trio.lowlevel.checkpoint()
    return f"answer {len(messages)}"


async def run(
    prompt: str,
    send: trio.MemorySendChannel[list[str]],
    slots: trio.Semaphore | None,
    gate: trio.Event | None,
) -> None:
    messages = [prompt]
    for turn in range(args.turns):
        messages.append(await model(messages, gate))
        if turn + 1 < args.turns:
            messages.append(str(await tool(turn, 1)))
    if slots is not None:
        slots.release()
    await send.send(messages)


async def many(runs: int, gate: trio.Event | None = None, in_flight: int | None = None) -> None:
    send, receive = trio.open_memory_channel[list[str]](math.inf)
    slots = None if in_flight is None else trio.Semaphore(in_flight)
    async with trio.open_nursery() as nursery:
        for index in range(runs):
            if slots is not None:
                await slots.acquire()
            nursery.start_soon(run, f"prompt {index}", send, slots, gate)
    for _ in range(runs):
        receive.receive_nowait()


async def growth() -> None:
    """All in flight at once, then let go: CPU of their whole lives."""
    gate = trio.Event()
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, args.runs, gate)
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
    report(clock.figures(args.runs))


DEPTH = 1
"""Coroutines of `nested`, so that a task is as many awaits deep as one of runmgr's: the bench compares the two."""


async def nested(gate: trio.Event, depth: int = DEPTH) -> None:
    """A task as deep as a run is: a scope of its own, the awaits, and what it leaves when it ends."""
    if depth > 1:
        await nested(gate, depth - 1)
        return
    with trio.CancelScope():
        await run("prompt", trio.open_memory_channel[list[str]](1)[0], None, gate)


async def flight() -> None:
    """All blocked at once: how long they take to start, what they hold, how long cancelling them as a whole takes."""
    gate = trio.Event()
    before, began = rss_kib(), trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(args.runs):
            nursery.start_soon(nested, gate)
        await trio.testing.wait_all_tasks_blocked()
        started, held = trio.current_time() - began, rss_kib()
        depth = deepest(nursery.child_tasks)
        clock = Clock()
        nursery.cancel_scope.cancel()
    ended = clock.figures(args.runs)
    report(
        {
            **memory_figures(before, held, args.runs),
            "submit_s": started,
            "cancel_s": ended["wall_s"],
            "cancel_cpu_us": ended["cpu_us"],
            "depth": depth,
        }
    )


async def main() -> None:
    if args.mode not in {"flight", "growth"}:
        await many(200, in_flight=args.in_flight)
    if args.mode in {"rate", "tail"}:
        clock = Clock(trio.current_time)
        await many(args.runs, in_flight=args.in_flight)
        report(clock.figures(args.runs))
        return
    if args.mode in {"flight", "growth"}:
        await (flight() if args.mode == "flight" else growth())
        return
    gate = trio.Event()
    before = rss_kib()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, args.runs, gate)
        await trio.testing.wait_all_tasks_blocked()
        report(memory_figures(before, rss_kib(), args.runs))
        gate.set()


set_collector(args)
trio.run(main, clock=CpuClock() if args.clock == "cpu" else None)
