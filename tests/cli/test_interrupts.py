"""Ctrl-C, SIGTERM and kill -9, on a real process."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

CASES = 20


@pytest.fixture
def start(tmp_path):
    """Starts a batch of which two runs end every 0.1 s or so, and gives its process once a few have ended."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(CASES)))
    started = []

    def begin(*words, ended=4):
        command = [
            sys.executable,
            "-m",
            "runmgr",
            "batch",
            "in.jsonl",
            "--model",
            "sim:ttft=100ms",
            "--max-running",
            "2",
            "--out",
            "o ut",
        ]
        process = subprocess.Popen(
            [*command, *words], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        deadline = time.monotonic() + 30
        while lines(tmp_path) < ended:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def lines(tmp_path):
    try:
        return (tmp_path / "o ut" / "results.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def finish(tmp_path, words):
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "o ut" / "results.jsonl").read_text().splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(CASES))
    summary = json.loads((tmp_path / "o ut" / "summary.json").read_text())
    assert (summary["status"], summary["succeeded"], summary["remaining"]) == ("complete", CASES, 0)
    assert summary["usage"]["requests"] == CASES
    return done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_says_how_to_go_on(start, tmp_path, number):
    process = start()
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 2
    summary = json.loads((tmp_path / "o ut" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["succeeded"] == lines(tmp_path) == CASES - summary["remaining"]
    assert (tmp_path / "o ut" / "report.html").exists()
    resume = shlex.split(err.strip().splitlines()[-1])
    assert resume == [
        *["runmgr", "batch", "in.jsonl", "--model", "sim:ttft=100ms", "--max-running", "2", "--out"],
        "o ut",
        "--resume",
    ]
    finish(tmp_path, resume)


def test_the_second_signal_ends_at_once(start, tmp_path):
    """Even where a user's scorer holds the whole interpreter in a way that nothing can cancel."""
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time\n"
        "async def score(output, target):\n    pathlib.Path('held').touch()\n    while time.sleep(0.05) is None: pass\n"
    )
    process = start("--scorer", "stuck:score", ended=0)
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_interpreter_ends_keeps_the_code(tmp_path, number):
    (tmp_path / "late.py").write_text(
        "import atexit, os, signal, sys\n"
        "from runmgr.cli import app, main\n"
        "app.run = lambda argv: 130\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "late.py"], cwd=tmp_path, capture_output=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"")


def test_an_interrupt_of_what_is_executed_as_text_keeps_the_code(tmp_path):
    """As a command's imports do, where a module makes a namedtuple."""
    (tmp_path / "early.py").write_text(
        "import contextlib, sys\n"
        "from runmgr.cli import app, main\n"
        "with contextlib.suppress(KeyboardInterrupt):\n    exec('raise KeyboardInterrupt')\n"
        "app.run = lambda argv: 130\n"
        "sys.exit(main())\n"
    )
    assert (
        subprocess.run([sys.executable, "-m", "early"], cwd=tmp_path, timeout=20, check=False).returncode
        == 130
    )


def test_an_agent_that_holds_the_event_loop_is_left_behind(start, tmp_path):
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time\nfrom runmgr import Agent\nfrom runmgr.models.function import FunctionModel\n"
        "async def hold(messages, info):\n    pathlib.Path('held').touch()\n    while time.sleep(0.05) is None: pass\n"
        "agent = Agent(FunctionModel(hold))\n"
    )
    command = [
        sys.executable,
        "-m",
        "runmgr",
        "batch",
        "in.jsonl",
        "--agent",
        "stuck:agent",
        "--out",
        "o ut",
        "--quiet",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 2
    finally:
        process.kill()
    assert process.returncode == 130
    assert "--resume" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_tool_that_is_stuck_in_a_thread_is_left_behind(tmp_path, number):
    """Nothing can end a thread: the process ends in time all the same, and the run is open, to be resumed."""
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time\nfrom runmgr import Agent\nfrom runmgr.messages import ModelResponse, TextPart, ToolCallPart\n"
        "from runmgr.models.function import FunctionModel\n"
        "def ask(messages, info):\n"
        "    return ModelResponse(parts=[ToolCallPart('hold', {}, 'c') if len(messages) == 1 else TextPart('done')])\n"
        "agent = Agent(FunctionModel(ask))\n"
        "@agent.tool_plain(idempotent=True)\ndef hold() -> str:\n"
        "    held = pathlib.Path('held')\n"
        "    if not held.exists():\n        held.touch()\n        time.sleep(60)\n"
        "    return 'held'\n"
    )
    command = [
        sys.executable,
        "-m",
        "runmgr",
        "batch",
        "in.jsonl",
        "--agent",
        "stuck:agent",
        "--out",
        "out",
        "-q",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.02)
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=30)
        assert time.monotonic() - began < 5
    finally:
        process.kill()
    assert process.returncode == 130
    summary = tmp_path / "out" / "summary.json"
    assert json.loads(summary.read_text())["status"] == "interrupted"
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    assert json.loads(summary.read_text())["succeeded"] == 1


def test_kill_9_and_resume(start, tmp_path):
    process = start()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -9
    before = lines(tmp_path)
    done = finish(
        tmp_path,
        [
            *[
                "runmgr",
                "batch",
                "in.jsonl",
                "--model",
                "sim:ttft=100ms",
                "--max-running",
                "2",
                "--resume",
                "--out",
            ],
            "o ut",
        ],
    )
    assert "had ended before" in done.stderr
    assert before >= 4


def test_a_batch_that_waits_for_standard_input_can_be_stopped(tmp_path):
    command = [sys.executable, "-m", "runmgr", "batch", "-", "--model", "sim:", "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            process.stdin.write('{"prompt": "a"}\n{"prompt": "b"}\n')
            process.stdin.flush()
            while not (tmp_path / "out" / "journal.sqlite").exists():
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(0.3)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            err = process.stderr.read()
            assert process.wait(timeout=20) == 130
            assert time.monotonic() - began < 2
        finally:
            process.kill()
    assert "--resume" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["status"], summary["succeeded"]) == ("interrupted", 2)
