from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.batch.identity import Identity, fingerprint, id_key
from runmgr.journal.tables import HashTable

KEYS = st.integers(0, 2**64 - 1) | st.integers(0, 5)


@given(st.lists(KEYS), st.integers(0, 50))
def test_the_table_counts_like_a_dict(keys, expected):
    table = HashTable(expected)
    seen = Counter()
    for key in keys:
        same = key or 1  # 0 and 1 share a place: keys are hashes
        assert table.count(key) == seen[same]
        seen[same] += 1
    assert len(table) == len(seen)
    assert all(table.get(key) == n for key, n in seen.items())
    table.close()


@given(st.dictionaries(KEYS.filter(bool), st.integers(0, 2**32 - 1)))
def test_the_table_stores_like_a_dict(values):
    table = HashTable(1)
    for key, value in values.items():
        table.set(key, 7)
        table.set(key, value)
    for key, value in values.items():
        assert table.get(key) == value
    absent = next(n for n in range(2, 10**6) if n not in values)
    assert table.get(absent) is None
    table.close()


def test_the_table_is_small():
    table = HashTable(100_000)
    for key in range(100_000):
        table.set(key * 0x9E3779B97F4A7C15 % 2**64, key % 2**32)
    assert table._slots * 12 < 1_800_000  # it did not grow: 17 bytes a key
    table.close()


def ids(cases, batch="00" * 16, epochs=1):
    identity = Identity(batch)
    return [
        identity.run_id(digest, epoch)
        for digest in [identity.next_case(*case) for case in cases]
        for epoch in range(1, epochs + 1)
    ]


CASES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, "1", 1, ["1"]])))


@given(CASES, st.randoms())
def test_ids_do_not_depend_on_order(cases, random):
    moved = list(cases)
    random.shuffle(moved)
    assert sorted(ids(cases)) == sorted(ids(moved))


@given(CASES, CASES)
def test_ids_of_the_rest_stay_when_lines_come_and_go(cases, more):
    before, after = Counter(ids(cases)), Counter(ids([*more, *cases]))
    assert before <= after
    assert set(after.values()) <= {1}  # equal lines are as many runs


def test_everything_that_matters_makes_another_id():
    one = ids([("a", None)])
    assert (
        len(
            {
                *one,
                *ids([("b", None)]),
                *ids([("a", "b")]),
                *ids([("a\0b", None)]),
                *ids([("a", None)], batch="11" * 16),
            }
        )
        >= 4
    )
    assert len(set(ids([("a", None)], epochs=3))) == 3
    assert fingerprint({"model": "a"}) != fingerprint({"model": "b"})
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert 0 <= id_key(one[0]) < 2**64
    assert len(one[0]) == 16


def test_unpaired_surrogates_have_ids_too():
    assert len(set(ids([("\ud800", None), ("\udfff", None)]))) == 2


def test_a_thousand_equal_lines_are_a_thousand_runs():
    assert len(set(ids([("same", "t")] * 1000))) == 1000


@pytest.mark.parametrize("value", [1.5, {"b": [1, {"a": None}]}, True])
def test_targets_of_any_kind(value):
    assert ids([("a", value)]) == ids([("a", value)])
    assert ids([("a", value)]) != ids([("a", None)])
