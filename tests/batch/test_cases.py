import pytest

from runmgr.batch.cases import CaseReader, compile_template, target_texts
from runmgr.batch.extract import compile_pattern, extract
from runmgr.batch.scorers import BUILT_IN
from runmgr.exceptions import InputError, UserError


class Source:
    def error(self, message, row=None):
        return InputError(message, source="in.jsonl", line=row)


def reader(**options):
    return CaseReader(Source(), **options)


def complaint(fields, row=7, **options):
    with pytest.raises(InputError) as caught:
        reader(**options).read(row, fields)
    return str(caught.value)


def test_the_prompt_is_a_field():
    case = reader(prompt_field="question", target_field="answer").read(1, {"question": " x? ", "answer": 4})
    assert (case.prompt, case.target) == (" x? ", 4)
    assert reader(prompt_field="n").read(1, {"n": 12}).prompt == "12"


@pytest.mark.parametrize("name", ["prompt", "input", "question"])
def test_usual_fields_need_not_be_said(name):
    assert reader().read(1, {"other": 1, name: "x"}).prompt == "x"


def test_the_first_row_decides_which_field_it_is():
    read = reader().read
    read(1, {"question": "a"})
    with pytest.raises(InputError, match="no field 'question'"):
        read(2, {"prompt": "b"})


@pytest.mark.parametrize(
    ("fields", "options", "parts"),
    [
        ({"a": 1, "b": 2}, {}, ["in.jsonl:7:", "'a', 'b'", "--prompt-field"]),
        (
            {"a": 1},
            {"prompt_field": "question"},
            ["in.jsonl:7: no field 'question' (--prompt-field); the row has 'a'"],
        ),
        ({"q": None}, {"prompt_field": "q"}, ["is null"]),
        ({"q": ["x"]}, {"prompt_field": "q"}, ["is an array", "--prompt TEMPLATE"]),
        ({"q": " "}, {"prompt_field": "q"}, ["'q' is empty"]),
        ({"q": "x"}, {"prompt_field": "q", "target_field": "t"}, ["no field 't' (--target-field)"]),
        (
            {"q": "x", "t": None},
            {"prompt_field": "q", "target_field": "t", "scorers": (BUILT_IN["exact"],)},
            ["target 't' is null"],
        ),
        (
            {"q": "x", "t": "many"},
            {"prompt_field": "q", "target_field": "t", "scorers": (BUILT_IN["numeric"],)},
            ["'many' is no number"],
        ),
        (
            {"q": "x", "t": "["},
            {"prompt_field": "q", "target_field": "t", "scorers": (BUILT_IN["regex"],)},
            ["no regular expression"],
        ),
    ],
)
def test_rows_that_are_no_cases(fields, options, parts):
    message = complaint(fields, **options)
    for part in parts:
        assert part in message


def test_targets_that_the_pattern_does_not_match_are_named():
    options = {"prompt_field": "q", "target_field": "t", "scorers": (BUILT_IN["numeric"],)}
    pattern = compile_pattern("#### ([0-9]+)", "--target-extract")
    assert (
        reader(**options, target_extract=pattern).read(1, {"q": "x", "t": "so\n#### 5"}).target
        == "so\n#### 5"
    )
    assert "matches nowhere in the target 'five'" in complaint(
        {"q": "x", "t": "five"}, **options, target_extract=pattern
    )


def test_templates():
    render = compile_template("Q: {{ q }}{% for o in options %}\n{{ loop.index }}. {{ o }}{% endfor %}")
    assert (
        reader(template=render).read(1, {"q": "a<b?", "options": ["x", "y"]}).prompt == "Q: a<b?\n1. x\n2. y"
    )


@pytest.mark.parametrize(
    ("template", "fields", "part"),
    [
        ("{{ missing }}", {"q": 1}, "'missing' is undefined; it has 'q'"),
        ("{{ q.deeper.still }}", {"q": {}}, "deeper"),
        ("{{ q() }}", {"q": 1}, "TypeError"),
        ("{{ ''.__class__.__mro__ }}", {}, "unsafe"),
        ("{{ 1 / 0 }}", {}, "ZeroDivisionError"),
        ("{{ q }}", {"q": ""}, "empty prompt"),
    ],
)
def test_templates_that_fail_on_a_row(template, fields, part):
    message = complaint(fields, template=compile_template(template))
    assert message.startswith("in.jsonl:7: ")
    assert part in message


def test_a_template_may_ask_whether_a_field_is_there():
    render = compile_template("{% if hint is defined %}{{ hint }} {% endif %}{{ q }}")
    assert render({"q": "x"}) == "x"
    assert render({"q": "x", "hint": "h"}) == "h x"


def test_templates_that_are_none():
    with pytest.raises(UserError, match="--prompt: the template is wrong at its line 2"):
        compile_template("fine\n{{ q")


def test_patterns():
    assert extract(compile_pattern(r"A: (\d+)", "--extract"), "A: 1 and A: 23") == "23"
    assert extract(compile_pattern(r"\d+", "--extract"), "1 and 23") == "23"
    assert extract(compile_pattern(r"x(\d)|y(\d)", "--extract"), "y4") == "4"
    assert extract(compile_pattern(r"\d+", "--extract"), "none") is None
    with pytest.raises(UserError, match=r"--extract '\(' is no regular expression: missing \)"):
        compile_pattern("(", "--extract")


def test_several_targets():
    assert target_texts(["a", 2, [True]]) == ["a", "2", "true"]
    assert target_texts({"b": 1, "a": "ä"}) == ['{"a": "ä", "b": 1}']
    assert target_texts(None) == []
