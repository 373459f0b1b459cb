"""Records are values: frozen, tagged, checked where a person writes them, readable by older and newer versions."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from runmgr.records import events
from runmgr.records.budgets import Budget, Price, RateLimit, RestartPolicy
from runmgr.records.codec import decode_event, encode_event
from runmgr.records.outcomes import RunError, RunOutcome, RunState
from runmgr.supervisor.states import TERMINAL, TRANSITIONS, diagram, step
from runmgr.usage import RunUsage


def test_states_compare_and_encode_as_text():
    assert RunState.QUEUED == "queued"
    assert msgspec.json.encode(RunState.FAILED) == b'"failed"'


def test_every_state_is_reached_and_ended_ones_have_no_exits():
    reached = {RunState.QUEUED}
    while True:
        more = reached | {after for state in reached for after in TRANSITIONS[state].values()}
        if more == reached:
            break
        reached = more
    assert reached == set(RunState)
    assert {"succeeded", "failed", "cancelled"} == TERMINAL
    for state in set(RunState) - TERMINAL:
        assert {"fail", "cancel"} <= TRANSITIONS[state].keys()
    with pytest.raises(AssertionError, match="a succeeded run cannot 'cancel'"):
        step(RunState.SUCCEEDED, "cancel")


def test_the_diagram_shows_every_transition():
    text = diagram()
    for state, exits in TRANSITIONS.items():
        for trigger, after in exits.items():
            assert f"{state.value} --> {after.value}: {trigger}" in text


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Budget(tokens=-1), "tokens=-1"),
        (lambda: Budget(cost="-0.5"), "cost='-0.5'"),
        (lambda: Budget(cost="$5"), r"cost='\$5'\): must be a number"),
        (lambda: Budget(cost=float("inf")), r"cost=inf\): must be a number; leave it out for no limit"),
        (lambda: Budget(tokens=0.5), r"tokens=0.5\): must be a whole number"),
        (lambda: Price(input="$2", output=8), r"input='\$2'\): must be dollars a million tokens"),
        (lambda: Price(input=2, output=-8), "output=-8"),
        (lambda: Price(input=2, output=None), "output=None"),
        (lambda: RateLimit(requests_per_minute=0), "requests_per_minute=0"),
        (lambda: RateLimit(max_in_flight=-3), "max_in_flight=-3"),
        (lambda: RestartPolicy(max_restarts=-1), "max_restarts=-1"),
        (lambda: RestartPolicy(within=0), "within=0"),
    ],
)
def test_what_a_person_writes_is_checked(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_costs_are_read_as_decimals():
    assert Budget(cost=0.1).cost_limit == Decimal("0.1")
    assert Budget(cost=5).cost_limit == 5
    assert Budget().cost_limit is None
    assert Price(input=1, output=2) == Price(input=1, output=2)


def test_a_million_may_be_written_as_1e6():
    assert type(Budget(tokens=1e6).tokens) is int
    assert Budget(tokens=1e6, cost=1) == Budget(tokens=10**6, cost=1)


def test_records_are_frozen():
    outcome = RunOutcome(run_id="a", index=0, status=RunState.SUCCEEDED)
    with pytest.raises(AttributeError):
        outcome.run_id = "b"
    with pytest.raises(AttributeError):
        Budget(tokens=1).tokens = 2


def all_events():
    outcome = RunOutcome(
        run_id="a",
        index=0,
        status=RunState.FAILED,
        error=RunError("ValueError", "no"),
        usage=RunUsage(requests=1),
        cost=Decimal("0.10"),
    )
    return [
        events.RunAdmitted(run_id="a", index=1, group="g", at=1.0),
        events.RunStarted(run_id="a", group="g", attempt=2, at=1.0, resumed=True),
        events.RunNode(run_id="a", group="g", node="Node", step=3, at=1.0),
        events.RunStateChanged(
            run_id="a", group="g", before=RunState.QUEUED, after=RunState.RUNNING, reason="r", at=1.0
        ),
        events.RequestSent(run_id="a", group="g", model="m", attempt=1, at=1.0),
        events.RequestSettled(run_id="a", group="g", model="m", usage={}, cost="0.1", seconds=1.5, at=1.0),
        events.RequestFailed(run_id="a", group="g", model="m", attempt=1, error="E", retry_in=None, at=1.0),
        events.RunStream(run_id="a", group="g", event=None, at=1.0),
        events.RunEnded(run_id="a", group="g", outcome=outcome, at=1.0),
        events.EventsMissed(count=3, at=1.0),
    ]


def test_events_come_back_as_they_were():
    for event in all_events():
        back = decode_event(encode_event(event))
        if isinstance(event, events.RunEnded):
            assert back.outcome.cost == Decimal("0.10")
            assert back.outcome.error == event.outcome.error
        else:
            assert back == event


def test_every_event_has_a_tag_of_its_own():
    tags = [type(event).__struct_config__.tag for event in all_events()]
    assert len(set(tags)) == len(tags)


def test_an_event_of_a_newer_version_is_kept_as_unknown():
    data = b'{"type":"teleported","run_id":"a","to":[1,2]}'
    event = decode_event(data)
    assert event == events.UnknownEvent(tag="teleported", fields={"run_id": "a", "to": [1, 2]})
    assert msgspec.json.decode(encode_event(event)) == msgspec.json.decode(data)
    with pytest.raises(ValueError, match="truncated"):
        decode_event(b"{")


def test_a_new_field_of_a_known_event_is_passed_over():
    assert decode_event(b'{"type":"missed","count":2,"at":1.0,"new":1}') == events.EventsMissed(
        count=2, at=1.0
    )
