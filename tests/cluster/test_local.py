"""Runs over workers in this event loop."""

import trio

from runmgr import Agent, open_supervisor
from runmgr.cluster import LocalCluster
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage


async def answer(messages, info):
    await trio.sleep(0.05)
    return ModelResponse(
        [TextPart(messages[-1].parts[-1].content.upper())],
        usage=RequestUsage(input_tokens=3, output_tokens=2),
    )


agent = Agent(FunctionModel(answer), name="shouter")


async def test_runs_come_back_from_workers(autojump_clock):
    async with open_supervisor(cluster=LocalCluster(workers=2, per_worker=10)) as sup:
        async with sup.map(agent, (f"p{n}" for n in range(200))) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert sorted(o.output for o in found) == sorted(f"P{n}" for n in range(200))
        assert sup.usage().requests == 200
        assert sup.usage().input_tokens == 600
        assert {m: t.requests for m, t in sup.usage(by="model").items()} == {"function:answer:": 200}
        handle = await sup.submit(agent, "x")
        result = await handle.result()
        assert result.output == "X"
        assert len(result.all_messages()) == 2
