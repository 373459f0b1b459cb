"""An event loop in a thread that holds a block open; on the real clock, with real threads."""

import threading
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
import trio

from runmgr.concurrency import LoopThread


class Block:
    """A block that notes how it is left."""

    def __init__(self):
        self.left = []

    @asynccontextmanager
    async def open(self):
        try:
            yield self
        except BaseException as error:
            self.left.append(error)
            raise
        else:
            self.left.append(None)


def running():
    return [thread for thread in threading.enumerate() if thread.name == "under test"]


def opened(block):
    return LoopThread(block, name="under test")


async def answer(value):
    await trio.lowlevel.checkpoint()
    return value


async def fail(error):
    raise error


def test_it_does_what_it_is_asked_within_one_block():
    block = Block()
    loop = opened(block.open())
    assert loop.value is block
    assert [loop.do(lambda value=value: answer(value)) for value in (1, 2)] == [1, 2]
    with pytest.raises(ValueError, match="wrong"):
        loop.do(lambda: fail(ValueError("wrong")))
    assert loop.do(lambda: answer(3)) == 3
    assert block.left == []
    loop.close()
    assert block.left == [None]
    assert running() == []
    loop.close()
    with pytest.raises(RuntimeError, match="The under test is closed"):
        loop.do(lambda: answer(4))


def test_what_is_asked_may_leave_scopes_open():
    async def numbers():
        async with trio.open_nursery():
            with trio.CancelScope():
                yield 1
                await trio.lowlevel.checkpoint()
                yield 2

    block = Block()
    loop = opened(block.open())
    numbered = numbers()
    assert [loop.do(lambda: anext(numbered, None)) for _ in range(3)] == [1, 2, None]
    loop.close()
    assert block.left == [None]


def test_the_callers_context_reaches_into_it():
    variable = ContextVar("variable", default="outside")

    @asynccontextmanager
    async def block():
        yield variable.get()

    token = variable.set("inside")
    loop = opened(block())
    variable.reset(token)
    assert loop.value == "inside"
    loop.close()


def test_a_block_that_cannot_be_entered():
    @asynccontextmanager
    async def block():
        raise ValueError("locked")
        yield

    with pytest.raises(ValueError, match="locked"):
        opened(block())
    assert running() == []


def test_an_error_of_the_callers_is_raised_in_the_block():
    block = Block()
    error = ValueError("mine")
    opened(block.open()).close(error)
    assert block.left == [error]


def test_what_leaving_raises_is_raised_by_close():
    @asynccontextmanager
    async def block():
        yield
        raise ValueError("stuck")

    with pytest.raises(ValueError, match="stuck"):
        opened(block()).close()
    opened(block()).close(KeyError("which goes on by itself"))
    assert running() == []


def test_a_block_that_ends_by_itself():
    @asynccontextmanager
    async def block():
        async with trio.open_nursery() as nursery:
            failing = trio.Event()

            async def background():
                await failing.wait()
                raise ValueError("background")

            nursery.start_soon(background)
            yield failing

    loop = opened(block())

    async def hit():
        loop.value.set()
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as told:
        loop.do(hit)
    assert told.group_contains(ValueError, match="background")
    loop._thread.join()
    with pytest.raises(ExceptionGroup):
        loop.do(lambda: answer(1))
    loop.close(told.value)


def test_closing_cancels_work_that_nobody_waits_for_any_more(monkeypatch):
    class Interrupted(BaseException):
        pass

    block = Block()
    loop = opened(block.open())
    at_work = threading.Event()

    async def stuck():
        at_work.set()
        await trio.sleep_forever()

    def interrupted():
        at_work.wait()
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_answer", interrupted)
        with pytest.raises(Interrupted) as caught:
            loop.do(stuck)
    loop.close(caught.value)
    assert [type(error) for error in block.left] == [trio.Cancelled]
    assert running() == []


def test_an_interrupted_entering_is_cancelled(monkeypatch):
    cancelled = []

    @asynccontextmanager
    async def block():
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(True)
            raise
        yield

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopThread, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(block())
    assert cancelled == [True]
    assert running() == []
