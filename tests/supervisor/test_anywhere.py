"""Whatever is done to a run, at whichever of its steps: what it holds goes back, what was paid is counted and kept, and it has one outcome."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
import trio
import trio.testing

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, RunEnded
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, Hedge, RateLimit, RestartPolicy
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.states import TERMINAL
from runmgr.testing.schedule import run_in_virtual_time
from runmgr.tools import RunContext
from runmgr.tools.threads import tool_threads
from runmgr.usage import RequestUsage

CALLS = [
    [ToolCallPart("plain", {"n": 1}, "a")],
    [ToolCallPart("sync", {"n": 2}, "b"), ToolCallPart("seeing", {"n": 3}, "c")],
]


def agent_of(paid):
    """An agent of three turns. Its provider answers every second request slowly, and fails once; ``paid`` counts answers by turn."""
    asked = 0

    async def answer(messages, info):
        nonlocal asked
        asked += 1
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if asked == 3:
            raise ModelHTTPError(500, "m")
        await trio.sleep(1.5 if asked % 2 else 0.5)
        paid[turn] += 1
        parts = CALLS[turn] if turn < len(CALLS) else [TextPart("done")]
        return ModelResponse(parts, usage=RequestUsage(input_tokens=10, output_tokens=5))

    agent = Agent(FunctionModel(answer, model_name="m"))

    @agent.tool_plain(idempotent=True)
    async def plain(n: int) -> int:
        await trio.sleep(0.1)
        return n

    @agent.tool(idempotent=True)
    async def seeing(ctx: RunContext, n: int) -> int:
        await trio.sleep(0.1)
        return n

    @agent.tool_plain(idempotent=True)
    def sync(n: int) -> int:
        return n

    return agent


class At(trio.abc.Instrument):
    """Does something before the n-th step of any task."""

    def __init__(self, number, act):
        self.left, self.act = number, act

    def before_task_step(self, task):
        self.left -= 1
        if self.left == 0:
            self.act()


def act_on(sup, handle, nursery, action):
    async def resume_later():
        await trio.sleep(3)
        if handle.state not in TERMINAL:
            handle.resume()

    match action:
        case "cancel":
            handle.cancel("enough")
        case "stop":
            sup.cancel("enough")
        case _:
            try:
                handle.pause()
            except RunEnded:
                return
            nursery.start_soon(resume_later)


def check_holds_nothing(sup):
    gates = sup._runtime.gates
    for door in gates.doors.values():
        assert door.in_flight == door.rate.used == 0
    for meter in (gates.purse.root, gates.purse.group("")):
        assert not any(meter.state().reserved.values())


@pytest.mark.parametrize("action", ["cancel", "stop", "pause"])
def test_at_whichever_step(tmp_path, action):
    options = {
        "retries": 1,
        "hedge": Hedge(after=0.3, max_share=1.0),
        "restart": RestartPolicy(max_restarts=2),
        "rate_limits": RateLimit(max_in_flight=2, tokens_per_minute=600_000),
        "budget": Budget(tokens=10**7),
        "group_budgets": Budget(requests=100),
    }

    async def play(journal, paid, number, resume):
        tool_threads().inline = True
        alive = trio.lowlevel.current_statistics().tasks_living
        async with open_supervisor(journal=journal, resume=resume, rng=random.Random(0), **options) as sup:
            async with trio.open_nursery() as nursery:
                handle = await sup.submit(agent_of(paid), "hi", run_id="r")
                at = At(number, lambda: act_on(sup, handle, nursery, action))
                if not resume:
                    trio.lowlevel.add_instrument(at)
                outcome = await handle.outcome()
                if not resume:
                    trio.lowlevel.remove_instrument(at)
            await trio.testing.wait_all_tasks_blocked()
            assert not sup._runtime.live
            check_holds_nothing(sup)
            assert outcome.usage.requests == paid.total()
            assert resume or sup.usage() == outcome.usage
        assert trio.lowlevel.current_statistics().tasks_living == alive
        return outcome, at.left > 0

    for number in itertools.count(1):
        paid = Counter()
        journal = tmp_path / f"{number}.db" if action == "stop" else None
        outcome, over = run_in_virtual_time(play, journal, paid, number, False, seed=0)
        assert outcome.status in (("succeeded",) if action == "pause" else ("succeeded", "cancelled"))
        if journal is not None:
            outcome, _ = run_in_virtual_time(play, journal, paid, 0, True, seed=0)
            assert outcome.succeeded
            assert paid == {0: 1, 1: 1, 2: 1}, f"at step {number}"
        if over:
            break
    assert number > 20
