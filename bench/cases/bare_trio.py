"""A bare trio task per run that does the same awaits: one checkpoint a model request, one await a tool, a limit on running."""

from __future__ import annotations

import math

import trio

from common import Clock, arguments, memory_figures, report, rss_kib

args = arguments()


async def tool(a: int, b: int) -> int:
    return a + b


async def model(messages: list[str], gate: trio.Event | None) -> str:
    if gate is not None:
        await gate.wait()
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


async def main() -> None:
    await many(200, in_flight=args.in_flight)
    if args.mode == "rate":
        clock = Clock()
        await many(args.runs, in_flight=args.in_flight)
        report(clock.figures(args.runs))
        return
    gate = trio.Event()
    before = rss_kib()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, args.runs, gate)
        await trio.testing.wait_all_tasks_blocked()
        report(memory_figures(before, rss_kib(), args.runs))
        gate.set()


import trio.testing  # noqa: E402

trio.run(main)
