"""The simulation: it holds, it comes again the same, it finds what is planted, and it takes agents of others."""

from __future__ import annotations

import itertools
import subprocess
import sys

import attrs
import pytest
import trio
import trio.testing

from runmgr.agent import Agent
from runmgr.exceptions import ModelRetry, UserError
from runmgr.journal import JournalWriter
from runmgr.journal.batch import Batch
from runmgr.journal.upkeep import salvage
from runmgr.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.models.openai import OpenAIChatModel
from runmgr.supervisor import doors
from runmgr.supervisor.journaling import RunJournal
from runmgr.testing import Faults, Violation, deterministic_trio, run_in_virtual_time, simulate
from runmgr.testing.command import main
from runmgr.testing.network import SimulatedNetwork


@pytest.mark.parametrize("seed", range(10))
def test_what_must_hold_holds(seed):
    report = simulate(seed=seed, runs=150)
    assert report.runs == 150
    assert sum(report.statuses.values()) == 150


@pytest.mark.parametrize("network", [True, False])
def test_a_seed_comes_again_the_same_in_another_process(network):
    report = simulate(seed=3, runs=40, network=network)
    program = (
        f"from runmgr.testing import simulate; print(simulate(seed=3, runs=40, network={network}).digest)"
    )
    for hashes in "1":
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hashes, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == report.digest
    assert simulate(seed=4, runs=40, network=network).digest != report.digest


def test_without_faults_all_goes_well():
    report = simulate(seed=0, runs=50, faults=Faults.none(), max_running=7)
    assert (report.crashes, report.lost) == (0, 0)
    assert set(report.statuses) <= {"succeeded", "failed"}  # drawn timeouts may still end some


# -------------------------------------------------------------------- planted bugs


def every(count):
    """A function that is true every so many calls."""
    numbers = itertools.count(1)
    return lambda: next(numbers) % count == 0


def plant_dropped_commit(patch):
    commit, now = Batch.commit, every(20)

    def drop(self, connection):
        if self.outcomes and now():
            self.outcomes = self.outcomes[4:]  # said to be there, and is not
        commit(self, connection)

    patch.setattr(Batch, "commit", drop)


def plant_settling_twice(patch):
    settle, now = doors._settle, every(50)

    def twice(*args, **kwargs):
        if now():
            settle(*args[:3], None, *args[4:], **kwargs)
        return settle(*args, **kwargs)

    patch.setattr(doors, "_settle", twice)


def plant_skipped_checkpoint(patch):
    checkpoint, now = RunJournal.checkpoint, every(20)
    patch.setattr(RunJournal, "checkpoint", lambda *args: False if now() else checkpoint(*args))


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (plant_dropped_commit, "the journal does not have it|now again"),
        (plant_settling_twice, "says"),
        (plant_skipped_checkpoint, "in the journal|already paid for|lost"),
    ],
)
def test_a_planted_bug_is_found_within_100_seeds(monkeypatch, plant, says):
    plant(monkeypatch)
    with pytest.raises(Violation, match=says):
        for seed in range(100):
            simulate(seed=seed, runs=60)


# -------------------------------------------------------------------- the network and the disk


def test_bytes_that_are_cut_garbled_and_late(monkeypatch):
    served = []
    serve = SimulatedNetwork.serve

    async def count(self, request, *, reused):
        served.append(request)
        return await serve(self, request, reused=reused)

    monkeypatch.setattr(SimulatedNetwork, "serve", count)
    faults = Faults(lost=0.1, malformed=0.2, cut=0.3, disconnect=0.1, hang=0.02, crashes=2, disk=0)
    report = simulate(seed=1, runs=50, faults=faults, network=True, retries=20)
    assert report.requests < len(served)  # those that were refused or never answered among them
    assert all(request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n") for request in served)
    assert report.statuses["succeeded"] > 30


def test_a_client_that_garbles_what_it_reads_is_found_out(monkeypatch):
    read = OpenAIChatModel._response

    def garble(self, reply):
        response = read(self, reply)
        if isinstance(response.parts[0], TextPart):
            response.parts[0].content = response.parts[0].content.upper()
        return response

    monkeypatch.setattr(OpenAIChatModel, "_response", garble)
    with pytest.raises(Violation, match="the provider sent .*answer.*; what arrived is .*ANSWER"):
        simulate(seed=1, runs=30, faults=Faults.none(), network=True)


def test_disks_that_fail_end_the_process_and_it_goes_on():
    faults = attrs.evolve(Faults.none(), disk=1.0, crashes=4)
    reports = [simulate(seed=seed, runs=40, faults=faults) for seed in range(3)]
    assert sum(report.disk_faults for report in reports) >= 3


def test_a_supervisor_that_does_not_say_that_its_disk_failed_is_found_out(monkeypatch):
    monkeypatch.setattr(JournalWriter, "on_error", lambda self, tell: None)
    with pytest.raises(Violation, match="nobody was told"):
        for seed in range(10):
            simulate(seed=seed, runs=40, faults=attrs.evolve(Faults.none(), disk=1.0, crashes=4))


def test_damaged_journals_are_saved_and_gone_on_from():
    faults = attrs.evolve(Faults.none(), damage=1.0, crashes=3)
    reports = [simulate(seed=seed, runs=40, faults=faults) for seed in range(2)]
    assert sum(report.damaged for report in reports) >= 3


def test_a_salvage_that_does_not_name_what_it_lost_is_found_out(monkeypatch):
    def silent(old, new):
        return attrs.evolve(salvage(old, new), reopened=(), lost=())

    monkeypatch.setattr("runmgr.testing.damage.salvage", silent)
    with pytest.raises(Violation, match="a damaged journal .* has lost"):
        for seed in range(20):
            simulate(seed=seed, runs=60, faults=attrs.evolve(Faults.none(), damage=1.0, crashes=3))


def test_what_the_network_does_not_carry_is_said():
    def think(messages, info):
        return ModelResponse(parts=[ThinkingPart("hm"), TextPart("x")])

    agent = Agent(FunctionModel(think))
    with pytest.raises(UserError, match=r"not a ThinkingPart: give simulate\(network=False\)"):
        simulate(agent, ["one"], seed=1, faults=Faults.none(), network=True)
    assert simulate(agent, ["one"], seed=1, faults=Faults.none(), network=False).runs == 1


# -------------------------------------------------------------------- for others


def answer(messages, info):
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    if turn == 0:
        return ModelResponse(parts=[ToolCallPart("look_up", {"word": "x"}, "c")])
    return ModelResponse(parts=[TextPart(messages[0].parts[0].content.upper())])


def test_an_agent_of_ones_own():
    agent = Agent(FunctionModel(answer))

    @agent.tool_plain(idempotent=True)
    def look_up(word: str) -> str:  # sync: called in the loop, so that time stays virtual
        return word * 2

    @agent.output_validator
    async def check(value: str) -> str:
        await trio.sleep(0.1)
        return value

    def right(spec, outcome):
        assert not outcome.succeeded or outcome.output == spec.prompt.upper()

    report = simulate(agent, ["one", "two", "three"] * 10, seed=5, check=right, retries=20)
    assert report.runs == 30


def test_a_check_that_fails_comes_out():
    def wrong(spec, outcome):
        raise AssertionError("no good")

    with pytest.raises(AssertionError, match="no good"):
        simulate(Agent(FunctionModel(answer)), ["one"], seed=1, check=wrong, faults=Faults.none())


def test_a_model_that_charges_for_nothing_is_found_out():
    """A toolset or model that keeps a state of its own over a crash shows up as a difference."""
    asked = itertools.count()

    async def moody(messages, info):
        return ModelResponse(parts=[TextPart(str(next(asked)))])

    agent = Agent(FunctionModel(moody))

    @agent.output_validator
    def refuse(value: str) -> str:
        if int(value) % 2:
            raise ModelRetry("an even one, please")
        return value

    simulate(agent, ["a", "b", "c"], seed=7)


# -------------------------------------------------------------------- the parts


def test_scheduling_follows_the_seed():
    async def order():
        seen = []

        async def work(number):
            await trio.lowlevel.checkpoint()
            seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(work, number)
        return seen

    first = run_in_virtual_time(order, seed=1)
    assert run_in_virtual_time(order, seed=1) == first
    assert run_in_virtual_time(order, seed=2) != first
    with deterministic_trio(1):
        assert trio.run(order, clock=trio.testing.MockClock()) == first


def test_virtual_time_takes_no_time():
    async def day():
        await trio.sleep(86_400)
        return "done"

    assert run_in_virtual_time(day) == "done"


def test_the_command_says_how_a_failed_seed_is_run_again(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["runmgr.testing", "--seeds", "2", "--runs", "20", "--jobs", "1"])
    assert main() == 0
    out = capsys.readouterr().out
    assert "2 seeds, 40 runs" in out
    assert "held in all: no run lost" in out
    monkeypatch.setattr(sys, "argv", ["runmgr.testing", "--seed", "1", "--runs", "20"])
    assert main() == 0
