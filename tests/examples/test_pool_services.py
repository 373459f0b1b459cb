"""The services of docs/examples/pool_*, each as a process of its own, with its real server. See `make test-examples`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

SECONDS = 20
EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def installed(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there either
        return False


def needs(*modules):
    missing = [module for module in modules if not installed(module)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: run 'make test-examples'")


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def ask(port, question):
    status, body = get(port, f"/ask?question={quote(question)}")
    return status, json.loads(body)


def until(condition, what="it"):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.001)


def leave(port, path, provider, after_bytes=None):
    """Ask, go away in the middle; how long until the provider saw the request cancelled, in seconds."""
    seen, asked = len(provider.left), len(provider.requests)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: len(provider.requests) > asked, "the model request")
        time.sleep(0.05)
        while after_bytes is not None and after_bytes not in client.recv(65536):
            pass
        gone = time.monotonic()
    until(lambda: len(provider.left) > seen, "the cancellation")
    return provider.left[-1] - gone


def end(process, number=signal.SIGTERM, within=8):
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < within
    assert "Traceback" not in output, output
    return process.returncode


def check_service(port, provider, *, streams):
    assert ask(port, "two words") == (200, {"answer": "two words", "tokens": 7})
    answers = [None] * 20

    def one(number):
        answers[number] = ask(port, f"word {number}")[1]["answer"]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == [f"word {number}" for number in range(20)]
    assert json.loads(get(port, "/health")[1])["states"]["succeeded"] == 21
    if streams:
        assert get(port, "/stream?question=" + quote("in several pieces")) == (200, "in several pieces")


@needs("fastapi", "uvicorn")
def test_fastapi(launch, provider):
    port = free_port()
    process = launch(
        "pool_fastapi", "-m", "uvicorn", "app:app", "--port", port, "--log-level", "warning", port=port
    )
    check_service(port, provider, streams=True)
    provider.pause = 0.02
    many = quote(" ".join(f"word{number}" for number in range(500)))
    for path, after in (
        ("/ask?question=slow", None),
        ("/stream?question=slow", None),
        (f"/stream?question={many}", b"word3"),
    ):
        took = statistics.median(leave(port, path, provider, after) for _ in range(5))
        assert took < 0.05, f"{path[:30]}: {took * 1000:.1f} ms"
    until(lambda: json.loads(get(port, "/health")[1])["states"]["cancelled"] == 15)
    assert end(process) in {0, -signal.SIGTERM}


@needs("fastapi", "uvicorn")
def test_fastapi_ends_while_runs_are_under_way(launch, provider):
    port = free_port()
    process = launch(
        "pool_fastapi", "-m", "uvicorn", "app:app", "--port", port, "--log-level", "warning",
        "--timeout-graceful-shutdown", "1", port=port,
    )  # fmt: skip
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET /ask?question=slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: provider.requests)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=8)
    client.close()
    until(lambda: provider.left, "the cancellation")


@needs("flask")
def test_flask(launch, provider):
    port = free_port()
    process = launch("pool_flask", "-m", "flask", "--app", "app", "run", "--port", port, port=port)
    check_service(port, provider, streams=True)
    provider.pause = 0.02
    many = quote(" ".join(f"word{number}" for number in range(500)))
    assert leave(port, f"/stream?question={many}", provider, b"word3") < 1
    end(process, signal.SIGINT)


@needs("django", "gunicorn")
@pytest.mark.parametrize("preload", [False, True])
def test_django(launch, provider, preload):
    port = free_port()
    process = launch(
        "pool_django", "-m", "gunicorn", "--threads", "32", "--bind", f"127.0.0.1:{port}", "--log-level", "warning",
        "--graceful-timeout", "2", *(["--preload"] if preload else []), "app:application", port=port,
    )  # fmt: skip
    check_service(port, provider, streams=True)
    provider.pause = 0.02
    many = quote(" ".join(f"word{number}" for number in range(300)))
    assert leave(port, f"/stream?question={many}", provider, b"word3") < 1
    # One that is under way at the end is cancelled within the grace.
    left = len(provider.left)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /ask?question=slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: "slow" in provider.requests)
        assert end(process) == 0
    until(lambda: len(provider.left) > left, "the cancellation")


@needs("opentelemetry.sdk", "opentelemetry.exporter.prometheus")
def test_metrics(launch, provider):
    port = free_port()
    process = launch("pool_metrics", "app.py", port, port=port, stdin=subprocess.PIPE)

    def scrape():
        text = get(port, "/metrics")[1]
        found = re.findall(r"^(\w+){(.*)} ([-+.\w]+)$", text, re.MULTILINE)
        return [
            (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in found
        ]

    def total(name, **labels):
        return sum(value for found, had, value in samples if found == name and labels.items() <= had.items())

    for number in range(6):
        process.stdin.write(f"two words {number}\n")
    process.stdin.write("slow\n")
    process.stdin.flush()
    until(lambda: "slow" in provider.requests)
    samples = scrape()
    assert total("runmgr_runs_live", runmgr_state="running") == 1
    assert total("runmgr_requests_in_flight", gen_ai_request_model="any") == 1
    assert total("runmgr_runs_total", runmgr_outcome="succeeded") == 6
    assert total("runmgr_runs_total", runmgr_outcome="succeeded", runmgr_group="tenant 1") == 2
    assert total("runmgr_requests_total") == 7
    assert total("runmgr_tokens_total", gen_ai_token_type="input") == 30
    assert total("runmgr_tokens_total", gen_ai_token_type="output") == 18
    assert total("runmgr_requests_unpriced_total") == 6  # nobody knows what "any" costs
    assert total("runmgr_run_duration_seconds_count", runmgr_group="tenant 0") == 2
    # The agent is instrumented, so its requests measure these themselves: once.
    assert total("gen_ai_client_operation_duration_seconds_count", gen_ai_request_model="any") == 6
    assert total("gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 30
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=SECONDS)[0]
    spans = re.findall(r"^span (.+) id=(\w+) parent=(\w+)$", output, re.MULTILINE)
    names = {number: name for name, number, _ in spans}
    nested = {(name, names.get(parent)) for name, _, parent in spans}
    assert nested == {("line", None), ("invoke_agent brief", "line"), ("chat any", "invoke_agent brief")}
    assert len(spans) == 3 * 7


@needs("hypercorn")
def test_trio(launch, provider):
    port = free_port()
    process = launch(
        "pool_trio",
        "-m",
        "hypercorn",
        "--worker-class",
        "trio",
        "--bind",
        f"127.0.0.1:{port}",
        "app:app",
        port=port,
    )
    check_service(port, provider, streams=False)
    assert statistics.median(leave(port, "/ask?question=slow", provider) for _ in range(5)) < 0.05
    assert end(process) == 0


@needs("IPython")
def test_jupyter(provider, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("MODEL", "openai:any")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any-word")
    _, *cells = (EXAMPLES / "pool_jupyter" / "cells.py").read_text().split("# %%")
    shell = InteractiveShell()

    async def notebook():
        values = []
        for cell in cells[1:]:
            code = cell.partition("\n")[2]
            result = await shell.run_cell_async(code, transformed_cell=shell.transform_cell(code))
            result.raise_error()
            values.append(result.result)
        return values

    _, capital, count, (tokens, cost), _ = asyncio.run(notebook())
    assert capital == "What is the capital of France?"
    assert count == 20
    assert tokens > 200
    assert cost is None  # nobody knows what "any" costs


@needs("redis")
def test_redis_consumer_is_killed_and_comes_back(launch, provider, redis_url, tmp_path):
    from redis import Redis

    with Redis.from_url(redis_url) as redis:
        for number in range(30):
            redis.xadd("jobs", {"prompt": f"job {number}"})
        redis.xadd("jobs", {"prompt": "slow job"})
        consumer = EXAMPLES / "pool_redis" / "consumer.py"
        here = {"PYTHONPATH": str(EXAMPLES.parent.parent)}

        def start():
            return launch(tmp_path, consumer, redis_url, "one", **here)

        first = start()
        until(lambda: redis.xlen("results") == 30 and "slow job" in provider.requests)
        first.kill()
        first.communicate()
        # As if it had been killed between the run's end and the acknowledgement:
        redis.xtrim("results", maxlen=0)
        redis.xgroup_destroy("jobs", "runmgr")
        redis.xgroup_create("jobs", "runmgr", id="0")
        redis.xreadgroup("runmgr", "one", {"jobs": ">"}, count=100)
        asked = len(provider.requests)
        second = start()
        until(lambda: redis.xlen("results") == 30 and len(provider.requests) > asked)
        assert provider.requests[asked:] == ["slow job"]
        assert redis.xpending("jobs", "runmgr")["pending"] == 1
        end(second)
        third = start()
        until(lambda: len(provider.requests) > asked + 1)
        assert provider.requests[asked:] == ["slow job"] * 2
        redis.xadd("jobs", {"prompt": "another"})
        until(lambda: redis.xlen("results") == 31)
        end(third)
        results = [json.loads(fields[b"json"]) for _, fields in redis.xrange("results")]
    assert sorted(result["output"] for result in results) == sorted(
        [f"job {n}" for n in range(30)] + ["another"]
    )
