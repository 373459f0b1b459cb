"""What a driver tells and does: events, models, commands, poison, versions, engines that start nothing."""

import random
import sqlite3
import time

import msgspec
import pytest
import trio

from runmgr import Agent, Budget, Price, RateLimit, RunFailed, RunSpec, open_supervisor
from runmgr.cluster import LocalCluster, LocalEngine, NoWorkers, RayCluster, WorkerLost, wire
from runmgr.cluster.local import worker_name
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.records.events import EventsMissed, RequestSettled, RunAdmitted, RunEnded, RunNode, RunStarted
from runmgr.usage import RequestUsage

from .helpers import Provider, Shared, agent_for


def cluster(**given):
    return LocalCluster(**{"workers": 2, "per_worker": 10, "silence": 2.0, **given})


async def all_ready(sup, workers):
    while sum(worker.ready for worker in sup.snapshot().workers.values()) < workers:
        await trio.sleep(0.05)


async def test_events_of_runs_on_workers_are_told_and_only_when_somebody_listens(autojump_clock):
    told = []
    engine = LocalEngine()
    async with open_supervisor(cluster=cluster(engine=engine)) as sup:
        await (await sup.submit(agent_for(Provider(0.05)), "before")).outcome()
        async with sup.subscribe() as events:
            await trio.sleep(0.1)
            handle = await sup.submit(agent_for(Provider(0.05)), "x")
            await handle.outcome()
            await trio.sleep(0.5)
            told = events.drain_nowait()
    kinds = [type(event) for event in told]
    assert kinds.count(RunAdmitted) == kinds.count(RunStarted) == kinds.count(RunEnded) == 1
    nodes = [event.node for event in told if isinstance(event, RunNode)]
    assert nodes == ["UserPromptNode", "ModelRequestNode", "CallToolsNode"]
    assert [event.model for event in told if isinstance(event, RequestSettled)] == ["loud"]
    assert {event.run_id for event in told} == {handle.run_id}


async def test_a_handles_events_end_with_the_run(autojump_clock):
    async with open_supervisor(cluster=cluster()) as sup:
        await all_ready(sup, 2)
        handle = await sup.submit(agent_for(Provider(0.5)), "x")
        async with handle.events() as events:
            kinds = [type(event) async for event in events]
    assert kinds[-1] is RunEnded
    assert RequestSettled in kinds


async def test_events_that_a_slow_driver_does_not_take_are_counted(autojump_clock):
    engine = LocalEngine()

    async def slowly(worker, to_worker, data):
        if not to_worker:
            await trio.sleep(1)
        return [data]

    engine._carry = slowly
    provider = Provider(0.01)
    async with open_supervisor(cluster=cluster(workers=1, per_worker=2_000, engine=engine)) as sup:
        await all_ready(sup, 1)
        async with sup.subscribe(buffer=100_000) as events:
            await trio.sleep(3)
            async with sup.map(agent_for(provider), (f"p{n}" for n in range(1_000))) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 1_000
            await trio.sleep(60)
            told = events.drain_nowait()
    missed = sum(event.count for event in told if isinstance(event, EventsMissed))
    # A worker tells of each run three nodes, one request sent and one settled.
    heard = sum(not isinstance(event, RunAdmitted | RunStarted | RunEnded | EventsMissed) for event in told)
    assert missed > 0
    nodes = sum(type(event).__name__ in {"RunNode", "RequestSent", "RequestSettled"} for event in told)
    assert 0 < nodes <= heard


async def test_the_snapshot_shows_workers_and_models(autojump_clock):
    engine = LocalEngine()
    async with open_supervisor(cluster=cluster(engine=engine), rate_limits=RateLimit(max_in_flight=6)) as sup:
        async with sup.map(agent_for(Provider(0.5)), (f"p{n}" for n in range(20))) as outcomes:
            await trio.sleep(0.6)
            snapshot = sup.snapshot()
            assert len(snapshot.workers) == 2
            assert sum(worker.leased for worker in snapshot.workers.values()) > 0
            assert all(worker.process and worker.host for worker in snapshot.workers.values())
            engine.links[next(iter(snapshot.workers))].scope.cancel()
            assert len([outcome async for outcome in outcomes]) == 20
        snapshot = sup.snapshot()
        assert snapshot.workers_lost == 1
        model = snapshot.models["loud"]
        assert model.usage.requests == 20
        assert model.sent >= 20
        assert model.in_flight == model.waiting == 0


async def test_what_cannot_reach_a_worker_is_refused_with_the_reason(autojump_clock):
    async with open_supervisor(cluster=cluster(), budget=Budget(requests=9)) as sup:
        handle = await sup.submit(agent_for(Provider(5)), "x")
        await trio.sleep(1)
        for ask in (handle.pause, lambda: handle.send("more")):
            with pytest.raises(UserError, match="worked on by a worker of the cluster"):
                ask()
        with pytest.raises(UserError, match="snapshot: it is worked on by a worker"):
            await handle.snapshot()
        with pytest.raises(UserError, match="does not reach any more"):
            sup.set_budget(Budget(requests=3), run_id=handle.run_id)
        with pytest.raises(UserError, match=r"set_budget\(cost\)"):
            sup.set_budget(Budget(cost=3))
        sup.set_budget(Budget(requests=20))
        assert (await handle.outcome()).succeeded


async def test_a_group_is_cancelled_where_its_runs_are(autojump_clock):
    provider = Provider(100)
    async with open_supervisor(cluster=cluster()) as sup:
        agent = agent_for(provider)
        ours = [await sup.submit(agent, "x", group="ours") for _ in range(5)]
        other = await sup.submit(agent, "y", group="theirs")
        await trio.sleep(1)
        assert provider.at_once == 6
        sup.drop_group("ours", cancel="not wanted")
        assert {(await handle.outcome()).error.message for handle in ours} == {"not wanted"}
        assert provider.at_once == 1
        sup.pause()
        waiting = await sup.submit(agent, "z")
        await trio.sleep(1)
        assert provider.at_once == 1, "nobody is begun while it is paused"
        sup.resume()
        await trio.sleep(1)
        assert provider.at_once == 2
        sup.cancel("enough")
        assert (await other.outcome()).error.message == "enough"
        assert not (await waiting.outcome()).succeeded
        assert provider.at_once == 0


class Deadly(Shared):
    """A model that ends the worker which asks it for poison."""

    def __init__(self, engine):
        self.engine = engine
        self.killed = 0

    async def __call__(self, messages, info):
        await trio.sleep(0.1)
        text = messages[-1].parts[-1].content
        if text == "poison":
            self.killed += 1
            name = trio.lowlevel.current_task().context[worker_name]
            self.engine.links[name].scope.cancel()
            await trio.sleep_forever()
        return ModelResponse([TextPart(text)])


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_run_that_kills_its_workers_is_found_and_given_up(autojump_clock, workers):
    deadly = Deadly(LocalEngine())
    given = cluster(workers=workers, per_worker=50, engine=deadly.engine, restarts=20)
    async with open_supervisor(cluster=given, rng=random.Random(1)) as sup:
        prompts = ["fine"] * 60 + ["poison"] + ["fine"] * 60
        async with sup.map(agent_for(deadly), prompts) as outcomes:
            found = [outcome async for outcome in outcomes]
    bad = [outcome for outcome in found if not outcome.succeeded]
    assert [(outcome.input, outcome.error.type) for outcome in bad] == [("poison", "WorkerLost")]
    assert "was lost 4 times" in bad[0].error.message
    assert deadly.killed == 4


async def test_an_output_that_cannot_travel_fails_its_run_and_no_other(autojump_clock):
    from runmgr.output import ToolOutput

    def open_file(x: int):
        return iter([x]).__next__ if x else sqlite3.connect(":memory:")

    async def call(messages, info):
        return ModelResponse([ToolCallPart(info.output_tools[0].name, {"x": 0})])

    agent = Agent(FunctionModel(call), output_type=ToolOutput(open_file))
    async with open_supervisor(cluster=cluster()) as sup:
        with pytest.raises(RunFailed, match="its output cannot travel back"):
            await (await sup.submit(agent, "x")).result()
        assert (await (await sup.submit(agent_for(Provider(0.1)), "y")).outcome()).succeeded


async def test_another_version_of_runmgr_is_told_and_not_tried_again(autojump_clock, monkeypatch):
    seen = []

    async def older(worker, to_worker, data):
        if to_worker and not seen:
            seen.append(worker)
            number, messages = wire.decode_from_driver(data)
            messages[0] = msgspec.structs.replace(messages[0], version=99, runmgr="9.9")
            data = wire.encode(number, messages)
        return [data]

    with pytest.raises(UserError, match=r"the driver's runmgr 9\.9 speaks version 99"):
        async with open_supervisor(cluster=cluster(workers=1, engine=LocalEngine(older))) as sup:
            await (await sup.submit(agent_for(Provider(0.1)), "x")).outcome()


class Reluctant(LocalEngine):
    """Starts nothing for a while, or for ever."""

    def __init__(self, until):
        super().__init__()
        self._until = until
        self.tried = 0

    async def start(self, name):
        self.tried += 1
        await trio.sleep(1)
        if trio.current_time() < self._until:
            raise WorkerLost(f"{name}: there is no machine")
        return await super().start(name)


async def test_workers_that_come_late_are_waited_for(autojump_clock):
    engine = Reluctant(trio.current_time() + 100)
    async with open_supervisor(cluster=cluster(engine=engine, restarts=1_000)) as sup:
        handle = await sup.submit(agent_for(Provider(0.1)), "x")
        assert (await handle.outcome()).succeeded
    assert engine.tried > 10


async def test_a_cluster_without_machines_gives_up_in_the_end(autojump_clock):
    for given in ({"restarts": 3}, {"restarts": 1_000, "patience": 50.0}):
        began = trio.current_time()
        with pytest.raises(NoWorkers, match="there is no machine"):
            async with open_supervisor(cluster=cluster(engine=Reluctant(1e18), **given)) as sup:
                await (await sup.submit(agent_for(Provider(0.1)), "x")).outcome()
        assert trio.current_time() - began < 100


async def test_leaving_while_workers_start_does_not_wait_for_them(autojump_clock):
    began = trio.current_time()
    async with open_supervisor(cluster=cluster(engine=Reluctant(1e18))):
        await trio.sleep(0.1)
    assert trio.current_time() - began < 1


async def test_more_runs_than_places_come_through(autojump_clock):
    async with open_supervisor(cluster=cluster(), max_running=100) as sup:
        async with sup.map(agent_for(Provider(0.1)), (f"p{n}" for n in range(100))) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 100


async def test_the_journal_has_what_the_worker_said(autojump_clock, tmp_path):
    journal = tmp_path / "runs.sqlite"
    specs = [RunSpec(prompt=f"p{n}", run_id=f"r{n}") for n in range(30)]
    provider = Provider(0.1)
    agent = agent_for(provider)
    async with open_supervisor(cluster=cluster(), journal=journal) as sup:
        async with sup.map(agent, specs) as outcomes:
            told = {outcome.run_id: outcome async for outcome in outcomes}
    async with open_supervisor(cluster=cluster(), journal=journal, resume=True) as sup:
        async with sup.map(agent, specs) as outcomes:
            again = {outcome.run_id: outcome async for outcome in outcomes}
    assert provider.asked == 30
    assert all(outcome.replayed for outcome in again.values())
    for run_id, outcome in told.items():
        replayed = msgspec.structs.replace(again[run_id], replayed=False)
        assert replayed == outcome


async def test_a_driver_that_dies_is_resumed_and_no_outcome_is_there_twice(autojump_clock, tmp_path):
    journal = tmp_path / "runs.sqlite"
    specs = [RunSpec(prompt=f"p{n}", run_id=f"r{n}") for n in range(60)]
    provider = Provider(0.2)
    agent = agent_for(provider)
    with trio.move_on_after(0.45):
        async with open_supervisor(cluster=cluster(), journal=journal) as sup:
            async with sup.map(agent, specs) as outcomes:
                async for _ in outcomes:
                    pass
    assert provider.at_once == 0
    async with open_supervisor(cluster=cluster(), journal=journal, resume=True) as sup:
        async with sup.map(agent, specs) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert sorted(outcome.run_id for outcome in found) == sorted(spec.run_id for spec in specs)
        assert {outcome.replayed for outcome in found} == {True, False}
    with sqlite3.connect(journal) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type='table'")]
        table = next(name for name in tables if name.startswith("outcome"))
        assert connection.execute(f"select count(*) from {table}").fetchone() == (60,)  # noqa: S608
    connection.close()


async def test_a_driver_that_was_held_up_takes_nobody_for_lost():
    provider = Provider(0.1)
    async with open_supervisor(cluster=cluster(workers=1, silence=0.4)) as sup:
        await all_ready(sup, 1)
        handle = await sup.submit(agent_for(provider), "x")
        await trio.sleep(0.02)
        time.sleep(0.8)  # noqa: ASYNC251  the whole event loop stands still, as on a machine that has no time for it
        assert (await handle.outcome()).succeeded
        assert sup.snapshot().workers_lost == 0
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, r"workers=0\): must be a whole number of at least 1"),
        ({"per_worker": 1.5}, r"per_worker=1.5\): must be a whole number"),
        ({"silence": 0}, r"silence=0\): seconds above 0"),
        ({"restarts": -1}, r"restarts=-1\): must not be negative"),
    ],
)
@pytest.mark.parametrize("kind", [LocalCluster, RayCluster])
def test_numbers_that_cannot_be_are_said(kind, given, said):
    with pytest.raises(UserError, match=said):
        kind(**({"address": "local"} if kind is RayCluster else {}), **given)


def test_a_cluster_shows_no_secrets():
    cluster = RayCluster(
        address="local",
        runtime_env={"env_vars": {"OPENAI_API_KEY": "hush"}},
        init={"_redis_password": "hush"},
        options={"prices": "hush"},
    )
    assert "hush" not in repr(cluster)


async def test_a_slow_consumer_holds_every_worker_back(autojump_clock):
    provider = Provider(0.1)
    async with open_supervisor(cluster=cluster(), max_queued=10) as sup:
        async with sup.map(agent_for(provider), (f"p{n}" for n in range(1_000))) as outcomes:
            await outcomes.__anext__()
            await trio.sleep(60)
            assert provider.asked <= 31, "places, queue, and the one that was taken"
            assert len([outcome async for outcome in outcomes]) == 999


class Flaky(Shared):
    """A provider that is overloaded the first two times."""

    def __init__(self):
        self.asked = 0

    async def __call__(self, messages, info):
        self.asked += 1
        if self.asked <= 2:
            raise ModelHTTPError(503, "loud")
        return ModelResponse([TextPart("x")], usage=RequestUsage(input_tokens=1_000_000))


async def test_what_the_supervisor_is_opened_with_reaches_the_workers(autojump_clock):
    prices = {"loud": Price(input=2, output=3)}
    async with open_supervisor(cluster=cluster(), retries=2, prices=prices) as sup:
        outcome = await (await sup.submit(agent_for(Flaky()), "x")).outcome()
        assert (outcome.succeeded, outcome.cost) == (True, 2)
        assert sup.cost() == 2
        assert sup.snapshot().models["loud"].resent == 2
    async with open_supervisor(cluster=cluster(), retries=1) as sup:
        assert (await (await sup.submit(agent_for(Flaky()), "x")).outcome()).error.type == "ModelHTTPError"
    async with open_supervisor(cluster=cluster(), run_budget=Budget(requests=1), retries=5) as sup:
        outcome = await (await sup.submit(agent_for(Flaky()), "x")).outcome()
        assert outcome.error.type == "BudgetExhausted"


async def test_a_driver_that_takes_nothing_makes_no_worker_grow(autojump_clock):
    """What a worker has to say waits, the newest of each kind, while its driver takes nothing; and comes through after that."""
    engine, sizes, held = LocalEngine(), [], trio.Event()

    async def carry(worker, to_worker, data):
        if not to_worker:
            sizes.append(len(wire.decode_from_worker(data)[1]))
            if len(sizes) > 3:
                await held.wait()
        return [data]

    engine._carry = carry
    # A driver that does not look at silence, so that its pings go on.
    async with open_supervisor(cluster=cluster(workers=1, engine=engine, silence=1_000.0)) as sup:
        await all_ready(sup, 1)
        handles = [await sup.submit(agent_for(Provider(0.01)), f"p{n}") for n in range(10)]
        await trio.sleep(1)
        link = next(iter(engine.links.values()))
        member = next(iter(sup._runtime.carrier._members.values()))
        for at in range(500):
            member.say(wire.Ping(float(at)))
        await trio.sleep(10)
        assert not link.ended.is_set()
        held.set()
        assert all([(await handle.outcome()).succeeded for handle in handles])
    assert max(sizes) < 10, "500 questions are answered once"
