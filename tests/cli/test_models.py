"""``runmgr models``: what is configured, told without keys, and one cheap request where it is asked for."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runmgr.cli import main
from runmgr.models.infer import infer_model, provider_prefixes
from runmgr.providers import infer_provider_class

KEY = "sk-hunter2-hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for prefix in provider_prefixes():
        cls = infer_provider_class(prefix)
        for name in (*cls.key_variables, cls.url_variable):
            if name:
                monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def models(capsys):
    def call(*words):
        code = main(["models", *words])
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return code, out, err

    return call


@pytest.fixture
def server():
    """Answers as it is told; keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            running.asked.append((self.path, dict(self.headers), asked))
            status, body = running.answer
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.send_header("x-request-id", "req_7")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked = []
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_nothing_is_configured(models):
    code, out, err = models()
    assert (code, out) == (0, "")
    assert "not configured: openai, anthropic, google" in err


def test_those_that_are(models, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("VLLM_BASE_URL", f"http://user:{KEY}@10.0.0.5:8000/v1?token={KEY}")
    code, out, err = models()
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["openai:NAME", "OpenAI", "OPENAI_API_KEY", "https://api.openai.com/v1"],
        ["google:NAME", "Google", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com"],
        ["vllm:NAME", "vLLM", "needs", "none", "http://10.0.0.5:8000/v1", "(VLLM_BASE_URL)"],
    ]
    assert "anthropic" in err


def test_all_of_them_with_what_they_lack(models, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    code, out, _ = models("--all", "--json")
    rows = {row["prefix"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) == set(provider_prefixes())
    assert rows["anthropic"]["key"] == "ANTHROPIC_API_KEY"
    assert rows["anthropic"]["missing"] is None
    assert rows["google"]["missing"] == "GOOGLE_API_KEY or GEMINI_API_KEY"
    assert rows["azure"]["missing"] == "AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT"
    assert rows["sglang"]["base_url"] == "http://localhost:30000/v1"
    text = models("--all")[1]
    assert "lacks GROQ_API_KEY" in text


@pytest.mark.parametrize("prefix", provider_prefixes())
def test_what_is_told_to_be_missing_is_what_is_missing(models, monkeypatch, prefix):
    row = next(row for row in json.loads(models("--all", "--json")[1]) if row["prefix"] == prefix)
    if prefix == "azure":
        monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    for names in (row["missing"] or "").split(" and "):
        if names:
            value = "https://example.org" if names.endswith(("URL", "ENDPOINT")) else KEY
            monkeypatch.setenv(names.split(" or ")[0], value)
    assert infer_model(f"{prefix}:x").system


OK = {
    "id": "c",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 13, "completion_tokens": 2, "total_tokens": 15},
}


def test_a_check(models, monkeypatch, server):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    server.answer = 200, OK
    code, out, _ = models("--check", "openai:gpt-4o-mini")
    assert code == 0
    assert out.startswith("openai:gpt-4o-mini: ok: gpt-4o-mini-2024-07-18 answered in ")
    assert "(13 + 2 tokens)" in out
    ((path, headers, asked),) = server.asked
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert asked["max_completion_tokens"] == 16


def test_a_key_that_is_refused(models, monkeypatch, server):
    """Once, without resending, and without the key, which this server repeats."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    server.answer = 401, {"error": {"message": f"no such key: {KEY}", "code": "invalid_api_key"}}
    code, out, _ = models("--check", "openai:gpt-4o-mini")
    assert code == 1
    assert out == (
        "openai:gpt-4o-mini: failed: 401: invalid_api_key: no such key: [secret] (request req_7)\n"
    )
    server.answer = 503, {"error": {"message": "busy"}}
    code, out, _ = models("--json", "--check", "openai:gpt-4o-mini", "--check", "test")
    first, second = json.loads(out)
    assert (code, first["ok"], first["status"], first["retriable"], second["ok"]) == (
        1,
        False,
        503,
        True,
        True,
    )
    assert len(server.asked) == 2


def test_nobody_listens(models, monkeypatch):
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    code, out, _ = models("--check", "vllm:x")
    assert code == 1
    assert "127.0.0.1:9" in out
    assert "refused" in out


def test_mistakes(models):
    code, out, err = models("--check", "opnai:x")
    assert (code, out) == (2, "")
    assert "Did you mean 'openai:x'?" in err
    code, out, err = models("--check", "test", "--check", "openai:x")
    assert (code, out) == (2, "")  # nothing was asked
    assert "OPENAI_API_KEY" in err
    assert models("--timeout", "0")[0] == 2
