"""What a run costs in numbers that no other process can disturb: bytecode instructions, and objects that Python's collector has to look
at while a run waits for its model. One JSON object on standard output.

Instructions are counted for the thread of the event loop, in runmgr, trio and all other Python code; time spent in C does not show, so
this stands beside the timed benches and not in their place. The collector itself runs no bytecode.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, Self

import trio
import trio.testing

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, UsageLimits, open_supervisor
from runmgr.messages import ModelMessage
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.usage import RequestUsage

RUNS = 24
WAITING = 300
turns = 1
gate: trio.Event | None = None


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if gate is not None:
        await gate.wait()
    await trio.lowlevel.checkpoint()
    turn = len(messages) // 2
    usage = RequestUsage(input_tokens=10, output_tokens=5)
    if turn + 1 < turns:
        return ModelResponse(parts=[ToolCallPart("add", {"a": turn, "b": 1}, f"call_{turn}")], usage=usage)
    return ModelResponse(parts=[TextPart("the answer is 42")], usage=usage)


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


agent = Agent(FunctionModel(answer), name="bench", tools=[add])
traced = Agent(FunctionModel(answer), name="bench", tools=[add], instrument=True)


class Counter:
    """Counts bytecode instructions of this thread while it is on."""

    def __init__(self) -> None:
        self.count = 0

    def _call(self, frame: Any, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
        return self._step

    def __enter__(self) -> Self:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


async def drive(runs: int, *, of: Any = agent, journal: str | None = None, events: bool = False) -> None:
    limits = UsageLimits(request_limit=None)
    async with (
        open_supervisor(max_running=20, max_queued=20, journal=journal, limits=limits) as supervisor,
        trio.open_nursery() as nursery,
    ):
        if events:

            async def look() -> None:
                async with supervisor.subscribe() as seen:
                    started.set()
                    async for _ in seen:
                        pass

            started = trio.Event()
            nursery.start_soon(look)
            await started.wait()
        async with supervisor.map(of, (f"prompt {index}" for index in range(runs))) as outcomes:
            async for outcome in outcomes:
                assert outcome.status == "succeeded", outcome.error
        nursery.cancel_scope.cancel()


def counted(go: Callable[[int], Awaitable[None]], runs: int = RUNS) -> float:
    """Instructions a run: what twice as many cost more, so that opening and closing do not count."""
    totals: list[int] = []
    trio.run(go, runs)
    for times in (1, 2):
        trio._core._run._r.seed(0)  # the order in which tasks of one turn go, which is random otherwise
        with Counter() as counter:
            trio.run(go, runs * times)
        totals.append(counter.count)
    return (totals[1] - totals[0]) / runs


async def with_journal(name: str, numbers: Iterator[int], runs: int) -> None:
    """Each in a journal of its own."""
    await drive(runs, journal=name.format(next(numbers)))


async def bare(runs: int) -> None:
    """A task a run with the same awaits, as in bare_trio.py."""

    async def run(prompt: str) -> None:
        messages = [prompt]
        for turn in range(turns):
            await trio.lowlevel.checkpoint()
            messages.append(f"answer {len(messages)}")
            if turn + 1 < turns:
                messages.append(str(await add(turn, 1)))
        slots.release()
        await send.send(messages)

    send, receive = trio.open_memory_channel[list[str]](runs)
    slots = trio.Semaphore(20)
    async with trio.open_nursery() as nursery:
        for index in range(runs):
            await slots.acquire()
            nursery.start_soon(run, f"prompt {index}")
    for _ in range(runs):
        receive.receive_nowait()


async def waiting() -> float:
    """Objects that the collector tracks, a run that waits."""
    global gate
    gate = trio.Event()
    gate.set()
    await drive(50)
    gate = trio.Event()
    gc.collect()
    before = len(gc.get_objects())
    async with open_supervisor(max_running=WAITING, max_queued=1) as supervisor:
        for index in range(WAITING):
            await supervisor.submit(agent, f"prompt {index}")
        await trio.testing.wait_all_tasks_blocked(0.01)
        gc.collect()
        after = len(gc.get_objects())
        gate.set()
    gate = None
    return (after - before) / WAITING


def main() -> None:
    global turns
    figures: dict[str, float] = {}
    for turns in (1, 3):
        figures[f"plain_{turns}"] = counted(drive)
        figures[f"bare_{turns}"] = counted(bare)
        figures[f"events_{turns}"] = counted(lambda runs: drive(runs, events=True))
        figures[f"otel_{turns}"] = counted(lambda runs: drive(runs, of=traced))
        with tempfile.TemporaryDirectory() as directory:
            figures[f"journal_{turns}"] = counted(partial(with_journal, f"{directory}/{{}}.sqlite", count()))
    turns = 1
    figures["waiting_objects"] = trio.run(waiting)
    for turns in (25, 100):
        figures[f"history_{turns}"] = counted(drive, 2)
    print(json.dumps(figures))


main()
