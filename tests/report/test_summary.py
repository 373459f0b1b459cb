import json
from decimal import Decimal

import pytest

from runmgr.report import ResultLine, Tally, read_lines, read_summary
from runmgr.report.lines import encode_line
from runmgr.report.summary import write_atomically


def line(index=0, status="succeeded", score=1.0, cost="0.10", model="m", tokens=5, **more):
    return ResultLine(
        index=index,
        run_id=f"{index:016x}",
        status=status,
        scores={"exact": score} if status == "succeeded" else {},
        usage={"requests": 1, "input_tokens": tokens, "output_tokens": 2, "details": {"reasoning": 1}},
        cost=None if cost is None else Decimal(cost),
        model=model,
        started_at=10.0,
        finished_at=11.0,
        **more,
    )


def tally_of(*lines, epochs=1):
    tally = Tally(epochs=epochs)
    for each in lines:
        tally.add(each)
    return tally


def test_what_results_come_to():
    failed = line(2, "failed", error={"type": "E", "message": "why"}, model="n")
    tally = tally_of(line(0), line(1, score=0.0), failed)
    summary = json.loads(tally.summary(status="interrupted", runs=5, wall_seconds=1.23456).to_json())
    assert list(summary) == [
        *(
            "status",
            "runs",
            "succeeded",
            "failed",
            "cancelled",
            "remaining",
            "usage",
            "cost",
            "wall_seconds",
            "scores",
            "by_model",
        )
    ]
    assert summary | {"by_model": 0} == {
        "status": "interrupted",
        "runs": 5,
        "succeeded": 2,
        "failed": 1,
        "cancelled": 0,
        "remaining": 2,
        "usage": {"requests": 3, "input_tokens": 15, "output_tokens": 6, "details": {"reasoning": 3}},
        "cost": 0.3,
        "wall_seconds": 1.235,
        "scores": {"exact": {"mean": 0.5, "stderr": 0.5, "n": 2}},
        "by_model": 0,
    }
    assert summary["by_model"]["n"] == {
        "runs": 1,
        "succeeded": 0,
        "failed": 1,
        "cancelled": 0,
        "usage": {"requests": 1, "input_tokens": 5, "output_tokens": 2, "details": {"reasoning": 1}},
        "cost": 0.1,
        "scores": {},
    }
    assert tally.first_error == {"type": "E", "message": "why"}
    assert tally.errors == {"E": 1}


def test_kinds_of_errors_and_failures_are_kept_up_to_a_bound():
    kinds = [f"E{number % 60}" for number in range(150)]
    lines = [
        line(number, "failed", error={"type": kind, "message": "m"}) for number, kind in enumerate(kinds)
    ]
    tally = tally_of(*lines)
    assert tally.errors == {f"E{number}": 3 if number < 30 else 2 for number in range(50)}
    # the first, and others evenly over all: a plot of them over time shows when runs failed
    assert [failure.index for failure in tally.failures] == list(range(0, 150, 2))
    for number in range(150, 1000):
        tally.add(line(number, "failed", error={"type": "E", "message": "m"}))
    assert [failure.index for failure in tally.failures] == list(range(0, 1000, 16))


def test_each_models_figures_are_those_of_its_own_runs_however_late_another_comes():
    lines = [
        *(line(i, model="m", score=float(i % 2), tokens=i) for i in range(6)),
        line(1, model="n", score=0.5, cost=None),
        *(line(i, model="m", score=1.0) for i in range(3)),
        line(2, "failed", model=None, error={"type": "E", "message": "why"}),
        line(0, model="n", score=0.25),
    ]
    found = tally_of(*lines, epochs=2).summary(status="complete", runs=12, wall_seconds=1)
    assert list(found.by_model) == ["m", "n", "unknown"]
    for name, part in found.by_model.items():
        alone = tally_of(*(each for each in lines if (each.model or "unknown") == name), epochs=2)
        own = alone.summary(status="complete", runs=0, wall_seconds=1)
        assert part == own.by_model[name]
        assert (part.usage, part.scores, part.cost) == (own.usage, own.scores, own.cost)
    whole = tally_of(*lines[:6], epochs=2)  # only one so far
    assert whole.summary(status="complete", runs=6, wall_seconds=1).by_model["m"].scores == whole.scores()


def test_an_unknown_price_makes_the_sum_unknown_and_never_zero():
    summary = tally_of(line(0), line(1, cost=None, model="n")).summary(
        status="complete", runs=2, wall_seconds=1
    )
    assert summary.cost is None
    assert summary.by_model["m"].cost == Decimal("0.10")
    assert summary.by_model["n"].cost is None
    assert json.loads(summary.to_json())["cost"] is None


def test_costs_keep_their_digits(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(encode_line(line(cost="0.00001234500000000000001")))
    assert b'"cost":0.00001234500000000000001,' in path.read_bytes()
    assert next(read_lines(path)).cost == Decimal("0.00001234500000000000001")


def test_a_line_has_the_documented_keys_in_order():
    assert list(json.loads(encode_line(line()))) == [
        *(
            "index",
            "epoch",
            "run_id",
            "status",
            "input",
            "output",
            "error",
            "scores",
            "usage",
            "cost",
            "model",
            "attempts",
        ),
        *("queued_at", "started_at", "finished_at"),
    ]


def test_torn_lines_are_passed_over(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(
        encode_line(line(0))
        + b'{"index": 1, "run\n'
        + b"\xff\n"
        + encode_line(line(2))
        + encode_line(line(3))[:-20]
    )
    assert [each.index for each in read_lines(path)] == [0, 2]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_summary_survives_its_file(tmp_path):
    summary = tally_of(line(0)).summary(status="complete", runs=1, wall_seconds=1)
    write_atomically(tmp_path / "summary.json", summary.to_json())
    assert read_summary(tmp_path / "summary.json") == summary
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert read_summary(tmp_path / "none.json") is None


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_usage_given_from_outside_wins():
    summary = tally_of(line(0)).summary(
        status="interrupted", runs=2, wall_seconds=1, usage={"requests": 9}, cost=None
    )
    assert summary.usage == {"requests": 9}
    assert summary.cost is None
