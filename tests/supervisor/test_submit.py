"""Submitting runs: places, queue, outcomes, commands, the end of the block."""

from __future__ import annotations

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import (
    ModelHTTPError,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunmgrError,
    SupervisorClosed,
    TooManyFailures,
    UserError,
)
from runmgr.supervisor import open_supervisor


def sleeper(seconds, value="slept"):
    async def sleep(run):
        await trio.sleep(seconds)
        return value

    return sleep


async def echo(run):
    return run.prompt


async def boom(run):
    raise ValueError("boom")


async def test_a_run_gives_its_outcome_and_its_result(fakes, autojump_clock):
    model = fakes.Model()

    async def ask(run):
        run.tool_calls = 2
        await run.ask(model)
        return run.prompt.upper()

    async with open_supervisor() as sup:
        handle = await sup.submit(fakes.Agent(ask), "hello", group="g", metadata={"a": 1})
        assert handle.state == "queued" or handle.state == "running"
        outcome = await handle.outcome()
        result = await handle.result()
    assert result.output == "HELLO"
    assert outcome.status == "succeeded"
    assert outcome.output == "HELLO"
    assert outcome.error is None
    assert outcome.run_id == handle.run_id
    assert outcome.index == 0
    assert outcome.input == "hello"
    assert outcome.group == "g"
    assert outcome.metadata == {"a": 1}
    assert outcome.attempts == 1
    assert outcome.usage.requests == 1
    assert outcome.usage.input_tokens == 3
    assert outcome.usage.output_tokens == 2
    assert outcome.usage.tool_calls == 2
    assert outcome.cost is None  # nobody knows what this model costs
    assert outcome.model == "counting"
    assert len(outcome.messages) == 2
    assert outcome.queued_at <= outcome.started_at <= outcome.finished_at
    assert handle.state == "succeeded"
    assert sup.usage() == outcome.usage
    assert sup.usage(by="model") == {"counting": outcome.usage}
    assert sup.usage(by="group") == {"g": outcome.usage}
    assert sup.usage(by="run") == {handle.run_id: outcome.usage}


async def test_leaving_the_block_waits_for_every_run(fakes, autojump_clock):
    start = trio.current_time()
    async with open_supervisor(max_running=2) as sup:
        handles = [await sup.submit(fakes.Agent(sleeper(1))) for _ in range(6)]
    assert trio.current_time() - start == 3
    assert [handle.state for handle in handles] == ["succeeded"] * 6


async def test_submit_waits_while_the_queue_is_full_and_nowait_refuses(fakes, autojump_clock):
    async with open_supervisor(max_running=1, max_queued=2) as sup:
        agent = fakes.Agent(sleeper(10))
        for _ in range(3):
            sup.submit_nowait(agent)
        with pytest.raises(trio.WouldBlock):
            sup.submit_nowait(agent)
        start = trio.current_time()
        await sup.submit(agent)
        assert trio.current_time() - start == 10
        with trio.move_on_after(1) as scope:
            await sup.submit(agent)
        assert scope.cancelled_caught
    assert sup.usage().requests == 0
    assert trio.current_time() - start == 40  # 4 runs, not 5: the cancelled submission was never admitted


async def test_waiting_submitters_are_served_in_turn(fakes, autojump_clock):
    order = []

    async def note(run):
        order.append(run.prompt)
        await trio.sleep(1)

    async with open_supervisor(max_running=1, max_queued=0) as sup, trio.open_nursery() as nursery:
        for name in range(6):
            nursery.start_soon(sup.submit, fakes.Agent(note), name)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(6))


async def test_higher_priority_first_then_first_come(fakes, autojump_clock):
    order = []

    async def note(run):
        order.append(run.prompt)
        await trio.sleep(1)

    async with open_supervisor(max_running=1) as sup:
        for number, priority in enumerate([0, 0, 5, 0, 5, 1]):
            await sup.submit(fakes.Agent(note), (number, priority), priority=priority)
    assert order == [(0, 0), (2, 5), (4, 5), (5, 1), (1, 0), (3, 0)]


async def test_a_failure_is_a_value_and_result_raises_it(fakes, autojump_clock):
    async with open_supervisor() as sup:
        handle = await sup.submit(fakes.Agent(boom))
        other = await sup.submit(fakes.Agent(echo), "x")
        outcome = await handle.outcome()
        assert outcome.status == "failed"
        assert (outcome.error.type, outcome.error.message) == ("ValueError", "boom")
        assert "in boom" in outcome.error.traceback
        with pytest.raises(RunFailed, match="ValueError: boom") as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, ValueError)
        assert (await other.result()).output == "x"


async def test_cancelling_a_run_says_why_and_leaves_the_others(fakes, autojump_clock):
    async with open_supervisor(max_running=2) as sup:
        agent = fakes.Agent(sleeper(5))
        running, other, queued = [await sup.submit(agent) for _ in range(3)]
        await trio.sleep(1)
        assert running.cancel("changed my mind")
        assert queued.cancel("not needed")
        with pytest.raises(RunCancelled, match="not needed"):
            await queued.result()
        outcome = await running.outcome()
        assert outcome.status == "cancelled"
        assert outcome.error.message == "changed my mind"
        assert queued._outcome.started_at is None
        assert not running.cancel("again")
        assert (await other.outcome()).status == "succeeded"
    assert trio.current_time() == 5


async def test_an_exception_in_the_block_cancels_all_and_comes_out_bare(fakes, autojump_clock):
    handles = []
    with pytest.raises(KeyError, match="mine"):
        async with open_supervisor(max_running=1) as sup:
            handles = [await sup.submit(fakes.Agent(sleeper(100))) for _ in range(3)]
            await trio.sleep(1)
            raise KeyError("mine")
    assert [handle.state for handle in handles] == ["cancelled"] * 3
    assert trio.current_time() == 1
    assert (await handles[0].outcome()).error.message == "the block raised KeyError"


async def test_cancelling_the_block_cancels_all(fakes, autojump_clock):
    with trio.move_on_after(3) as scope:
        async with open_supervisor(max_running=1) as sup:
            handles = [await sup.submit(fakes.Agent(sleeper(100))) for _ in range(3)]
    assert scope.cancelled_caught
    outcomes = [await handle.outcome() for handle in handles]
    assert {(outcome.status, outcome.error.message) for outcome in outcomes} == {("cancelled", "shutdown")}


async def test_cancellation_comes_out_bare(fakes, autojump_clock):
    with trio.CancelScope() as scope:
        with pytest.raises(trio.Cancelled) as caught:  # not a group
            async with open_supervisor() as sup:
                await sup.submit(fakes.Agent(sleeper(100)))
                scope.cancel()
                await trio.sleep(1)
        raise caught.value
    assert scope.cancelled_caught


async def test_cancel_ends_everything_but_not_the_body(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        handles = [await sup.submit(fakes.Agent(sleeper(100))) for _ in range(3)]
        await trio.sleep(1)
        sup.cancel("enough")
        await sup.drain()
        assert [(await handle.outcome()).error.message for handle in handles] == ["enough"] * 3
        with pytest.raises(SupervisorClosed, match="enough"):
            await sup.submit(fakes.Agent(echo))
    assert trio.current_time() == 1


async def test_a_waiting_submission_is_refused_when_the_supervisor_stops(fakes, autojump_clock):
    async with open_supervisor(max_running=1, max_queued=0) as sup, trio.open_nursery() as nursery:
        await sup.submit(fakes.Agent(sleeper(100)))

        async def late():
            with pytest.raises(SupervisorClosed):
                await sup.submit(fakes.Agent(echo))

        nursery.start_soon(late)
        await trio.testing.wait_all_tasks_blocked()
        sup.cancel()


async def test_drain_finishes_what_was_admitted(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        handles = [await sup.submit(fakes.Agent(sleeper(1))) for _ in range(3)]
        await sup.drain()
        assert [handle.state for handle in handles] == ["succeeded"] * 3
        with pytest.raises(SupervisorClosed, match="drained"):
            sup.submit_nowait(fakes.Agent(echo))


async def test_timeout_counts_from_the_start_and_deadline_from_submission(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        first = await sup.submit(fakes.Agent(sleeper(10)), timeout=3)
        second = await sup.submit(fakes.Agent(sleeper(2)), timeout=3)
        third = await sup.submit(fakes.Agent(sleeper(2)), deadline=6)
        outcomes = [await handle.outcome() for handle in (first, second, third)]
    assert [outcome.status for outcome in outcomes] == ["failed", "succeeded", "failed"]
    assert outcomes[0].error.type == "TimeoutError"
    assert "3 s" in outcomes[0].error.message
    assert "submission" in outcomes[2].error.message


async def test_pause_gives_the_place_up_and_resume_takes_one_again(fakes, autojump_clock):
    agent = fakes.Agent(sleeper(1), sleeper(1), sleeper(1, "end"))
    async with open_supervisor(max_running=1) as sup:
        first = await sup.submit(agent)
        second = await sup.submit(agent)
        first.pause()
        await trio.sleep(1.5)
        assert (first.state, second.state) == ("paused", "running")
        first.resume()
        assert first.state == "queued"
        await first.outcome()
        assert second.state == "succeeded"
        assert trio.current_time() == 6
        with pytest.raises(RunEnded, match="succeeded"):
            first.pause()


async def test_a_queued_run_can_be_paused_before_it_begins(fakes, autojump_clock):
    async with open_supervisor(max_running=1, max_queued=2) as sup:
        await sup.submit(fakes.Agent(sleeper(1)))
        held = await sup.submit(fakes.Agent(sleeper(1)))
        last = await sup.submit(fakes.Agent(sleeper(1)))
        held.pause()
        await last.outcome()
        assert held.state == "paused"
        assert trio.current_time() == 2
        held.resume()
        assert (await held.outcome()).status == "succeeded"


async def test_a_paused_run_can_be_cancelled(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as sup:
        run = await sup.submit(fakes.Agent(sleeper(1), sleeper(1)))
        run.pause()
        await trio.sleep(2)
        assert run.state == "paused"
        run.cancel()
        assert (await run.outcome()).status == "cancelled"
        held = await sup.submit(fakes.Agent(sleeper(1)))
        waiting = await sup.submit(fakes.Agent(sleeper(1)))
        waiting.pause()
        waiting.cancel()
        assert waiting.state == "cancelled"
        await held.outcome()


async def test_pausing_the_supervisor_stops_all_and_resume_goes_on(fakes, autojump_clock):
    agent = fakes.Agent(sleeper(1), sleeper(1))
    async with open_supervisor(max_running=2) as sup:
        handles = [await sup.submit(agent) for _ in range(4)]
        alone = handles[1]
        alone.pause()
        sup.pause()
        await trio.sleep(10)
        assert [handle.state for handle in handles] == ["paused", "paused", "queued", "queued"]
        sup.resume()
        await handles[3].outcome()
        assert alone.state == "paused"
        alone.resume()
    assert [handle.state for handle in handles] == ["succeeded"] * 4


async def test_beyond_max_parked_a_paused_run_keeps_its_place(fakes, autojump_clock):
    agent = fakes.Agent(sleeper(1), sleeper(1))
    async with open_supervisor(max_running=1, max_parked=0) as sup:
        first = await sup.submit(agent)
        second = await sup.submit(agent)
        first.pause()
        await trio.sleep(5)
        assert (first.state, second.state) == ("paused", "queued")
        first.resume()
        assert (await second.outcome()).status == "succeeded"


async def test_equal_run_ids_are_one_run(fakes, autojump_clock):
    started = []

    async def note(run):
        started.append(run.prompt)
        await trio.sleep(1)

    async with open_supervisor() as sup:
        first = await sup.submit(fakes.Agent(note), 1, run_id="a")
        again = await sup.submit(fakes.Agent(note), 2, run_id="a")
        assert again is first
        assert sup.get("a") is first
        await first.outcome()
        assert await sup.submit(fakes.Agent(note), 3, run_id="a") is first
        assert sup.get("b") is None
    assert started == [1]


async def test_too_many_failures_stop_everything(fakes, autojump_clock):
    with pytest.raises(TooManyFailures, match="3 runs failed, more than max_failures=2") as caught:
        async with open_supervisor(max_failures=2, max_running=2) as sup:
            for _ in range(10):
                await sup.submit(fakes.Agent(sleeper(1), boom))
            last = await sup.submit(fakes.Agent(sleeper(1)))
            await trio.sleep(100)
    assert len(caught.value.outcomes) == 3
    assert (await last.outcome()).status == "cancelled"


async def test_a_share_of_failures_needs_a_sample(fakes, autojump_clock):
    with pytest.raises(TooManyFailures, match="6 of 10 runs failed, more than max_failures=50%"):
        async with open_supervisor(max_failures=0.5, min_sample=10, max_running=1) as sup:
            for number in range(20):
                await sup.submit(fakes.Agent(boom if number < 6 else echo))


async def test_requests_are_sent_again_and_paid_ones_counted(fakes, autojump_clock):
    model = fakes.Model(
        fail=[
            ModelHTTPError(429, "counting", headers={"retry-after": "7"}),
            ModelHTTPError(500, "counting"),
            None,
        ]
    )

    async def ask(run):
        await run.ask(model)
        raise ValueError("after paying")

    async with open_supervisor() as sup:
        handle = await sup.submit(fakes.Agent(ask))
        await trio.sleep(3)
        assert handle.state == "waiting"
        outcome = await handle.outcome()
    assert model.sent == 3
    assert trio.current_time() >= 7
    assert outcome.status == "failed"
    assert outcome.usage.requests == 1
    assert sup.usage().input_tokens == 3


async def test_no_more_resends_than_allowed(fakes, autojump_clock):
    model = fakes.Model(fail=[ModelHTTPError(503, "counting") for _ in range(99)])

    async def ask(run):
        await run.ask(model)

    async with open_supervisor(retries=3) as sup:
        outcome = await (await sup.submit(fakes.Agent(ask))).outcome()
        assert model.sent == 4
        assert outcome.error.status_code == 503
        client_error = fakes.Model(fail=[ModelHTTPError(400, "counting")])

        async def ask_wrongly(run):
            await run.ask(client_error)

        await (await sup.submit(fakes.Agent(ask_wrongly))).outcome()
        assert client_error.sent == 1


async def test_bad_arguments_are_named(fakes):
    for wrong in ({"max_running": 0}, {"max_queued": -1}, {"max_running": 1.5}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            async with open_supervisor(**wrong):
                pass
    async with open_supervisor() as sup:
        with pytest.raises(UserError, match="by='day'"):
            sup.usage(by="day")


async def test_unknown_options_are_refused_at_once(fakes):
    async with open_supervisor() as sup:
        with pytest.raises(TypeError, match="unknown options \\['modle'\\]"):
            await sup.submit(fakes.Agent(echo), "x", modle="m")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_run_ends_the_program_bare(fakes, autojump_clock, error):
    async def interrupt(run):
        raise error

    with pytest.raises(error):
        async with open_supervisor() as sup:
            other = await sup.submit(fakes.Agent(sleeper(100)))
            await sup.submit(fakes.Agent(sleeper(1), interrupt))
            await trio.sleep(50)
    assert trio.current_time() == 1
    assert (await other.outcome()).status == "cancelled"


@pytest.mark.parametrize("where", ["ledger", "state"])
async def test_a_bug_of_ours_ends_the_program_and_is_no_failed_run(fakes, autojump_clock, monkeypatch, where):
    model = fakes.Model()

    async def ask(run):
        await run.ask(model)

    with pytest.raises(RunmgrError, match="internal error in the supervisor.*ZeroDivisionError") as caught:
        async with open_supervisor() as sup:
            runtime = sup._runtime
            if where == "ledger":
                monkeypatch.setattr(type(runtime.ledger), "account", lambda *_: 1 / 0)
            else:
                monkeypatch.setattr(type(runtime), "finish", lambda *_, **__: 1 / 0)
            await sup.submit(fakes.Agent(ask))
            await trio.sleep(50)
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)


async def test_a_group_raised_in_the_block_comes_out_as_it_is(fakes, autojump_clock):
    mine = ExceptionGroup("mine", [ValueError(1), KeyError(2)])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_supervisor() as sup:
            await sup.submit(fakes.Agent(sleeper(100)))
            raise mine
    assert caught.value is mine


async def test_a_model_named_by_a_string_is_one_object_for_all_runs(autojump_clock):
    async with open_supervisor() as sup:
        async with sup.map(Agent(), ["x"] * 20, model="test") as outcomes:
            async for outcome in outcomes:
                assert outcome.succeeded
        assert len(sup._runtime.gates.doors) == 1
        with pytest.raises(UserError, match="nonsense"):
            await sup.submit(Agent(), "x", model="nonsense:m")


async def test_models_are_closed_with_the_supervisor(fakes, autojump_clock):
    class Closing(fakes.Model):
        users = 0

        async def __aenter__(self):
            self.users += 1
            return self

        async def __aexit__(self, *exc_info):
            self.users -= 1

    model = Closing()

    async def ask(run):
        await run.ask(model)

    async with open_supervisor() as sup:
        for _ in range(3):
            await sup.submit(fakes.Agent(ask))
        await sup.drain()
        assert model.users == 1
    assert model.users == 0


async def test_two_supervisors_side_by_side_and_nested(fakes, autojump_clock):
    async with open_supervisor(max_running=1) as one, open_supervisor(max_running=1) as two:

        async def nested(run):
            async with open_supervisor() as inner:
                return await (await inner.submit(fakes.Agent(echo), run.prompt)).result()

        a = await one.submit(fakes.Agent(nested), "x")
        b = await two.submit(fakes.Agent(sleeper(1)))
        one.cancel()
        assert (await a.outcome()).status == "cancelled"
        assert (await b.outcome()).status == "succeeded"


async def test_nothing_is_alive_after_the_block(fakes, autojump_clock):
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_supervisor(max_running=3) as sup:
        for _ in range(10):
            await sup.submit(fakes.Agent(sleeper(1)))
        async with sup.map(fakes.Agent(sleeper(1)), range(10)) as outcomes:
            async for _ in outcomes:
                break
    assert trio.lowlevel.current_statistics().tasks_living == before
