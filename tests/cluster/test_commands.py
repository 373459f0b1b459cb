"""Batches and loads over a cluster; what the commands refuse."""

import json

import pytest
import trio

from runmgr import Agent
from runmgr.batch import run_batch
from runmgr.cli import main
from runmgr.cluster import LocalCluster
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import Rates

from .helpers import Provider, agent_for


def cases(folder, count):
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "target": f"P{n}"}) + "\n" for n in range(count)))
    return path


async def test_a_batch_over_workers_has_the_same_results_and_resumes(autojump_clock, tmp_path):
    provider = Provider(0.2)
    given = {
        "input": cases(tmp_path, 60),
        "agent": agent_for(provider),
        "target_field": "target",
        "scorers": ("exact",),
        "out": tmp_path / "out",
        "report": False,
    }
    cluster = LocalCluster(workers=2, per_worker=10)
    with trio.move_on_after(0.45):
        await run_batch(**given, cluster=cluster)
    assert 0 < provider.answered < 60
    result = await run_batch(**given, cluster=cluster, resume=True)
    assert (result.exit_code, result.summary.succeeded, result.summary.status) == (0, 60, "complete")
    assert result.summary.scores["exact"].mean == 1.0
    assert result.summary.usage["requests"] == 60
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted(line["output"] for line in lines) == sorted(f"P{n}" for n in range(60))


async def test_a_load_of_runs_over_workers_has_their_times(autojump_clock, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\nb\n")
    config = LoadConfig(
        rates=Rates((20.0,)), duration=3.0, agent="x:y", prompts=prompts, out=tmp_path / "out"
    )
    import attrs

    config = attrs.evolve(config, cluster=LocalCluster(workers=2, per_worker=50))
    (tmp_path / "out").rmdir() if (tmp_path / "out").exists() else None
    result = await run_load(config, agent=agent_for(Provider(0.3)))
    assert result.exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    for row in rows:
        assert row["sent_at"] == pytest.approx(row["scheduled_at"], abs=0.01)
        assert row["finished_at"] - row["sent_at"] == pytest.approx(0.3, abs=0.01)
        assert "model_seconds" not in row


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "local", "--workers", "0"], "--workers 0: at least 1 is needed"),
        (["--ray", "local", "--per-worker", "-3"], "--per-worker -3: at least 1 is needed"),
        (["--workers", "2"], "--workers goes with --ray local"),
        (["--ray", ""], "--ray: local, or the address of a Ray that runs"),
    ],
)
@pytest.mark.parametrize("command", ["batch", "load"])
def test_mistakes_in_the_options_are_said(command, words, said, tmp_path, capsys):
    path = cases(tmp_path, 1)
    if command == "batch":
        more = [str(path), "--model", "test", "--out", str(tmp_path / "out")]
    else:
        more = ["--base-url", "http://127.0.0.1:1/v1", "--model", "openai:x", "--rate", "1"]
    assert main([command, *more, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ray_that_is_not_installed_is_said(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["batch", str(cases(tmp_path, 1)), "--model", "test", "--ray", "local"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "Ray is not installed here: pip install 'runmgr[ray]'" in capsys.readouterr().err


def test_single_requests_are_not_sent_by_workers():
    from runmgr.exceptions import UserError

    with pytest.raises(UserError, match="--ray works on whole runs of an --agent"):
        LoadConfig(
            base_url="http://127.0.0.1:1/v1",
            model="openai:x",
            rates=Rates((1.0,)),
            cluster=LocalCluster(),
        )


def test_agents_named_by_strings_have_one_model_a_worker():
    from runmgr.cluster.freight import Packer, unpack_work
    from runmgr.supervisor.jobs import AgentJob

    agent = Agent("test", name="t")
    packer, known = Packer(), {}
    works = [packer.pack(AgentJob(agent, f"p{n}", {"model": agent.model}))[1] for n in range(3)]
    found = [unpack_work(work, is_agent=True, known=known).options["model"] for work in works]
    assert found[0] is found[1] is found[2]
