"""The search for the highest rate; processes; calibration; the page; the command."""

import json
import math
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.load.slo import parse_slo
from runmgr.load.sweep import Sweep, next_rate, parse_sweep
from runmgr.models.sim_config import parse_sim
from runmgr.sim import open_sim_server


def lines(out):
    return [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]


@given(low=st.floats(0.1, 50), span=st.floats(1.1, 1000), limit=st.floats(0.01, 60_000))
def test_the_search_ends_just_below_the_limit(low, span, limit):
    where, tried = Sweep(low, low * span), []
    while (rate := next_rate(where, tried)) is not None:
        assert low <= rate <= low * span * 1.001
        tried.append((rate, rate <= limit))
        assert len(tried) <= 20
    best = max((rate for rate, met in tried if met), default=None)
    if limit < low:
        assert best is None
    elif limit >= low * span:
        assert best == pytest.approx(low * span)
    else:
        assert best <= limit <= best * 1.06


@pytest.mark.parametrize("text", ["", "5", "5..", "9..3", "0..3", "1..inf", "a..b"])
def test_sweeps_that_are_none(text):
    with pytest.raises(UserError, match="--sweep"):
        parse_sweep(text)


async def test_a_sweep_finds_where_a_server_begins_to_miss(tmp_path):
    # 4 at once for 40 ms each: 100 a second at most, and less with Poisson arrivals where nobody may be refused
    async with open_sim_server(parse_sim("ttft=40ms,tokens=1"), max_in_flight=4) as server:
        config = LoadConfig(
            base_url=server.url,
            model="openai:m",
            sweep=Sweep(20, 320, 0.25),
            duration=0.6,
            objectives=parse_slo("errors=10%"),
            out=tmp_path,
        )
        result = await run_load(config)
    assert result.exit_code == 0
    assert 40 <= result.summary["best_rate"] <= 130
    steps = result.summary["steps"]
    assert {step["met"] for step in steps} == {True, False}
    assert len(lines(tmp_path)) == sum(step["requests"] for step in steps)
    page = (tmp_path / "report.html").read_text()
    assert "highest rate that met" in page
    assert page.count("<polyline") >= 4


async def test_a_sweep_of_which_nothing_meets(tmp_path):
    async with open_sim_server(parse_sim("ttft=40ms,tokens=1")) as server:
        config = LoadConfig(
            base_url=server.url,
            model="openai:m",
            sweep=Sweep(20, 320),
            duration=0.3,
            objectives=parse_slo("ttft=10ms"),
            out=tmp_path,
        )
        result = await run_load(config)
    assert (result.exit_code, result.summary["best_rate"], len(result.summary["steps"])) == (1, None, 1)


@pytest.mark.parametrize("shape", [{"rates": parse_rates("60")}, {"concurrency": 5}])
async def test_processes_share_a_schedule_and_add_up_exactly(tmp_path, shape):
    async with open_sim_server(parse_sim("ttft=20ms,itl=2ms,tokens=5")) as server:
        result = await run_load(
            LoadConfig(
                base_url=server.url, model="openai:m", requests=61, processes=2, out=tmp_path, seed=3, **shape
            )
        )
        assert server.stats()["completed"] == 61
    rows = lines(tmp_path)
    assert sorted(row["index"] for row in rows) == list(range(61))
    assert not list(tmp_path.glob("requests.*.jsonl"))
    summary = result.summary
    assert summary["requests"] == summary["ttft_ms"]["n"] == 61
    assert summary["itl_ms"]["n"] == 61 * 4
    truth = sorted(row["first_token_at"] - row["scheduled_at"] for row in rows)
    for percent in (50, 90, 99):
        expected = truth[math.ceil(percent * 61 / 100) - 1]
        assert summary["ttft_ms"][f"p{percent}"] == pytest.approx(expected * 1e3, rel=0.001, abs=0.01)
    if "rates" in shape:
        assert sorted(row["scheduled_at"] for row in rows) == pytest.approx(
            [i / 60 for i in range(61)], abs=1e-6
        )
        assert min(row["sent_at"] - row["scheduled_at"] for row in rows) >= 0


async def test_calibration_measures_the_client(monkeypatch):
    monkeypatch.setattr("runmgr.load.calibrate._SECONDS", 0.8)
    async with open_sim_server(parse_sim("ttft=50ms,tokens=2")) as server:
        result = await run_load(
            LoadConfig(base_url=server.url, model="openai:m", concurrency=2, requests=4, calibrate=True)
        )
        assert server.stats()["requests"] == 4
    found = result.summary["calibration"]
    assert found["requests_per_second"] > 50
    assert found["alone_ttft_ms"]["p50"] < 20  # nothing of the server's 50 ms


async def test_the_page_says_what_the_summary_says(tmp_path):
    async with open_sim_server(parse_sim("ttft=10ms,itl=1ms,tokens=5,fail=20%,faults=500")) as server:
        result = await run_load(
            LoadConfig(
                base_url=server.url,
                model="openai:<b>m</b>",
                rates=parse_rates("60"),
                duration=1.0,
                warmup=0.2,
                objectives=parse_slo("ttft=1us,goodput=50%"),
                out=tmp_path,
            )
        )
    page = (tmp_path / "report.html").read_text()
    assert "<b>m</b>" not in page
    assert "openai:&lt;b&gt;m" in page
    assert "simulated 500" in page
    assert 'class="missed">missed' in page
    assert 'class="steady"' in page
    assert f"{result.summary['ttft_ms']['p99.9']:,.2f}" in page
    assert "<script" not in page


def command(*words):
    return [sys.executable, "-m", "runmgr", "load", *words]


def test_mistakes_end_with_2_and_nothing_is_sent(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["load", "--base-url", "http://127.0.0.1:9/v1", "--model", "openai:m"]
    for words, says in (
        ([*base], "one of --rate"),
        ([*base, "--rate", "x"], "--rate x"),
        ([*base, "--rate", "5", "--slo", "ttft=5"], "--slo ttft=5"),
        ([*base, "--trace", "none.jsonl"], "--trace none.jsonl: cannot be read"),
        ([*base, "--rate", "5", "--prompts", "none.jsonl"], "--prompts none.jsonl: cannot be read"),
        ([*base, "--rate", "5", "--input-tokens", "many"], "--input-tokens"),
        ([*base, "--concurrency", "1", "--processes", "2"], "--processes 2"),
        (["load", "--agent", "nothing:x", "--prompts", "p", "--rate", "1"], "no module named 'nothing'"),
    ):
        assert main(words) == 2, words
        assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("requests.jsonl"))


def until(url, completed):
    """Wait until the server has answered so many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as answer:
            if json.load(answer).get("completed", 0) >= completed:
                return
        time.sleep(0.1)
    pytest.fail(f"the server did not come to {completed} answers")


def test_the_command_over_the_whole_way(tmp_path):
    """The server and the load as a user starts them; the first request goes out soon after the start, Ctrl-C keeps what there is."""
    server = subprocess.Popen(
        [sys.executable, "-m", "runmgr", "sim", "--port", "0", "--ttft", "20ms", "--tokens", "4"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = server.stdout.readline().split()[-1]
        base = ["--base-url", url, "--model", "openai:m", "--rate", "20"]
        out = tmp_path / "one"
        done = subprocess.run(
            command(*base, "--requests", "10", "--slo", "ttft=5s", "--out", str(out), "--json"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads((out / "summary.json").read_text())
        assert "SLO ttft_p99" in done.stderr
        assert len(lines(out)) == 10
        missed = subprocess.run(
            command(*base, "--requests", "5", "--slo", "ttft=1ms", "-q", "--out", str(tmp_path / "two")),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (missed.returncode, missed.stdout) == (1, "")
        assert "missed: ttft_p99" in missed.stderr
        load = subprocess.Popen(
            command(*base, "--duration", "60", "--out", str(tmp_path / "three")),
            stderr=subprocess.PIPE,
            text=True,
        )
        until(url, completed=25)
        load.send_signal(signal.SIGINT)
        _, said = load.communicate(timeout=10)
        assert load.returncode == 130
        assert "interrupted" in said
        summary = json.loads((tmp_path / "three" / "summary.json").read_text())
        assert summary["status"] == "interrupted"
        assert len(lines(tmp_path / "three")) == summary["requests"] >= 5
    finally:
        server.kill()
        server.communicate()
