import sys

import pytest

from runmgr.batch.scorers import BUILT_IN, CustomScorer, load_scorer
from runmgr.batch.scorers.numeric import check_numeric_target, parse_number
from runmgr.batch.scorers.regex import check_regex_target
from runmgr.exceptions import UserError


def score(name, output, target):
    return BUILT_IN[name].score(output, target)


@pytest.mark.parametrize(
    ("name", "output", "target", "expected"),
    [
        ("exact", " Paris\n", "Paris", 1),
        ("exact", "paris", "Paris", 0),
        ("exact", "Paris.", "Paris", 0),
        ("includes", "It is PARIS, of course.", " Paris ", 1),
        ("includes", "It is Rome.", "Paris", 0),
        ("numeric", "65,000", "65000", 1),
        ("numeric", "18.", "18", 1),
        ("numeric", "$1,234.50", "1234.5", 1),
        ("numeric", "-$3", "-3", 1),
        ("numeric", "1e3", "1000", 1),
        ("numeric", "50%", "50", 1),
        ("numeric", "0.3333333333", "0.33333333", 1),
        ("numeric", "3.14", "3.15", 0),
        ("numeric", "18 apples", "18", 0),
        ("numeric", "", "0", 0),
        ("numeric", "nan", "nan", 0),
        ("regex", "the answer is 42", r"\b4\d\b", 1),
        ("regex", "the answer is 142", r"\b4\d\b", 0),
    ],
)
def test_built_in_scorers(name, output, target, expected):
    assert score(name, output, target) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,2,3", 123.0),
        ("−5", -5.0),
        ("+7", 7.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("€ 12", 12.0),
        ("1,000.", 1000.0),
        ("0042", 42.0),
        ("9007199254740993", 9007199254740992.0),
    ],
)
def test_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "-", ".", ",", "1.2.3", "--3", "abc", "1e999", "１２x", "１２", "9" * 400, "0x10"]
)
def test_no_numbers(text):
    assert parse_number(text) is None


def test_targets_are_checked():
    assert check_numeric_target("12") is None
    assert "--target-extract" in check_numeric_target("so it is 12")
    assert check_regex_target("a+") is None
    assert "unterminated" in check_regex_target("[a")


def test_unknown_scorer_has_a_suggestion():
    with pytest.raises(
        UserError, match=r"unknown scorer; did you mean 'numeric'\? there are exact, .*module:name"
    ):
        load_scorer("numerc")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])

    def module(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return module


def test_own_scorers_come_from_the_current_directory(here):
    here("scorers_a", "def close(output, target):\n    return abs(float(output) - float(target)) < 1\n")
    scorer = load_scorer("scorers_a:close")
    assert isinstance(scorer, CustomScorer)
    assert scorer.name == "close"
    assert scorer.call({"output": "1.5", "target": "1", "input": "", "outcome": None}) is True


@pytest.mark.parametrize(
    ("text", "spec", "parts"),
    [
        ("", "no_such_module_x:f", ["no module named 'no_such_module_x'", "looked in"]),
        ("", "scorers_b", ["unknown scorer"]),
        ("", "scorers_b:", ["write it as module:name"]),
        ("", "scorers_b.py:f", ["a module's name is needed, not a file's", "scorers_b:f"]),
        ("def judge(): pass", "scorers_b:jugde", ["has no 'jugde'", "did you mean scorers_b:judge?"]),
        (
            "import no_such_thing_y",
            "scorers_b:f",
            ["importing it fails", "no_such_thing_y", "scorers_b.py:1"],
        ),
        ("\n1 / 0", "scorers_b:f", ["ZeroDivisionError", "scorers_b.py:2"]),
        ("f = 3", "scorers_b:f", ["cannot be called"]),
        ("def f(a, b, c): pass", "scorers_b:f", ["(a, b, c)", "(output, target)"]),
        ("def f(output, other): pass", "scorers_b:f", ["(output, other)"]),
    ],
)
def test_scorers_that_cannot_be_loaded(here, text, spec, parts):
    here("scorers_b", text)
    with pytest.raises(UserError) as caught:
        load_scorer(spec)
    for part in parts:
        assert part in str(caught.value)


def test_a_scorer_gets_what_its_parameters_name():
    offered = {"output": "o", "target": "t", "input": "i", "outcome": "x"}
    assert CustomScorer("f", lambda output: output).call(offered) == "o"
    assert CustomScorer("f", lambda a, b: a + b).call(offered) == "ot"
    assert CustomScorer("f", lambda target, *, outcome, extra=1: target + outcome).call(offered) == "tx"
    assert CustomScorer("f", lambda **everything: len(everything)).call(offered) == 4


def test_what_a_scorer_may_return():
    scorer = CustomScorer("f", lambda a, b: None)
    assert scorer.checked(None) is None
    assert scorer.checked(True) == 1.0
    for wrong in ("1", float("nan"), [1], object()):
        with pytest.raises(UserError, match="scorer 'f' returned"):
            scorer.checked(wrong)
