"""The pool alone: its connections come from a dialer that needs no network."""

import gc
import random
import socket

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runmgr.models.http.errors import ConnectFailed
from runmgr.models.http.pool import Pool
from runmgr.models.http.wire import Connection


class Dialer:
    def __init__(self):
        self.opened = []
        self.fail = False

    async def open(self, view, generation):
        await trio.lowlevel.checkpoint()
        if self.fail:
            raise ConnectFailed("told to")
        near, far = socket.socketpair()
        near.setblocking(False)
        connection = Connection(near, view, generation)
        connection.far = far
        self.opened.append(connection)
        return connection

    @property
    def open_now(self):
        return [one for one in self.opened if one.sock.fileno() != -1]

    def close(self):
        for one in self.opened:
            one.close()
            one.far.close()


class Connection(Connection):
    __slots__ = ("far",)


@pytest.fixture
def dialer():
    dialer = Dialer()
    yield dialer
    dialer.close()


async def take(pool):
    connection = await pool.acquire()
    try:
        return connection or await pool.open()
    except BaseException:
        pool.release(None)
        raise


def answered(connection):
    connection.begin()
    connection._feed(memoryview(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
    assert connection.reusable
    return connection


async def test_waiters_are_served_in_order(dialer):
    pool = Pool(dialer, 1)
    held = await take(pool)
    order = []

    async def user(number):
        connection = await take(pool)
        order.append(number)
        pool.release(answered(connection))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(user, number)
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            pool.acquire_nowait()
        pool.release(answered(held))
        with pytest.raises(trio.WouldBlock):
            pool.acquire_nowait()  # nobody overtakes
    assert order == list(range(10))


async def test_a_cancelled_waiter_loses_no_slot(dialer):
    pool = Pool(dialer, 1)
    held = await take(pool)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(take, pool)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        nursery.cancel_scope.cancel()
    assert pool.statistics()["waiting"] == 0
    pool.release(answered(held))
    assert (await take(pool)) is held


async def test_cancelled_just_after_the_hand_over(dialer):
    pool = Pool(dialer, 1)
    held = await take(pool)
    got = []

    async with trio.open_nursery() as nursery:

        async def user():
            connection = await take(pool)
            got.append(connection)
            try:
                await trio.sleep_forever()
            finally:
                connection.close()
                pool.release(None)

        nursery.start_soon(user)
        await trio.testing.wait_all_tasks_blocked()
        pool.release(answered(held))  # handed over; the waiter has not run yet
        nursery.cancel_scope.cancel()
    assert got == [held]
    assert pool.statistics() == {"in_use": 0, "idle": 0, "waiting": 0, "limit": 1}


async def test_resizing(dialer):
    pool = Pool(dialer, 1)
    held = []

    async def user():
        held.append(await take(pool))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(user)
        await trio.testing.wait_all_tasks_blocked()
        assert len(held) == 1
        pool.resize(3)
        await trio.testing.wait_all_tasks_blocked()
        assert len(held) == 3
        pool.resize(2)
        assert len(dialer.open_now) == 3  # nobody is interrupted
        pool.release(answered(held.pop()))
        await trio.testing.wait_all_tasks_blocked()
        assert len(held) == 2
        pool.release(answered(held.pop()))
        await trio.testing.wait_all_tasks_blocked()
        assert len(held) == 2
        pool.resize(10)
    assert len(held) == 3
    for connection in held:
        pool.release(answered(connection))
    assert pool.statistics()["idle"] == 3
    pool.resize(1)
    assert pool.statistics()["idle"] == 1
    with pytest.raises(ValueError, match="at least one"):
        pool.resize(0)


async def test_what_cannot_be_used_again_is_closed(dialer):
    pool = Pool(dialer, 2)
    connection = await take(pool)
    connection.begin()  # a request was sent and its answer not read
    pool.release(connection)
    assert not dialer.open_now
    assert pool.statistics()["idle"] == 0


async def test_a_failed_connect_gives_its_slot_back(dialer):
    pool = Pool(dialer, 1)
    dialer.fail = True
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await take(pool)
    assert pool.statistics()["in_use"] == 0


async def test_expiry(dialer, autojump_clock):
    pool = Pool(dialer, 10, expiry=4)
    first, second, third = [await take(pool) for _ in range(3)]
    pool.release(answered(first))
    await trio.sleep(3)
    pool.release(answered(second))
    assert pool.statistics()["idle"] == 2
    await trio.sleep(2)
    pool.release(answered(third))  # looks at ages
    assert dialer.open_now == [second, third]
    await trio.sleep(4)
    fourth = await take(pool)
    assert dialer.open_now == [fourth]


async def test_a_pool_that_nobody_has_any_more_closes_what_is_idle(dialer):
    pool = Pool(dialer, 10)
    pool.release(answered(await take(pool)))
    assert len(dialer.open_now) == 1
    del pool
    gc.collect()
    assert dialer.open_now == []


async def test_the_newest_idle_connection_goes_first(dialer, autojump_clock):
    pool = Pool(dialer, 10)
    first, second = await take(pool), await take(pool)
    pool.release(answered(first))
    pool.release(answered(second))
    assert await take(pool) is second


async def test_a_dead_idle_connection_is_passed_over(dialer):
    pool = Pool(dialer, 10)
    first, second, third = [await take(pool) for _ in range(3)]
    for connection in (first, second, third):
        pool.release(answered(connection))
    third.far.close()
    second.far.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")  # talks out of turn
    assert await take(pool) is first
    assert dialer.open_now == [first]


STEPS = st.lists(
    st.sampled_from(
        ["start", "start", "finish", "finish", "break", "cancel", "grow", "shrink", "close", "die"]
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, limit=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_no_slot_is_ever_lost(steps, limit, seed):
    """Random programs: never more connections than the limit (unless it was lowered), and at the end all slots are free."""
    rng = random.Random(seed)
    dialer = Dialer()

    async def main():
        pool = Pool(dialer, limit)
        users = []
        most = limit

        async def user(me):
            connection = await pool.acquire()
            try:
                if connection is None:
                    connection = await pool.open()
                connection.begin()
                me["holds"] = True
                await me["done"].wait()
                if me["breaks"]:
                    raise ValueError
                answered(connection)
            except ValueError:
                connection.close()
                pool.release(None)
                return
            except BaseException:
                if connection is not None:
                    connection.close()
                pool.release(None)
                raise
            pool.release(connection)

        async def scoped(me):
            with me["scope"]:
                await user(me)

        async with trio.open_nursery() as nursery:
            for step in steps:
                holders = [one for one in users if one["holds"] and not one["done"].is_set()]
                if step == "start":
                    me = {"scope": trio.CancelScope(), "done": trio.Event(), "breaks": False, "holds": False}
                    users.append(me)
                    nursery.start_soon(scoped, me)
                elif step in {"finish", "break"} and holders:
                    one = rng.choice(holders)
                    one["breaks"] = step == "break"
                    one["done"].set()
                elif step == "cancel" and users:
                    rng.choice(users)["scope"].cancel()
                elif step in {"grow", "shrink"}:
                    pool.resize(max(1, pool.limit + (1 if step == "grow" else -1)))
                    most = max(most, pool.limit)
                elif step == "close":
                    pool.close_idle()
                elif step == "die" and dialer.open_now:
                    rng.choice(dialer.open_now).far.close()
                if rng.random() < 0.7:
                    await trio.testing.wait_all_tasks_blocked()
                state = pool.statistics()
                assert len(dialer.open_now) <= most
                assert state["in_use"] + state["idle"] <= most
                assert not (state["waiting"] and state["in_use"] < state["limit"])
            for one in users:
                one["done"].set()
        state = pool.statistics()
        assert state["in_use"] == state["waiting"] == 0
        assert state["idle"] == len(dialer.open_now)
        pool.close_idle()
        assert not dialer.open_now

    try:
        trio.run(main)
    finally:
        dialer.close()
