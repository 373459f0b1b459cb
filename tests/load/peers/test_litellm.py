"""A load against the litellm proxy with ``mock_response``, whose streams have more chunks than tokens. ``make test-litellm``; skipped where
it is not set up.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from runmgr.cli import main

LITELLM = Path(__file__).parents[3] / "bench" / "peers" / ".venv-litellm" / "bin" / "litellm"
ANSWER = "This answer is mocked by the proxy and has a few words"

pytestmark = pytest.mark.skipif(
    not os.environ.get("RUNMGR_PEERS") or not LITELLM.exists(), reason="make test-litellm runs it"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    config = tmp_path_factory.mktemp("litellm") / "config.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: mocked\n"
        f'    litellm_params: {{model: openai/mocked, api_key: any-word, mock_response: "{ANSWER}"}}\n'
        "general_settings: {dangerously_permit_weak_or_unset_master_key: true}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = (config.parent / "said").open("w")
    process = subprocess.Popen(
        [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
        stdout=said,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
    )
    try:
        deadline = time.monotonic() + 110
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((config.parent / "said").read_text()[-2000:])
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
        said.close()


def test_streams_with_more_pieces_than_tokens(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "any-word")
    words = [
        "load",
        "--base-url",
        url,
        "--model",
        "openai:mocked",
        "--concurrency",
        "4",
        "--requests",
        "40",
        "-q",
    ]
    assert main([*words, "--record-chunks", "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").read_text().splitlines()]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(rows) == summary["succeeded"] == 40
    assert summary["tokens_from"] == {"usage": 40}
    pieces = {len(row["chunks_at"]) for row in rows}
    tokens = {row["output_tokens"] for row in rows}
    assert len(pieces) == len(tokens) == 1
    assert pieces.pop() > tokens.pop() > 0
    # so the two are told apart, and a tool that takes pieces for tokens would be wrong
    assert any("pieces a token" in note for note in summary["notes"])
    assert summary["output_tokens"] == sum(row["output_tokens"] for row in rows)
    for row in rows:
        assert row["sent_at"] <= row["first_token_at"] <= row["last_token_at"] <= row["finished_at"]


def test_agents_of_it(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "any-word")
    (tmp_path / "litellm_agent.py").write_text("from runmgr import Agent\nagent = Agent()\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n')
    monkeypatch.chdir(tmp_path)
    words = ["load", "--agent", "litellm_agent:agent", "--model", "openai:mocked", "--base-url", url, "-q"]
    words += [
        "--prompts",
        "p.jsonl",
        "--concurrency",
        "2",
        "--requests",
        "10",
        "--out",
        str(tmp_path / "runs"),
    ]
    assert main(words) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert summary["turns"] == {"total": 10, "mean": 1.0}
