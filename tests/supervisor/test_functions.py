"""Functions as runs: called once, accounted, ended like any other."""

from __future__ import annotations

import threading

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import RestartPolicy
from runmgr.supervisor import FunctionAgent, RunSpec, open_supervisor
from runmgr.usage import RequestUsage


async def answer(messages, info):
    await trio.sleep(1)
    return ModelResponse(parts=[TextPart("hello")], usage=RequestUsage(input_tokens=3, output_tokens=2))


asker = Agent(FunctionModel(answer, model_name="m"))


async def ask(prompt):
    return (await asker.run(prompt)).output + "!"


def ask_in_a_thread(prompt):
    return asker.run_sync(prompt).output + "!"


async def test_what_it_returns_is_the_output_and_what_its_agents_use_is_its_own(autojump_clock):
    async with open_supervisor(max_running=2) as sup:
        async with sup.map(
            FunctionAgent(ask), [RunSpec(prompt=f"{n}", group="g") for n in range(4)]
        ) as outcomes:
            ended = [outcome async for outcome in outcomes]
        assert trio.current_time() == 2
        assert [(outcome.output, outcome.usage.requests) for outcome in ended] == [("hello!", 1)] * 4
        assert set(sup.usage("agent")) == {"ask"}
        assert sup.usage("group")["g"].total_tokens == 20


@pytest.mark.parametrize("function", [ask, ask_in_a_thread])
async def test_async_or_sync(function):
    async with open_supervisor() as sup:
        handle = await sup.submit(FunctionAgent(function, name="mine"), "hi")
        assert (await handle.result()) == "hello!" or (await handle.outcome()).output == "hello!"
        assert sup.usage("agent")["mine"].requests == 1


async def test_what_it_submits_are_its_children(autojump_clock):
    async def both(prompt, supervisor):
        handles = [await supervisor.submit(asker, f"{prompt} {n}") for n in range(2)]
        return [(await handle.outcome()).parent for handle in handles]

    async with open_supervisor(max_running=1) as sup:
        outcome = await (await sup.submit(FunctionAgent(both), "hi", run_id="top")).outcome()
    assert outcome.output == ["top", "top"]
    assert outcome.usage.requests == 2


async def test_what_it_raises_fails_its_run(autojump_clock):
    def wrong(prompt):
        raise KeyError(prompt)

    async with open_supervisor() as sup:
        outcome = await (await sup.submit(FunctionAgent(wrong), "hi")).outcome()
    assert (outcome.status, outcome.error.type) == ("failed", "KeyError")


async def test_it_is_called_again_from_its_beginning(tmp_path, autojump_clock):
    calls = []

    async def flaky(prompt):
        calls.append(prompt)
        if len(calls) == 1:
            raise ModelHTTPError(503, "m")
        if len(calls) == 2:
            await trio.sleep_forever()
        return len(calls)

    options = {"journal": tmp_path / "j.sqlite", "restart": RestartPolicy(max_restarts=1, backoff=1)}
    async with open_supervisor(**options) as sup:
        handle = await sup.submit(FunctionAgent(flaky), "hi", run_id="r")
        await trio.sleep(10)
        sup.cancel("for today")
    assert (await handle.outcome()).attempts == 2
    for _ in range(2):
        async with open_supervisor(**options, resume=True) as sup:
            outcome = await (await sup.submit(FunctionAgent(flaky), "hi", run_id="r")).outcome()
            assert outcome.output == 3
    assert outcome.replayed
    assert len(calls) == 3


async def test_a_thread_that_is_left_behind_is_named():
    release, begun = threading.Event(), threading.Event()

    def stuck(prompt):
        begun.set()
        release.wait(30)

    try:
        async with open_supervisor() as sup:
            handle = await sup.submit(FunctionAgent(stuck, name="stuck"), "hi")
            await trio.to_thread.run_sync(begun.wait)
            handle.cancel()
            outcome = await handle.outcome()
        assert outcome.abandoned_threads == ("stuck (thread)",)
    finally:
        release.set()


def test_it_must_take_a_prompt():
    def maker():
        return asker

    with pytest.raises(UserError, match=r"maker: a function that is run must take the prompt"):
        FunctionAgent(maker)
