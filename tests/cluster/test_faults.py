"""Workers that vanish, fall silent, come back; envelopes that come late, twice or never: by the hundred, in virtual time."""

import random
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr import Budget, RunSpec, open_supervisor
from runmgr.cluster import LocalCluster, LocalEngine
from runmgr.settings import ModelSettings

from .helpers import INPUTS, MORE, OUTPUTS, Network, Provider, agent_for, breaks

PATIENCE = 2.0


FAULTS = st.lists(
    st.tuples(st.floats(0, 1.5), st.sampled_from(["kill", "cut", "lose to", "lose from"]), st.integers(0, 7)),
    max_size=3,
)


@settings(max_examples=20 * MORE, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    faults=FAULTS,
    runs=st.integers(1, 120),
    workers=st.integers(1, 4),
    delay=st.sampled_from([0.0, 0.01, 0.3]),
    twice=st.sampled_from([0.0, 0.3]),
)
def test_nothing_is_lost_and_nothing_told_twice(seed, faults, runs, workers, delay, twice):
    provider = Provider(0.2)
    agent = agent_for(provider)
    rng = random.Random(seed)
    network = Network(rng, delay=delay, twice=twice)
    engine = LocalEngine(network.carry)

    async def main():
        cluster = LocalCluster(workers=workers, per_worker=9, silence=PATIENCE, restarts=20, engine=engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks, engine, network, faults)
            async with open_supervisor(cluster=cluster, rng=rng) as sup:
                async with sup.map(agent, (f"p{n}" for n in range(runs))) as outcomes:
                    found = [outcome async for outcome in outcomes]
                assert sorted(o.output for o in found) == sorted(f"P{n}" for n in range(runs))
                assert all(o.usage.requests == 1 and o.usage.input_tokens == INPUTS for o in found)
                usage = sup.usage()
                twice_paid = sup.usage(by="status").get("superseded")
                in_vain = 0 if twice_paid is None else twice_paid.requests
                assert usage.requests == runs + in_vain
                assert usage.requests <= provider.answered, "what a lost worker paid is known to nobody"
                assert sum(u.requests for u in sup.usage(by="model").values()) == usage.requests
                assert sum(u.requests for u in sup.usage(by="group").values()) == usage.requests
            nursery.cancel_scope.cancel()
        assert all(link.ended.is_set() for link in engine.links.values()), "no worker is left"
        assert provider.at_once == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=12 * MORE, deadline=None)
@given(seed=st.integers(0, 2**32), faults=FAULTS, limit=st.integers(0, 90), workers=st.integers(1, 4))
def test_a_budget_holds_over_all_workers(seed, faults, limit, workers):
    provider = Provider(0.2)
    agent = agent_for(provider)
    rng = random.Random(seed)
    network = Network(rng, delay=0.02)
    engine = LocalEngine(network.carry)
    runs = 60

    async def main():
        cluster = LocalCluster(workers=workers, per_worker=9, silence=PATIENCE, restarts=20, engine=engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks, engine, network, faults)
            async with open_supervisor(cluster=cluster, rng=rng, budget=Budget(requests=limit)) as sup:
                async with sup.map(
                    agent, (f"p{n}" for n in range(runs)), model_settings=ModelSettings(max_tokens=OUTPUTS)
                ) as outcomes:
                    found = [outcome async for outcome in outcomes]
                assert provider.asked <= limit
                done = [o for o in found if o.succeeded]
                stopped = [o for o in found if not o.succeeded]
                assert {o.error.type for o in stopped} <= {"BudgetExhausted"}
                assert len(found) == runs
                if not faults:
                    assert len(done) == min(runs, limit), "what is left is lent, to the last request"
            state = sup.snapshot().budget
            assert not any(state.reserved.values()), "no loan is left"
            if not faults:
                assert state.spent["requests"] == len(done), "what was lent and not used is nobody's"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=12 * MORE, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    faults=FAULTS,
    workers=st.integers(1, 3),
    dies=st.floats(0.1, 3),
    twice=st.sampled_from([0.0, 0.3]),
)
def test_a_driver_that_dies_among_faults_is_resumed(seed, faults, workers, dies, twice):
    provider = Provider(0.2)
    agent = agent_for(provider)
    rng = random.Random(seed)
    specs = [RunSpec(prompt=f"p{n}", run_id=f"r{n}") for n in range(40)]

    async def drive(journal, told):
        network = Network(rng, delay=0.02, twice=twice)
        engine = LocalEngine(network.carry)
        cluster = LocalCluster(workers=workers, per_worker=9, silence=PATIENCE, restarts=20, engine=engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks, engine, network, faults)
            async with open_supervisor(cluster=cluster, rng=rng, journal=journal, resume=True) as sup:
                async with sup.map(agent, specs) as outcomes:
                    async for outcome in outcomes:
                        assert outcome.succeeded
                        assert outcome.run_id not in told
                        told[outcome.run_id] = outcome
            nursery.cancel_scope.cancel()

    async def main(folder):
        journal = Path(folder) / "runs.sqlite"
        first, second = {}, {}
        with trio.move_on_after(dies):
            await drive(journal, first)
        assert provider.at_once == 0
        await drive(journal, second)
        assert second.keys() == {spec.run_id for spec in specs}
        for run_id, outcome in first.items():
            assert second[run_id].replayed, "what was told is in the journal"
            assert msgspec.structs.replace(second[run_id], replayed=False) == outcome
        with closing(sqlite3.connect(journal)) as connection:
            ended = connection.execute(
                "select r.run_id, count(*) from outcomes o join runs r on r.run = o.run group by r.run_id"
            ).fetchall()
        assert sorted(ended) == sorted((spec.run_id, 1) for spec in specs)

    with tempfile.TemporaryDirectory() as folder:
        trio.run(main, folder, clock=trio.testing.MockClock(autojump_threshold=0))
