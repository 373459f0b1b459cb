from collections import Counter, defaultdict, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runmgr.concurrency import FairQueue, QueueFull


def pop_all(queue):
    out = []
    while len(queue):
        out.append(queue.pop()[0])
    return out


def test_higher_priority_goes_first_whatever_the_group():
    queue = FairQueue()
    for number, priority in enumerate([0, 5, 0, 5, -1]):
        queue.push(number, None, priority=priority, group=number % 2)
    assert pop_all(queue) == [1, 3, 0, 2, 4]


def test_first_in_first_out_within_a_group():
    queue = FairQueue()
    for number in range(100):
        queue.push(number, f"item {number}")
    assert [queue.pop() for _ in range(100)] == [(number, f"item {number}") for number in range(100)]


def test_a_small_group_behind_a_large_one_gets_its_share_at_once():
    queue = FairQueue()
    for number in range(10_000):
        queue.push(("large", number), None, group="large")
    for _ in range(50):
        queue.pop()
    for number in range(10):
        queue.push(("small", number), None, group="small")
    groups = [queue.pop()[0][0] for _ in range(21)]
    assert groups.count("small") == 10
    assert "small" in groups[:2]


def test_a_group_that_was_away_has_nothing_saved_up():
    queue = FairQueue()
    for number in range(100):
        queue.push(("busy", number), None, group="busy")
    queue.push(("back", -1), None, group="back")
    for _ in range(60):
        queue.pop()
    for number in range(30):
        queue.push(("back", number), None, group="back")
    groups = Counter(queue.pop()[0][0] for _ in range(20))
    assert groups == {"busy": 10, "back": 10}


def test_shares_follow_weights():
    queue = FairQueue(weights={"a": 3})
    queue.set_weight("c", 0.5)
    for number in range(1_000):
        for group in "abc":
            queue.push((group, number), None, group=group)
    shares = Counter(queue.pop()[0][0] for _ in range(900))
    assert shares == {"a": 600, "b": 200, "c": 100}


def test_costs_count_against_the_share():
    queue = FairQueue()
    for number in range(300):
        queue.push(("dear", number), None, group="dear", cost=4)
        queue.push(("cheap", number), None, group="cheap", cost=1)
    assert Counter(queue.pop()[0][0] for _ in range(250)) == {"cheap": 200, "dear": 50}


def test_a_group_that_comes_back_still_pays_for_what_it_had():
    queue = FairQueue()
    for number in range(1_000):
        queue.push(("steady", number), None, group="steady", cost=1)
    turns = []
    for turn in range(200):
        if "dear" not in queue.statistics().by_group:  # never more than one in the queue, but a dear one
            queue.push(("dear", turn), None, group="dear", cost=10)
        turns.append(queue.pop()[0][0])
    assert 17 <= turns.count("dear") <= 20


def test_bounded():
    queue = FairQueue(2)
    queue.push(1, "a")
    queue.push(2, "b")
    with pytest.raises(QueueFull, match="2 items"):
        queue.push(3, "c")
    queue.remove(1)
    queue.push(3, "c")
    queue.capacity = 1
    assert queue.is_full
    assert len(queue) == 2


def test_mistakes_are_named():
    queue = FairQueue()
    queue.push("k", 1)
    with pytest.raises(KeyError, match="k"):
        queue.push("k", 2)
    with pytest.raises(KeyError, match="other"):
        queue.remove("other")
    with pytest.raises(ValueError, match="cost"):
        queue.push("free", 1, cost=0)
    with pytest.raises(ValueError, match="weight"):
        queue.set_weight("g", -1)
    with pytest.raises(ValueError, match="capacity"):
        FairQueue(0)
    queue.pop()
    with pytest.raises(IndexError, match="empty"):
        queue.pop()


def test_a_held_group_is_passed_over_and_catches_nothing_up():
    queue = FairQueue()
    for number in range(40):
        for group in "ab":
            queue.push((group, number), None, group=group)
    queue.hold("a")
    assert queue.peek()[0] == ("b", 0)
    assert [queue.pop()[0] for _ in range(20)] == [("b", number) for number in range(20)]
    queue.unhold("a")
    queue.unhold("never held")
    assert Counter(queue.pop()[0][0] for _ in range(20)) == {"a": 10, "b": 10}
    queue.hold("a")
    queue.hold("b")
    assert queue.peek() is None
    with pytest.raises(IndexError, match="held"):
        queue.pop()


def test_removing_from_a_held_group():
    queue = FairQueue()
    queue.push(1, None, group="a")
    queue.hold("a")
    assert queue.peek() is None
    queue.remove(1)
    queue.push(2, None, group="a")
    queue.unhold("a")
    assert queue.pop()[0] == 2


def test_statistics():
    queue = FairQueue(10)
    for number, (priority, group) in enumerate([(0, "a"), (1, "a"), (1, "b")]):
        queue.push(number, None, priority=priority, group=group)
    statistics = queue.statistics()
    assert (statistics.items, statistics.capacity) == (3, 10)
    assert statistics.by_group == {"a": 2, "b": 1}
    assert statistics.by_priority == {0: 1, 1: 2}
    assert list(queue) == [0, 1, 2]
    assert 1 in queue
    assert 7 not in queue


def test_memory_follows_what_is_in_the_queue():
    queue = FairQueue()
    for number in range(5_000):  # come and gone without a turn
        queue.push(number, None, group=number % 3)
        queue.remove(number)
    for number in range(5_000):  # a group each, and a turn
        queue.push(number, None, group=number, priority=number % 7)
        queue.pop()
    queue.push("stays", None, group="stays")
    for number in range(5_000):  # the same beside one that stays
        queue.push(number, None, group=number)
        queue.remove(number)
    internal = [queue._heap, queue._flows, queue._levels, queue._where]
    assert all(len(held) < 200 for held in internal), [len(held) for held in internal]
    assert len(queue._levels[0].rested) < 200


@given(
    weights=st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3]), min_size=2, max_size=5),
    costs=st.lists(st.sampled_from([0.5, 1, 2]), min_size=5, max_size=5),
    turns=st.integers(1, 300),
    data=st.data(),
)
def test_backlogged_groups_never_differ_by_more_than_the_theorem_says(weights, costs, turns, data):
    groups = range(len(weights))
    queue = FairQueue(weights=dict(enumerate(weights)))
    for group in data.draw(st.permutations(list(groups) * 300)) if turns < 10 else list(groups) * 300:
        queue.push(object(), group, group=group, cost=costs[group])
    served = [0.0] * len(weights)
    for _ in range(turns):
        _, group = queue.pop()
        served[group] += costs[group] / weights[group]
        for one in groups:
            for other in groups:
                bound = costs[one] / weights[one] + costs[other] / weights[other]
                assert abs(served[one] - served[other]) <= bound + 1e-9


class Queue(RuleBasedStateMachine):
    """Against a model that knows what may come out: FIFO within priority and group, the highest priority, no held group."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue(40)
        self.model = defaultdict(deque)
        self.held = set()
        self.number = 0

    def inside(self):
        return [key for keys in self.model.values() for key in keys]

    @rule(priority=st.integers(0, 2), group=st.sampled_from("abcd"), cost=st.sampled_from([0.5, 1, 3]))
    def push(self, priority, group, cost):
        self.number += 1
        if len(self.inside()) == 40:
            with pytest.raises(QueueFull):
                self.queue.push(self.number, group, priority=priority, group=group, cost=cost)
        else:
            self.queue.push(self.number, group, priority=priority, group=group, cost=cost)
            self.model[priority, group].append(self.number)

    @rule()
    def pop(self):
        ready = {place: keys for place, keys in self.model.items() if keys and place[1] not in self.held}
        if not ready:
            assert self.queue.peek() is None
            with pytest.raises(IndexError):
                self.queue.pop()
            return
        seen = self.queue.peek()
        key, group = self.queue.pop()
        assert seen == (key, group)
        best = max(priority for priority, _ in ready)
        assert ready[best, group].popleft() == key

    @precondition(lambda self: self.inside())
    @rule(data=st.data())
    def remove(self, data):
        key = data.draw(st.sampled_from(self.inside()))
        place = next(place for place, keys in self.model.items() if key in keys)
        assert self.queue.remove(key) == place[1]
        self.model[place].remove(key)

    @rule(group=st.sampled_from("abcd"))
    def hold(self, group):
        self.queue.hold(group)
        self.held.add(group)

    @rule(group=st.sampled_from("abcd"))
    def unhold(self, group):
        self.queue.unhold(group)
        self.held.discard(group)

    @invariant()
    def counts(self):
        assert len(self.queue) == len(self.inside())
        assert set(self.queue) == set(self.inside())
        by_group = Counter(group for (_, group), keys in self.model.items() for _ in keys)
        assert self.queue.statistics().by_group == by_group
        assert len(self.queue._flows) <= 12


TestQueue = Queue.TestCase
