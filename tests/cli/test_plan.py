"""``runmgr plan``, and the line with which a batch goes on that its budget has stopped."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import attrs
import pytest
import trio
import trio.testing

from runmgr import Agent
from runmgr.batch import BatchConfig, run_batch
from runmgr.batch.planning import Figures, forecast, run_pilot, samples_of
from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.openai import OpenAIChatModel
from runmgr.models.sim import SimModel
from runmgr.usage import RequestUsage


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """As few simulations as there may be."""
    monkeypatch.setattr(sys.modules["runmgr.batch.planning.forecast"], "SECONDS", 0.0)


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question {n}, please?"}) + "\n" for n in range(300)))
    return path


def plan_of(config, figures):
    return forecast(config, trio.run(samples_of, config, figures))


def test_what_limits_decides_the_wall_time(cases):
    figures = Figures(input_tokens=50, output_tokens=100, latency=2.0)
    config = BatchConfig(input=cases, model="sim:", max_running=10)
    found = plan_of(config, figures)
    assert found.seconds.value == pytest.approx(60, rel=0.02)  # 300 of 2 s, 10 at once
    assert "--max-running" in found.limited_by
    assert (found.requests.value, found.input_tokens.value, found.output_tokens.value) == (
        300,
        15_000,
        30_000,
    )
    found = plan_of(BatchConfig(input=cases, model="sim:", rpm=100), figures)
    assert found.seconds.value == pytest.approx(299 * 0.6 + 2, rel=0.02)
    assert "--rpm" in found.limited_by
    found = plan_of(BatchConfig(input=cases, model="sim:", tpm=15_000), figures)
    assert found.seconds.value == pytest.approx(180, rel=0.05)
    assert "--tpm" in found.limited_by
    found = plan_of(BatchConfig(input=cases, model="sim:", epochs=3, limit=100), Figures(**_twice(figures)))
    assert (found.runs, found.requests.value) == (300, 600)


def _twice(figures):
    return {
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "latency": figures.latency,
        "requests": 2,
    }


def test_costs_and_budgets(cases, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    figures = Figures(input_tokens=1_000, output_tokens=1_000, latency=1.0)
    config = BatchConfig(input=cases, model="openai:gpt-4o", settings={"max_tokens": 1_000})
    found = plan_of(config, figures)
    assert found.cost.value == pytest.approx(300 * (0.0025 + 0.01))
    stopped = plan_of(
        BatchConfig(
            input=cases, model="openai:gpt-4o", settings={"max_tokens": 1_000}, budget_tokens=300_000
        ),
        figures,
    )
    assert 140 <= stopped.ended.value <= 150
    assert stopped.input_tokens.value + stopped.output_tokens.value <= 300_000
    assert stopped.limited_by.startswith("the budget")


def test_a_batch_api_costs_half_and_takes_its_own_time(cases, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    figures = Figures(input_tokens=1_000, output_tokens=1_000)
    config = BatchConfig(input=cases, model="openai:gpt-4o", settings={"max_tokens": 1_000})
    whole = plan_of(config, figures)
    config = attrs.evolve(config, via_batch_api=True)
    half = plan_of(config, figures)
    assert half.cost.value == pytest.approx(whole.cost.value / 2)
    assert (half.requests, half.seconds) == (whole.requests, None)
    # budgets are of the half price too
    budget = whole.cost.value / 2 * 1.01
    assert plan_of(attrs.evolve(config, budget_usd=budget), figures).ended.value == 300
    assert plan_of(attrs.evolve(config, budget_usd=budget / 2), figures).ended.value < 160
    words = ["plan", str(cases), "--model", "openai:gpt-4o", "--via-batch-api"]
    words += ["--input-tokens", "1000", "--output-tokens", "1000"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "wall time" not in shown
    assert "limited by     the provider: within 24 hours, mostly sooner\n" in shown
    assert main([*words, "--requests", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] is None
    assert found["limited_by"].endswith("for each of a run's 3 turns")
    assert main(["plan", str(cases), "--model", "sim:", "--via-batch-api"]) == 2
    assert "sim:sim has no batch API" in capsys.readouterr().err


def test_the_pilot_of_a_batch_api_is_asked_directly(cases, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    asked = []

    async def answered(self, messages, model_settings, model_request_parameters):
        asked.append(model_settings)
        usage = RequestUsage(input_tokens=1_000, output_tokens=1_000)
        return ModelResponse(parts=[TextPart("yes")], usage=usage)

    monkeypatch.setattr(OpenAIChatModel, "request_once", answered)
    words = ["plan", str(cases), "--model", "openai:gpt-4o", "--via-batch-api", "--pilot", "4", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert len(asked) == 4
    assert captured.err.strip().endswith("cost $0.0500; asked directly, at the full price")
    assert json.loads(captured.out)["cost"]["value"] == pytest.approx(300 * 0.0125 / 2)


def test_a_function_takes_what_it_took_and_is_priced_by_whom_it_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")

    async def answered(self, messages, model_settings, model_request_parameters):
        return ModelResponse(
            parts=[TextPart("yes")], usage=RequestUsage(input_tokens=1_000, output_tokens=1_000)
        )

    monkeypatch.setattr(OpenAIChatModel, "request_once", answered)
    agent = Agent("openai:gpt-4o")

    async def waits(prompt):
        await trio.sleep(2)
        return prompt

    async def asks(prompt):
        return (await agent.run(prompt)).output

    rows = [{"prompt": str(number)} for number in range(40)]

    def plan(function):
        clock = trio.testing.MockClock(autojump_threshold=0)
        config = BatchConfig(input=rows, agent=function, max_running=10)
        return forecast(config, trio.run(run_pilot, config, 5, clock=clock))

    found = plan(waits)
    assert (found.ended.value, found.requests.value) == (40, 0)
    assert found.seconds.value == pytest.approx(8, rel=0.01)
    assert found.limited_by == "how long a run takes and --max-running"
    found = plan(asks)
    assert (found.ended.value, found.requests.value) == (40, 40)
    assert found.cost.value == pytest.approx(40 * 0.0125)


def test_requests_of_child_runs_are_counted(cases):
    inner = Agent(SimModel("ttft=10ms"))

    async def delegates(prompt, supervisor):
        handle = await supervisor.submit(inner, prompt)
        return (await handle.outcome()).output

    config = BatchConfig(input=cases, agent=delegates)
    found = forecast(config, trio.run(run_pilot, config, 4))
    assert (found.ended.value, found.requests.value) == (300, 300)


def test_each_model_of_a_matrix_has_its_own_price(cases, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    figures = Figures(input_tokens=1_000, output_tokens=1_000, latency=1.0)

    def cost(*models):
        return plan_of(BatchConfig(input=cases, model=models), figures).cost.value

    both = cost("openai:gpt-4o", "openai:gpt-4o-mini")
    assert both == pytest.approx(cost("openai:gpt-4o") + cost("openai:gpt-4o-mini"))


def test_many_runs_are_extrapolated(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["runmgr.batch.planning.forecast"], "MOST_RUNS", 400)
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}?"}) + "\n" for n in range(5_000)))
    found = plan_of(
        BatchConfig(input=path, model="sim:", epochs=2, rpm=6_000),
        Figures(input_tokens=5, output_tokens=5, latency=0.5),
    )
    assert (found.runs, found.simulated) == (10_000, 400)
    assert found.seconds.value == pytest.approx(100.5, rel=0.05)
    assert found.requests.value == 10_000


def test_a_pilot_foretells_the_batch(cases, tmp_path):
    """Both in virtual time."""
    config = BatchConfig(
        input=cases,
        model="sim:ttft=lognormal(1s,0.5),itl=20ms,tokens=uniform(20,200),fail=5%,seed=3",
        max_running=20,
        out=tmp_path / "out",
        report=False,
    )
    clock = lambda: trio.testing.MockClock(autojump_threshold=0)  # noqa: E731
    samples = trio.run(run_pilot, config, 60, clock=clock())
    assert samples.pilot == 60
    found = forecast(config, samples)
    real = trio.run(run_batch, config, clock=clock()).summary
    assert found.seconds.value == pytest.approx(real.wall_seconds, rel=0.15)
    assert found.output_tokens.low * 0.9 <= real.usage["output_tokens"] <= found.output_tokens.high * 1.1
    assert found.seconds.low < found.seconds.value < found.seconds.high


def test_a_pilot_that_fails_says_why(cases):
    with pytest.raises(UserError, match="none of the pilot's 3 runs succeeded: ModelHTTPError"):
        trio.run(run_pilot, BatchConfig(input=cases, model="sim:fail=100%,faults=500", retries=0), 3)


def test_the_command(cases, capsys):
    words = ["plan", str(cases), "--model", "sim:", "--rpm", "6000"]
    assert main([*words, "--input-tokens", "10", "--output-tokens", "20", "--latency", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "plan for 300 runs" in shown
    assert "limited by     requests a minute" in shown
    assert main([*words, "--pilot", "5", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["requests"]["value"] == 300
    assert "asked for 5 cases as a pilot" in captured.err
    for wrong in (
        ["--input-tokens", "3"],
        ["--latency", "1"],
        ["--pilot", "2", "--input-tokens", "1", "--output-tokens", "1"],
    ):
        assert main([*words, *wrong]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_the_line_to_go_on_with_has_a_larger_budget(cases, tmp_path, capsys):
    words = [
        "batch",
        str(cases),
        "--model",
        "sim:",
        "--set",
        "max_tokens=20",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main([*words, "--budget-tokens=3000"]) == 3
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert shlex.split(line)[-2:] == ["--budget-tokens", "6000"]
    assert line.count("--budget-tokens") == 1
    code = 3
    for _ in range(5):
        if code == 3:
            code = main(shlex.split(line)[1:])
            line = (capsys.readouterr().err.strip().splitlines() or [""])[-1]
    assert code == 0


def test_a_batch_is_answered_from_its_cache_but_never_over_epochs(cases, tmp_path, capsys):
    def batch(out):
        words = [
            "batch",
            str(cases),
            "--model",
            "sim:",
            "--limit",
            "20",
            "--epochs",
            "2",
            "--quiet",
            "--json",
        ]
        assert main([*words, "--cache", str(tmp_path / "cache.sqlite"), "--out", str(tmp_path / out)]) == 0
        return json.loads(capsys.readouterr().out)["usage"]["requests"]

    assert (batch("one"), batch("two")) == (40, 0)


def test_an_interrupted_pilot_says_so_and_no_more(cases):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        process = subprocess.Popen(
            [sys.executable, "-m", "runmgr", "plan", str(cases), "--model", "openai:m", "--base-url", url],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": "any-word"},
        )
        try:
            with silent.accept()[0]:  # the pilot waits for an answer
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err.strip()) == (130, "runmgr: interrupted")
