"""What a process does to its pools: leaks, forks, exits, signals. Programs run in interpreters of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from runmgr.journal import open_journal
from runmgr.pool import RunPool

SECONDS = 20
FILES = Path("/proc/self/fd")
PREAMBLE = """
import asyncio, os, signal, sys, threading, time
import trio
from runmgr import Agent, ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.pool import RunPool

begun = threading.Event()

async def answer(messages, info):
    prompt = messages[-1].parts[-1].content
    if prompt == "slow" and "RESUMED" not in os.environ:
        print("begun", flush=True)
        begun.set()
        await trio.sleep(60)
    return ModelResponse(parts=[TextPart(prompt)])

agent = Agent(FunctionModel(answer))
"""


def program(body, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(body), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process, within=SECONDS):
    out, err = process.communicate(timeout=within)
    return process.returncode, out, err


def is_open(path):
    with open_journal(path) as journal:
        return journal.counts()["open"] == 1


def assert_open(path, run_id):
    """The journal can be read, and holds this run as one to be resumed."""
    with open_journal(path) as journal:
        assert journal.counts()["open"] == 1
        assert not journal.finished(run_id)


def test_a_hundred_opens_and_closes_leave_nothing(echo, talker):
    async def from_asyncio():
        async with RunPool(echo).as_asyncio() as pool:
            await pool.run("x")
            async for _ in pool.map("ab"):
                pass
            async with pool.stream("x", agent=talker.agent) as stream:
                await anext(stream, None)
        return len(asyncio.all_tasks())

    def once():
        with RunPool(echo) as pool:
            pool.submit("x").result()
            list(pool.map("ab"))
        assert asyncio.run(from_asyncio()) == 1

    once()
    threads, files = threading.active_count(), len(list(FILES.iterdir()))
    for _ in range(100):
        once()
    assert threading.active_count() <= threads
    assert len(list(FILES.iterdir())) == files


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_and_can_have_a_pool_of_its_own():
    code, out, err = ended(
        program("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        pool = RunPool(agent)
        future = pool.submit("slow")
        begun.wait(20)
        if os.fork() == 0:
            for call in (lambda: pool.submit("x"), future.result, pool.snapshot):
                try:
                    call()
                except Exception as error:
                    print(type(error).__name__, "a fork has none of its threads" in str(error), flush=True)
            pool.shutdown()
            with RunPool(agent) as mine:
                print("child", mine.submit("mine").result().output, flush=True)
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        print("parent", pool.submit("theirs").result().output, flush=True)
        pool.cancel()
        pool.shutdown()
        """)
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == ["begun", *["SupervisorClosed True"] * 3, "child mine", "7", "parent theirs"]


def test_exec_replaces_the_process():
    code, out, err = ended(
        program("""
        pool = RunPool(agent)
        pool.submit("slow")
        begun.wait(20)
        os.execv(sys.executable, [sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"])
        """)
    )
    assert (code, err) == (0, "")
    assert int(out.split()[-1]) <= 5  # its own four, and none of the pool's


ENDS = {
    "a pool left open": ("future = RunPool(agent, journal=sys.argv[1], name='left').submit('slow', run_id='a'); wait()", 0),
    "sys.exit in the block": ("with RunPool(agent, journal=sys.argv[1]) as p: p.submit('slow', run_id='a'); wait(); sys.exit(3)", 3),
    "sys.exit in a loop": ("async def main():\n  async with RunPool(agent, journal=sys.argv[1]).as_asyncio() as p:\n    t = asyncio.create_task(p.run('slow', run_id='a'))\n    await asyncio.to_thread(wait)\n    sys.exit(3)\nasyncio.run(main())", 3),
    "an exception in a loop": ("async def main():\n  p = RunPool(agent, journal=sys.argv[1]).as_asyncio()\n  t = asyncio.create_task(p.run('slow', run_id='a'))\n  await asyncio.to_thread(wait)\n  1 / 0\nasyncio.run(main())", 1),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDS)
def test_the_journal_is_whole_when_the_host_ends(how, tmp_path):
    body, code = ENDS[how]
    path = tmp_path / "runs.sqlite"
    began = time.monotonic()
    returned, out, err = ended(program("def wait(): begun.wait(20)\n" + body, path))
    assert returned == code, err
    assert "begun" in out
    assert time.monotonic() - began < 10
    if how == "a pool left open":
        assert "left-1 was left open, so 1 runs were cancelled at the interpreter's exit" in err
    if how == "an exception in a loop":  # asyncio cancels the task, and that cancels the run for good
        with open_journal(path) as journal:
            assert journal.counts() == {"cancelled": 1, "open": 0}
    else:
        assert_open(path, "a")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals(number, tmp_path):
    path = tmp_path / "runs.sqlite"
    process = program(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with RunPool(agent, journal=sys.argv[1]) as pool:
            assert pool.submit("quick", run_id="done").result().output == "quick"
            pool.submit("slow", run_id="a").result()
        """,
        path,
    )
    assert process.stdout.readline() == "begun\n"
    while number == signal.SIGKILL and not is_open(path):  # its admission is being committed
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(number)
    code, _, err = ended(process)
    assert time.monotonic() - began < 5
    assert (
        code == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT, signal.SIGKILL: -signal.SIGKILL}[number]
    )
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    assert_open(path, "a")
    code, out, err = ended(
        program(
            """
            with RunPool(agent, journal=sys.argv[1], resume=True) as pool:
                future = pool.submit("quick", run_id="done")
                print(future.result().output, future.outcome.replayed)
                future = pool.submit("slow", run_id="a")
                print(future.result().output, future.outcome.replayed)
            """,
            path,
            env={**os.environ, "RESUMED": "1"},  # its model answers at once this time
        )
    )
    assert (code, out, err) == (0, "quick True\nslow False\n", "")
    with open_journal(path) as journal:
        assert journal.finished("a")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handled", [True, False])
def test_signals_in_asyncio(number, handled, tmp_path):
    path = tmp_path / "runs.sqlite"
    process = program(
        """
        async def main():
            async with RunPool(agent, journal=sys.argv[1]).as_asyncio() as pool:
                if sys.argv[2] == "True":
                    for number in (signal.SIGINT, signal.SIGTERM):
                        asyncio.get_running_loop().add_signal_handler(number, pool.cancel, "a signal")
                await pool.run("quick", run_id="done")
                await pool.run("slow", run_id="a")
        asyncio.run(main())
        """,
        path,
        handled,
    )
    assert process.stdout.readline() == "begun\n"
    while not is_open(path):  # its admission is being committed
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(number)
    code, _, err = ended(process)
    assert time.monotonic() - began < 5
    with open_journal(path) as journal:
        assert journal.finished("done")
        if (
            number == signal.SIGINT and not handled
        ):  # asyncio cancels the main task: that cancels its run for good
            assert journal.counts() == {"succeeded": 1, "cancelled": 1, "open": 0}
        else:
            assert journal.counts() == {"succeeded": 1, "open": 1}
    if handled:
        assert code == 1
        assert "RunCancelled: run a was cancelled: a signal" in err
    else:
        assert code == -number


def test_a_tool_that_blocks_its_thread_does_not_hold_up_the_end():
    code, out, err = ended(
        program("""
        from runmgr.models.test import TestModel
        agent = Agent(TestModel())
        @agent.tool_plain
        def block() -> str:
            begun.set()
            time.sleep(60)
        with RunPool(agent) as pool:
            pool.submit("x")
            begun.wait(20)
            sys.exit(3)
        """)
    )
    assert (code, out, err) == (3, "", "")


def test_the_pool_goes_on_for_who_comes_late():
    """Threads that outlive the main one, and `atexit` functions, may still submit."""
    code, out, err = ended(
        program("""
        import atexit
        def at_exit():
            print(pool.submit("at exit").result(10).output, flush=True)
        pool = RunPool(agent)
        pool.submit("x").result()
        atexit.register(at_exit)
        def work():
            time.sleep(0.2)
            print(pool.submit("from a thread").result(10).output, flush=True)
        threading.Thread(target=work).start()
        """)
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == ["from a thread", "at exit"]


def test_a_handler_may_use_the_pool_whatever_it_interrupts():
    code, out, err = ended(
        program("""
        futures = []
        with RunPool(agent, max_running=2, max_queued=5) as pool:
            def handler(*_):
                try:
                    futures.append(pool.submit_nowait("from the handler"))
                except Exception:
                    pass
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            outputs = [pool.submit(str(n)) for n in range(3000)]
            outputs = [future.result(10).output for future in outputs]
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert outputs == [str(n) for n in range(3000)]
            assert futures
            assert {future.result(10).output for future in futures} == {"from the handler"}
        print("fine")
        """)
    )
    assert (code, out, err) == (0, "fine\n", "")
