"""Runs without an id of their user's: which is which in a journal, and what has changed."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import UserError
from runmgr.graph import BaseNode, End, Graph, GraphRunContext
from runmgr.journal import open_journal
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import RunSpec, open_supervisor


class World:
    """Agents that count what they are asked."""

    def __init__(self):
        self.asked = Counter()

    def agent(self, *, name="a", instructions=None, model_name="m"):
        async def answer(messages, info):
            await trio.sleep(1)
            self.asked[messages[0].parts[-1].content] += 1
            return ModelResponse(parts=[TextPart("ok")])

        return Agent(FunctionModel(answer, model_name=model_name), name=name, instructions=instructions)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


async def all_of(sup, agent, prompts, **options):
    async with sup.map(agent, prompts, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_a_map_without_ids_goes_on_where_it_was_whatever_was_added_moved_or_taken_out(
    path, autojump_clock
):
    world = World()
    prompts = [f"q{number}" for number in range(10)] + ["same"] * 10
    with trio.move_on_after(5.5):
        async with open_supervisor(max_running=2, journal=path) as sup:
            await all_of(sup, world.agent(), prompts)
    assert world.asked.total() == 10
    changed = prompts[3:] + [f"new{number}" for number in range(3)] + ["same"] * 2
    random.Random(1).shuffle(changed)
    async with open_supervisor(max_running=2, journal=path, resume=True) as sup:
        outcomes = await all_of(sup, world.agent(), changed)
    assert len({outcome.run_id for outcome in outcomes}) == len(outcomes) == 22
    assert {outcome.status for outcome in outcomes} == {"succeeded"}
    assert world.asked == Counter(changed) + Counter(prompts[:3])  # none twice, and those taken out not again
    assert sum(outcome.replayed for outcome in outcomes) == 7


async def test_submissions_without_ids_too(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        first = [await sup.submit(world.agent(), "q") for _ in range(3)]
    async with open_supervisor(journal=path, resume=True) as sup:
        again = [await sup.submit(world.agent(), "q") for _ in range(4)]
        outcomes = [await handle.outcome() for handle in again]
    assert [handle.run_id for handle in again[:3]] == [handle.run_id for handle in first]
    assert [outcome.replayed for outcome in outcomes] == [True, True, True, False]
    assert world.asked == {"q": 4}


async def test_what_was_not_admitted_does_not_count(path, autojump_clock):
    world = World()
    async with open_supervisor(max_running=1, max_queued=0, journal=path) as sup:
        agent = world.agent()
        await sup.submit(agent, "q")
        for _ in range(3):
            with pytest.raises(trio.WouldBlock):
                sup.submit_nowait(agent, "q")
        with trio.move_on_after(0.1):
            await sup.submit(agent, "q")
        await trio.sleep(2)
        second = sup.submit_nowait(agent, "q")
    async with open_supervisor(journal=path, resume=True) as sup:
        await sup.submit(agent, "q")
        assert (await sup.submit(agent, "q")).run_id == second.run_id
    assert world.asked == {"q": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": "other"},
        {"instructions": "be brief"},
    ],
)
async def test_a_changed_agent_is_noticed_and_said(path, autojump_clock, change):
    world = World()
    async with open_supervisor(journal=path) as sup:
        await all_of(sup, world.agent(), ["a", "b"])
    async with open_supervisor(journal=path, resume=True) as sup:
        with pytest.warns(
            UserWarning, match="another agent than now: model, instructions, tools.* begin anew"
        ):
            outcomes = await all_of(sup, world.agent(**change), ["a", "b"])
    assert world.asked == {"a": 2, "b": 2}
    assert not any(outcome.replayed for outcome in outcomes)
    async with open_supervisor(journal=path, resume=True) as sup:  # both are known now, and nothing is said
        await all_of(sup, world.agent(**change), ["a", "b"])
        await all_of(sup, world.agent(), ["a", "b"])
    assert world.asked == {"a": 2, "b": 2}


async def test_another_model_for_one_run_is_another_run(path, autojump_clock):
    world = World()
    agent, other = world.agent(), world.agent(model_name="other").model
    async with open_supervisor(journal=path) as sup:
        await sup.submit(agent, "q")
        await sup.submit(agent, "q", model=other)
        await sup.submit(agent, "q", model_settings={"temperature": 1})
    async with open_supervisor(journal=path, resume=True) as sup:
        for options in ({"model_settings": {"temperature": 1}}, {"model": other}, {}):
            assert (await (await sup.submit(agent, "q", **options)).outcome()).replayed
    assert world.asked == {"q": 3}


async def test_a_changed_prompt_is_noticed_and_said(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        await sup.submit(world.agent(), "q", run_id="done")
    with trio.move_on_after(0.5):
        async with open_supervisor(journal=path, resume=True) as sup:
            await sup.submit(world.agent(), "q", run_id="open")
            await sup.submit(world.agent(), "gone")
    with pytest.warns(UserWarning, match="1 unfinished runs .* were not submitted again"):  # noqa: PT031
        async with open_supervisor(journal=path, resume=True) as sup:
            for run_id in ("done", "open"):
                with pytest.raises(UserError, match="begun with another prompt: 'q', not 'other'"):
                    await sup.submit(world.agent(), "other", run_id=run_id)
            await sup.submit(world.agent(), "q", run_id="done")
            await sup.submit(world.agent(), "q", run_id="open")
            await sup.submit(world.agent(), "came instead")
    assert world.asked == {"q": 2, "came instead": 1}


async def test_a_finished_run_is_not_told_for_another_fingerprint(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        await sup.submit(world.agent(), "q", run_id="given", fingerprint="one")
        await sup.submit(world.agent(), "q", run_id="found")
    async with open_supervisor(journal=path, resume=True) as sup:
        with pytest.raises(UserError, match="finished run of this id whose fingerprint is 'one', not 'two'"):
            await sup.submit(world.agent(), "q", run_id="given", fingerprint="two")
        with pytest.warns(UserWarning, match="run found has ended in it, and is told as it ended then"):
            handle = await sup.submit(world.agent(instructions="new"), "q", run_id="found")
        assert (await handle.outcome()).replayed


async def test_an_unfinished_run_does_not_go_on_with_another_agent(path, autojump_clock):
    world = World()
    with trio.move_on_after(0.5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(world.agent(), "q", run_id="a")
    async with open_supervisor(journal=path, resume=True) as sup:
        with pytest.raises(UserError, match="its agent, model or settings have changed"):
            await sup.submit(world.agent(instructions="new"), "q", run_id="a")
        await sup.submit(world.agent(), "q", run_id="a")


class Count(BaseNode[list, None, int]):
    async def run(self, ctx: GraphRunContext[list]) -> End[int]:
        ctx.state.append(len(ctx.state))
        return End(len(ctx.state))


async def test_graphs_too(path, autojump_clock):
    graph = Graph(nodes=(Count,), name="count", state_type=list[int])
    async with open_supervisor(journal=path) as sup:
        first = [
            await (await sup.submit_graph(graph, Count(), state=state)).outcome() for state in ([], [], [7])
        ]
    async with open_supervisor(journal=path, resume=True) as sup:
        again = [
            await (await sup.submit_graph(graph, Count(), state=state)).outcome() for state in ([7], [], [])
        ]
    assert all(outcome.replayed for outcome in again)
    assert {outcome.run_id for outcome in again} == {outcome.run_id for outcome in first}


async def test_a_thousand_equal_items_are_a_thousand_runs(path, autojump_clock):
    world = World()
    async with open_supervisor(max_running=1000, journal=path) as sup:
        await all_of(sup, world.agent(), [RunSpec(prompt="q")] * 1000)
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 1000, "open": 0}
    async with open_supervisor(max_running=1000, journal=path, resume=True) as sup:
        await all_of(sup, world.agent(), ["q"] * 1000)
    assert world.asked == {"q": 1000}
