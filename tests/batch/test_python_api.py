"""Batches from Python: cases in lists, reports as frames, other tools' logs; in a test of three lines."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from runmgr import Agent
from runmgr.batch import BatchReport, Case, Dataset, evaluate, rescore, run_batch
from runmgr.exceptions import InputError, UserError
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel


def shout(messages, info):
    return ModelResponse(parts=[TextPart(messages[-1].parts[-1].content.upper())], model_name="shout")


agent = Agent(FunctionModel(shout, model_name="shout"))


def test_an_agent_is_evaluated_in_three_lines(tmp_path):
    cases = [Case("paris", "PARIS"), Case("rome", "ROME")]
    report = evaluate(cases, agent=agent, scorers=["exact"], out=tmp_path / "evals")
    assert report.scores["exact"].mean == 1


@pytest.fixture
def report(tmp_path):
    cases = [Case("a", "A"), Case("b", "x"), Case("c", "C"), Case("d", "D")]
    return evaluate(cases, agent=agent, scorers=["exact", "f1"], epochs=2, out=tmp_path / "out")


def test_a_report_reads_its_directory(report, tmp_path):
    again = BatchReport(tmp_path / "out")
    assert again.summary == report.summary
    assert repr(again).endswith("complete, 8 runs, exact 0.7500, f1 0.7500)")
    assert {line.output for line in again.results()} == {"A", "B", "C", "D"}
    run_id = next(again.results()).run_id
    assert len(again.messages(run_id)) == 2
    with pytest.raises(UserError, match="no run 'nope'"):
        again.messages("nope")
    with pytest.raises(UserError, match=r"no summary\.json there"):
        BatchReport(tmp_path)


def test_intervals(report):
    low, high = report.interval("exact")
    assert low < 0.75 <= high <= 1
    normal = report.interval("exact", method="normal")
    assert normal[0] == pytest.approx(0.75 - 1.959964 * report.scores["exact"].stderr)
    with pytest.raises(UserError, match="no scorer 'nope'; there are exact, f1"):
        report.interval("nope")


def test_a_report_beside_another(report, tmp_path):
    quiet = Agent(FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart("A")]), model_name="a"))
    cases = [Case(name, name.upper()) for name in "abcd"]
    other = evaluate(cases, agent=quiet, scorers=["exact"], epochs=2, out=tmp_path / "other")
    found = report.compare(other)
    assert found.scores["exact"].difference == pytest.approx(0.5)
    assert report.compare(tmp_path / "other") == found


def test_frames(report):
    for frame in (report.to_polars(), report.to_pandas()):
        assert frame.shape[0] == 8
        assert sorted(frame["score_exact"]) == [0, 0, 1, 1, 1, 1, 1, 1]
        assert set(frame["model"]) == {"shout"}


@pytest.mark.parametrize("name", ["polars", "pandas"])
def test_a_library_that_is_not_there(report, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} is not installed: pip install 'runmgr\[frames\]'"):
        getattr(report, f"to_{name}")()


def test_a_log_for_inspect(tmp_path):
    def calls(messages, info):
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {"what": "x"}, "c1")])
        return ModelResponse(parts=[TextPart("seen </script>")])

    with_tools = Agent(FunctionModel(calls, model_name="m"), instructions="Look.")

    @with_tools.tool_plain
    def look(what: str) -> str:
        return f"a {what}"

    report = evaluate([Case("go", "seen")], agent=with_tools, scorers=["includes"], out=tmp_path / "out")
    log = json.loads(report.to_inspect_log().read_text())
    assert (log["version"], log["status"], log["results"]["scores"][0]["metrics"]["mean"]["value"]) == (
        2,
        "success",
        1,
    )
    sample = log["samples"][0]
    assert [message["role"] for message in sample["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert sample["messages"][2]["tool_calls"][0]["arguments"] == {"what": "x"}
    assert sample["messages"][3]["content"] == "a x"
    assert sample["scores"] == {"includes": {"value": 1.0}}
    with pytest.raises(UserError, match=r"must be \.json"):
        report.to_inspect_log(tmp_path / "x.eval")


@pytest.mark.skipif(
    not os.environ.get("RUNMGR_INSPECT"), reason="opened by Inspect AI itself: make test-inspect"
)
def test_the_log_is_opened_by_inspect_itself(tmp_path):
    cases = [Case("What is 1+1?", "the"), Case("What is 2+2?", "nowhere")]
    report = evaluate(cases, model="sim:", scorers=["includes"], epochs=2, out=tmp_path / "out")
    program = (
        "import json, sys; from inspect_ai.log import read_eval_log; log = read_eval_log(sys.argv[1]); "
        "print(json.dumps([log.status, len(log.samples), log.results.scores[0].metrics['mean'].value, log.samples[0].epoch]))"
    )
    words = [os.environ["RUNMGR_INSPECT"], "-c", program, str(report.to_inspect_log())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    status, samples, mean, _ = json.loads(done.stdout)
    assert (status, samples, mean) == ("success", 4, report.scores["includes"].mean)


# ------------------------------------------------------------------ datasets


def test_datasets(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,target,level\na,A,1\nb,B,2\nc,C,3\n")
    data = Dataset.read(tmp_path / "a.csv")
    assert (len(data), data[1]["prompt"], data.has_targets) == (3, "b", True)
    assert [row["level"] for row in data.filter(lambda row: row["level"] > "1")] == ["2", "3"]
    assert [row["prompt"] for row in data.map(lambda row: {**row, "prompt": row["prompt"] * 2})] == [
        "aa",
        "bb",
        "cc",
    ]
    assert list(data.sample(2, seed=1)) == list(data.sample(2, seed=1))
    assert len(data.sample(9)) == 3
    assert "3 cases" in repr(data)
    assert not Dataset(["just", "texts"]).has_targets
    with pytest.raises(InputError, match="item 2 is int"):
        Dataset(["a", 1])


async def test_a_dataset_is_an_input(tmp_path):
    data = Dataset([Case("a", "A"), Case("b", "x")])
    result = await run_batch(input=data, agent=agent, scorers=["exact"], out=tmp_path / "out")
    assert result.report.scores["exact"].mean == 0.5
    with pytest.raises(UserError, match="rows in memory"):
        await rescore(tmp_path / "out", scorers=["f1"])
    again = await rescore(tmp_path / "out", scorers=["f1"], cases=data)
    assert again.summary.scores["f1"].mean == 0.5


async def test_whatever_gives_rows_again_and_again_is_an_input(tmp_path):
    """As Hugging Face's datasets do: iterable, with rows as dicts, and a name that is no text."""

    class Rows:
        name = SimpleNamespace()

        def __iter__(self):
            return iter([{"question": "a", "answer": "A"}, {"question": "b", "answer": "B"}])

    result = await run_batch(
        input=Rows(), agent=agent, target_field="answer", scorers=["exact"], out=tmp_path / "out"
    )
    assert (result.summary.runs, result.summary.scores["exact"].mean) == (2, 1)
