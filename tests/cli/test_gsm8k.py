"""Recorded GSM8K answers over HTTP, against the reference server: scores, exact usage, faults. Skipped where its data is not."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from runmgr.batch.extract import compile_pattern, extract
from runmgr.batch.scorers import BUILT_IN
from runmgr.cli import main

SHARED = Path(__file__).parents[3] / "shared"
QUESTIONS = SHARED / "data" / "gsm8k" / "test.jsonl"
SOLUTIONS = SHARED / "data" / "gsm8k" / "model_solutions.jsonl"
pytestmark = pytest.mark.skipif(
    not SOLUTIONS.exists(), reason="the recorded GSM8K answers (../shared) are not here"
)

EXTRACT, TARGET_EXTRACT = "A: ?(-?[0-9.,]+)", "#### (-?[0-9.,]+)"


@pytest.mark.parametrize(("model", "correct"), [("175b_verification", 742), ("6b_finetuning", 286)])
def test_numeric_agrees_with_the_papers_own_verdicts(model, correct):
    output_pattern, target_pattern = compile_pattern(EXTRACT, ""), compile_pattern(TARGET_EXTRACT, "")
    total = 0
    with QUESTIONS.open() as questions, SOLUTIONS.open() as solutions:
        for question, solution in zip(map(json.loads, questions), map(json.loads, solutions), strict=True):
            answer = extract(output_pattern, solution[model]["solution"])
            score = (
                0.0
                if answer is None
                else BUILT_IN["numeric"].score(answer, extract(target_pattern, question["answer"]))
            )
            assert bool(score) == solution[model]["is_correct"]
            total += score
    assert total == correct


@contextmanager
def server(*words):
    process = subprocess.Popen(
        [sys.executable, SHARED / "tools" / "gsm8k_server.py", "--solutions", SOLUTIONS, *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def stats(url):
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as answer:
        return json.load(answer)


def batch(url, out, *words, code=0):
    command = [
        sys.executable,
        "-m",
        "runmgr",
        "batch",
        str(QUESTIONS),
        "--model",
        "openai:175b_verification",
        "--base-url",
        url,
    ]
    command += [
        "--prompt-field",
        "question",
        "--target-field",
        "answer",
        "--extract",
        EXTRACT,
        "--target-extract",
        TARGET_EXTRACT,
    ]
    command += ["--scorer", "numeric", "--max-running", "200", "--out", str(out), "--json", "--quiet", *words]
    done = subprocess.run(
        command,
        env={**os.environ, "OPENAI_API_KEY": "x"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_the_whole_set_over_http(tmp_path):
    with server() as url:
        summary = batch(url, tmp_path / "out")
        seen = stats(url)
    assert (summary["runs"], summary["succeeded"], summary["failed"], summary["remaining"]) == (
        1319,
        1319,
        0,
        0,
    )
    assert round(summary["scores"]["numeric"]["mean"] * 1319) == 742
    assert seen["completed"] == seen["requests"] == summary["usage"]["requests"] == 1319
    assert summary["usage"]["input_tokens"] == seen["prompt_tokens"]
    assert summary["usage"]["output_tokens"] == seen["completion_tokens"]


def test_faults_cost_nothing_and_change_nothing(tmp_path):
    with server("--fault-rate", "0.2", "--faults", "429,500,503,disconnect,truncate,garbage") as url:
        summary = batch(url, tmp_path / "out", "--limit", "300")
        seen = stats(url)
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(300))
    assert {row["status"] for row in rows} == {"succeeded"}
    recorded = [
        json.loads(line)["175b_verification"]["is_correct"]
        for line in SOLUTIONS.read_text().splitlines()[:300]
    ]
    assert sum(row["scores"]["numeric"] for row in rows) == sum(recorded)
    assert seen["requests"] > seen["completed"] == 300
    assert (summary["usage"]["input_tokens"], summary["usage"]["output_tokens"]) == (
        seen["prompt_tokens"],
        seen["completion_tokens"],
    )


def test_a_budget_of_tokens_is_never_passed_and_a_larger_one_goes_on(tmp_path):
    with server() as url:
        words = ["--set", "max_tokens=400", "--budget-tokens", "70000"]
        stopped = batch(url, tmp_path / "out", *words, code=3)
        seen = stats(url)
        assert 70_000 - 1_200 < seen["prompt_tokens"] + seen["completion_tokens"] <= 70_000
        assert stopped["status"] == "budget_exhausted"
        assert stopped["remaining"] == 1319 - stopped["succeeded"] > 0
        words[-1] = "140000"
        summary = batch(url, tmp_path / "out", *words, "--resume")
        seen = stats(url)
    assert round(summary["scores"]["numeric"]["mean"] * 1319) == 742
    assert (seen["completed"], seen["most_asked"]) == (1319, 1)
    assert seen["prompt_tokens"] + seen["completion_tokens"] <= 140_000


def test_compare_finds_the_difference_of_the_papers_verdicts(tmp_path, capsys):
    """175b_verification over 6b_finetuning by 34.6 points, with the paired interval."""
    scores = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    for model in ("6b_finetuning", "175b_verification"):
        (tmp_path / model).mkdir()
        lines = [
            {"index": i, "run_id": f"{i:016x}", "status": "succeeded", "input": row["question"]}
            | {"scores": {"numeric": float(row[model]["is_correct"])}}
            for i, row in enumerate(scores)
        ]
        (tmp_path / model / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [str(tmp_path / "6b_finetuning"), str(tmp_path / "175b_verification"), "--json"]
    assert main(["compare", *words, "--fail-if", "numeric<-2%"]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"][0]["scores"]["numeric"]
    assert found["difference"] == pytest.approx(456 / 1319)
    assert (found["low"], found["high"]) == (
        pytest.approx(0.31657, abs=1e-4),
        pytest.approx(0.37486, abs=1e-4),
    )
    assert (found["won"], found["lost"], found["test"]) == (499, 43, "mcnemar")
    assert found["p"] < 1e-90
    assert main(["compare", words[1], words[0], "--fail-if", "numeric.high<0"]) == 1
