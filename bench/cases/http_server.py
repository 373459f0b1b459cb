"""A server that answers every chat completion after a stated time, and costs as little as Python can: one process, epoll, no
framework. Standard library only.

Prints ``{"port": N}`` when it listens. When its standard input ends it prints what it did: requests, CPU microseconds a request, the
share of a core that it used while it was busy, and how late its answers went out, and ends.

    python bench/cases/http_server.py [--delay SECONDS]
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import time
from collections import deque

ANSWER = json.dumps({
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The answer is 42. " * 10, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 120,
        "completion_tokens": 60,
        "total_tokens": 180,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}).encode()  # fmt: skip
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
    % (len(ANSWER), ANSWER)
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.2)
    delay = parser.parse_args().delay
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    open_ones: dict[int, socket.socket] = {}
    waiting: deque[tuple[float, int]] = deque()
    rest: dict[int, bytes] = {}
    requests, late, begun, ended, cpu_begun, cpu_ended = 0, [], 0.0, 0.0, 0.0, 0.0
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    clock = time.perf_counter
    while True:
        timeout = max(0.0, waiting[0][0] - clock()) if waiting else -1
        for number, _ in poll.poll(timeout):
            if number == listener.fileno():
                try:
                    while True:
                        accepted, _ = listener.accept()
                        accepted.setblocking(False)
                        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        open_ones[accepted.fileno()] = accepted
                        poll.register(accepted, select.EPOLLIN)
                except BlockingIOError:
                    continue
            elif number == sys.stdin.fileno():
                order = os.read(number, 64)
                if order.startswith(b"start"):  # what came before was warming up
                    requests, late = 0, []
                    begun, cpu_begun = clock(), time.process_time()
                    continue
                if order.startswith(b"stop"):
                    ended, cpu_ended = clock(), time.process_time()
                    figures = {
                        "requests": requests,
                        "cpu_us": (cpu_ended - cpu_begun) / max(1, requests) * 1e6,
                        "busy": (cpu_ended - cpu_begun) / (ended - begun),
                        "late_p99_ms": sorted(late)[int(len(late) * 0.99)] * 1e3 if late else 0.0,
                    }
                    print(json.dumps(figures), flush=True)
                    continue
                return
            else:
                connection = open_ones[number]
                try:
                    data = connection.recv(65536)
                except BlockingIOError:
                    continue
                except ConnectionError:
                    data = b""
                if not data:
                    poll.unregister(number)
                    connection.close()
                    del open_ones[number]
                    continue
                if number in rest:
                    data = rest.pop(number) + data
                head, separator, body = data.partition(b"\r\n\r\n")
                at = head.lower().find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                if not separator or len(body) < length:
                    rest[number] = data
                    continue
                waiting.append((clock() + delay, number))
        now = clock()
        while waiting and waiting[0][0] <= now:
            due, number = waiting.popleft()
            if number in open_ones:
                try:
                    open_ones[number].send(REPLY)
                except OSError:
                    continue
                requests += 1
                late.append(now - due)


main()
