"""What of the driver's promises only Ray itself can show."""

import pytest
import trio

from runmgr import RateLimit, open_supervisor
from runmgr.cluster import RayCluster
from runmgr.exceptions import UserError
from runmgr.records.events import RequestSettled, RunEnded

pytest.importorskip("ray", reason="Ray is not installed here; `make test-ray` installs it and runs these")

from agents import shouter


async def test_events_models_and_times_come_from_the_workers(ray):
    cluster = RayCluster(address="local", workers=2, per_worker=100)
    async with open_supervisor(cluster=cluster, rate_limits=RateLimit(max_in_flight=20)) as sup:
        with trio.fail_after(60):
            while sum(worker.ready for worker in sup.snapshot().workers.values()) < 2:
                await trio.sleep(0.05)
        assert len({worker.process for worker in sup.snapshot().workers.values()}) == 2
        handle = await sup.submit(shouter, "x")
        async with handle.events() as events:
            kinds = [type(event) async for event in events]
        assert kinds[-1] is RunEnded
        async with sup.subscribe() as events:
            tried = 1
            with trio.fail_after(60):  # until both workers know that somebody listens
                for _ in range(2):
                    heard = 0
                    while heard < 6:
                        tried += 6
                        async with sup.map(shouter, (f"q{n}" for n in range(6))) as outcomes:
                            assert len([outcome async for outcome in outcomes]) == 6
                        heard = sum(isinstance(event, RequestSettled) for event in events.drain_nowait())
            async with sup.map(shouter, (f"p{n}" for n in range(100))) as outcomes:
                found = [outcome async for outcome in outcomes]
            settled = sum(isinstance(event, RequestSettled) for event in events.drain_nowait())
        assert settled == 100, "a run's events are told before its end"
        for outcome in found:
            assert outcome.queued_at <= outcome.started_at <= outcome.finished_at
            assert outcome.finished_at - outcome.started_at >= 0.045
        model = sup.snapshot().models["loud"]
        assert model.usage.requests == 100 + tried
        assert model.sent >= 1


async def test_an_address_where_nobody_is_is_said_at_once():
    with trio.fail_after(30):
        with pytest.raises(UserError, match=r"RayCluster\(address='127.0.0.1:1'\): nobody answers there"):
            from runmgr.cluster.ray_engine import _check_reachable

            _check_reachable("127.0.0.1:1")
        with pytest.raises(UserError, match="ray://HOST:PORT is needed"):
            _check_reachable("ray://somewhere")
        await trio.lowlevel.checkpoint()
