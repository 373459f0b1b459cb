"""Runs with a journal: what is kept, and how they go on after the process has ended."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import JournalError, ModelHTTPError, RunFailed, UserError
from runmgr.journal import compact, open_journal
from runmgr.messages import ModelResponse, TextPart, ToolCallPart, UserPromptPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, RestartPolicy
from runmgr.supervisor import RunSpec, open_supervisor
from runmgr.tools import RunContext
from runmgr.usage import RequestUsage


class World:
    """A model of three turns with two tool calls, and what happened in it."""

    def __init__(self, *, seconds=1.0):
        self.requests = []
        self.tools = []
        self.seconds = seconds

        async def answer(messages, info):
            await trio.sleep(self.seconds)
            turn = len(messages) // 2
            self.requests.append((messages[0].parts[-1].content, turn))
            usage = RequestUsage(input_tokens=10, output_tokens=1)
            if turn < 2:
                return ModelResponse(parts=[ToolCallPart("add", {"a": turn}, f"c{turn}")], usage=usage)
            return ModelResponse(parts=[TextPart("42")], usage=usage)

        self.agent = Agent(FunctionModel(answer))

        @self.agent.tool_plain(idempotent=True)
        async def add(a: int) -> int:
            self.tools.append(a)
            await trio.sleep(self.seconds)
            return a + 1


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


async def test_finished_runs_are_not_run_again(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        handle = await sup.submit(
            world.agent, "q", run_id="a", group="g", metadata={"n": 1}, input={"line": 3}
        )
        first = await handle.outcome()
    assert len(world.requests) == 3
    async with open_supervisor(journal=path, resume=True) as sup:
        again = await sup.submit(world.agent, "q", run_id="a")
        outcome = await again.outcome()
        result = await again.result()
        new = await (await sup.submit(world.agent, "q", run_id="b")).outcome()
        assert sup.usage() == new.usage  # only what was spent now
    assert outcome.replayed
    assert (outcome.output, outcome.usage, outcome.input, outcome.metadata, outcome.group) == (
        "42", first.usage, {"line": 3}, {"n": 1}, "g",
    )  # fmt: skip
    assert outcome.messages == first.messages
    assert result.output == "42"
    assert result.all_messages() == first.messages
    assert len(world.requests) == 6
    assert not new.replayed


@pytest.mark.parametrize("stop_at", [0.5, 1.5, 2.5, 3.5, 4.5])
async def test_a_stopped_run_goes_on_from_its_last_node(path, autojump_clock, stop_at):
    world = World()
    with trio.move_on_after(stop_at):
        async with open_supervisor(journal=path) as sup:
            handle = await sup.submit(world.agent, "q", run_id="a")
    assert (await handle.outcome()).status == "cancelled"
    answered = len(world.requests)
    with open_journal(path) as journal:
        assert journal.counts() == {"open": 1}
        assert not journal.finished("a")
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
        assert sup.usage().requests == 3 - answered
    assert outcome.status == "succeeded"
    assert not outcome.replayed
    assert len(world.requests) == 3  # none asked for twice
    assert outcome.usage.requests == 3
    assert outcome.usage.input_tokens == 30
    assert outcome.usage.tool_calls == 2
    assert len(outcome.messages) == 6
    with open_journal(path) as journal:
        kept = journal.outcome("a")
    assert kept.messages == outcome.messages
    assert kept.usage == outcome.usage
    assert kept.started_at == outcome.started_at


@pytest.mark.parametrize("stop_at", [1.5, 2.5, 3.5, 4.5])
async def test_runs_that_end_at_a_boundary_in_the_grace_keep_what_they_came_to(path, autojump_clock, stop_at):
    world = World()
    names = [f"a{number}" for number in range(20)]
    async with open_supervisor(journal=path) as sup:
        for name in names:
            await sup.submit(world.agent, name, run_id=name)
        await trio.sleep(stop_at)
        sup.cancel(grace=10)
    with open_journal(path) as journal:
        assert journal.counts() == {"open": 20}
    async with open_supervisor(journal=path, resume=True) as sup:
        handles = [await sup.submit(world.agent, name, run_id=name) for name in names]
        assert all([(await handle.outcome()).succeeded for handle in handles])
    assert len(world.requests) == 20 * 3  # none is paid for twice
    assert len(world.tools) == 20 * 2  # no tool runs twice


@pytest.mark.parametrize("stop_at", [2.5, 20])
async def test_what_a_tool_gave_is_kept_though_the_run_is_about_to_begin_again(path, autojump_clock, stop_at):
    """The request behind it fails at once: before the next commit, for which its checkpoint was put off."""
    tools, failures = [], [ModelHTTPError(500, "m")]

    async def answer(messages, info):
        if len(messages) == 1:
            await trio.sleep(1)
            return ModelResponse([ToolCallPart("order", {"n": 1}, "c")])
        if failures:
            raise failures.pop()
        await trio.sleep(10)
        return ModelResponse([TextPart("42")])

    agent = Agent(FunctionModel(answer, model_name="m"))

    @agent.tool_plain(idempotent=False)
    async def order(n: int) -> int:
        tools.append(n)
        await trio.sleep(1)
        return n

    options = {"journal": path, "retries": 0, "restart": RestartPolicy(backoff=40), "rng": random.Random(3)}
    async with open_supervisor(**options) as sup:
        await sup.submit(agent, "q", run_id="a")
        await trio.sleep(stop_at)
        sup.cancel()
    with trio.fail_after(100):
        async with open_supervisor(**options, resume=True) as sup:
            assert (await (await sup.submit(agent, "q", run_id="a")).outcome()).succeeded
    assert tools == [1]


async def test_a_budget_that_ends_behind_a_tool_does_not_have_it_run_again(path, autojump_clock):
    world = World()
    for requests in (1, 2, 3):
        async with open_supervisor(
            journal=path, resume=requests > 1, budget=Budget(requests=requests)
        ) as sup:
            outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
        assert outcome.succeeded is (requests == 3)
    assert len(world.requests) == 3
    assert world.tools == [0, 1]


async def test_a_response_that_was_being_validated_is_not_paid_again(path, autojump_clock):
    world = World()

    @world.agent.output_validator
    async def ponder(value: str) -> str:
        await trio.sleep(10)
        return value

    with trio.move_on_after(8):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(world.agent, "q", run_id="a")
    assert len(world.requests) == 3
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
    assert outcome.status == "succeeded"
    assert len(world.requests) == 3
    assert outcome.usage.requests == 3


@pytest.mark.parametrize("pause_at", [0.5, 1.5, 2.5])
async def test_a_paused_run_goes_on_in_the_next_process(path, autojump_clock, pause_at):
    world = World()
    with trio.move_on_after(60):
        async with open_supervisor(journal=path) as sup:
            handle = await sup.submit(world.agent, "q")
            await trio.sleep(pause_at)
            await handle.pause().wait()
            assert handle.state == "paused"
            await trio.sleep_forever()
    asked = len(world.requests)
    assert 0 < asked < 3
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(world.agent, "q")).outcome()
    assert outcome.succeeded
    assert len(world.requests) == 3


async def test_a_child_goes_on_from_its_last_node_too(path, autojump_clock):
    world = World()

    async def manage(messages, info):
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("delegate", {}, "d")])
        return ModelResponse(parts=[TextPart(messages[-1].parts[0].content)])

    boss = Agent(FunctionModel(manage))

    @boss.tool(idempotent=True)
    async def delegate(ctx: RunContext) -> str:
        return (await (await ctx.supervisor.submit(world.agent, "q")).result()).output

    with trio.move_on_after(3.5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(boss, "go")
    assert len(world.requests) == 2
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(boss, "go")).outcome()
    assert outcome.output == "42"
    assert len(world.requests) == 3  # two were paid for in the first process
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 2, "open": 0}


async def test_stopping_and_resuming_many_times(path, autojump_clock):
    world = World()
    prompts = [f"q{number}" for number in range(20)]
    outputs = {}
    rounds = 0
    while len(outputs) < 20:
        rounds += 1
        with trio.move_on_after(4):
            async with open_supervisor(journal=path, resume=rounds > 1, max_running=3) as sup:
                specs = [RunSpec(prompt=prompt, run_id=prompt) for prompt in prompts]
                async with sup.map(world.agent, specs) as outcomes:
                    async for outcome in outcomes:
                        if outcome.succeeded:
                            outputs[outcome.run_id] = outcome.output
    assert rounds > 3
    assert set(outputs.values()) == {"42"}
    assert sorted(world.requests) == sorted((prompt, turn) for prompt in prompts for turn in range(3))
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 20, "open": 0}
        assert journal.meta("spent")["usage"]["requests"] == 60


async def test_failed_runs_stay_failed_unless_told_otherwise(path, autojump_clock):
    world = World()
    broken = True

    @world.agent.output_validator
    def check(value: str) -> str:
        if broken:
            raise ValueError("broken")
        return value

    async def run(**options):
        async with open_supervisor(journal=path, **options) as sup:
            handle = await sup.submit(world.agent, "q", run_id="a")
            outcome = await handle.outcome()
            if outcome.status == "failed":
                with pytest.raises(RunFailed, match="broken"):
                    await handle.result()
            return outcome

    assert (await run()).status == "failed"
    broken = False
    assert (await run(resume=True)).status == "failed"
    assert len(world.requests) == 3
    assert (await run(resume=True, retry_failed=True)).status == "succeeded"
    again = await run(resume=True, retry_failed=True)
    assert (again.status, again.replayed) == ("succeeded", True)
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 1, "open": 0}


async def test_a_run_cancelled_by_hand_is_finished(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        handle = await sup.submit(world.agent, "q", run_id="a")
        await trio.sleep(1.5)
        handle.cancel("not wanted")
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
    assert outcome.replayed
    assert outcome.error.message == "not wanted"
    assert outcome.usage.requests == 1


async def test_an_existing_journal_is_only_gone_on_with_when_asked(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        await sup.submit(world.agent, "q", run_id="a")
    with pytest.raises(JournalError, match="holds 1 runs already"):
        async with open_supervisor(journal=path):
            pass


async def test_another_fingerprint_is_noticed(path, autojump_clock):
    world = World()
    with trio.move_on_after(1.5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(world.agent, "q", run_id="a", fingerprint="one")
    with pytest.warns(UserWarning, match="1 unfinished runs .* not submitted again"):  # noqa: PT031
        async with open_supervisor(journal=path, resume=True) as sup:
            with pytest.raises(UserError, match="'one', not 'two'"):
                await sup.submit(world.agent, "q", run_id="a", fingerprint="two")


async def test_what_has_no_json_form_is_refused_at_once(path, autojump_clock):
    async with open_supervisor(journal=path) as sup:
        with pytest.raises(UserError, match="its metadata cannot be kept"):
            await sup.submit(World().agent, "q", metadata={"x": object()})
        with pytest.raises(UserError, match="its input cannot be kept"):
            await sup.submit(World().agent, "q", input=object())


async def test_a_tool_result_without_a_json_form_fails_its_run_only(path, autojump_clock):
    world = World()

    @world.agent.tool_plain(name="odd")
    async def odd() -> object:
        return object()

    async def answer(messages, info):
        return ModelResponse(parts=[ToolCallPart("odd", {}, "c")])

    async with open_supervisor(journal=path) as sup:
        bad = await sup.submit(world.agent, "q", model=FunctionModel(answer))
        good = await sup.submit(world.agent, "q")
        outcome = await bad.outcome()
        assert outcome.status == "failed"
        assert "cannot be kept in the journal" in outcome.error.message
        assert (await good.outcome()).status == "succeeded"


async def test_results_of_tools_are_kept_while_the_next_request_is_under_way(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        await sup.submit(world.agent, "q", run_id="a")
        await trio.sleep(2.5)
        assert (world.requests, world.tools) == ([("q", 0)], [0])
        with open_journal(path) as journal:
            (kept,) = journal.unfinished()
        assert [type(message).__name__ for message in kept.snapshot.messages] == [
            "ModelRequest",
            "ModelResponse",
        ]
        assert kept.snapshot.pending.request.parts[0].content == 1
        assert (kept.snapshot.usage.requests, kept.snapshot.usage.tool_calls, kept.snapshot.run_step) == (
            1,
            1,
            1,
        )


@pytest.mark.parametrize(("seconds", "rows"), [(1.0, 4), (0.0, 2)])
async def test_results_of_tools_have_no_row_where_the_next_response_comes_first(
    path, autojump_clock, seconds, rows
):
    world = World(seconds=seconds)
    async with open_supervisor(journal=path) as sup:
        outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
        select = "SELECT body FROM checkpoints UNION ALL SELECT body FROM outcomes"
        bodies = [row[0] for row in sup.journal.connection.execute(select)]
    assert len(bodies) - 1 == rows
    text = b"".join(bodies)
    assert text.count(b'"kind":"request"') == text.count(b'"kind":"response"') == 3  # each once
    assert text.count(b'"cache_write_tokens":0') == 3  # counts of nothing are in messages only
    with open_journal(path) as journal:
        assert journal.outcome("a").messages == outcome.messages
        assert len(outcome.messages) == 6


@pytest.mark.parametrize("stop", [2.5, 4.5])
async def test_a_request_that_was_kept_and_is_sent_again_is_in_the_history_once(path, autojump_clock, stop):
    world = World()
    with trio.move_on_after(stop):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(world.agent, "q", run_id="a")
            await trio.sleep_forever()
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(world.agent, "q", run_id="a")).outcome()
    assert [type(message).__name__ for message in outcome.messages] == ["ModelRequest", "ModelResponse"] * 3
    with open_journal(path) as journal:
        assert journal.outcome("a").messages == outcome.messages
    compact(path)
    with open_journal(path) as journal:
        assert journal.outcome("a").messages == outcome.messages


async def test_a_kept_request_that_changes_before_it_is_answered_is_kept_again(path, autojump_clock):
    world = World()
    async with open_supervisor(journal=path) as sup:
        handle = await sup.submit(world.agent, "q", run_id="a")
        await trio.sleep(2.5)
        request = sup.get("a")._stepper.all_messages()[-1]
        request.parts.append(UserPromptPart("and this"))
        outcome = await handle.outcome()
    assert outcome.messages[2].parts[1].content == "and this"
    with open_journal(path) as journal:
        assert journal.outcome("a").messages == outcome.messages


async def test_a_failing_disk_stops_the_supervisor_and_comes_out_bare(path, autojump_clock):
    world = World()
    with pytest.raises(JournalError, match="disk is full"):
        async with open_supervisor(journal=path) as sup:
            for number in range(5):
                await sup.submit(world.agent, "q" * 5_000, run_id=f"r{number}")
            await trio.sleep(0.5)
            sup.journal.connection.execute("PRAGMA max_page_count = 1")
            handles = [sup.get(f"r{number}") for number in range(5)]
            await trio.sleep(100)
    outcomes = [await handle.outcome() for handle in handles]
    assert {outcome.status for outcome in outcomes} == {"cancelled"}


async def test_an_outcome_is_told_after_it_is_committed(path):
    world = World(seconds=0)
    async with open_supervisor(journal=path) as sup:  # the real clock, and a thread
        async with sup.map(world.agent, ["q"] * 50) as outcomes:
            with open_journal(path) as journal:
                async for outcome in outcomes:
                    assert journal.finished(outcome.run_id)


async def test_requests_of_failed_sends_are_not_counted_but_paid_ones_are(path, autojump_clock, fakes):
    model = fakes.Model(fail=[ModelHTTPError(500, "m"), None, ModelHTTPError(400, "m")])

    async def twice(run):
        await run.ask(model)
        await run.ask(model)

    async with open_supervisor() as sup:
        outcome = await (await sup.submit(fakes.Agent(twice))).outcome()
    assert outcome.status == "failed"
    assert outcome.usage.requests == 1


PROGRAM = """
    import sys, trio
    from runmgr.agent import Agent
    from runmgr.messages import ModelResponse, TextPart, ToolCallPart
    from runmgr.models.function import FunctionModel
    from runmgr.supervisor import RunSpec, open_supervisor

    log = open(sys.argv[2], "a", buffering=1)

    async def answer(messages, info):
        await trio.sleep(0.001)
        turn = len(messages) // 2
        log.write(f"{messages[0].parts[-1].content} {turn}\\n")
        if turn < 2:
            return ModelResponse(parts=[ToolCallPart("add", {"a": turn}, f"c{turn}")])
        return ModelResponse(parts=[TextPart("42")])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain(idempotent=True)
    async def add(a: int) -> int:
        await trio.sleep(0.001)
        return a

    async def main():
        async with open_supervisor(journal=sys.argv[1], resume=True, max_running=10) as sup:
            specs = (RunSpec(prompt=f"q{n}", run_id=f"q{n}") for n in range(400))
            async with sup.map(agent, specs) as outcomes:
                async for outcome in outcomes:
                    if not outcome.replayed:
                        print(outcome.run_id, flush=True)
        print("done", flush=True)

    trio.run(main)
"""


def test_killed_again_and_again_nothing_is_lost_and_little_asked_twice(path, tmp_path):
    log = tmp_path / "requests"
    told = []
    kills = 0
    while "done" not in told:
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), str(log)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(90):
                line = child.stdout.readline().strip()
                if not line:
                    break
                told.append(line)
            child.kill()
            rest = child.stdout.read().split("\n")
            told += [line for line in rest[:-1] if line]
        kills += 1
        assert kills < 60, "it gets nowhere"
    assert kills > 2
    told.remove("done")
    assert len(told) == len(set(told))  # nothing told twice
    with open_journal(path) as journal:
        assert journal.counts() == {"succeeded": 400, "open": 0}
    requests = log.read_text().split("\n")
    needed = {f"q{number} {turn}" for number in range(400) for turn in range(3)}
    assert needed <= set(requests)
    # Beyond those: at each kill at most the ten in flight, each with a response not yet committed.
    assert len(requests) - 1 - len(needed) <= kills * 10
