"""Runs on Ray actors, for real: they come back once each whoever dies, and nobody is left."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

from runmgr import Agent, Budget, RunFailed, open_supervisor
from runmgr.cluster import RayCluster
from runmgr.exceptions import UserError
from runmgr.models.function import FunctionModel

pytest.importorskip("ray", reason="Ray is not installed here; `make test-ray` installs it and runs these")

from agents import Shout, shouter, typed

HERE = Path(__file__).parent
BOUND = 30.0
"""Seconds. Wide, for a machine that is busy with other things: ``make bench-ray-kills`` holds what is claimed, 10 and 5."""


def cluster(**given):
    given = {"address": "local", "workers": 2, "per_worker": 500, "silence": 15.0, **given}
    return RayCluster(**given)


def workers():
    """Processes of Ray actors that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ray::_RayWorker" in title:
                found.append(int(entry.name))
    return found


async def test_runs_go_to_workers_and_come_back_typed(ray):
    async with open_supervisor(cluster=cluster()) as sup:
        handle = await sup.submit(typed, "hello")
        result = await handle.result()
        assert result.output == Shout(text="HELLO", process=result.output.process)
        assert result.output.process in workers()
        assert result.output.process != os.getpid()
        assert len(result.all_messages()) == 3
        with pytest.raises(RunFailed, match="no answer to bad luck"):
            await (await sup.submit(shouter, "bad luck")).result()
        assert (await handle.outcome()).model == "loud"
        assert sup.usage(by="model").keys() == {"loud"}
        assert sup.usage().requests == 1
    with trio.fail_after(10):
        while workers():
            await trio.sleep(0.1)


async def test_an_agent_that_no_worker_can_import_travels_by_itself(ray):
    prefix = "from here: "

    def model(messages, info):
        from runmgr.messages import ModelResponse, TextPart

        return ModelResponse([TextPart(prefix + messages[-1].parts[-1].content)])

    async with open_supervisor(cluster=cluster(workers=1)) as sup:
        result = await (await sup.submit(Agent(FunctionModel(model)), "x")).result()
        assert result.output == "from here: x"
        with pytest.raises(
            UserError, match=r"the run's options cannot travel to a worker: dict\['deps'\] \(dict\)"
        ):
            await sup.submit(shouter, "x", deps={"lock": threading.Lock()})


async def test_cancelling_reaches_the_worker(ray):
    async with open_supervisor(cluster=cluster(workers=1)) as sup:
        handles = [await sup.submit(shouter, f"slow {n}") for n in range(50)]
        await trio.sleep(1)
        for handle in handles:
            handle.cancel("enough")
        with trio.fail_after(5):
            outcomes = [await handle.outcome() for handle in handles]
        assert {outcome.error.message for outcome in outcomes} == {"enough"}


async def test_a_budget_holds_over_both_workers(ray):
    async with open_supervisor(cluster=cluster(), budget=Budget(requests=700)) as sup:
        async with sup.map(shouter, (f"p{n}" for n in range(1_000))) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert sum(outcome.succeeded for outcome in found) == 700
        assert {outcome.error.type for outcome in found if not outcome.succeeded} == {"BudgetExhausted"}


async def test_a_worker_that_is_killed_takes_no_run_with_it(ray):
    rng = random.Random(7)
    runs, killed, seen = 4_000, 0, set()
    async with open_supervisor(cluster=cluster()) as sup:
        async with sup.map(shouter, (f"p{n}" for n in range(runs))) as outcomes:
            at = {rng.randrange(200, runs - 1_500) for _ in range(2)}
            async for outcome in outcomes:
                assert outcome.succeeded, outcome.error
                assert outcome.usage.requests == 1
                assert outcome.output not in seen
                seen.add(outcome.output)
                if len(seen) in at:
                    alive = workers()
                    if alive:
                        os.kill(rng.choice(alive), signal.SIGKILL)
                        killed += 1
    assert len(seen) == runs
    assert killed


def start(journal, runs, *address):
    return subprocess.Popen(
        [sys.executable, str(HERE / "program.py"), str(journal), str(runs), *address],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process, word):
    for line in process.stdout:
        if line.startswith(word):
            return line.split()[1:]
    raise AssertionError(f"it ended with {process.wait()} and did not say {word!r}")


def wait_until_gone(before, seconds):
    ends = time.monotonic() + seconds
    while left := set(workers()) - before:
        assert time.monotonic() < ends, f"workers {left} are alive {seconds} s later"
        time.sleep(0.1)


def test_a_driver_that_is_killed_leaves_nobody_and_resumes(ray, tmp_path):
    before = set(workers())
    journal = tmp_path / "runs.sqlite"
    address = (
        ray.get_runtime_context().gcs_address
    )  # a Ray of its own takes seconds to start: `ctrl_c` has that
    first = start(journal, 4_000, address)
    read_until(first, "begun")
    first.kill()
    first.wait()
    first.stdout.close()
    wait_until_gone(before, BOUND)
    second = start(journal, 4_000, address)
    distinct, replayed = read_until(second, "done")
    assert int(distinct) == 4_000
    assert int(replayed) > 0
    second.stdout.close()
    assert second.wait() == 0


def test_ctrl_c_ends_everything_in_time(tmp_path):
    before = set(workers())
    program = start(tmp_path / "runs.sqlite", 1_000_000)
    read_until(program, "begun")
    began = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)
    program.stdout.read()
    program.stdout.close()
    assert program.wait() == 0
    wait_until_gone(before, BOUND)
    assert time.monotonic() - began < BOUND
