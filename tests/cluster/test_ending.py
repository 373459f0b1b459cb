"""How runs on workers end that are not left to their own end: cancelled, out of time, stopped with all others."""

import inspect

import pytest
import trio

from runmgr import Agent, open_supervisor
from runmgr.cluster import LocalCluster, LocalEngine, wire
from runmgr.exceptions import SupervisorClosed
from runmgr.journal import open_journal
from runmgr.models.function import FunctionModel
from runmgr.records.events import RunStateChanged

from .helpers import Provider, agent_for


def cluster(**given):
    return LocalCluster(**{"workers": 2, "per_worker": 10, "silence": 2.0, **given})


async def test_a_timeout_and_a_deadline_reach_the_worker(autojump_clock):
    provider = Provider(100)
    agent = agent_for(provider)
    async with open_supervisor(cluster=cluster(), max_running=4) as sup:
        began = trio.current_time()
        late = await sup.submit(agent, "a", timeout=3.0)
        missed = await sup.submit(agent, "b", deadline=2.0, timeout=50.0)
        going_on = [await sup.submit(agent, "c") for _ in range(2)]
        queued = await sup.submit(agent, "d", deadline=1.0)
        assert "deadline passed" in (await queued.outcome()).error.message
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.1)
        assert "deadline passed" in (await missed.outcome()).error.message
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        outcome = await late.outcome()
        assert (outcome.status, outcome.error.type) == ("failed", "TimeoutError")
        assert outcome.error.message == "the run took longer than its timeout of 3 s"
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.1)
        assert provider.at_once == 2
        for handle in going_on:
            assert (await handle.outcome()).succeeded


async def test_the_journal_has_the_error_that_is_told_where_the_worker_knows_another(
    tmp_path, autojump_clock
):
    async def answer(messages, info):
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleaning up went wrong")

    async with open_supervisor(cluster=cluster(), journal=tmp_path / "j.sqlite") as sup:
        handle = await sup.submit(Agent(FunctionModel(answer)), "a", run_id="a", timeout=3.0)
        told = await handle.outcome()
    assert (told.status, told.error.type) == ("failed", "TimeoutError")
    with open_journal(tmp_path / "j.sqlite") as journal:
        assert journal.outcome("a").error == told.error


async def test_a_cancelled_run_whose_worker_dies_is_not_begun_again(autojump_clock):
    provider, engine = Provider(100), LocalEngine()

    async def deaf(worker, to_worker, data):
        """No worker hears that anything is cancelled."""
        if to_worker and any(
            isinstance(message, wire.Cancel) for message in wire.decode_from_driver(data)[1]
        ):
            await trio.sleep_forever()
        return [data]

    engine._carry = deaf
    async with open_supervisor(cluster=cluster(engine=engine, workers=1, silence=50.0)) as sup:
        handle = await sup.submit(agent_for(provider), "x")
        await trio.sleep(1)
        assert provider.asked == 1
        handle.cancel("not wanted")
        await trio.sleep(0.5)
        next(iter(engine.links.values())).scope.cancel()
        outcome = await handle.outcome()
        assert (outcome.status, outcome.error.message) == ("cancelled", "not wanted")
        await trio.sleep(30)
        assert provider.asked == 1


async def test_a_worker_that_says_nothing_holds_no_cancelled_run(autojump_clock):
    engine, silent = LocalEngine(), False

    async def carry(worker, to_worker, data):
        if silent:
            await trio.sleep_forever()
        return [data]

    engine._carry = carry
    async with open_supervisor(cluster=cluster(engine=engine, silence=50.0)) as sup:
        handle = await sup.submit(agent_for(Provider(100)), "x")
        await trio.sleep(1)
        silent = True
        began = trio.current_time()
        handle.cancel("not wanted")
        assert (await handle.outcome()).error.message == "not wanted"
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)


async def test_grace_lets_runs_on_workers_come_to_their_end_and_begins_no_more(autojump_clock):
    provider = Provider(1.0)
    async with open_supervisor(cluster=cluster(per_worker=2), max_running=10) as sup:
        handles = [await sup.submit(agent_for(provider), f"p{n}") for n in range(10)]
        await trio.sleep(0.5)
        assert provider.at_once == 4
        began = trio.current_time()
        sup.cancel("that is enough", grace=5.0)
        outcomes = [await handle.outcome() for handle in handles]
        assert [outcome.status for outcome in outcomes].count("succeeded") == 4
        assert {outcome.error.message for outcome in outcomes if not outcome.succeeded} == {"that is enough"}
        assert trio.current_time() - began < 1.0
        assert provider.asked == 4
        with pytest.raises(SupervisorClosed):
            await sup.submit(agent_for(provider), "y")


async def test_after_the_grace_they_are_cancelled_where_they_are(autojump_clock):
    provider = Provider(100)
    async with open_supervisor(cluster=cluster()) as sup:
        handles = [await sup.submit(agent_for(provider), f"p{n}") for n in range(10)]
        await trio.sleep(0.5)
        began = trio.current_time()
        sup.cancel("that is enough", grace=5.0)
        assert {(await handle.outcome()).status for handle in handles} == {"cancelled"}
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.2)
        assert provider.at_once == 0


async def test_who_hears_that_a_run_starts_may_cancel_it(autojump_clock):
    provider = Provider(1.0)
    async with open_supervisor(cluster=cluster()) as sup:

        def cancel(event):
            if isinstance(event, RunStateChanged) and event.after == "running":
                sup.get(event.run_id).cancel("at once")

        sup.listen(cancel)
        handle = await sup.submit(agent_for(provider), "x")
        assert (await handle.outcome()).error.message == "at once"
    assert provider.asked == 0


async def test_what_was_cancelled_from_outside_ends_though_the_block_is_held_up(autojump_clock):
    provider = Provider(100)
    with trio.move_on_after(1) as scope:
        async with open_supervisor(cluster=cluster()) as sup:
            handle = await sup.submit(agent_for(provider), "x")
            with trio.CancelScope(shield=True):
                assert (await handle.outcome()).status == "cancelled"
                assert provider.at_once == 0
            assert scope.cancel_called
            await trio.sleep_forever()


async def test_the_first_runs_are_leased_while_the_rest_are_still_submitted(autojump_clock):
    submitted, engine = [], LocalEngine()

    async def carry(worker, to_worker, data):
        if to_worker and any(isinstance(message, wire.Lease) for message in wire.decode_from_driver(data)[1]):
            submitted.append(sup._runtime.submitted)
        return [data]

    engine._carry = carry
    async with open_supervisor(cluster=cluster(per_worker=300, engine=engine)) as sup:
        await trio.sleep(1)
        async with sup.map(agent_for(Provider(0.1)), (f"p{n}" for n in range(600))) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 600
    assert submitted[0] < 450  # some turns of 64 each; how many, the order of tasks decides


def test_ray_calls_put_while_take_waits():
    """Ray calls the methods of a class with a coroutine among them one by one, in an event loop."""
    from runmgr.cluster.ray_engine import _RayWorker

    assert not [name for name, member in vars(_RayWorker).items() if inspect.iscoroutinefunction(member)]
