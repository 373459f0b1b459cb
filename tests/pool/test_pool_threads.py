"""RunPool from threads: the shape of an executor, with real threads."""

from __future__ import annotations

import concurrent.futures
import inspect
import queue
import threading
import time

import pytest
import trio

from runmgr import Agent, RunSpec
from runmgr.exceptions import RunCancelled, RunFailed, SupervisorClosed, TooManyFailures, UserError
from runmgr.models.test import TestModel
from runmgr.pool import PoolFull, RunPool
from runmgr.pool.options import SupervisorOptions
from runmgr.supervisor import open_supervisor

SECONDS = 10


def test_submit_gives_a_future_of_the_result(echo):
    with RunPool(echo) as pool:
        future = pool.submit("hello")
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(SECONDS).output == "hello"
        assert future.outcome.usage.requests == 1
        assert future.outcome.run_id == future.run_id


def test_options_reach_the_run(echo):
    with RunPool(echo, max_running=2) as pool:
        future = pool.submit("hello", run_id="mine", group="a", metadata={"k": 1})
        assert future.result(SECONDS).output == "hello"
        assert (future.outcome.run_id, future.outcome.group, future.outcome.metadata) == (
            "mine",
            "a",
            {"k": 1},
        )
        assert set(pool.usage(by="group")) == {"a"}


def test_options_are_those_of_open_supervisor():
    assert set(SupervisorOptions.__annotations__) == set(inspect.signature(open_supervisor).parameters)


def test_mistakes_are_raised_where_they_are_made(echo, tmp_path):
    with pytest.raises(TypeError, match="no option 'max_runing'; it takes .*max_running"):
        RunPool(echo, max_runing=3)
    with pytest.raises(UserError, match="max_running=0"):
        RunPool(echo, max_running=0)
    with pytest.raises(Exception, match="nowhere"):
        with RunPool(echo, journal=tmp_path / "nowhere" / "runs.sqlite"):
            pass
    with RunPool() as pool:
        with pytest.raises(UserError, match="no agent of its own"):
            pool.submit("hello")
        assert pool.submit("hello", agent=echo).result(SECONDS).output == "hello"
        with pytest.raises(TypeError, match="no_such_option"):
            pool.submit("hello", agent=echo, no_such_option=1).result(SECONDS)
        with pytest.raises(TypeError):
            pool.submit("hello", agent=echo, deadline="soon").result(SECONDS)
        with pytest.raises(UserError, match="window=0"):
            pool.map([], window=0)


def test_a_failed_run_is_raised_with_its_cause(echo):
    with RunPool(echo) as pool:
        future = pool.submit("fail 1")
        with pytest.raises(RunFailed, match="ValueError: fail 1") as failed:
            future.result(SECONDS)
        assert isinstance(failed.value.__cause__, ValueError)
        assert future.outcome.status == "failed"


def test_map_is_ordered_and_lazy(gated):
    pulled = []

    def items():
        for number in range(50):
            pulled.append(number)
            yield str(number)

    with RunPool(gated.agent, max_running=3, max_queued=100) as pool:
        results = pool.map(items())
        assert pulled == []
        threading.Timer(0.1, lambda: setattr(gated, "open", True)).start()
        first = next(results)
        assert first.output == "0"
        assert len(pulled) == 6  # twice max_running
        assert [result.output for result in results] == [str(number) for number in range(1, 50)]
        assert gated.most == 3


def test_map_looks_ahead_no_further_than_its_window(gated):
    gated.open = True
    pulled = 0

    def items():
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield str(number)

    with RunPool(gated.agent) as pool:
        for taken, _ in enumerate(pool.map(items(), window=5)):
            assert pulled <= taken + 5


def test_map_raises_the_first_failure_and_cancels_the_rest(gated, echo):
    with RunPool(echo, max_running=4) as pool:
        items = [RunSpec(prompt="fail"), *(RunSpec(prompt="x", agent=gated.agent) for _ in range(3))]
        results = pool.map(items)
        with pytest.raises(RunFailed, match="ValueError: fail"):
            next(results)
        assert gated.cancelled == gated.began
        with pytest.raises(StopIteration):
            next(results)


def test_outcomes_come_as_they_end_and_tell_failures(echo):
    with RunPool(echo) as pool:
        outcomes = list(pool.outcomes(["a", "fail", "b"]))
    assert sorted((outcome.input, outcome.status) for outcome in outcomes) == [
        ("a", "succeeded"),
        ("b", "succeeded"),
        ("fail", "failed"),
    ]


def test_an_error_of_the_items_comes_after_the_results_before_it(echo):
    def items():
        yield "a"
        yield "b"
        raise ZeroDivisionError

    with RunPool(echo) as pool:
        results = pool.map(items())
        assert [next(results).output, next(results).output] == ["a", "b"]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert pool.submit("c").result(SECONDS).output == "c"


def test_leaving_a_map_cancels_its_runs(gated):
    with RunPool(gated.agent, max_running=4) as pool:
        with pool.outcomes(str(number) for number in range(100)) as outcomes:
            thread = threading.Thread(target=lambda: next(outcomes, None))
            thread.start()
            assert gated.began_one.wait(SECONDS)
            gated.open = True
            thread.join(SECONDS)
            gated.open = False
        assert pool.snapshot().states["running"] == 0


def test_a_forgotten_map_cancels_its_runs(gated):
    with RunPool(gated.agent, max_running=4) as pool:
        slow = (RunSpec(prompt=str(number)) for number in range(100))
        gated.open = True
        for _ in pool.map(slow):
            gated.open = False
            break
        del _
        deadline = time.monotonic() + SECONDS
        while pool.snapshot().places_taken:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_full_queue_threads_block_and_nowait_raises(gated):
    with RunPool(gated.agent, max_running=1, max_queued=2) as pool:
        futures = [pool.submit(str(number)) for number in range(3)]
        with pytest.raises(PoolFull, match="is full: 3 runs") as full:
            pool.submit_nowait("3")
        assert isinstance(full.value, queue.Full)
        assert isinstance(full.value, trio.WouldBlock)
        threads = [
            threading.Thread(target=lambda n=number: futures.append(pool.submit(str(n))))
            for number in range(3, 40)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        assert len(futures) == 3
        gated.open = True
        for thread in threads:
            thread.join(SECONDS)
        assert sorted(int(future.result(SECONDS).output) for future in futures) == list(range(40))
        assert gated.most == 1


def test_cancelling_a_future_cancels_the_run_and_counts_as_done_when_it_has_ended(gated):
    with RunPool(gated.agent) as pool:
        future = pool.submit("x")
        assert gated.began_one.wait(SECONDS)
        assert future.running()
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()
        done, _ = concurrent.futures.wait([future], SECONDS)
        assert done
        assert gated.cancelled == 1
        assert future.outcome.status == "cancelled"
        assert "future was cancelled" in future.outcome.error.message
        assert not pool.snapshot().states["running"]


def test_cancelling_a_queued_future_never_begins_it(gated):
    with RunPool(gated.agent, max_running=1) as pool:
        first = pool.submit("1")
        second = pool.submit("2")
        assert second.cancel()
        concurrent.futures.wait([second], SECONDS)
        gated.open = True
        assert first.result(SECONDS).output == "1"
        assert not first.cancel()
    assert gated.began == 1


def test_a_run_id_submitted_twice_runs_once_and_one_cancelled_future_leaves_the_other(gated):
    with RunPool(gated.agent) as pool:
        first, second = (pool.submit("x", run_id="same") for _ in range(2))
        assert gated.began_one.wait(SECONDS)
        assert first.cancel()
        concurrent.futures.wait([first], SECONDS)
        gated.open = True
        assert second.result(SECONDS).output == "x"
        assert gated.began == 1
        assert pool.submit("x", run_id="same").result(SECONDS).output == "x"
    assert gated.began == 1


def test_shutdown_waits_and_refuses_later_submissions(gated):
    pool = RunPool(gated.agent)
    future = pool.submit("x")
    threading.Timer(0.1, lambda: setattr(gated, "open", True)).start()
    pool.shutdown()
    assert future.done()
    assert future.result().output == "x"
    with pytest.raises(SupervisorClosed, match="it was shut down"):
        pool.submit("y")
    pool.shutdown()
    with pytest.raises(SupervisorClosed):
        pool.snapshot()


def test_shutdown_can_cancel_what_is_queued(gated):
    pool = RunPool(gated.agent, max_running=1)
    running, *queued = (pool.submit(str(number)) for number in range(4))
    assert gated.began_one.wait(SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    concurrent.futures.wait(queued, SECONDS)
    assert all(future.cancelled() for future in queued)
    gated.open = True
    pool.shutdown()
    assert running.result().output == "0"


def test_shutdown_wakes_those_who_wait_for_room(gated):
    pool = RunPool(gated.agent, max_running=1, max_queued=0)
    pool.submit("1")
    errors = []

    def wait():
        try:
            pool.submit("2")
        except SupervisorClosed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    pool.shutdown(wait=False)
    thread.join(SECONDS)
    assert len(errors) == 1
    gated.open = True
    pool.shutdown()


def test_an_exception_in_the_block_cancels_every_run(gated):
    with pytest.raises(ZeroDivisionError):
        with RunPool(gated.agent, max_running=1) as pool:
            futures = [pool.submit("x") for _ in range(3)]
            assert gated.began_one.wait(SECONDS)
            raise ZeroDivisionError
    assert gated.cancelled == 1
    for future in futures:
        with pytest.raises(RunCancelled, match="the block raised ZeroDivisionError"):
            future.result(0)


def test_cancel_ends_every_run(gated):
    with RunPool(gated.agent) as pool:
        future = pool.submit("x")
        assert gated.began_one.wait(SECONDS)
        pool.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            future.result(SECONDS)


def test_too_many_failures_end_the_pool_and_are_raised_at_its_end(echo):
    with pytest.raises(TooManyFailures, match="2 runs failed"):
        with RunPool(echo, max_failures=1) as pool:
            futures = [pool.submit("fail") for _ in range(2)]
            for future in futures:
                assert future.exception(SECONDS) is not None
            pool._engine.join(SECONDS)
            with pytest.raises(SupervisorClosed) as closed:
                pool.submit("x")
            assert isinstance(closed.value.__cause__, TooManyFailures)
            with pytest.raises(SupervisorClosed):
                pool.snapshot()


def test_a_forgotten_pool_finishes_its_runs_and_its_thread_ends(gated):
    future = RunPool(gated.agent, name="forgotten").submit("x")
    gated.open = True
    assert future.result(SECONDS).output == "x"
    assert future._job.engine.join(SECONDS)


def test_waiting_in_the_pools_own_thread_is_refused(gated):
    errors, told = [], threading.Event()
    with RunPool(gated.agent, max_running=1, max_queued=0) as pool:

        def again(future):
            for call in (lambda: (pool.submit("a"), pool.submit("b")), pool.shutdown):
                try:
                    call()
                except UserError as error:
                    errors.append(str(error))
            told.set()

        future = pool.submit("x")
        future.add_done_callback(again)
        gated.open = True
        assert told.wait(SECONDS)
    assert "own thread" in errors[0]
    assert "own thread" in errors[1]


def test_a_blocked_thread_shows_in_the_health_check():
    agent = Agent(TestModel())
    blocked, go = threading.Event(), threading.Event()

    @agent.tool_plain
    async def blocking() -> str:
        blocked.set()
        go.wait(SECONDS)
        return "done"

    with RunPool(agent) as pool:
        assert pool.snapshot().states["running"] == 0
        future = pool.submit("x")
        assert blocked.wait(SECONDS)
        with pytest.raises(TimeoutError, match=r"did not answer within 0.05 s: something blocks its thread"):
            pool.snapshot(timeout=0.05)
        go.set()
        future.result(SECONDS)


def test_eight_threads_lose_nothing(echo):
    count = 1_250
    with RunPool(echo, max_running=64, max_queued=200) as pool:
        results = [None] * 8

        def work(number):
            futures = [pool.submit(f"{number} {index}") for index in range(count)]
            results[number] = [future.result(60).output for future in futures]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [[f"{number} {index}" for index in range(count)] for number in range(8)]
        assert pool.snapshot().states["succeeded"] == 8 * count
        assert pool._engine.jobs == {}
        assert pool._engine.room._free == pool._engine.room.capacity
