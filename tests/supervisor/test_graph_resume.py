"""Graphs of one's own in a journal: they go on from their last node, and what cannot is refused at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import attrs
import msgspec
import pytest
import trio
from pydantic import BaseModel

from runmgr.agent import Agent
from runmgr.exceptions import UserError
from runmgr.graph import BaseNode, End, Graph, GraphRunContext, Join
from runmgr.journal import open_journal
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.supervisor import open_supervisor
from runmgr.usage import RequestUsage


@dataclass
class DataState:
    seen: list[int] = field(default_factory=list)


@attrs.define
class AttrsState:
    seen: list[int] = attrs.field(factory=list)


class StructState(msgspec.Struct):
    seen: list[int] = msgspec.field(default_factory=list)


class ModelState(BaseModel):
    seen: list[int] = []


ran: list[int] = []


def graph_of(state_type):
    @dataclass
    class Count(BaseNode[state_type, None, int]):
        number: int

        async def run(self, ctx: GraphRunContext[state_type, None]) -> Count | End[int]:
            ran.append(self.number)
            await trio.sleep(1)
            ctx.state.seen.append(self.number)
            return Count(self.number + 1) if self.number < 4 else End(sum(ctx.state.seen))

    return Graph(nodes=[Count], state_type=state_type, run_end_type=int, name="count"), Count


@pytest.fixture
def path(tmp_path):
    ran.clear()
    return tmp_path / "runs.sqlite"


@pytest.mark.parametrize("state_type", [DataState, AttrsState, StructState, ModelState])
async def test_a_graph_goes_on_from_its_last_node(path, autojump_clock, state_type):
    graph, Count = graph_of(state_type)
    for stop in (1.5, 2.5):
        with trio.move_on_after(stop):
            async with open_supervisor(journal=path, resume=True) as sup:
                await sup.submit_graph(graph, Count(0), state=state_type(), run_id="g")
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit_graph(graph, Count(0), state=state_type(), run_id="g")).outcome()
    assert outcome.output == 10
    assert ran == [0, 1, 1, 2, 3, 3, 4]  # only the node that was running is run again
    async with open_supervisor(journal=path, resume=True) as sup:
        again = await (await sup.submit_graph(graph, Count(0), state=state_type(), run_id="g")).outcome()
    assert (again.output, again.replayed) == (10, True)
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 1, "open": 0}


async def test_what_an_agent_in_a_node_was_paid_is_kept(path, autojump_clock):
    async def answer(messages, info):
        await trio.sleep(0.1)
        return ModelResponse(parts=[TextPart("1")], usage=RequestUsage(input_tokens=7, output_tokens=1))

    agent = Agent(FunctionModel(answer))

    @dataclass
    class Ask(BaseNode[DataState, None, int]):
        async def run(self, ctx: GraphRunContext[DataState, None]) -> Wait:
            result = await agent.run("q")
            ctx.state.seen.append(int(result.output))
            return Wait()

    @dataclass
    class Wait(BaseNode[DataState, None, int]):
        async def run(self, ctx: GraphRunContext[DataState, None]) -> End[int]:
            await trio.sleep(1)
            return End(len(ctx.state.seen))

    graph = Graph(nodes=[Ask, Wait], state_type=DataState, run_end_type=int)
    with trio.move_on_after(0.5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit_graph(graph, Ask(), state=DataState(), run_id="g")
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit_graph(graph, Ask(), state=DataState(), run_id="g")).outcome()
        assert sup.usage().requests == 0
    assert (outcome.output, outcome.usage.requests, outcome.usage.input_tokens) == (1, 1, 7)


@dataclass
class OddState:
    fine: int = 0
    handle: Any = None


@dataclass
class Odd(BaseNode[OddState, None, int]):
    what: Any = None

    async def run(self, ctx: GraphRunContext[OddState, None]) -> Odd | End[int]:
        if self.what == "break":
            ctx.state.handle = object()
            return Odd()
        return End(1)


ODD = Graph(nodes=[Odd], state_type=OddState, run_end_type=int)


async def test_what_cannot_be_kept_is_refused_by_the_name_of_its_field(path, autojump_clock):
    async with open_supervisor(journal=path) as sup:
        with pytest.raises(
            UserError, match="field 'handle' of its state .OddState. cannot be kept in the journal"
        ):
            await sup.submit_graph(ODD, Odd(), state=OddState(handle=object()))
        with pytest.raises(UserError, match="field 'what' of its node Odd"):
            await sup.submit_graph(ODD, Odd(object()), state=OddState())
        assert (await (await sup.submit_graph(ODD, Odd(), state=OddState())).outcome()).output == 1
        broken = await (await sup.submit_graph(ODD, Odd("break"), state=OddState())).outcome()
    assert broken.status == "failed"
    assert "field 'handle'" in broken.error.message
    async with open_supervisor() as sup:  # without a journal nothing has to be kept
        assert (
            await (await sup.submit_graph(ODD, Odd(), state=OddState(handle=object()))).outcome()
        ).output == 1


@dataclass
class Part(BaseNode[DataState, None, int]):
    number: int

    async def run(self, ctx: GraphRunContext[DataState]) -> PartEnd:
        ran.append(self.number)
        await trio.sleep(1)
        return PartEnd(self.number)


@dataclass
class PartEnd(BaseNode[DataState, None, int]):
    number: int

    async def run(self, ctx: GraphRunContext[DataState]) -> End[int]:
        await trio.sleep(self.number)
        ctx.state.seen.append(self.number)
        return End(self.number)


@dataclass
class Together(BaseNode[DataState, None, int]):
    outputs: list[int]

    async def run(self, ctx: GraphRunContext[DataState]) -> End[int]:
        await trio.sleep(1)
        return End(sum(self.outputs) + 10 * len(ctx.state.seen))


@dataclass
class Split(BaseNode[DataState, None, int]):
    async def run(self, ctx: GraphRunContext[DataState]) -> Annotated[list[Part], Join(Together)]:
        ran.append(-1)
        return [Part(number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("stop_at", "again"),
    [(None, []), (0.5, [-1, 1, 2, 3]), (3.5, [-1, 1, 2, 3]), (4.5, [])],
)
async def test_a_fork_is_one_step_of_its_graph(path, autojump_clock, stop_at, again):
    """Its branches share the state in memory: what one of them did is not known without the others."""
    graph = Graph(nodes=(Split, Part, PartEnd, Together), state_type=DataState, name="fork")

    async def outcome():
        async with open_supervisor(journal=path, resume=True) as sup:
            handle = await sup.submit_graph(graph, Split(), state=DataState())
            return await handle.outcome()

    if stop_at is None:
        result = await outcome()
    else:
        with trio.move_on_after(stop_at):
            await outcome()
        with open_journal(path) as journal:
            assert journal.counts() == {"open": 1}
        first = len(ran)
        result = await outcome()
        assert sorted(ran[first:]) == again
    assert result.output == 36
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 1, "open": 0}  # branches are no runs of their own there
