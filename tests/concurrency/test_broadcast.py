import contextlib
import gc
import warnings

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from runmgr.concurrency import Broadcast, SubscriptionStatistics


def publish_all(broadcast, events):
    for event in events:
        broadcast.publish_nowait(event)


async def test_every_subscriber_gets_every_event_from_when_it_subscribed():
    broadcast = Broadcast()
    broadcast.publish_nowait(0)
    async with broadcast.subscribe() as one:
        broadcast.publish_nowait(1)
        async with broadcast.subscribe() as two:
            broadcast.publish_nowait(2)
            assert one.drain_nowait() == [1, 2]
            assert two.drain_nowait() == [2]
        assert broadcast.subscribers == (one,)
    assert not broadcast.subscribers


async def test_filter():
    broadcast = Broadcast()
    async with broadcast.subscribe(filter=lambda event: event % 2) as odd:
        publish_all(broadcast, range(6))
        assert odd.drain_nowait() == [1, 3, 5]


async def test_iterating_waits_and_ends_when_the_broadcast_closes():
    broadcast, got = Broadcast(), []

    async def read():
        async with broadcast.subscribe() as events:
            async for event in events:
                got.append(event)  # noqa: PERF401  # looked at while it grows

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        publish_all(broadcast, [1, 2])
        await wait_all_tasks_blocked()
        assert got == [1, 2]
        broadcast.publish_nowait(3)
        broadcast.close()
        broadcast.close()
    assert got == [1, 2, 3]
    with pytest.raises(trio.ClosedResourceError):
        broadcast.publish_nowait(4)
    async with broadcast.subscribe() as late:
        with pytest.raises(trio.EndOfChannel):
            await late.receive()


async def test_a_slow_reader_stalls_nobody_and_learns_what_it_missed():
    broadcast = Broadcast()
    async with (
        broadcast.subscribe(buffer=3, on_missed=lambda count: f"missed {count}") as slow,
        broadcast.subscribe(buffer=100) as fast,
    ):
        for event in range(10):
            with trio.CancelScope() as scope:
                scope.cancel()  # not even a checkpoint
                await broadcast.publish(event)
            assert not scope.cancelled_caught
        assert slow.missed == 7
        assert slow.statistics().buffered == 3
        assert slow.drain_nowait() == ["missed 7", 7, 8, 9]
        broadcast.publish_nowait(10)
        assert slow.drain_nowait() == [10]
        assert fast.drain_nowait() == list(range(11))
        assert fast.missed == 0


async def test_memory_stays_bounded_when_nobody_reads():
    broadcast = Broadcast()
    async with (
        broadcast.subscribe(buffer=5) as dropping,
        broadcast.subscribe(buffer=5, overflow="coalesce", key=lambda event: event) as coalescing,
    ):
        publish_all(broadcast, range(1_000))
        assert len(dropping._events) == len(coalescing._events) == 5
        assert dropping.missed == coalescing.missed == 995


async def test_coalescing_keeps_the_newest_of_each_key_in_order_of_the_first():
    broadcast = Broadcast()
    async with broadcast.subscribe(overflow="coalesce", key=lambda event: event[0]) as events:
        publish_all(broadcast, ["a1", "b1", "a2", "c1", "a3"])
        assert events.drain_nowait() == ["a3", "b1", "c1"]
        assert events.missed == 2
    async with broadcast.subscribe(overflow="coalesce") as latest:
        publish_all(broadcast, "abc")
        assert await latest.receive() == "c"


async def test_a_subscriber_that_asked_for_it_is_waited_for():
    broadcast, sent = Broadcast(), []

    async def send(events):
        for event in events:
            await broadcast.publish(event)
            sent.append(event)

    async with broadcast.subscribe(buffer=2, overflow="wait") as patient, broadcast.subscribe() as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, range(6))
            await wait_all_tasks_blocked()
            assert sent == [0, 1]
            assert other.drain_nowait() == [0, 1]  # the third went to nobody yet
            with pytest.raises(trio.WouldBlock):
                broadcast.publish_nowait("x")
            assert other.drain_nowait() == []
            assert [await patient.receive() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
        assert patient.missed == 0
        assert other.drain_nowait() == [2, 3, 4, 5]


async def test_an_event_that_a_patient_subscriber_does_not_want_does_not_wait():
    broadcast = Broadcast()
    async with broadcast.subscribe(buffer=1, overflow="wait", filter=lambda event: event < 10) as small:
        broadcast.publish_nowait(1)
        broadcast.publish_nowait(11)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broadcast.publish, 2)
            await wait_all_tasks_blocked()
            await broadcast.publish(12)
            assert await small.receive() == 1
        assert await small.receive() == 2


async def test_senders_that_wait_go_in_order_and_none_is_lost_when_one_is_cancelled():
    broadcast, sent, scope = Broadcast(), [], trio.CancelScope()

    async def send(event):
        await broadcast.publish(event)
        sent.append(event)

    async def send_cancelled():
        with scope:
            await broadcast.publish("cancelled")

    async with broadcast.subscribe(buffer=1, overflow="wait") as one:
        async with broadcast.subscribe(buffer=1, overflow="wait") as two:
            broadcast.publish_nowait("first")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_cancelled)
                await wait_all_tasks_blocked()
                for event in range(3):
                    nursery.start_soon(send, event)
                    await wait_all_tasks_blocked()
                assert await one.receive() == "first"  # now only `two` has no room
                await wait_all_tasks_blocked()
                scope.cancel()
                await wait_all_tasks_blocked()
                assert sent == []
                for event in ("first", 0, 1):
                    assert await two.receive() == event
                    await wait_all_tasks_blocked()
                    assert await one.receive() == (0 if event == "first" else event + 1)
                    await wait_all_tasks_blocked()
            assert sent == [0, 1, 2]
            assert two.drain_nowait() == [2]


async def test_leaving_the_subscription_frees_the_sender():
    broadcast = Broadcast()
    async with trio.open_nursery() as nursery:
        async with broadcast.subscribe(buffer=1, overflow="wait"):
            broadcast.publish_nowait(1)
            nursery.start_soon(broadcast.publish, 2)
            await wait_all_tasks_blocked()


@pytest.mark.parametrize("broken", ["filter", "key"])
async def test_a_broken_filter_is_its_readers_problem(broken):
    broadcast = Broadcast()

    def refuse(event):
        if event == 2:
            raise ValueError("I cannot stand 2")
        return True

    async with (
        broadcast.subscribe(**{broken: refuse}, overflow="coalesce" if broken == "key" else "wait") as events,
        broadcast.subscribe() as other,
    ):
        publish_all(broadcast, [1, 2, 3])
        assert broadcast.subscribers == (other,)
        assert other.drain_nowait() == [1, 2, 3]
        assert await events.receive() == 1
        with pytest.raises(ValueError, match="cannot stand 2"):
            await events.receive()


@pytest.mark.parametrize("filled", [False, True])
async def test_cancelled_takes_nothing(filled):
    broadcast = Broadcast()
    async with broadcast.subscribe() as events:
        if filled:
            broadcast.publish_nowait(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await events.receive()
        assert scope.cancelled_caught
        assert events.statistics().buffered == filled


async def test_receive_nowait():
    broadcast = Broadcast()
    with broadcast.subscribe() as events:
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()
        broadcast.publish_nowait(1)
        assert events.receive_nowait() == 1


async def test_mistakes():
    broadcast = Broadcast()
    with pytest.raises(ValueError, match="buffer"):
        broadcast.subscribe(buffer=0)
    with pytest.raises(ValueError, match="'drop_oldest', 'coalesce'"):
        broadcast.subscribe(overflow="explode")
    with broadcast.subscribe() as events:
        pass
    with pytest.raises(RuntimeError, match="once"):
        events.__enter__()


async def test_a_cancelled_reader_leaves_what_it_had_not_taken():
    broadcast, got = Broadcast(), []
    async with broadcast.subscribe() as events:
        publish_all(broadcast, range(100))
        with trio.CancelScope() as scope:
            async for event in events:
                got.append(event)
                scope.cancel()
        assert scope.cancelled_caught
        assert len(got) <= 32
        assert got + events.drain_nowait() == list(range(100))


async def test_a_gap_is_told_in_the_midst_of_events_that_are_there():
    broadcast = Broadcast()
    async with broadcast.subscribe(buffer=4, on_missed=lambda count: f"missed {count}") as events:
        publish_all(broadcast, range(3))
        got = [await anext(events), await anext(events)]
        publish_all(broadcast, range(3, 8))
        broadcast.close()
        got += [event async for event in events]
    assert got == [0, 1, "missed 2", 4, 5, 6, 7]


class Straight:
    """A sender that gives the only subscriber its events without the broadcast."""

    def __init__(self):
        self.broadcast, self.only, self.tell = Broadcast(self.choose), None, None

    def choose(self):
        only = self.broadcast.only()
        if self.only is not None and self.only is not only:
            self.only._straight(None)
        self.only, self.tell = only, self.broadcast.publish_nowait
        if only is not None:
            only._straight(lambda way: setattr(self, "tell", way))

    def tell_all(self, events):
        for event in events:
            self.tell(event)


async def test_the_only_subscriber_is_given_events_straight_while_it_takes_all_of_them():
    changes = []
    broadcast = Broadcast(lambda: changes.append(broadcast.only()))
    async with broadcast.subscribe() as one:
        assert broadcast.only() is one
        async with broadcast.subscribe():
            assert broadcast.only() is None
        assert broadcast.only() is one
        one.close()
        one.close()
        assert broadcast.only() is None
    for options in ({"filter": bool}, {"overflow": "wait"}):
        async with broadcast.subscribe(**options):
            assert broadcast.only() is None
    assert changes == [one, None, one, None, None, None, None, None]


@pytest.mark.parametrize("ends", ["reads", "closes", "is joined", "is asked"])
async def test_what_is_told_before_a_readers_turn_is_no_more_than_its_buffer(ends):
    sender, got = Straight(), []

    async def read(events):
        async for event in events:
            got.append(event)  # noqa: PERF401  # looked at while it grows

    async with trio.open_nursery() as nursery:
        with sender.broadcast.subscribe(buffer=5, on_missed=lambda count: f"missed {count}") as events:
            nursery.start_soon(read, events)
            await wait_all_tasks_blocked()
            for event in range(12):
                sender.tell(event)
                assert len(events._events) <= 5
            match ends:
                case "closes":
                    sender.broadcast.close()
                case "is joined":
                    with sender.broadcast.subscribe() as other:
                        assert len(events._events) == 5
                        sender.tell_all([12])
                        assert other.drain_nowait() == [12]
                case "is asked":
                    assert events.statistics().buffered == 5
                    assert events.statistics().missed == 7
                    sender.tell_all([12])
            await wait_all_tasks_blocked()
            first = 8 if ends in {"is joined", "is asked"} else 7
            assert got == [f"missed {first}", *range(first, first + 5)]
            assert events.statistics() == SubscriptionStatistics(0, first)
            if ends != "closes":
                sender.tell_all("ab")
                await wait_all_tasks_blocked()
                assert got[6:] == ["a", "b"]


async def test_two_readers_of_one_subscription_share_its_events():
    sender, got = Straight(), []

    async def read(events):
        async for event in events:
            got.append(event)
            await trio.sleep(0)

    async with trio.open_nursery() as nursery:
        async with sender.broadcast.subscribe() as events:
            for _ in range(2):
                nursery.start_soon(read, events)
            await wait_all_tasks_blocked()
            for start in range(0, 100, 10):
                sender.tell_all(range(start, start + 10))
                await trio.sleep(0)
            await wait_all_tasks_blocked()
            assert sorted(got) == list(range(100))
            sender.broadcast.close()


async def test_a_reader_that_stops_early_may_begin_again_and_leaves_nothing_behind():
    sender, got = Straight(), []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with sender.broadcast.subscribe() as events:
            for start in range(0, 20, 4):
                sender.tell_all(range(start, start + 4))
                async for event in events:
                    got.append(event)
                    if event % 4 == 3:
                        break
            with trio.move_on_after(0) as scope:
                async for _ in events:
                    pass
            assert scope.cancelled_caught
            sender.tell_all([20])
            assert await anext(aiter(events)) == 20
        gc.collect()
        await wait_all_tasks_blocked()
    assert got == list(range(20))
    assert warned == []


async def test_a_reader_keeps_up_with_more_than_its_buffer_a_turn():
    """Of each turn of the senders it gets as much as its buffer holds, and not one event."""
    sender, got = Straight(), []

    async def read(events):
        async for event in events:
            got.append(event)  # noqa: PERF401  # looked at while it grows

    async with trio.open_nursery() as nursery:
        async with sender.broadcast.subscribe(buffer=10, on_missed=lambda count: -count) as events:
            nursery.start_soon(read, events)
            await wait_all_tasks_blocked()
            for _ in range(5):
                sender.tell_all(range(1, 31))
                await wait_all_tasks_blocked()
            assert got == [-20, *range(21, 31)] * 5
            sender.broadcast.close()


async def test_a_reader_that_takes_long_for_each_event_lets_others_have_their_turn(mock_clock):
    broadcast, got, turns = Broadcast(), [], 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with broadcast.subscribe() as events, trio.open_nursery() as nursery:
        publish_all(broadcast, range(320))
        broadcast.close()
        nursery.start_soon(other)
        async for event in events:
            got.append(event)
            mock_clock.jump(0.004)
        assert got == list(range(320))
        assert 8 <= turns <= 12
        nursery.cancel_scope.cancel()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["turn", "join", "leave", "take", "drain", "look", "publish"]), st.just(0)),
    ),
    max_size=30,
)


@given(steps, st.integers(1, 8), st.sampled_from(["none", "quick", "slow", "stops"]), st.booleans())
def test_whatever_the_order_all_is_read_in_order_but_for_what_is_said_to_be_missed(
    steps, buffer, reader, straight
):
    async def main():
        sender, told, got, others = Straight(), 0, [], []
        if not straight:
            sender.broadcast = Broadcast()
            sender.tell = sender.broadcast.publish_nowait

        async def read(events):
            while not events._ended or events._events:
                async for event in events:
                    got.append(event)
                    if reader == "slow":
                        await trio.lowlevel.checkpoint()
                    if reader == "stops":
                        break

        with sender.broadcast.subscribe(buffer=buffer, on_missed=lambda count: -count) as events:
            async with trio.open_nursery() as nursery:
                if reader != "none":
                    nursery.start_soon(read, events)
                for what, count in (*steps, ("turn", 0)):
                    if what == "tell":
                        for _ in range(count):
                            told += 1
                            sender.tell(told)
                            assert len(events._events) <= buffer
                    elif what == "publish":  # as events of streams are
                        told += 1
                        sender.broadcast.publish_nowait(told)
                    elif what == "turn":
                        await wait_all_tasks_blocked()
                    elif what == "join":
                        others.append(sender.broadcast.subscribe(buffer=1).__enter__())
                    elif what == "leave" and others:
                        others.pop().close()
                    elif what == "take":
                        with contextlib.suppress(trio.WouldBlock):
                            got.append(events.receive_nowait())
                    elif what == "drain":
                        got.extend(events.drain_nowait())
                    else:
                        assert events.statistics().buffered <= buffer
                sender.broadcast.close()
            got.extend(events.drain_nowait())
        last = missed = 0
        for event in got:
            if event < 0:
                missed -= event
                last -= event
            else:
                last += 1
                assert event == last
        assert (last, missed) == (told, events.missed)

    trio.run(main)
