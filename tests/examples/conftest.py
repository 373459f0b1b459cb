"""A model provider for the examples: an OpenAI-compatible server that can see its clients go away."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"


class Provider(ThreadingHTTPServer):
    """Answers the last user message's words, one every ``pause`` seconds; those that begin with ``slow`` only after a minute."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pause = 0.01
        self.requests = []
        self.left = []
        """When clients went away before their answer was whole."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def wait(self, seconds):
        """Wait; False where the client has gone away meanwhile."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable:
            self.server.left.append(time.monotonic())
            self.close_connection = True
        return not readable

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        self.server.requests.append(prompt)
        if prompt.startswith("slow") and not self.wait(60):
            return
        words = prompt.split()
        usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
        shared = {"id": "x", "created": 1, "model": body["model"], "usage": usage}
        self.send_response(200)
        if not body.get("stream"):
            message = {"role": "assistant", "content": prompt}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            data = json.dumps({**shared, "object": "chat.completion", "choices": [choice]}).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, word in enumerate([*words, None]):
            delta = (
                {} if word is None else {"role": "assistant", "content": word if number == 0 else f" {word}"}
            )
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if word is None else None}
            self.chunk({**shared, "usage": None, "object": "chat.completion.chunk", "choices": [choice]})
            if not self.wait(self.server.pause):
                return
        self.chunk({**shared, "object": "chat.completion.chunk", "choices": []})
        self.write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, value):
        self.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def write(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@pytest.fixture
def provider():
    with Provider() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def launch(provider, tmp_path):
    """Start an example; gives its process. What is left at the end is killed."""
    started = []

    def launch(example, *words, port=None, stdin=None, **environment):
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=EXAMPLES / example,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "MODEL": "openai:any",
                "OPENAI_BASE_URL": provider.url,
                "OPENAI_API_KEY": "any-word",
                **environment,
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        if port is not None:
            wait_for_port(process, port)
        return process

    yield launch
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for_port(process, port):
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def redis_url(tmp_path):
    """A real Redis server of this test's own."""
    server = shutil.which(os.environ.get("REDIS_SERVER", "redis-server"))
    if server is None:
        pytest.skip("needs redis-server: apt-get install redis-server, or name one in REDIS_SERVER")
    port = free_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    wait_for_port(process, port)
    yield f"redis://127.0.0.1:{port}"
    process.terminate()
    process.wait()
