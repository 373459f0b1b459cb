"""A load and agents against aimock, a mock server that none of us wrote. ``make test-aimock``; skipped where it is not set up."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from runmgr import Agent
from runmgr.cli import main

HERE = Path(__file__).parents[3] / "bench" / "peers" / "aimock"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    not os.environ.get("RUNMGR_PEERS")
    or NODE is None
    or not (HERE / "node_modules" / "@copilotkit" / "aimock").is_dir(),
    reason="make test-aimock runs it: it needs node and npm",
)


@pytest.fixture
def url():
    process = subprocess.Popen([NODE, "serve.mjs"], cwd=HERE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def journal(url):
    with urllib.request.urlopen(url.removesuffix("/v1") + "/__aimock/journal", timeout=10) as answer:
        return json.load(answer)


def lines(out):
    return [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]


def test_streams(url, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n{"prompt": "hello again"}\n')
    out = tmp_path / "out"
    words = ["load", "--base-url", url, "--model", "openai:gpt-4o", "--prompts", str(tmp_path / "p.jsonl")]
    assert main([*words, "--rate", "40", "--requests", "80", "--out", str(out), "-q"]) == 0, (
        capsys.readouterr().err
    )
    rows, summary = lines(out), json.loads((out / "summary.json").read_text())
    seen = journal(url)
    assert len(rows) == summary["succeeded"] == len(seen) == 80
    assert Counter(one["response"]["status"] for one in seen) == {200: 80}
    assert summary["tokens_from"] == {"usage": 80}
    # aimock cuts by letters: 5 pieces of its 8 tokens; the role alone before them is none of them
    assert {row["output_tokens"] for row in rows} == {8}
    assert summary["itl_ms"]["n"] == 80 * 4
    assert any("pieces a token" in note for note in summary["notes"])
    assert summary["itl_ms"]["p50"] >= 4
    vllm = tmp_path / "vllm"
    assert (
        main([*words, "--concurrency", "4", "--requests", "8", "--defs", "vllm", "--out", str(vllm), "-q"])
        == 0
    )
    by_event = json.loads((vllm / "summary.json").read_text())
    assert by_event["itl_ms"]["n"] == 8 * 6  # a role alone, five pieces, and the finish reason


def test_agents_with_tools(url, tmp_path, monkeypatch, capsys):
    (tmp_path / "aimock_agent.py").write_text(
        "from runmgr import Agent\n"
        "agent = Agent()\n"
        "@agent.tool_plain\n"
        "def look(key: str) -> str:\n"
        "    assert key == 'France'\n"
        "    return 'sunny'\n"
    )
    (tmp_path / "p.jsonl").write_text('{"prompt": "how is the weather?"}\n')
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    code = main(
        ["load", "--agent", "aimock_agent:agent", "--model", "openai:gpt-4o", "--base-url", url]
        + ["--prompts", "p.jsonl", "--concurrency", "5", "--requests", "25", "--out", str(out), "-q"]
    )
    assert code == 0, capsys.readouterr().err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["turns"] == {"total": 50, "mean": 2.0}
    assert summary["tool_calls"] == {"total": 25, "mean": 1.0}
    seen = journal(url)
    assert len(seen) == 50
    assert sum(any(m["role"] == "tool" for m in one["body"]["messages"]) for one in seen) == 25


async def test_a_streamed_run_with_a_tool(url):
    from runmgr.models.openai import OpenAIChatModel
    from runmgr.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=url, api_key="any-word")))

    @agent.tool_plain
    def look(key: str) -> str:
        return f"sunny in {key}"

    async with agent.run_stream("how is the weather?") as streamed:
        assert await streamed.get_output() == "It is sunny in France today"
