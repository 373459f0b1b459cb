"""The definitions, on requests made by hand; the verdict; what is kept stays bounded."""

import json
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.load.config import LoadConfig
from runmgr.load.histogram import Histogram
from runmgr.load.measures import Measures
from runmgr.load.record import Record
from runmgr.load.slo import parse_slo
from runmgr.load.state import Mark
from runmgr.load.summary import Part, summarize
from runmgr.load.verdict import judge_objectives, judge_validity


def record(
    index=0, *, due=1.0, sent=1.1, moments=(1.3, 1.4, 1.6), finished=1.8, tokens=3, status="succeeded"
):
    one = Record(index, due)
    one.sent, one.finished, one.status = sent, finished, status
    one.moments = array("d", moments)
    one.input_tokens, one.output_tokens, one.counted = 10, tokens, "usage"
    if status == "failed":
        one.fail("http 500", "oh")
    return one


@pytest.mark.parametrize(
    ("defs", "ttft", "itl", "tpot", "e2e"),
    [
        ("runmgr", 0.3, (2, 0.15), 0.15, 0.8),
        ("vllm", 0.2, (2, 0.15), 0.15, 0.5),
        ("guidellm", 0.2, (2, 0.15), 0.5 / 3, 0.7),
        ("aiperf", 0.2, (1, 0.15), 0.15, 0.5),
    ],
)
def test_definitions(defs, ttft, itl, tpot, e2e):
    measures = Measures(defs=defs)
    measures.add(record())
    times = measures.times
    assert times["ttft"].mean == pytest.approx(ttft)
    assert (times["itl"].n, times["itl"].mean) == (itl[0], pytest.approx(itl[1]))
    assert times["tpot"].mean == pytest.approx(tpot)
    assert times["tpot"].n == (3 if defs == "guidellm" else 1)
    assert times["e2e"].mean == pytest.approx(e2e)
    assert times["ttft_from_send"].mean == pytest.approx(0.2)
    assert times["e2e_from_send"].mean == pytest.approx(0.7)
    assert times["lag"].mean == pytest.approx(0.1)


def test_the_warm_up_is_counted_in_no_figure():
    measures = Measures(warmup=1.5)
    measures.add(record())
    assert measures.totals["counted"] == measures.times["ttft"].n == 0
    assert measures.totals["succeeded"] == 1


def test_goodput_and_objectives():
    objectives = parse_slo("ttft.p50=400ms,ttft=400ms,itl=160ms,e2e=2s,goodput=60%,errors=20%")
    measures = Measures(objectives=objectives)
    good = [
        measures.add(one)
        for one in (record(), record(), record(), record(moments=(1.45, 1.5)), record(status="failed"))
    ]
    assert good == [True, True, True, False, False]
    told, met = judge_objectives(objectives, measures)
    assert not met
    assert {name: one["met"] for name, one in told.items()} == {
        "ttft_p50": True,
        "ttft_p99": False,
        "itl_p99": False,
        "e2e_p99": False,  # one of five failed: it never ended
        "goodput": True,
        "errors": True,
    }
    assert told["goodput"]["value"] == 0.6


def test_states_come_back_and_add_up():
    one, other, whole = Measures(), Measures(), Measures()
    for index in range(50):
        each = record(
            index, due=index, sent=index + 0.1, finished=index + 1, moments=(index + 0.3, index + 0.5)
        )
        if index % 7 == 0:
            each.fail("timeout", "late")
        (one if index % 2 else other).add(each)
        whole.add(each)
    one.merge(Measures.of_state(json.loads(json.dumps(other.state()))))
    assert one.totals == whole.totals
    assert one.errors == whole.errors
    for name, histogram in whole.times.items():
        assert one.times[name]._counts == histogram._counts
    assert {n: (m.scheduled, m.succeeded, m.failed) for n, m in one.moments.items()} == {
        n: (m.scheduled, m.succeeded, m.failed) for n, m in whole.moments.items()
    }


def test_slices_of_time_are_bounded_and_keep_their_counts():
    measures = Measures()
    for second in range(5_000):
        measures.add(
            record(due=float(second), sent=float(second), finished=second + 1.0, moments=(second + 0.5,))
        )
    assert len(measures.moments) <= 600
    assert measures.slice_seconds == 16
    assert sum(moment.scheduled for moment in measures.moments.values()) == 5_000
    assert sum(moment.ttft.n for moment in measures.moments.values()) == 5_000


def lag_of(*values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@pytest.mark.parametrize(
    ("loop", "lag", "cpu", "verdict", "says"),
    [
        (0.001, 0.001, 0.5, "valid", ""),
        (0.001, 0.001, 0.8, "doubtful", "80% of its core"),
        (0.001, 0.001, 0.97, "invalid", "97% of its core"),
        (0.007, 0.001, 0.1, "doubtful", "loop was 7.0 ms late"),
        (0.020, 0.001, 0.1, "invalid", "loop was 20.0 ms late"),
        (0.001, 0.030, 0.1, "invalid", "sent 30.0 ms late"),
    ],
)
def test_a_client_at_its_limit_is_not_believed(loop, lag, cpu, verdict, says):
    measures = Measures()
    measures.add(record(due=1.0, sent=1.0 + lag))
    found = judge_validity(
        measures, lag_of(loop), cpu, open_loop=True, offered=None, achieved=None, seconds=1.0
    )
    assert found.verdict == verdict
    assert says in " ".join(found.reasons)


def mark(at, sent, succeeded, chunks, area):
    return Mark(at, sent, succeeded, 0, chunks, 0, succeeded, area, at / 4)


def test_the_steady_window_excludes_warm_up_and_drain():
    config = LoadConfig(base_url="http://x", model="openai:m", concurrency=2)
    measures = Measures()
    for _ in range(10):
        measures.add(record(tokens=6, moments=(1.3, 1.4, 1.6)))
    part = Part(
        measures=measures,
        first=mark(2.0, 10, 6, 30, 4.0),
        last=mark(4.0, 30, 26, 110, 8.0),
        loop_lag=Histogram(),
        cancelled=0,
        most_in_flight=2,
    )
    summary = summarize(config, [part, part], status="complete")
    assert summary["window"] == {"from": 2.0, "to": 4.0, "seconds": 2.0}
    assert summary["requests_per_second"] == 20.0
    assert summary["offered_per_second"] == 20.0
    assert (
        summary["output_tokens_per_second"] == 2 * 40 * 2
    )  # 40 pieces a second in each process, two tokens a piece
    assert summary["concurrency"] == {"mean": 4.0, "max": 4}
    assert summary["validity"]["client_cpu"] == 0.25
    assert any("0.50 pieces a token" in note for note in summary["notes"])


def test_the_cool_down_is_counted_in_no_figure_either():
    measures = Measures(warmup=1.0, until=2.0)
    for due in (0.5, 1.0, 1.9, 2.0):
        measures.add(record(due=due, sent=due, moments=(due + 0.1,), finished=due + 0.2))
    assert measures.totals["counted"] == measures.times["ttft"].n == 2
    assert measures.totals["succeeded"] == 4


@given(st.lists(st.tuples(st.floats(0, 2_000), st.floats(0, 900)), max_size=40))
def test_requests_in_flight_over_time_add_up(requests):
    measures, halves = Measures(), (Measures(), Measures())
    for number, (sent, seconds) in enumerate(requests):
        for one in (measures, halves[number % 2]):
            one.add(record(due=sent, sent=sent, moments=(), finished=sent + seconds))
    halves[0].merge(Measures.of_state(json.loads(json.dumps(halves[1].state()))))
    whole = sum(seconds for _, seconds in requests)
    for one in (measures, halves[0]):
        assert sum(moment.busy for moment in one.moments.values()) == pytest.approx(whole, abs=1e-6)
        assert len(one.moments) <= 600
    for number, moment in measures.moments.items():
        begin, end = number * measures.slice_seconds, (number + 1) * measures.slice_seconds
        inside = sum(max(0.0, min(end, sent + s) - max(begin, sent)) for sent, s in requests)
        assert moment.busy == pytest.approx(inside, abs=1e-6)
