"""Channels between runs."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from runmgr.exceptions import RunEnded, UserError
from runmgr.supervisor import open_supervisor


def producer(fakes, count, name="items", pause=1.0):
    async def produce(run):
        items = run.supervisor.channel(name)
        for number in range(count):
            await items.send((run.prompt, number))
            await trio.sleep(pause)

    return fakes.Agent(produce)


def consumer(fakes, name="items", work=0.0):
    async def consume(run):
        seen = []
        async for item in run.supervisor.channel(name):
            seen.append(item)
            await trio.sleep(work)
        return seen

    return fakes.Agent(consume)


@pytest.mark.parametrize("places", [1, 2, 10])
@pytest.mark.parametrize("first", ["producer", "consumer"])
async def test_a_channel_ends_when_its_producer_has(fakes, autojump_clock, places, first):
    async with open_supervisor(max_running=places) as sup:
        agents = [(producer(fakes, 5), "p"), (consumer(fakes), "c")]
        if first == "consumer":
            agents.reverse()
        handles = [await sup.submit(agent, name) for agent, name in agents]
        outcomes = {outcome.input: outcome for outcome in [await handle.outcome() for handle in handles]}
    assert outcomes["c"].error is None
    assert outcomes["c"].output == [("p", number) for number in range(5)]
    assert outcomes["p"].succeeded


async def test_many_producers_and_consumers_and_none_waits_for_ever(fakes, autojump_clock):
    async with open_supervisor(max_running=3) as sup:
        produce = [await sup.submit(producer(fakes, 10, pause=0.1), name) for name in "abcd"]
        sup.channel("items", owners=produce).close()
        consume = [await sup.submit(consumer(fakes, work=0.3)) for _ in range(3)]
        outputs = [(await handle.result()).output for handle in consume]
    assert sorted(sum(outputs, [])) == [(name, number) for name in "abcd" for number in range(10)]


async def test_sending_and_receiving_at_once_lets_others_run(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        channel = sup.channel("items", buffer=1)
        with trio.testing.assert_checkpoints():
            await channel.send(1)
        with trio.testing.assert_checkpoints():
            assert await channel.receive() == 1


async def test_who_is_cancelled_has_neither_sent_nor_received(autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        channel = sup.channel("items", buffer=1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.send("lost")
        await channel.send("first")  # there is room
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.receive()
        assert await channel.receive() == "first"


async def test_owners_that_have_not_begun_keep_it_open(fakes, autojump_clock):
    async def boss(run):
        sup = run.supervisor
        handles = [await sup.submit(producer(fakes, 2), name) for name in "abc"]
        return [item async for item in sup.channel("items", owners=handles)]

    async with open_supervisor(max_running=1) as sup:
        output = (await (await sup.submit(fakes.Agent(boss))).result()).output
    assert sorted(output) == [(name, number) for name in "abc" for number in range(2)]


async def test_a_pipeline_of_runs(fakes, autojump_clock):
    async def double(run):
        sup = run.supervisor
        async with sup.channel("doubled") as out:
            async for _, number in sup.channel("items"):
                await out.send(2 * number)

    async with open_supervisor(max_running=2) as sup:
        results = sup.channel("doubled", buffer=3)
        stage = await sup.submit(fakes.Agent(double))
        sup.channel("doubled", owners=[stage])
        await sup.submit(producer(fakes, 5, pause=0), "p")
        assert [number async for number in results] == [0, 2, 4, 6, 8]


async def test_a_sender_whose_receivers_have_gone_is_told(fakes, autojump_clock):
    async def take_one(run):
        return await run.supervisor.channel("items").receive()

    async with open_supervisor() as sup:
        take = await sup.submit(fakes.Agent(take_one))
        give = await sup.submit(producer(fakes, 5), "p")
        assert (await take.result()).output == ("p", 0)
        outcome = await give.outcome()
    assert outcome.error.type == "BrokenResourceError"


async def test_it_is_bounded(fakes, autojump_clock):
    async with open_supervisor() as sup:
        channel = sup.channel("items", buffer=2)
        give = await sup.submit(producer(fakes, 5, pause=0), "p")
        await trio.sleep(1)
        assert give.state == "paused"  # it gave its place up: the buffer is full
        assert [item async for item in channel] == [("p", number) for number in range(5)]
        with pytest.raises(UserError, match="buffer of 2"):
            sup.channel("items", buffer=3)
        channel.close()
        with pytest.raises(trio.ClosedResourceError):
            await channel.send(1)
        assert sup.channel("items", buffer=3) is not channel
        assert not sup._runtime.channels._by_name["items"].had_many


async def test_cancelling_a_run_closes_its_ends(fakes, autojump_clock):
    async def hang(run):
        run.supervisor.channel("items")
        await trio.sleep(100)

    async with open_supervisor() as sup:
        hanging = await sup.submit(fakes.Agent(hang))
        taking = await sup.submit(consumer(fakes))
        await trio.sleep(1)
        assert taking.state == "paused"
        hanging.cancel()
        assert (await taking.result()).output == []
    with pytest.raises(RunEnded):
        sup._runtime.channels.open("x", None, hanging)


async def test_ends_of_the_block_close_with_it(fakes, autojump_clock):
    async with open_supervisor() as sup:
        sup.channel("items")
        take = await sup.submit(consumer(fakes))
        await trio.sleep(1)
        assert take.state == "paused"
    assert (await take.outcome()).output == []
