"""Restarts: what begins again, from where, how often."""

from __future__ import annotations

from typing import get_args

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelConnectionError, ModelHTTPError
from runmgr.journal import open_journal
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.models.retry import RetryClass
from runmgr.records.budgets import RestartPolicy, TransientError
from runmgr.records.events import RunStarted
from runmgr.supervisor import open_supervisor
from runmgr.usage import RequestUsage


def flaky(errors):
    """Two turns with a tool call between; ``errors`` are raised at the second, one after another."""
    seen = {"requests": [], "tools": 0}

    async def answer(messages, info):
        turn = len(messages) // 2
        seen["requests"].append(turn)
        if turn == 1 and errors:
            raise errors.pop(0)
        usage = RequestUsage(input_tokens=10, output_tokens=1)
        if turn == 0:
            return ModelResponse(parts=[ToolCallPart("work", {}, "c")], usage=usage)
        return ModelResponse(parts=[TextPart("done")], usage=usage)

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def work() -> str:
        seen["tools"] += 1
        return "worked"

    return agent, seen


async def test_from_the_last_node_nothing_paid_is_paid_again(autojump_clock):
    agent, seen = flaky([ModelHTTPError(503, "m"), ModelConnectionError("m", "gone")])
    started = []
    async with open_supervisor(retries=0, restart=RestartPolicy(max_restarts=2)) as sup:
        async with sup.subscribe() as events:
            outcome = await (await sup.submit(agent, "go")).outcome()
            started = [event async for event in _now(events) if isinstance(event, RunStarted)]
    assert outcome.status == "succeeded"
    assert outcome.attempts == 3
    assert seen == {"requests": [0, 1, 1, 1], "tools": 1}
    assert outcome.usage.requests == 2
    assert outcome.usage.tool_calls == 1
    assert [event.attempt for event in started] == [1, 2, 3]
    assert len(outcome.messages) == 4


async def _now(events):
    while True:
        try:
            yield events.receive_nowait()
        except trio.WouldBlock:
            return


async def test_from_the_start_everything_is_counted(tmp_path, autojump_clock):
    agent, seen = flaky([ModelHTTPError(503, "m")])
    path = tmp_path / "j.sqlite"
    policy = RestartPolicy(max_restarts=1, resume="start")
    async with open_supervisor(retries=0, restart=policy, journal=path) as sup:
        outcome = await (await sup.submit(agent, "go", run_id="a")).outcome()
        assert sup.usage() == outcome.usage
    assert outcome.status == "succeeded"
    assert seen == {"requests": [0, 1, 0, 1], "tools": 2}
    assert outcome.usage.requests == 3
    assert outcome.usage.tool_calls == 2
    assert len(outcome.messages) == 4
    with open_journal(path) as journal:
        kept = journal.outcome("a")
    assert (kept.messages, kept.usage, kept.attempts) == (outcome.messages, outcome.usage, 2)


async def test_no_more_often_than_allowed_with_backoff_between(autojump_clock):
    agent, seen = flaky([ModelHTTPError(503, "m") for _ in range(99)])
    async with open_supervisor(retries=0, restart=RestartPolicy(max_restarts=4, backoff=100)) as sup:
        handle = await sup.submit(agent, "go")
        await trio.sleep(0.01)
        assert handle.state == "waiting"
        outcome = await handle.outcome()
    assert outcome.status == "failed"
    assert outcome.attempts == 5
    assert outcome.error.status_code == 503
    assert seen["requests"] == [0, 1, 1, 1, 1, 1]
    assert 0 < trio.current_time() <= 100 + 200 + 300 + 300


@pytest.mark.parametrize("error", [ValueError("a bug"), ModelHTTPError(400, "m")])
async def test_a_users_bug_or_a_refused_request_is_not_tried_again(autojump_clock, error):
    agent, seen = flaky([error])
    async with open_supervisor(restart=RestartPolicy(max_restarts=5)) as sup:
        outcome = await (await sup.submit(agent, "go")).outcome()
    assert outcome.status == "failed"
    assert outcome.attempts == 1
    assert seen["requests"] == [0, 1]


async def test_the_outcome_has_all_attempts(autojump_clock):
    errors = [ModelHTTPError(503, "m"), ModelConnectionError("m", "gone"), ModelHTTPError(500, "m")]
    agent, _ = flaky(errors)
    async with open_supervisor(retries=0, restart=RestartPolicy(max_restarts=2)) as sup:
        outcome = await (await sup.submit(agent, "go")).outcome()
    assert outcome.status == "failed"
    assert outcome.attempts == 3
    assert [error.type for error in outcome.earlier_errors] == ["ModelHTTPError", "ModelConnectionError"]
    assert [error.status_code for error in outcome.earlier_errors] == [503, None]
    assert outcome.error.status_code == 500


async def test_children_of_a_failed_attempt_end_before_the_next_begins(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(500, "counting"), None])
    children = []

    async def nap(run):
        await trio.sleep(100)

    async def begin(run):
        if children:
            assert (await children[0].outcome()).status == "cancelled"
            return await run.ask(model)
        children.append(await run.supervisor.submit(fakes.Agent(nap)))
        await trio.sleep(1)
        await run.ask(model)

    async with open_supervisor(retries=0, restart=RestartPolicy(resume="start")) as sup:
        outcome = await (await sup.submit(fakes.Agent(begin))).outcome()
    assert outcome.succeeded
    assert outcome.attempts == 2


async def test_failed_children_do_not_count_as_failures_of_the_whole(fakes, autojump_clock):
    async def boom(run):
        raise ValueError

    async def parent(run):
        for _ in range(5):
            await (await run.supervisor.submit(fakes.Agent(boom))).outcome()

    async with open_supervisor(max_failures=2) as sup:
        assert (await (await sup.submit(fakes.Agent(parent))).outcome()).succeeded


async def test_which_errors_restart_can_be_said(autojump_clock):
    policy = RestartPolicy(on=("connection",))
    for error, attempts in ((ModelHTTPError(503, "m"), 1), (ModelConnectionError("m", "gone"), 2)):
        agent, _ = flaky([error])
        async with open_supervisor(retries=0, restart=policy) as sup:
            assert (await (await sup.submit(agent, "go")).outcome()).attempts == attempts
    with pytest.raises(ValueError, match="unknown bugs; there are connection"):
        RestartPolicy(on=("bugs",))


def test_the_classes_are_those_of_the_retries():
    assert set(get_args(TransientError)) == {kind.value for kind in RetryClass}


async def test_the_attempts_and_the_parent_are_in_the_journal_too(tmp_path, fakes, autojump_clock):
    path = tmp_path / "journal.sqlite"
    agent, _ = flaky([ModelHTTPError(503, "m"), ModelHTTPError(500, "m")])

    async def begin(run):
        return (await (await run.supervisor.submit(agent, "go", run_id="child")).outcome()).attempts

    async with open_supervisor(retries=0, restart=RestartPolicy(max_restarts=1), journal=path) as sup:
        await (await sup.submit(fakes.Agent(begin), run_id="top")).outcome()
        told = sup.get("child")._outcome
    assert [error.status_code for error in told.earlier_errors] == [503]
    with open_journal(path) as journal:
        kept = {outcome.run_id: outcome for outcome in journal.outcomes()}
    assert kept["child"].earlier_errors == told.earlier_errors
    assert (kept["child"].parent, kept["top"].parent) == ("top", None)


async def test_within_a_period_only_so_many_and_after_it_as_many_again(autojump_clock):
    """Turn by turn: two failures at once are survived, and again after the period; three within it are not."""
    plan = {0: 2, 1: 0, 2: 2, 3: 3}
    failed = dict.fromkeys(plan, 0)

    async def answer(messages, info):
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        await trio.sleep(60)
        if failed[turn] < plan[turn]:
            failed[turn] += 1
            raise ModelHTTPError(503, "m")
        return ModelResponse(parts=[ToolCallPart("work", {}, f"c{turn}")])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def work() -> str:
        await trio.sleep(700)
        return "worked"

    policy = RestartPolicy(max_restarts=2, within=600, backoff=1)
    async with open_supervisor(retries=0, restart=policy) as sup:
        outcome = await (await sup.submit(agent, "go")).outcome()
    assert failed == plan
    assert outcome.status == "failed"
    assert outcome.attempts == 1 + 2 + 2 + 2
    assert [error.status_code for error in outcome.earlier_errors] == [503] * 6
