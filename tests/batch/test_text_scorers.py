"""Scorers beyond equality: JSON, words, letters, n-grams; their options; libraries that are not there."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.batch.scorers import SCORERS, load_scorer
from runmgr.exceptions import UserError


def score(spec, output, target):
    return load_scorer(spec).score(output, target)


@pytest.mark.parametrize(
    ("spec", "output", "target", "value"),
    [
        ("numeric,rel=1%", "101", "100", 1),
        ("numeric,rel=1%", "102", "100", 0),
        ("numeric,rel=0,abs=2", "102", "100", 1),
        ("json", '{"a": [1, 2.0]}', '{"a": [1.0, 2]}', 1),
        ("json", '{"a": 1}', '{"a": 1, "b": 2}', 0),
        ("json", '{"a": true}', '{"a": 1}', 0),
        ("json,path=a.b[1]", '{"a": {"b": [1, "two"]}}', "two", 1),
        ("json,path=$.a.b[-1]", '{"a": {"b": [1, 2]}}', "2", 1),
        ("json,path=a", '{"a": "2"}', "2", 1),
        ("json,path=a.c", '{"a": {"b": 1}}', "1", 0),
        ("json,path=a[7]", '{"a": []}', "1", 0),
        ("json,path=a,target-path=x.y", '{"a": 1}', '{"x": {"y": 1}}', 1),
        ("json,path=a", 'Here it is:\n```json\n{"a": 1}\n```\nDone.', "1", 1),
        ("json,path=a", 'It is {"a": 1} I think', "1", 1),
        ("json,path=a", "no json", "1", 0),
        ("json", "[" * 5000, "1", 0),
        ("f1", "the cat sat", "A cat sat.", 1),
        ("f1", "cat sat down", "cat sat", 0.8),
        ("f1", "dog", "cat", 0),
        ("f1", "the", "a", 1),
        ("edit", "kitten", "sitting", 1 - 3 / 7),
        ("edit", "", "", 1),
        ("bleu", "the cat is on the mat", "the cat is on the mat", 1),
        ("chrf", "the cat", "the cat", 1),
        ("rouge", "the cat sat", "the cat sat on a mat", 2 * 1 * 0.5 / 1.5),
        ("rouge,variant=rouge1", "cat the", "the cat", 1),
        ("rouge,variant=rouge2", "cat the", "the cat", 0),
        ("rouge,stem=yes", "cats running", "cat run", 1),
    ],
)
def test_scores(spec, output, target, value):
    assert score(spec, output, target) == pytest.approx(value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_score_from_0_to_1(output, target):
    for spec in ("json", "json,path=a", "f1", "edit", "bleu", "chrf", "rouge"):
        assert 0 <= score(spec, output, target) <= 1 + 1e-12
    if target.strip():
        assert score("edit", target, target) == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("numeric,rel=x", "rel=x: a number from 0 on is needed"),
        ("numeric,rel=-1", "a number from 0 on"),
        ("numeric,real=1", "no option 'real'; did you mean 'rel'?"),
        ("exact,a=1", "it takes none"),
        ("f1,", "options are written as key=value"),
        ("rouge,variant=rouge9", "one of rougeL, rouge1"),
        ("json,path=a..b", "write it as answer.items[0].name"),
        ("judge", "a judge has its own model: judge,model="),
        ("judge,model=test,rubric=@nowhere.txt", "rubric=@nowhere.txt: cannot be read"),
    ],
)
def test_wrong_options(spec, says):
    with pytest.raises(UserError) as caught:
        load_scorer(spec)
    assert says in str(caught.value)


def test_every_scorer_may_be_named():
    assert load_scorer("exact,as=same").name == "same"
    assert load_scorer("rouge,as=r").name == "r"
    assert load_scorer("judge,model=test,as=j").name == "j"
    assert set(SCORERS) >= {"exact", "numeric", "json", "f1", "edit", "bleu", "rouge", "judge", "pairwise"}


@pytest.mark.parametrize(
    ("spec", "module", "package"),
    [
        ("edit", "rapidfuzz.distance.Levenshtein", "rapidfuzz"),
        ("bleu", "sacrebleu", "sacrebleu"),
        ("rouge", "rouge_score.rouge_scorer", "rouge-score"),
    ],
)
def test_a_library_that_is_not_there(monkeypatch, spec, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"--scorer {spec} needs {package}: pip install 'runmgr\[scoring\]'"):
        load_scorer(spec)
