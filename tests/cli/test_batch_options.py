"""Options in a file, dry runs, scoring again, completion: as a person types them."""

import json
import shutil
import subprocess
import sys

import pytest

from runmgr.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"p{i}", "target": "the", "n": i} for i in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


CONFIG = """
input = "in.jsonl"
model = ["sim:seed=1", "sim:seed=2"]
target-field = "target"
scorer = ["includes", "f1,as=words"]
max-running = 3
limit = 4
[set]
temperature = [0, 0.5]
max_tokens = 20
"""


def test_options_in_a_file_and_the_command_line_before_them(run, tmp_path):
    (tmp_path / "b.toml").write_text(CONFIG)
    code, out, err = run("batch", "--config", "b.toml", "--limit", "2", "--out", "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["runs"], len(summary["by_variant"])) == (2 * 4, 4)
    assert list(summary["scores"]) == ["includes", "words"]
    assert "sim:seed=1 temperature=0.5" in summary["by_variant"]
    assert "sim:seed=1 temperature=0.5" in err
    code, out, _ = run("batch", "--config", "b.toml", "--model", "sim:", "--out", "one", "--json", "-q")
    assert json.loads(out)["runs"] == 4 * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle = 'sim:'", "b.toml: no option 'modle'; did you mean 'model'?"),
        ("model = ", "b.toml: not TOML"),
        ("max-running = 'many'", "'many' is not a valid integer"),
        ("config = 'x'", "no option 'config'"),
    ],
)
def test_mistakes_in_the_file(run, tmp_path, text, says):
    (tmp_path / "b.toml").write_text(text + "\n")
    code, _, err = run("batch", "in.jsonl", "--config", "b.toml", "--model", "sim:")
    assert code == 2
    assert says in err
    assert run("batch", "--config", "gone.toml")[2].startswith(
        "runmgr: error: --config gone.toml: cannot be read"
    )


def test_a_dry_run_shows_prompts_and_counts(run, tmp_path):
    code, out, _ = run(
        *("batch", "in.jsonl", "--model", "sim:", "--dry-run", "--where", "n > 1", "--epochs", "3"),
        *("--prompt", "Say {{ prompt }}\x1b[2J", "--target-field", "target"),
    )
    assert code == 0
    assert "user: Say p2" in out
    assert "\x1b[2J" not in out
    assert out.strip().endswith("4 cases x 3 epochs = 12 runs; nothing was sent")
    assert out.count("── case") == 3
    assert not (tmp_path / "runs").exists()
    assert run("batch", "in.jsonl", "--model", "sim:", "--dry-run", "--prompt", "{{ x }}")[0] == 2


def test_score_replaces_and_adds(run, tmp_path):
    run(
        "batch",
        "in.jsonl",
        "--model",
        "sim:",
        "--target-field",
        "target",
        "--scorer",
        "exact",
        "--out",
        "out",
        "-q",
    )
    code, out, err = run("score", "out", "--scorer", "includes", "--json")
    assert (code, list(json.loads(out)["scores"])) == (0, ["includes"])
    assert "includes" in err
    code, out, _ = run("score", "out", "--scorer", "f1", "--add", "--json", "-q")
    assert list(json.loads(out)["scores"]) == ["includes", "f1"]
    assert run("score", "out", "--scorer", "nope")[0] == 2
    words = (
        "batch",
        "in.jsonl",
        "--model",
        "sim:",
        "--target-field",
        "target",
        "--resume",
        "--out",
        "out",
        "--json",
        "-q",
    )
    code, out, _ = run(*words, "--scorer", "includes", "--scorer", "f1")
    assert (code, list(json.loads(out)["scores"])) == (0, ["includes", "f1"])


def test_compare_two_batches_from_the_command_line(run):
    words = ("--target-field", "target", "--scorer", "includes", "-q")
    run("batch", "in.jsonl", "--model", "sim:tokens=1", *words, "--out", "a")
    run("batch", "in.jsonl", "--model", "sim:tokens=80", *words, "--out", "b")
    code, out, _ = run("compare", "a", "b", "--json")
    assert code == 0
    assert json.loads(out)["comparisons"][0]["common"] == 6


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code(run, shell):
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("there is no bash to ask for its version")
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_RUNMGR_COMPLETE" in out


def test_completion_knows_commands_and_options(tmp_path):
    script = "import sys; sys.argv = ['runmgr']; from runmgr.cli import main; sys.exit(main())"
    for words, expected in (("runmgr comp", "compare"), ("runmgr batch --targ", "--target-field")):
        environment = {
            "_RUNMGR_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        import os

        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert expected in done.stdout
