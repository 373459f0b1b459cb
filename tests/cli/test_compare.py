"""``runmgr compare`` as CI calls it."""

import json

import pytest

from runmgr.cli import main


def write(directory, rows, **batch):
    """A results directory with rows of (index, input, score, more)."""
    directory.mkdir()
    lines = []
    for number, (index, text, score, more) in enumerate(rows):
        line = {
            "index": index,
            "epoch": 1,
            "run_id": f"{number:016x}",
            "status": "succeeded",
            "input": text,
            "output": "x",
            "error": None,
            "scores": {} if score is None else {"exact": score},
            "usage": {"requests": 1, "input_tokens": 10, "output_tokens": 5},
            "cost": 0.01,
            "model": "m",
            "attempts": 1,
            "started_at": 100.0,
            "finished_at": 101.0,
        }
        lines.append(json.dumps({**line, **more}) + "\n")
    (directory / "results.jsonl").write_text("".join(lines))
    (directory / "batch.json").write_text(json.dumps({"epochs": 1, **batch}))
    return str(directory)


@pytest.fixture
def compare(capsys):
    def call(*words):
        code = main(["compare", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def two(tmp_path):
    """B wins cases 1 and 2, loses 0; its file is in another order, and has a case more."""
    a = write(tmp_path / "a", [(i, f"q{i}", s, {}) for i, s in enumerate([1, 0, 0, 1])])
    rows = [(4, "q3", 1, {}), (1, "q0", 0, {}), (3, "q2", 1, {}), (2, "q1", 1, {}), (0, "new", 1, {})]
    b = write(tmp_path / "b", [(i, t, s, {"cost": 0.03, "finished_at": 102.0}) for i, t, s, _ in rows])
    return a, b


def test_cases_are_paired_by_content(compare, two):
    code, out, err = compare(*two, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["comparisons"][0]
    assert (found["common"], found["only_baseline"], found["only_candidate"]) == (4, 0, 1)
    score = found["scores"]["exact"]
    assert (score["difference"], score["won"], score["lost"], score["tied"]) == (0.25, 2, 1, 1)
    assert (score["won_cases"], score["lost_cases"]) == ([2, 3], [1])
    assert score["p"] == 1
    assert found["candidate"]["cost"] == pytest.approx(0.15)
    assert found["candidate"]["latency_mean"] == 2


def test_the_table_names_both_and_who_won_what(compare, two):
    code, out, _ = compare(*two)
    assert code == 0
    assert "b - a: 4 runs of the same cases (0 only in the baseline, 1 only here)" in out
    assert "exact: +0.2500 (0.5000 -> 0.7500)" in out
    assert "won by b: case 2  0 -> 1  q1" in out
    assert "won by a: case 1  1 -> 0  q0" in out
    assert "$0.0400" in out


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("exact<-2%", False),
        ("exact<30%", True),
        ("exact<0.3", True),
        ("exact>=0.25", True),
        ("exact.low<-50%", True),
        ("exact.high<0", False),
        ("cost>10%", True),
        ("cost>400%", False),
        ("cost > 0.1", True),
        ("latency>50%", True),
        ("latency>1.5", False),
        ("tokens>24%", True),
        ("failed>0", False),
    ],
)
def test_conditions(compare, two, condition, fails):
    code, _, err = compare(*two, "--fail-if", condition)
    assert code == int(fails)
    assert (condition in err) == fails


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (
            "exakt<0",
            "no metric 'exakt' that both sides have; there are exact, exact.low, exact.high, cost, latency",
        ),
        ("exact", "write it as METRIC<VALUE"),
        ("exact<much", "write it as METRIC<VALUE"),
    ],
)
def test_wrong_conditions(compare, two, condition, says):
    code, _, err = compare(*two, "--fail-if", condition)
    assert code == 2
    assert says in err


def test_what_is_unknown_passes_no_gate(compare, two, tmp_path):
    c = write(tmp_path / "c", [(0, "q0", 1, {"cost": None})])
    code, _, err = compare(two[0], c, "--fail-if", "cost>10%")
    assert code == 2
    assert "the cost of c is unknown" in err


def test_equal_prompts_are_told_apart_by_their_number(compare, tmp_path):
    a = write(tmp_path / "a", [(1, "same", 1, {}), (0, "same", 0, {})])
    b = write(tmp_path / "b", [(0, "same", 0, {}), (1, "same", 1, {})])
    code, out, _ = compare(a, b, "--json")
    score = json.loads(out)["comparisons"][0]["scores"]["exact"]
    assert (code, score["tied"], score["won"]) == (0, 2, 0)


def test_failed_runs_are_left_out_or_zero(compare, tmp_path):
    a = write(tmp_path / "a", [(0, "q0", 1, {}), (1, "q1", 1, {})])
    failed = {"status": "failed", "error": {"type": "E", "message": "m"}}
    b = write(tmp_path / "b", [(0, "q0", 1, {}), (1, "q1", None, failed)])
    plain = json.loads(compare(a, b, "--json")[1])["comparisons"][0]["scores"]["exact"]
    assert (plain["pairs"], plain["difference"]) == (1, 0)
    zero = json.loads(compare(a, b, "--json", "--failed-as-zero")[1])["comparisons"][0]["scores"]["exact"]
    assert (zero["pairs"], zero["difference"]) == (2, -0.5)
    assert compare(a, b, "--fail-if", "failed>10%")[0] == 1


def test_the_variants_of_one_matrix(compare, tmp_path):
    rows = [
        (i, f"q{i}", s, {"variant": v})
        for v, scores in (("m t=0", [1, 0]), ("m t=1", [1, 1]))
        for i, s in enumerate(scores)
    ]
    code, out, _ = compare(write(tmp_path / "a", rows), "--json")
    found = json.loads(out)["comparisons"]
    assert (code, len(found)) == (0, 1)
    assert (found[0]["baseline"]["name"], found[0]["candidate"]["name"]) == ("m t=0", "m t=1")
    assert found[0]["scores"]["exact"]["difference"] == 0.5


def test_the_first_variant_that_was_asked_for_is_the_baseline(compare, tmp_path):
    """Whichever ended first: the sign of a difference, and with it --fail-if, hangs on it."""
    rows = [(i, f"q{i}", s, {"variant": v}) for i in (0, 1) for v, s in (("c", 1), ("b", 1), ("a", 0))]
    matrix = write(tmp_path / "a", rows, labels=["b", "a", "c"])
    found = json.loads(compare(matrix, "--json")[1])["comparisons"]
    assert [(each["baseline"]["name"], each["candidate"]["name"]) for each in found] == [
        ("b", "a"),
        ("b", "c"),
    ]
    assert [each["scores"]["exact"]["difference"] for each in found] == [-1, 0]
    assert compare(matrix, "--fail-if", "exact<-2%")[0] == 1


def test_many_side_by_side_are_tables_as_wide_as_the_terminal(compare, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"openai:gpt-4.1-mini temperature={n / 10}" for n in range(7)]
    rows = [(0, "q", float(n % 2), {"variant": name, "run_id": f"{n:016x}"}) for n, name in enumerate(names)]
    a = write(tmp_path / "a", rows, labels=names)
    code, out, _ = compare(a, "--show", "0")
    assert code == 0
    tables = out[: out.index(f"{names[1]} - ")].rstrip()
    assert max(map(len, tables.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in tables
    first, *others = tables.split("\n\n")
    assert len(others) == 2
    for number in range(1, 7):
        assert tables.count(f"temperature=0.{number}") == 1
    assert all("temperature=0.0" in table and "1.0000" in table for table in (first, *others))


def test_every_pair_in_a_file(compare, two, tmp_path):
    assert compare(*two, "--cases", tmp_path / "pairs.jsonl")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert {(r["input"], r["baseline"]["exact"], r["candidate"]["exact"]) for r in rows} == {
        ("q0", 1, 0), ("q1", 0, 1), ("q2", 0, 1), ("q3", 1, 1),
    }  # fmt: skip


def test_mistakes(compare, two, tmp_path):
    other = write(tmp_path / "other", [(0, "elsewhere", 1, {})])
    (tmp_path / "empty").mkdir()
    for words, says in [
        ([two[0]], "one batch alone"),
        ([two[0], other], "share no case"),
        ([two[0], tmp_path / "gone"], "no such directory"),
        ([two[0], tmp_path / "empty"], "no results.jsonl there"),
        ([*two, "--confidence", "95"], "a share from 0.5 to below 1"),
    ]:
        code, _, err = compare(*words)
        assert code == 2
        assert says in err
