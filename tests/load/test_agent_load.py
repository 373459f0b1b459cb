"""Whole runs as load: what is counted is what the model's server saw."""

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from runmgr import Agent
from runmgr.cli import main
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.models.sim import SimModel

SHARED = Path(__file__).parents[3] / "shared"
SOLUTIONS = SHARED / "data" / "gsm8k" / "model_solutions.jsonl"
QUESTIONS = SHARED / "data" / "gsm8k" / "test.jsonl"


def lines(out):
    return [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]


def asker():
    agent = Agent(SimModel("ttft=100ms,itl=10ms,tokens=11,calls=2"))

    @agent.tool_plain
    async def look(x: int) -> int:
        await trio.sleep(0.5)
        return x

    return agent


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(7)))
    return path


async def test_a_runs_time_is_split_between_model_tools_and_the_rest(tmp_path, prompts, autojump_clock):
    config = LoadConfig(
        agent="x:y", prompts=prompts, rates=parse_rates("10"), requests=50, out=tmp_path / "out"
    )
    result = await run_load(config, agent=asker())
    summary = result.summary
    assert summary["kind"] == "runs"
    assert summary["succeeded"] == 50
    assert summary["turns"] == {"total": 150, "mean": 3.0}
    assert summary["tool_calls"] == {"total": 100, "mean": 2.0}
    assert summary["tool_ms"]["p50"] == pytest.approx(1000, abs=1)
    # a call is two tokens (its name and arguments are not cut finer), the last answer eleven
    assert summary["model_ms"]["mean"] == pytest.approx(3 * 100 + 10 * 10 + 2 * 20, abs=25)
    assert summary["overhead_ms"]["max"] == pytest.approx(0, abs=1)
    assert summary["e2e_ms"]["mean"] == pytest.approx(
        summary["model_ms"]["mean"] + summary["tool_ms"]["mean"], abs=1
    )
    assert summary["first_tool_ms"]["n"] == 50
    assert summary["output_tokens"] == sum(row["output_tokens"] for row in lines(tmp_path / "out"))
    assert {row["turns"] for row in lines(tmp_path / "out")} == {3}


async def test_closed_loop_of_runs_and_their_failures(tmp_path, prompts, autojump_clock):
    agent = Agent(SimModel("ttft=100ms,fail=1,faults=truncate"), retries=0)
    config = LoadConfig(agent="x:y", prompts=prompts, concurrency=5, requests=20, out=tmp_path / "out")
    summary = (await run_load(config, agent=agent)).summary
    assert summary["failed"] == 20
    # as in production: when enough have failed the supervisor takes the model for dead, and sends no more than its probes
    rows = [row["error"] for row in lines(tmp_path / "out")]
    refused = [error for error in rows if error["type"] == "ModelConnectionError"]
    broken = [error for error in rows if error["type"] == "MalformedResponseError"]
    assert len(broken) + len(refused) == 20
    assert 1 <= len(broken) < 20
    assert all("is taken for dead" in error["message"] for error in refused)
    assert {kind: one["count"] for kind, one in summary["errors"].items()} == {
        "MalformedResponseError": len(broken),
        "ModelConnectionError": len(refused),
    }
    assert summary["concurrency"]["max"] == 5


async def test_resends_are_counted(prompts, autojump_clock):
    agent = Agent(SimModel("ttft=100ms,fail=20%,faults=503,seed=5"))
    config = LoadConfig(agent="x:y", prompts=prompts, rates=parse_rates("5"), requests=40)
    summary = (await run_load(config, agent=agent)).summary
    assert summary["succeeded"] == 40
    assert summary["retries"] == agent.model.engine.faults > 0
    assert summary["turns"]["total"] == 40  # a resend is no turn


@contextmanager
def gsm8k(*words):
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


AGENT = """
import ast
import time

from runmgr import Agent

agent = Agent()
spent = []


@agent.tool_plain
async def calculator(expression: str) -> str:
    began = time.perf_counter()
    import trio

    await trio.sleep(0.02)
    plain = not expression.strip("0123456789.+-*/() ")
    value = str(eval(compile(ast.parse(expression, mode="eval"), "", "eval"), {"__builtins__": {}})) if plain else "not plain"
    spent.append(time.perf_counter() - began)
    return value
"""


@pytest.mark.skipif(not SOLUTIONS.exists(), reason="the recorded GSM8K answers (../shared) are not here")
def test_gsm8k_with_a_calculator_agrees_with_its_server(tmp_path, monkeypatch, capsys):
    (tmp_path / "load_gsm8k.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "load_gsm8k", raising=False)
    out = tmp_path / "out"
    with gsm8k("--latency", "0.01", "--fault-rate", "0.05", "--faults", "503,truncate") as url:
        began = time.perf_counter()
        code = main(
            ["load", "--agent", "load_gsm8k:agent", "--model", "openai:175b_verification", "--base-url", url]
            + ["--prompts", str(QUESTIONS), "--rate", "20", "--requests", "60", "--out", str(out), "-q"]
        )
        whole = time.perf_counter() - began
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as answer:
            stats = json.load(answer)
    summary = json.loads((out / "summary.json").read_text())
    rows = lines(out)
    spent = sys.modules["load_gsm8k"].spent
    assert code == 0, capsys.readouterr().err
    assert summary["succeeded"] == stats["questions"] == 60
    # turns: each was answered whole once; whatever else the server saw was asked again
    assert summary["turns"]["total"] == stats["completed"]
    assert summary["retries"] == stats["requests"] - stats["completed"] > 0
    assert summary["tool_calls"]["total"] == stats["completed"] - 60
    assert summary["input_tokens"] == stats["prompt_tokens"]
    assert summary["output_tokens"] == stats["completion_tokens"]
    # runs a second: sixty at twenty a second (the first may have been late), and the last one's own time
    assert summary["overall"]["requests_per_second"] == pytest.approx(
        60 / summary["overall"]["seconds"], rel=1e-3
    )
    assert 2.5 <= summary["overall"]["seconds"] <= whole
    # tool time is the tools' own, and what it costs to call them; all three parts make up a run
    assert len(spent) == stats["completed"] - 60
    tool_time = sum(row["tool_seconds"] for row in rows)
    assert sum(spent) <= tool_time <= sum(spent) + 0.25 * len(spent)
    assert sum(row["model_seconds"] for row in rows) >= 0.01 * stats["completed"]
    for row in rows:
        parts = row["model_seconds"] + row["tool_seconds"] + row["overhead_seconds"]
        assert parts == pytest.approx(row["finished_at"] - row["sent_at"], abs=1e-4)
