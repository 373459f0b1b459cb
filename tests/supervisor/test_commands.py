"""Commands are answered: whoever asks learns that it took effect."""

from __future__ import annotations

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import RunEnded, UserError
from runmgr.graph import BaseNode, End, Graph, GraphRunContext
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.commands import COMMANDS


def slow_agent(turns=3):
    """One second a model request, one a tool call."""

    async def answer(messages, info):
        await trio.sleep(1)
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if turn < turns - 1:
            return ModelResponse(parts=[ToolCallPart("work", {}, f"c{turn}")])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def work() -> str:
        await trio.sleep(1)
        return "worked"

    return agent


async def test_pause_and_resume_are_answered_when_they_took_effect(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        run = await sup.submit(slow_agent(), "go")
        await trio.sleep(0.5)
        answer = run.pause()
        assert not answer.done
        await answer.wait()
        assert trio.current_time() == 1  # its model had answered
        assert run.state == "paused"
        assert run.pause().done  # it is already
        other = await sup.submit(slow_agent(), "go")
        await trio.sleep(0.5)
        answer = run.resume()
        assert not answer.done
        await answer.wait()
        assert trio.current_time() == 6  # the other had the place
        assert (run.state, other.state) == ("running", "succeeded")
        assert run.resume().done
        taken_back = run.pause()
        run.resume()
        await taken_back.wait()
        assert (await run.outcome()).succeeded


async def test_pause_of_a_queued_run_is_answered_at_once(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        await sup.submit(slow_agent(), "go")
        queued = await sup.submit(slow_agent(), "go")
        assert queued.pause().done
        answer = queued.resume()
        await answer.wait()
        assert trio.current_time() == 5
        assert queued.state == "running"


async def test_send_is_answered_when_the_message_is_in_a_request(autojump_clock):
    async with open_supervisor() as sup:
        run = await sup.submit(slow_agent(), "go")
        await trio.sleep(0.5)
        answer = run.send("and hurry")
        assert run.statistics().mail == 1
        await answer.wait()
        assert trio.current_time() == 2
        assert run.statistics().mail == 0
        outcome = await run.outcome()
        assert [part.content for part in outcome.messages[2].parts] == ["worked", "and hurry"]


async def test_a_snapshot_is_of_the_next_node_boundary(autojump_clock):
    agent = slow_agent()
    async with open_supervisor() as sup:
        run = await sup.submit(agent, "go")
        await trio.sleep(0.5)
        snapshot = await run.snapshot()
        assert trio.current_time() == 1
        assert (snapshot.run_id, len(snapshot.messages)) == (run.run_id, 2)
        run.cancel()
        async with agent.iter(snapshot=snapshot) as again:
            async for _ in again:
                pass
        assert again.result.output == "done"


async def test_those_who_wait_when_it_ends_are_told(autojump_clock):
    async with open_supervisor() as sup:
        run = await sup.submit(slow_agent(turns=1), "go")
        await trio.sleep(0.5)
        answers = [run.send("too late"), run.pause()]
        errors = []

        async def ask():
            with pytest.raises(RunEnded):
                await run.snapshot()
            errors.append("snapshot")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            run.cancel()
        for answer in answers:
            with pytest.raises(RunEnded, match="cancelled"):
                await answer.wait()
        assert errors == ["snapshot"]
        for command in (run.pause, run.resume, lambda: run.send("x")):
            with pytest.raises(RunEnded):
                command()
        assert run.cancel() is False


async def test_the_mailbox_is_bounded(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        run = await sup.submit(slow_agent(), "go")
        for number in range(64):
            run.send(f"{number}")
        with pytest.raises(trio.WouldBlock):
            run.send("one too many")
        outcome = await run.outcome()
        assert [len(message.parts) for message in outcome.messages[::2]] == [65, 1, 1]


async def test_a_graph_has_no_snapshot_and_goes_on(autojump_clock):
    class Two(BaseNode[None, None, int]):
        async def run(self, ctx: GraphRunContext) -> Two | End[int]:  # noqa: F821
            await trio.sleep(1)
            return End(1) if trio.current_time() > 1.5 else self

    graph = Graph(nodes=[Two])
    async with open_supervisor() as sup:
        run = await sup.submit_graph(graph, Two())
        await trio.sleep(0.5)
        with pytest.raises(UserError, match="graph"):
            await run.snapshot()
        assert (await run.outcome()).output == 1


async def test_statistics_follow_a_run(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        first = await sup.submit(slow_agent(), "go")
        run = await sup.submit(slow_agent(), "go", group="g")
        await trio.sleep(2.5)
        assert (run.statistics().state, run.statistics().queued_seconds) == ("queued", 2.5)
        assert not run.statistics().has_place
        await first.outcome()
        await trio.sleep(2.5)
        now = run.statistics()
        assert (now.node, now.has_place, now.messages, now.usage.requests) == ("ModelRequestNode", True, 3, 1)
        assert (now.queued_seconds, now.running_seconds) == (5, 2.5)
        await run.outcome()
        await trio.sleep(100)
        then = run.statistics()
        assert (then.running_seconds, then.node, then.state) == (5, None, "succeeded")


async def test_own_events_end_with_the_run(fakes, autojump_clock):
    async with open_supervisor() as sup:
        run = await sup.submit(slow_agent(), "go")
        async with run.events() as events:
            seen = [type(event).__name__ async for event in events]
            assert events.statistics().missed == 0
        assert seen[-1] == "RunEnded"
        async with run.events() as events:
            assert [event async for event in events] == []


def test_every_command_is_a_method():
    from runmgr.supervisor import RunHandle

    for name in COMMANDS:
        assert callable(getattr(RunHandle, name))
