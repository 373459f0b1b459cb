"""Two loads side by side: intervals that cover, changes that are found, gates; the command and its page."""

import json
import math
import random

import pytest

from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.load.compare import _t, compare_loads, figures_of
from runmgr.load.gates import check_load_gates, parse_load_gate
from runmgr.load.results import LoadedRun, read_load
from runmgr.models.sim_config import parse_sim
from runmgr.sim import open_sim_server

VALID = {"validity": {"verdict": "valid", "reasons": []}, "requests": 1, "kind": "requests"}


def loaded(values, *, name="a", seconds=60.0, failures=()):
    n = len(values)
    due = [i * seconds / n for i in range(n)]
    ended = [(at + value / 1e3, 1.0) for at, value in zip(due, values, strict=True)]
    return LoadedRun(
        name=name,
        summary=VALID,
        begin=0.0,
        end=seconds,
        times={"e2e": list(values), "ttft": list(values)},
        due_at=due,
        ended_at=ended,
        tokens_at=[(at, 10.0) for at, _ in ended],
        failures=list(failures) or [0.0] * n,
    )


def correlated(rng, n, scale=100.0):
    """Latencies whose logarithm is an autoregression: a slow moment is slow for all who come then."""
    values, state = [], rng.gauss(0, 0.5)
    for _ in range(n):
        state = 0.8 * state + rng.gauss(0, 0.3)
        values.append(scale * math.exp(state))
    return values


@pytest.mark.parametrize("make", [lambda rng, n: [rng.lognormvariate(4, 0.5) for _ in range(n)], correlated])
def test_of_two_equal_loads_the_interval_holds_zero(make):
    missed = dict.fromkeys(("e2e.mean", "e2e.p50", "e2e.p90"), 0)
    for seed in range(100):
        rng = random.Random(seed)
        found = compare_loads(loaded(make(rng, 600)), loaded(make(rng, 600)))
        for name in missed:
            missed[name] += not found[name].low <= 0 <= found[name].high
    # one in twenty is wrong by right: of a hundred no more than fourteen (four sigma)
    assert all(count <= 14 for count in missed.values()), missed
    assert sum(missed.values()) > 0  # nor are they so wide that they say nothing


def test_a_slower_server_is_found_and_called_worse():
    rng = random.Random(1)
    before, after = correlated(rng, 2_000), correlated(rng, 2_000, 150.0)
    found = compare_loads(loaded(before), loaded(after))
    for name in ("ttft.p50", "ttft.p90", "e2e.mean"):
        assert found[name].better is False
        assert found[name].low > 0
        assert found[name].relative == pytest.approx(0.5, abs=0.25)
    assert compare_loads(loaded(after), loaded(before))["e2e.p50"].better is True


def test_more_a_second_is_better_and_more_errors_are_worse():
    few, many = [100.0] * 500, [100.0] * 1_500
    failing = [float(i % 4 == 0) for i in range(1_500)]
    found = compare_loads(loaded(few), loaded(many, failures=failing))
    assert found["requests_per_second"].better is True
    assert found["output_tokens_per_second"].difference == pytest.approx(1_000 / 60 * 10, rel=0.02)
    assert found["errors"].better is False
    assert found["errors"].candidate.value == 0.25


def test_too_few_have_no_interval():
    found = figures_of(loaded([float(i) for i in range(50)]))
    assert found["e2e.p50"].low is None
    assert found["e2e.mean"].value == 24.5
    assert (
        figures_of(loaded([float(i) for i in range(200)]))["e2e.p99"].high is None
    )  # what is above was not seen
    assert compare_loads(loaded([1.0] * 50), loaded([2.0] * 50))["e2e.p50"].better is None


def test_students_quantile():
    for freedom, table in ((10, 2.2281), (19, 2.0930), (60, 2.0003)):  # 97.5 %, from printed tables
        assert _t(0.95, freedom) == pytest.approx(table, abs=2e-3)


def test_gates():
    found = compare_loads(loaded([100.0] * 400), loaded([130.0] * 400))

    def broken(text):
        return check_load_gates([parse_load_gate(text, found)], found)

    assert broken("ttft.p99>10%")
    assert not broken("ttft.p99>40%")
    assert broken("e2e.mean>20")
    assert broken("e2e.mean.low>0")
    assert not broken("requests_per_second.high<0")
    for bad in ("ttft", "ttft.p98>1", "ttft.p99>x", ">1"):
        with pytest.raises(UserError, match="--fail-if"):
            parse_load_gate(bad, found)


async def load(out, spec, requests=100):
    async with open_sim_server(parse_sim(spec)) as server:
        config = LoadConfig(
            base_url=server.url, model="openai:m", rates=parse_rates("100"), requests=requests, out=out
        )
        await run_load(config)


async def test_the_command_and_its_page(tmp_path, capsys):
    await load(tmp_path / "before", "ttft=20ms,itl=1ms,tokens=6")
    await load(tmp_path / "after", "ttft=300ms,itl=1ms,tokens=6")
    page = tmp_path / "both.html"
    words = ["compare", str(tmp_path / "before"), str(tmp_path / "after"), "--report", str(page)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "before" in shown
    assert "ttft.p50" in shown
    assert "worse" in shown
    html = page.read_text()
    assert html.count("<figure>") == 6
    assert "after against before" in html
    assert "<script" not in html
    assert main([*words, "--fail-if", "ttft.p50>50%", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    figures = told["comparisons"][0]["figures"]
    assert figures["ttft.p50"]["difference"] == pytest.approx(280, abs=150)
    assert figures["tpot.p50"]["baseline"]["n"] == 100
    assert len(told["regressions"]) == 1
    run = read_load(tmp_path / "before")
    summary = json.loads((tmp_path / "before" / "summary.json").read_text())
    for name, percent in (("ttft", 50), ("e2e", 50), ("tpot", 50)):
        mine = figures_of(run)[f"{name}.p{percent}"].value
        assert mine == pytest.approx(summary[f"{name}_ms"][f"p{percent}"], rel=0.002, abs=0.002)


async def test_mistakes(tmp_path, capsys):
    await load(tmp_path / "one", "tokens=2", requests=5)
    (tmp_path / "other").mkdir()
    assert main(["compare", str(tmp_path / "one")]) == 2
    assert "name the ones to compare it with" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "other")]) == 2
    assert "compare loads with loads" in capsys.readouterr().err
    (tmp_path / "one" / "requests.jsonl").write_text("{")
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "one")]) == 2
    assert "requests.jsonl:1" in capsys.readouterr().err
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "summary.json").write_text('{"kind": "sweep"}')
    assert main(["compare", str(sweep), str(sweep)]) == 2
    assert "a sweep" in capsys.readouterr().err
