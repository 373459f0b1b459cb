from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import trio

from runmgr.graph import BaseNode, End, FullStatePersistence, Graph, GraphRunContext, GraphRuntimeError, Join


@dataclass
class Collect(BaseNode[None, None, int]):
    parts: list[int]

    async def run(self, ctx: GraphRunContext) -> End[int]:
        return End(sum(self.parts))


@dataclass
class Square(BaseNode[None, None, int]):
    number: int

    async def run(self, ctx: GraphRunContext) -> End[int]:
        await trio.sleep(1 / (1 + self.number))
        return End(self.number**2)


@dataclass
class Spread(BaseNode[None, None, int]):
    numbers: list[int]

    async def run(self, ctx: GraphRunContext) -> Annotated[list[Square], Join(Collect)]:
        return [Square(number) for number in self.numbers]


@dataclass
class Both(BaseNode[None, None, list[int]]):
    async def run(self, ctx: GraphRunContext) -> tuple[Square, Square]:
        return Square(3), Square(4)


joined = Graph(nodes=[Spread, Square, Collect])
unjoined = Graph(nodes=[Both, Square])


async def test_without_a_supervisor_a_fork_says_what_it_needs():
    with pytest.raises(GraphRuntimeError, match=r"`Spread.run` returned 3 nodes: a fork.*submit_graph"):
        await joined.run(Spread([1, 2, 3]))


def in_tasks(graph):
    async def fork(branches):
        outputs = [None] * len(branches)

        async def run_branch(index, branch):
            outputs[index] = (await graph.run(branch)).output

        async with trio.open_nursery() as nursery:
            for index, branch in enumerate(branches):
                nursery.start_soon(run_branch, index, branch)
        return outputs

    return fork


async def test_with_a_driver_the_run_goes_on_with_the_join(autojump_clock):
    persistence = FullStatePersistence()
    async with joined.iter(Spread([1, 2, 3]), fork=in_tasks(joined), persistence=persistence) as run:
        assert [node async for node in run] == [Spread([1, 2, 3]), Collect([1, 4, 9]), End(14)]
    assert [snapshot.node for snapshot in persistence.history] == [
        Spread([1, 2, 3]),
        Collect([1, 4, 9]),
        End(14),
    ]


async def test_without_a_join_the_outputs_are_the_runs(autojump_clock):
    async with unjoined.iter(Both(), fork=in_tasks(unjoined)) as run:
        assert await run.next() == End([9, 16])
