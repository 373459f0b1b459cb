"""An agent where it cannot run: the typical mistake of somebody who comes from asyncio."""

import asyncio

import pytest

from runmgr import Agent, ModelRequest, UserError
from runmgr.direct import model_request
from runmgr.models.test import TestModel

agent = Agent(TestModel())


async def run():
    await agent.run("hi")


async def iterate():
    async with agent.iter("hi"):
        pass


async def stream():
    async with agent.run_stream("hi"):
        pass


async def events():
    async for _ in agent.run_stream_events("hi"):
        pass


async def block():
    async with agent:
        pass


async def direct():
    await model_request("test", [ModelRequest.user_text_prompt("hi")])


@pytest.mark.parametrize("mistake", [run, iterate, stream, events, block, direct])
def test_asyncio_is_told_from_trio(mistake):
    with pytest.raises(UserError, match=r"trio\.run\(main\).*asyncio\.run\(main\(\)\).*as_asyncio\(\)"):
        asyncio.run(mistake())


def test_run_sync_works_within_asyncio():
    async def main():
        return agent.run_sync("hi").output

    assert asyncio.run(main()) == "success (no tool calls)"
