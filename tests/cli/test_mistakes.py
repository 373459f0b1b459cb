"""Typical mistakes: each gives one helpful line, exit code 2, and nothing sent or written."""

import json
import socket
import sys

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


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("bath",), ["no command 'bath'", "did you mean 'batch'?"]),
        (("batch",), ["missing argument 'INPUT'", "runmgr batch --help"]),
        (("batch", "in.jsonl"), ["--model is needed"]),
        (("batch", "inn.jsonl", "--model", "sim:"), ["inn.jsonl: no such file", "did you mean 'in.jsonl'?"]),
        (
            ("batch", "half.jsonl", "--model", "sim:", "--prompt-field", "q"),
            ["half.jsonl:2: not JSON", '{"q": "tw'],
        ),
        (("batch", "empty.jsonl", "--model", "sim:"), ["empty.jsonl: there are no cases in it"]),
        (
            ("batch", "in.jsonl", "--model", "sim:", "--prompt-field", "text"),
            ["in.jsonl:1: no field 'text'", "'q', 'a'"],
        ),
        (
            ("batch", "in.jsonl", "--model", "sim:", "--prompt", "{{ text }}"),
            ["in.jsonl:1: the template needs", "'text' is undefined", "'q', 'a'"],
        ),
        (("batch", "in.jsonl", "--model", "sim:"), ["in.jsonl:1: which field is the prompt?"]),
        (("batch", "in.jsonl", "--model", "gpt-4o"), ["gpt-4o", "openai"]),
        (("batch", "in.jsonl", "--model", "opnai:gpt-4o"), ["opnai", "openai"]),
        ((*BATCH, "--extract", "A: ("), ["--extract 'A: (' is no regular expression", "missing )"]),
        ((*BATCH, "--scorer", "numric", "--target-field", "a"), ["unknown scorer; did you mean 'numeric'?"]),
        ((*BATCH, "--scorer", "numeric"), ["--scorer numeric needs --target-field"]),
        ((*BATCH, "--scorer", "my_scorers:f"), ["no module named 'my_scorers'"]),
        ((*BATCH, "--agent", "my_agents.py:a"), ["a module's name is needed, not a file's"]),
        ((*BATCH, "--set", "max_tokns=5"), ["no such model setting; did you mean 'max_tokens'?"]),
        ((*BATCH, "--set", "max_tokens=five"), ["--set max_tokens=five", "integer"]),
        ((*BATCH, "--set", "max_tokens"), ["write it as KEY=VALUE"]),
        ((*BATCH, "--max-runing", "5"), ["no such option", "--max-running"]),
        ((*BATCH, "--max-running", "many"), ["'many' is not a valid integer"]),
        ((*BATCH, "--budget-usd", "five"), ["--budget-usd five", "2.50"]),
        ((*BATCH, "--max-failures", "x%"), ["--max-failures x%"]),
        ((*BATCH, "--retry-failed"), ["goes with --resume"]),
        ((*BATCH, "--prompt", "x"), ["give one of them"]),
        ((*BATCH, "--base-url", "http://127.0.0.1:1/v1"), ["--base-url has no use with --model sim:"]),
        (("show", "nowhere", "x"), ["nowhere: no such directory"]),
        (("report", "."), ["no results.jsonl there"]),
        (("sim", "--ttft", "soon"), ["ttft", "'soon'"]),
        (("sim", "--answers", "half.jsonl"), ["half.jsonl:1", "prompt and target"]),
    ],
)
def test_mistakes(run, tmp_path, words, parts):
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
    assert (code, "in.csv:3: 1 cells where the header names 2 (q, a)" in err) == (2, True)
