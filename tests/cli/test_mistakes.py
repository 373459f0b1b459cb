"""Typical mistakes: each gives one helpful line, exit code 2, and nothing sent or written."""

import json
import re
import socket
import sys
from pathlib import Path

import pytest

from runmgr.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    (tmp_path / "in.jsonl").write_text('{"q": "one", "a": "1"}\n{"q": "two", "a": "2"}\n')

    def call(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


BATCH = ("batch", "in.jsonl", "--model", "sim:", "--prompt-field", "q")


MISTAKES = {
    "a misspelt command": (("bath",), ["no command 'bath'", "did you mean 'batch'?"]),
    "no input": (("batch",), ["missing argument 'INPUT'", "runmgr batch --help"]),
    "no model": (("batch", "in.jsonl"), ["--model is needed"]),
    "a misspelt file": (
        ("batch", "inn.jsonl", "--model", "sim:"),
        ["inn.jsonl: no such file", "did you mean 'in.jsonl'?"],
    ),
    "a line that is no JSON": (
        ("batch", "half.jsonl", "--model", "sim:", "--prompt-field", "q"),
        ["half.jsonl:2: not JSON", '{"q": "tw'],
    ),
    "an empty file": (("batch", "empty.jsonl", "--model", "sim:"), ["empty.jsonl: there are no cases in it"]),
    "a prompt field that is not there": (
        ("batch", "in.jsonl", "--model", "sim:", "--prompt-field", "text"),
        ["in.jsonl:1: no field 'text'", "'q', 'a'"],
    ),
    "a template of a field that is not there": (
        ("batch", "in.jsonl", "--model", "sim:", "--prompt", "{{ text }}"),
        ["in.jsonl:1: the template needs", "'text' is undefined", "'q', 'a'"],
    ),
    "no prompt field": (("batch", "in.jsonl", "--model", "sim:"), ["in.jsonl:1: which field is the prompt?"]),
    "a model without a provider": (("batch", "in.jsonl", "--model", "gpt-4o"), ["gpt-4o", "openai"]),
    "a misspelt provider": (("batch", "in.jsonl", "--model", "opnai:gpt-4o"), ["opnai", "openai"]),
    "a bad pattern": (
        (*BATCH, "--extract", "A: ("),
        ["--extract 'A: (' is no regular expression", "missing )"],
    ),
    "a misspelt scorer": (
        (*BATCH, "--scorer", "numric", "--target-field", "a"),
        ["unknown scorer; did you mean 'numeric'?"],
    ),
    "a scorer without targets": ((*BATCH, "--scorer", "numeric"), ["--scorer numeric needs --target-field"]),
    "a scorer of a module that is not there": (
        (*BATCH, "--scorer", "my_scorers:f"),
        ["no module named 'my_scorers'"],
    ),
    "a file's name for a module's": (
        (*BATCH, "--agent", "my_agents.py:a"),
        ["a module's name is needed, not a file's"],
    ),
    "a misspelt setting": (
        (*BATCH, "--set", "max_tokns=5"),
        ["no such model setting; did you mean 'max_tokens'?"],
    ),
    "a setting of another type": ((*BATCH, "--set", "max_tokens=five"), ["--set max_tokens=five", "integer"]),
    "a setting without a value": ((*BATCH, "--set", "max_tokens"), ["write it as KEY=VALUE"]),
    "a misspelt option": ((*BATCH, "--max-runing", "5"), ["no such option", "--max-running"]),
    "a model setting as an option": (
        (*BATCH, "--top-p", "0.5"),
        ["no such option '--top-p'", "a model setting is --set top_p=VALUE"],
    ),
    "a number that is none": ((*BATCH, "--max-running", "many"), ["'many' is not a valid integer"]),
    "an amount that is none": ((*BATCH, "--budget-usd", "five"), ["--budget-usd five", "2.50"]),
    "a share that is none": ((*BATCH, "--max-failures", "x%"), ["--max-failures x%"]),
    "retries without resuming": ((*BATCH, "--retry-failed"), ["goes with --resume"]),
    "a prompt said twice": ((*BATCH, "--prompt", "x"), ["give one of them"]),
    "an address for a model in this process": (
        (*BATCH, "--base-url", "http://127.0.0.1:1/v1"),
        ["--base-url has no use with --model sim:"],
    ),
    "a directory that is not there": (("show", "nowhere", "x"), ["nowhere: no such directory"]),
    "a directory without a batch": (("report", "."), ["no results.jsonl there"]),
    "a simulated time that is none": (("sim", "--ttft", "soon"), ["ttft", "'soon'"]),
    "answers of another form": (("sim", "--answers", "half.jsonl"), ["half.jsonl:1", "prompt and target"]),
    "a judge without a model": ((*BATCH, "--scorer", "judge"), ["a judge has its own model"]),
    "a budget for a model without a price": (
        (*BATCH, "--budget-usd", "1"),
        ["what 'sim' costs is unknown", "--budget-tokens"],
    ),
    "a provider without a batch API": ((*BATCH, "--via-batch-api"), ["sim:sim has no batch API"]),
    "a time limit for a batch API": (
        (
            "batch",
            "in.jsonl",
            "--model",
            "openai:gpt-4o",
            "--prompt-field",
            "q",
            "--via-batch-api",
            "--timeout",
            "60",
        ),
        ["--timeout does not go with --via-batch-api"],
    ),
    "an image that is not there": ((*BATCH, "--image-field", "a"), ["in.jsonl:1: 'a': no such image: 1"]),
    "a condition on a field that is not there": ((*BATCH, "--where", "x > 1"), ["in.jsonl:1"]),
    "a condition that holds nowhere": ((*BATCH, "--where", "q == 'three'"), ["no cases"]),
    "a reducer of more epochs than there are": (
        (*BATCH, "--epochs", "3", "--reducer", "pass@5"),
        ["--reducer pass@5: 5 runs of each case are needed, and there are 3 (--epochs)"],
    ),
    "a reducer that is none": ((*BATCH, "--reducer", "median"), ["--reducer median"]),
    "a misspelt option of a scorer": (
        (*BATCH, "--target-field", "a", "--scorer", "numeric,rell=1%"),
        ["no option 'rell'", "did you mean 'rel'?"],
    ),
    "two scorers of one name": (
        (*BATCH, "--target-field", "a", "--scorer", "exact", "--scorer", "exact"),
        ["two scorers of the name 'exact'"],
    ),
    "the same model twice": ((*BATCH, "--model", "sim:"), ["the same model is given twice"]),
    "a comparison with what is not there": (("compare", "nowhere"), ["nowhere"]),
    "scores of no batch": (("score", "."), ["no batch there"]),
    "a file of options that is not there": (
        ("batch", "in.jsonl", "--config", "no.toml"),
        ["--config no.toml", "cannot be read"],
    ),
}
"""By what docs/guides/mistakes.md calls them: a command, and what its error says."""

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "mistakes.md"


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(run, tmp_path, name):
    words, parts = MISTAKES[name]
    (tmp_path / "half.jsonl").write_text('{"q": "one"}\n{"q": "tw')
    (tmp_path / "empty.jsonl").write_text("\n")
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("runmgr: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not (tmp_path / "runs").exists()
    (said,) = re.findall(rf"^\| {re.escape(name)} \| `+(.*?)`+ \|", PAGE.read_text(), re.MULTILINE)
    wanted = ".*".join(re.escape(part.replace(r"\|", "|").strip()) for part in said.split("..."))
    assert re.search(wanted, err), f"the page says {said!r}, the command {err!r}"


def test_no_key(run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    code, _, err = run("batch", "in.jsonl", "--model", "openai:gpt-4o", "--prompt-field", "q")
    assert code == 2
    assert err.startswith("runmgr: error: ")
    assert "OPENAI_API_KEY" in err


def test_a_port_nobody_listens_on(run, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        code, _, err = run(
            *("batch", "in.jsonl", "--model", "openai:m", "--base-url", url, "--prompt-field", "q"),
            *("--retries", "1", "--out", "out"),
        )
    assert code == 1
    assert url.removesuffix("/v1") in err
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert all(url.removesuffix("/v1") in row["error"]["message"] for row in rows)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["failed"] == 2


def test_a_directory_of_another_batch(run):
    assert run(*BATCH, "--out", "out", "--quiet")[0] == 0
    code, _, err = run(*BATCH, "--out", "out")
    assert (code, "add --resume" in err) == (2, True)
    code, _, err = run(*BATCH, "--out", "out", "--resume", "--instructions", "Be brief.")
    assert code == 2
    assert "another batch (instructions was not given, now is 'Be brief.')" in err


def test_other_formats_of_mistakes_name_their_line(run, tmp_path):
    (tmp_path / "in.csv").write_text("q,a\nx,1\ny\n")
    code, _, err = run("batch", "in.csv", "--model", "sim:", "--prompt-field", "q")
    assert (code, "in.csv:3: 1 cell where the header names 2 (q, a)" in err) == (2, True)
