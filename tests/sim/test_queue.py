"""The queueing model: who gets a token when, in steps and in trio's time; and the cache of prefixes."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runmgr.exceptions import UserError
from runmgr.sim import QueueConfig
from runmgr.sim.engine import open_engine_queue
from runmgr.sim.prefix import PrefixCache
from runmgr.sim.queueing import Batcher, Waiting


def words(n, tag=b""):
    return [b"%b%d" % (tag, i) for i in range(n)]


def run(batcher, *requests):
    """All steps until nothing is left; when each token came, by request."""
    now, came = 0.0, {request: [] for request in requests}
    for request in requests:
        batcher.submit(request)
    while (seconds := batcher.begin(now)) is not None:
        now += seconds
        for request in batcher.finish():
            came[request].append(now)
    return [came[request] for request in requests]


def test_a_step_costs_its_prompts_and_its_batch():
    config = QueueConfig(prefill_rate=1000, step=0.010, step_each=0.001)
    first, second = run(Batcher(config), Waiting(words(100), 3, 0.0), Waiting(words(200), 2, 0.0))
    # both prompts in the first step: 300 tokens; then steps of two sequences, then of one
    assert first == pytest.approx([0.3, 0.312, 0.323])
    assert second == pytest.approx([0.3, 0.312])
    assert config.decode_rate(2) == pytest.approx(2 / 0.012)


def test_who_finds_no_place_waits_for_one():
    config = QueueConfig(max_batch=1, prefill_rate=100)
    a, b = Waiting(words(10), 1, 0.0), Waiting(words(10), 1, 0.0)
    assert run(Batcher(config), a, b) == [[pytest.approx(0.1)], [pytest.approx(0.2)]]
    assert (a.admitted, b.admitted) == (0.0, pytest.approx(0.1))


def test_a_long_prompt_is_computed_in_chunks_beside_those_that_decode():
    batcher = Batcher(QueueConfig(prefill_rate=1000, prefill_chunk=100, step=0.01))
    short, long = run(batcher, Waiting(words(50), 5, 0.0), Waiting(words(250), 1, 0.0))
    # chunks of the long one: 50 beside the short one's 50, then 100, 100
    assert short == pytest.approx([0.1, 0.21, 0.32, 0.33, 0.34])
    assert long == pytest.approx([0.32])


@given(
    requests=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), min_size=1, max_size=20),
    places=st.integers(1, 6),
    chunk=st.integers(1, 50),
    room=st.integers(0, 100),
    dropped=st.integers(0, 20),
)
def test_everybody_gets_what_they_want_in_order(requests, places, chunk, room, dropped):
    cache = PrefixCache(room, 4) if room else None
    batcher = Batcher(QueueConfig(max_batch=places, prefill_chunk=chunk, prefill_rate=10, step=0.1), cache)
    all_of = [Waiting(words(n), wanted, 0.0) for n, wanted in requests]
    gone = all_of[dropped] if dropped < len(all_of) else None
    for request in all_of:
        batcher.submit(request)
    now, admitted = 0.0, []
    for _ in range(10_000):
        if gone is not None and now > 1:
            batcher.drop(gone)
        seconds = batcher.begin(now)
        if seconds is None:
            break
        assert len(batcher.batch) <= places
        admitted += [request for request in batcher.batch if request not in admitted]
        now += seconds
        batcher.finish()
    assert not batcher.waiting
    assert not batcher.batch
    assert admitted == [request for request in all_of if request in admitted]
    for request in all_of:
        assert request.produced == request.wanted or request is gone
    if cache is not None:
        assert cache.used <= 1
        assert all(request.cached < max(1, len(request.words)) for request in all_of)


def test_equal_beginnings_are_found_in_whole_blocks():
    cache = PrefixCache(1000, 16)
    first = words(100)
    assert cache.look_up(first) == 0
    cache.add(first)
    assert cache.look_up(first) == 96
    assert cache.look_up([*first[:40], b"other", *first[41:]]) == 32
    assert cache.look_up([b"other", *first[1:]]) == 0
    assert cache.look_up(first[:96]) == 80  # of what is cached whole, the last block is computed again
    assert (cache.asked, cache.hits) == (496, 96 + 32 + 80)


def test_the_least_recently_used_goes_first():
    cache = PrefixCache(64, 16)
    cache.add(words(32, b"a"))
    cache.add(words(32, b"b"))
    assert cache.look_up(words(33, b"a")) == 32
    cache.add(words(16, b"c"))  # the end of b, which nobody asked for, goes
    assert cache.look_up(words(33, b"b")) == 16
    assert cache.look_up(words(33, b"a")) == 32
    assert cache.used == 1


async def test_in_trios_time(autojump_clock):
    config = QueueConfig(max_batch=2, prefill_rate=100, step=0.5)
    came = {}

    async def ask(name, at):
        await trio.sleep(at)
        with queue.request(words(10), 3) as request:
            came[name] = []
            for _ in range(3):
                await request.token()
                came[name].append(trio.current_time() - began)

    async with open_engine_queue(config) as queue:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name, at in (("a", 0.0), ("b", 0.05), ("c", 0.06)):
                nursery.start_soon(ask, name, at)
    assert came["a"] == pytest.approx([0.1, 0.7, 1.2])
    assert came["b"] == pytest.approx([0.7, 1.2, 1.8])  # its prompt is done beside the first's second token
    assert came["c"] == pytest.approx(
        [1.8, 2.3, 2.8]
    )  # at 1.2 a place is free: a step of its prompt and of b


async def test_who_gives_up_makes_room(autojump_clock):
    async with open_engine_queue(QueueConfig(max_batch=1, prefill_rate=1)) as queue:
        began = trio.current_time()
        with trio.move_on_after(0.5), queue.request(words(1000), 5) as request:
            await request.token()
        with queue.request(words(1), 1) as request:
            await request.upto(1)
        # the step in progress is not taken back; the next is the second's
        assert trio.current_time() - began == pytest.approx(1001)
        assert not queue.batcher.batch


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_batch": 0}, "--max-batch 0"),
        ({"prefill_chunk": 0}, "--prefill-chunk 0"),
        ({"prefill_rate": 0.0}, "--prefill-rate 0"),
        ({"step": -1.0}, "--step -1"),
        ({"step_each": float("inf")}, "--step-each inf"),
    ],
)
def test_engines_that_cannot_be(change, says):
    with pytest.raises(UserError, match=says):
        QueueConfig(**change)
