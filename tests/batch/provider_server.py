"""A server that has the batch APIs of OpenAI and Anthropic, as their pages describe them, on a port of its own."""

import email.parser
import email.policy
import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Provider:
    """What a provider knows; tests set its moods and look at what it was sent."""

    def __init__(self):
        self.lock = threading.RLock()
        self.files = {}
        self.batches = {}
        self.sent = []
        """Each request of each batch: (custom id, prompt)."""
        self.looks = 1
        """A batch has ended when it is looked at this many times."""
        self.hold = False
        """No batch ends."""
        self.answer = lambda prompt, body: f"I say {prompt}"
        """The text of an answer; or a whole message or error, as a dict."""
        self.fate = {}
        """By prompt: what becomes of it the first times, e.g. ``["expired", 500]``."""
        self.refusals = []
        """Validation errors of the next batches (OpenAI): lists of {"code", "message"}."""
        self.broken = []
        """How the next submissions end: a status that is answered instead, or "lost": taken, and no answer sent."""
        self.asked_directly = 0
        self.cut = 0
        """How many of the next downloads break off in the middle."""
        self.log = []

    # ------------------------------------------------------------ batches

    def take(self, api, requests, **fields):
        with self.lock:
            number = len(self.batches) + 1
            batch_id = f"{'batch' if api == 'openai' else 'msgbatch'}_{number}"
            self.batches[batch_id] = {
                "api": api, "id": batch_id, "requests": requests, "made": time.time(), "seen": 0,
                "status": "in_progress", "results": None, **fields,
            }  # fmt: skip
            self.sent += [
                (each["custom_id"], prompt_of(each.get("body") or each["params"])) for each in requests
            ]
            return self.batches[batch_id]

    def look(self, batch):
        with self.lock:
            batch["seen"] += 1
            if batch["status"] == "cancelling" and batch["seen"] >= 1:
                self.end(batch, "cancelled")
            elif batch["status"] == "in_progress" and not self.hold and batch["seen"] >= self.looks:
                self.end(batch, "completed")
            return batch

    def end(self, batch, status):
        batch["status"] = status
        lines = []
        for each in batch["requests"]:
            body = each.get("body") or each["params"]
            prompt = prompt_of(body)
            fates = self.fate.get(prompt) or []
            fate = fates.pop(0) if fates else "succeeded"
            lines.append((each["custom_id"], "cancelled" if status == "cancelled" else fate, prompt, body))
        batch["results"] = lines


def prompt_of(body):
    if "input" in body:  # OpenAI's responses API
        content = body["input"] if isinstance(body["input"], str) else body["input"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]
    last = body["messages"][-1]["content"]
    return last if isinstance(last, str) else last[-1].get("text", last[-1].get("content"))


def usage(api):
    if api == "openai":
        return {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"input_tokens": 10, "output_tokens": 5}


def openai_line(provider, number, custom_id, fate, prompt, body):
    base = {"id": f"batch_req_{number}", "custom_id": custom_id, "response": None, "error": None}
    if fate == "succeeded" and "input" in body:
        said = provider.answer(prompt, body)
        text = {"type": "output_text", "text": said, "annotations": []}
        item = {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        used = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        base["response"] = {
            "status_code": 200, "request_id": f"req_{number}",
            "body": {
                "id": f"resp_{number}", "object": "response", "created_at": 1, "model": body["model"],
                "status": "completed", "output": [item], "usage": used,
            },
        }  # fmt: skip
    elif fate == "succeeded":
        said = provider.answer(prompt, body)
        message = said if isinstance(said, dict) else {"role": "assistant", "content": said}
        base["response"] = {
            "status_code": 200, "request_id": f"req_{number}",
            "body": {
                "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}],
                "usage": usage("openai"),
            },
        }  # fmt: skip
    elif isinstance(fate, int):
        base["response"] = {
            "status_code": fate, "request_id": f"req_{number}",
            "body": {"error": {"message": f"no: {prompt}", "type": "x", "code": None, "param": None}},
        }  # fmt: skip
    else:
        code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}[fate]
        base["error"] = {"code": code, "message": "This request could not be executed."}
    return base


def anthropic_line(provider, number, custom_id, fate, prompt, body):
    if fate == "succeeded":
        said = provider.answer(prompt, body)
        content = said if isinstance(said, list) else [{"type": "text", "text": said}]
        result = {"type": "succeeded", "message": {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"], "content": content,
            "stop_reason": "end_turn", "stop_sequence": None, "usage": usage("anthropic"),
        }}  # fmt: skip
    elif fate in {"expired", "cancelled"}:
        result = {"type": "expired" if fate == "expired" else "canceled"}
    else:
        kind = {400: "invalid_request_error", 500: "api_error", 529: "overloaded_error"}[fate]
        result = {
            "type": "errored",
            "error": {"type": "error", "error": {"type": kind, "message": f"no: {prompt}"}},
        }
    return {"custom_id": custom_id, "result": result}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    @property
    def provider(self):
        return self.server.provider

    def reply(self, value, status=200):
        self.raw(json.dumps(value).encode(), status)

    def raw(self, data, status=200, *, whole=True):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if whole:
            self.wfile.write(data)
        else:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def missing(self):
        self.reply({"error": {"message": f"no such thing: {self.path}", "type": "not_found_error"}}, 404)

    def do_GET(self):
        provider = self.provider
        path, _, query = self.path.partition("?")
        provider.log.append(("GET", self.path))
        if path in {"/v1/batches", "/v1/messages/batches"}:
            api = "openai" if path == "/v1/batches" else "anthropic"
            with provider.lock:
                found = [batch for batch in reversed(provider.batches.values()) if batch["api"] == api]
            after = dict(pair.split("=") for pair in query.split("&")).get(
                "after" if api == "openai" else "after_id"
            )
            ids = [batch["id"] for batch in found]
            found = found[ids.index(after) + 1 :] if after else found
            page, rest = found[: self.server.page], found[self.server.page :]
            shape = self.openai if api == "openai" else self.anthropic
            self.reply({
                "object": "list", "data": [shape(batch) for batch in page], "has_more": bool(rest),
                "first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None,
            })  # fmt: skip
        elif path.startswith("/v1/batches/"):
            batch = provider.batches.get(path.split("/")[3])
            self.missing() if batch is None else self.reply(self.openai(provider.look(batch)))
        elif path.startswith("/v1/files/"):
            self.content(path.split("/")[3])
        elif path.startswith("/v1/messages/batches/"):
            batch = provider.batches.get(path.split("/")[4])
            if batch is None:
                self.missing()
            elif path.endswith("/results"):
                self.lines([anthropic_line(provider, n, *each) for n, each in enumerate(batch["results"])])
            else:
                self.reply(self.anthropic(provider.look(batch)))
        else:
            self.missing()

    def content(self, file_id):
        kind, _, batch_id = file_id.partition("-of-")
        batch = self.provider.batches[batch_id]
        lines = [openai_line(self.provider, n, *each) for n, each in enumerate(batch["results"])]
        good = [line for line in lines if (line["response"] or {}).get("status_code") == 200]
        self.lines(good if kind == "file-out" else [line for line in lines if line not in good])

    def lines(self, lines):
        data = b"".join(json.dumps(line).encode() + b"\n" for line in reversed(lines))  # in any order
        with self.provider.lock:
            cut = self.provider.cut > 0
            self.provider.cut -= cut
        self.raw(data, whole=not cut)

    def do_POST(self):
        provider = self.provider
        body = self.rfile.read(int(self.headers["content-length"]))
        path = self.path.partition("?")[0]
        provider.log.append(("POST", self.path))
        if path == "/v1/files":
            head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
            form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
            parts = {
                part.get_param("name", header="content-disposition"): part.get_content()
                for part in form.iter_parts()
            }
            assert parts["purpose"].strip() == "batch"
            content = parts["file"] if isinstance(parts["file"], bytes) else parts["file"].encode()
            file_id = f"file-{len(provider.files) + 1}"
            provider.files[file_id] = content
            self.reply(
                {
                    "id": file_id,
                    "object": "file",
                    "bytes": len(content),
                    "purpose": "batch",
                    "status": "processed",
                }
            )
        elif path == "/v1/batches":
            self.submit("openai", json.loads(body))
        elif path == "/v1/messages/batches":
            assert self.headers["anthropic-version"]
            self.submit("anthropic", json.loads(body))
        elif path.endswith("/cancel"):
            batch = provider.batches[path.split("/")[-2]]
            if batch["status"] == "in_progress":
                batch["status"] = "cancelling"
            self.reply(self.openai(batch) if batch["api"] == "openai" else self.anthropic(batch))
        else:
            provider.asked_directly += 1
            self.missing()

    def submit(self, api, body):
        provider = self.provider
        mood = provider.broken.pop(0) if provider.broken else None
        if isinstance(mood, int):
            self.reply({"type": "error", "error": {"type": "api_error", "message": "not now"}}, mood)
            return
        if api == "openai":
            assert body["completion_window"] == "24h"
            requests = [json.loads(line) for line in provider.files[body["input_file_id"]].splitlines()]
            assert all(each["method"] == "POST" and each["url"] == body["endpoint"] for each in requests)
            batch = provider.take(api, requests, metadata=body.get("metadata"), endpoint=body["endpoint"])
            if provider.refusals:
                batch["status"], batch["errors"] = "failed", provider.refusals.pop(0)
            shown = self.openai(batch)
        else:
            shown = self.anthropic(provider.take(api, body["requests"]))
        names = [each["custom_id"] for each in provider.batches[shown["id"]]["requests"]]
        assert len(set(names)) == len(names)
        assert all(
            1 <= len(name) <= 64 and name.replace("-", "").replace("_", "").isalnum() for name in names
        )
        if mood == "lost":
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            self.reply(shown)

    def openai(self, batch):
        done = batch["results"] is not None
        return {
            "id": batch["id"], "object": "batch", "endpoint": batch.get("endpoint"), "status": batch["status"],
            "metadata": batch.get("metadata"), "created_at": int(batch["made"]), "completion_window": "24h",
            "output_file_id": f"file-out-of-{batch['id']}" if done else None,
            "error_file_id": f"file-err-of-{batch['id']}" if done else None,
            "errors": {"object": "list", "data": batch["errors"]} if batch.get("errors") else None,
            "request_counts": {"total": len(batch["requests"]), "completed": len(batch["requests"]) if done else 0, "failed": 0},
        }  # fmt: skip

    def anthropic(self, batch):
        done, n = batch["results"] is not None, len(batch["requests"])
        kinds = [fate for _, fate, _, _ in batch["results"] or []]
        return {
            "id": batch["id"], "type": "message_batch",
            "processing_status": "ended" if done else "canceling" if batch["status"] == "cancelling" else "in_progress",
            "request_counts": {
                "processing": 0 if done else n, "succeeded": kinds.count("succeeded"), "expired": kinds.count("expired"),
                "canceled": kinds.count("cancelled"), "errored": sum(isinstance(kind, int) for kind in kinds),
            },
            "created_at": datetime.fromtimestamp(batch["made"], UTC).isoformat(), "ended_at": None, "expires_at": None,
            "cancel_initiated_at": "2026-01-01T00:00:00Z" if batch["status"] in {"cancelling", "cancelled"} else None,
            "results_url": f"https://elsewhere.example/v1/messages/batches/{batch['id']}/results" if done else None,
        }  # fmt: skip


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        import sys

        if not isinstance(sys.exception(), OSError):
            self.failures.append(sys.exception())


@contextmanager
def serving():
    """A provider, with ``url`` (OpenAI's base) and ``root`` (Anthropic's)."""
    server = Server(("127.0.0.1", 0), Handler)
    server.provider = provider = Provider()
    server.failures = []
    server.page = 2
    provider.root = f"http://127.0.0.1:{server.server_address[1]}"
    provider.url = f"{provider.root}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not server.failures, server.failures
