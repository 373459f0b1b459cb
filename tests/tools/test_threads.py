"""Sync functions in threads: where they run, and what cancelling them leaves behind."""

import contextvars
import threading
import time
from functools import partial

import pytest
import trio
import trio.testing

from runmgr.tools import ToolThreads, tool_threads
from runmgr.tools.threads import DEFAULT_TOOL_THREADS, run_in_thread


async def test_runs_elsewhere_with_the_callers_context():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(1)

    def function(x):
        seen = variable.get()
        variable.set(2)
        return threading.current_thread(), seen, x

    thread, seen, x = await run_in_thread("f", partial(function, 3))
    assert thread is not threading.current_thread()
    assert (seen, x) == (1, 3)
    assert variable.get() == 1


async def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        await run_in_thread("f", lambda: 1 / 0)


async def test_from_thread_works():
    def function():
        return trio.from_thread.run(partial(trio.sleep, 0)), trio.from_thread.run_sync(lambda: 5)

    assert await run_in_thread("f", function) == (None, 5)


async def test_limiter_has_a_stated_size_and_bounds_the_threads():
    threads = tool_threads()
    assert isinstance(threads, ToolThreads)
    assert threads.limiter.total_tokens == DEFAULT_TOOL_THREADS
    threads.limiter.total_tokens = 2
    running = peak = 0
    lock = threading.Lock()

    def function():
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(run_in_thread, "f", function)
    assert peak == 2


async def test_each_trio_run_has_its_own():
    other = await trio.to_thread.run_sync(lambda: trio.run(_threads))
    assert other is not tool_threads()


async def _threads():
    return tool_threads()


async def cancelled_inside(name, function, **options):
    """Call it, and cancel the call once the function has begun."""
    begun = threading.Event()

    def begins():
        begun.set()
        return function()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_in_thread, name, begins, **options))
        while not begun.is_set():
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught


async def test_a_cancelled_call_waits_for_its_thread():
    finished = []

    def function():
        time.sleep(0.05)
        finished.append(True)
        return "dropped"

    abandoned: list[str] = []
    await cancelled_inside("slow", function, abandoned=abandoned)
    assert finished == [True]
    assert abandoned == []


async def test_a_thread_that_outlives_the_grace_time_is_left_and_named():
    release = threading.Event()
    limiter = tool_threads().limiter
    tool_threads().grace = 0.02
    abandoned: list[str] = []
    await cancelled_inside("stuck", release.wait, abandoned=abandoned)
    assert abandoned == ["stuck"]
    assert limiter.borrowed_tokens == 1  # it still counts
    release.set()
    with trio.fail_after(10):
        while limiter.borrowed_tokens:
            await trio.sleep(0.01)


async def test_an_outer_cancellation_cannot_cut_the_grace_time_short():
    began, finished = threading.Event(), []

    def function():
        began.set()
        time.sleep(0.1)
        finished.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled_inside, "slow", function)
        while not began.is_set():
            await trio.sleep(0.001)
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert finished == [True]


async def test_a_function_that_never_got_a_place_never_runs():
    tool_threads().limiter.total_tokens = 1
    release, ran = threading.Event(), []
    abandoned: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, "first", release.wait)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await run_in_thread("second", lambda: ran.append(True), abandoned=abandoned)
        assert scope.cancelled_caught
        release.set()
    assert ran == []
    assert abandoned == []


def test_a_thread_that_outlives_its_trio_run_ends_quietly():
    release = threading.Event()
    ended = threading.Event()

    def function():
        release.wait(10)
        ended.set()

    async def main():
        tool_threads().grace = 0
        await cancelled_inside("stuck", function)

    trio.run(main)
    release.set()
    assert ended.wait(10)


async def test_cancelled_before_it_starts():
    ran = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_in_thread("f", lambda: ran.append(True))
    assert scope.cancelled_caught
    assert ran == []


async def test_functions_begin_in_the_order_of_their_calls():
    waiting = iter(range(100))
    begun = []

    async def worker():
        number = next(waiting)
        await run_in_thread("f", lambda: begun.append(number))

    for _ in range(25):  # trio shuffles tasks, and the system threads
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(worker)
    assert begun == list(range(100))


async def test_a_thread_that_cannot_be_had_holds_up_nobody(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("trio._threads.start_thread_soon", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await run_in_thread("f", lambda: 1)
    with trio.fail_after(5):
        assert await run_in_thread("g", lambda: 2) == 2
