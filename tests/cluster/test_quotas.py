"""Shares of rates: never more than the whole, whatever is told and lost when; and all of it in the end."""

import random
from fractions import Fraction

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr import RateLimit, open_supervisor
from runmgr.cluster import LocalCluster, LocalEngine
from runmgr.cluster.quotas import Piece, Quotas, part_of
from runmgr.cluster.sharing import RateSharing

from .helpers import MORE, Network, Provider, agent_for, breaks

STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "end", "divide", "tell", "take"]), st.integers(0, 5)),
    max_size=60,
)


@given(STEPS)
def test_pieces_in_use_never_meet_and_all_is_given_in_the_end(steps):
    quotas, there, gone, unheard, joined = Quotas(), [], [], [], 0

    def check():
        pieces = {}
        for worker, in_force in quotas._in_force.items():
            pieces[worker] = [piece for piece in in_force.values() if piece.length]
        workers = list(pieces)
        for at, one in enumerate(workers):
            for other in workers[at + 1 :]:
                assert not any(a.meets(b) for a in pieces[one] for b in pieces[other])

    for step, which in steps:
        if step == "join":
            quotas.join(f"w{joined}")
            there.append(f"w{joined}")
            joined += 1
        elif step == "leave" and there:
            worker = there.pop(which % len(there))
            quotas.leave(worker)
            gone.append(worker)
        elif step == "end" and gone:
            quotas.ended(gone.pop(which % len(gone)))
        elif step == "divide":
            quotas.divide(there[: which + 1])
        elif step == "tell":
            unheard += [(worker, number) for worker, number, _ in quotas.due()]
        elif step == "take" and unheard:
            quotas.taken(*unheard.pop(which % len(unheard)))
        check()
    for worker in gone:
        quotas.ended(worker)
    quotas.divide(there)
    for _ in range(4):
        for worker, number in unheard:
            quotas.taken(worker, number)
        unheard = [(worker, number) for worker, number, _ in quotas.due()]
        check()
    if there:
        assert sum(quotas.piece(worker).length for worker in there) == 1


@given(st.integers(1, 50), st.integers(1, 8), st.floats(1, 5_000))
def test_parts_add_up_to_no_more_than_the_limit(most, workers, a_minute):
    limit = RateLimit(max_in_flight=most, tokens_per_minute=a_minute)
    pieces = [Piece(Fraction(at, workers), Fraction(at + 1, workers)) for at in range(workers)]
    parts = [part_of(limit, piece) for piece in pieces]
    assert sum(part.max_in_flight for part in parts if part) == most
    assert sum(part.tokens_per_minute for part in parts if part) <= a_minute * 1.000001
    paces = [part_of(RateLimit(requests_per_minute=a_minute), piece) for piece in pieces]
    sending = [part.requests_per_minute for part in paces if part]
    # In a minute each sends its pace and one at once: together no more than one process with the whole.
    assert sum(sending) + len(sending) <= max(a_minute + 1, 1.000001 if not sending else 0) * 1.000001


@settings(max_examples=10 * MORE, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(
        st.tuples(
            st.floats(0, 4), st.sampled_from(["kill", "cut", "lose to", "lose from"]), st.integers(0, 7)
        ),
        max_size=3,
    ),
    workers=st.integers(1, 4),
    most=st.integers(1, 9),
)
def test_workers_together_keep_to_what_may_be_in_flight(seed, faults, workers, most):
    provider = Provider(0.2)
    rng = random.Random(seed)
    network = Network(rng, delay=0.02)
    engine = LocalEngine(network.carry)

    async def main():
        cluster = LocalCluster(workers=workers, per_worker=9, silence=2.0, restarts=20, engine=engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks, engine, network, faults)
            rates = RateLimit(max_in_flight=most, adaptive=False)
            async with open_supervisor(cluster=cluster, rng=rng, rate_limits={"loud": rates}) as sup:
                async with sup.map(agent_for(provider), (f"p{n}" for n in range(40))) as outcomes:
                    found = [outcome async for outcome in outcomes]
                assert all(outcome.succeeded for outcome in found)
            nursery.cancel_scope.cancel()
        assert provider.most <= most

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=5 * MORE, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(st.tuples(st.floats(0, 20), st.just("kill"), st.integers(0, 7)), max_size=2),
    workers=st.integers(1, 4),
    a_minute=st.sampled_from([30, 120, 600]),
)
def test_workers_together_keep_to_a_rate_a_minute(seed, faults, workers, a_minute):
    provider = Provider(0.05)
    rng = random.Random(seed)
    engine = LocalEngine()

    async def main():
        cluster = LocalCluster(workers=workers, per_worker=20, silence=2.0, restarts=20, engine=engine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks, engine, Network(rng), faults)
            rates = RateLimit(requests_per_minute=a_minute, adaptive=False)
            began = trio.current_time()
            async with open_supervisor(cluster=cluster, rng=rng, rate_limits=rates) as sup:
                async with sup.map(agent_for(provider), (f"p{n}" for n in range(80))) as outcomes:
                    found = [outcome async for outcome in outcomes]
                assert all(outcome.succeeded for outcome in found)
                states = sup.snapshot().models["loud"]
                assert states.usage.requests == 80
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
        times = provider.times
        for at, first in enumerate(times):
            within = sum(time < first + 60 for time in times[at:])
            assert within <= a_minute + 1
        # What nobody has given up for lost is used: not much slower than one process.
        assert took <= (len(times) / a_minute * 60) * 1.6 + 20 * (1 + len(faults))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Hearer:
    """A worker that hears what is said."""

    def __init__(self, *, ready=True):
        self.ready = ready
        self.heard = []
        self.say = self.heard.append


async def test_limits_that_change_as_a_worker_starts_reach_the_others(autojump_clock):
    limits = {"": RateLimit(requests_per_minute=600)}
    members = {"a": Hearer()}
    sharing = RateSharing(lambda: (dict(limits), {}), members, lambda _: 1, silence=10)
    sharing.join("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sharing.keep)
        sharing.look()
        await trio.sleep(0.1)
        assert [rates.models[""].requests_per_minute for rates in members["a"].heard] == [600]
        sharing.taken("a", members["a"].heard[-1].number)
        limits[""] = RateLimit(requests_per_minute=60)
        members["b"] = Hearer(ready=False)
        begins_with = sharing.join("b")
        assert begins_with.models == {"": None}  # nothing, until the others have made room
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert members["a"].heard[-1].models[""].requests_per_minute == 60
