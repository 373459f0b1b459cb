"""A server that does nothing: whatever is asked, the same streamed answer at once. ``python -m runmgr.load.null [TOKENS]``.

What a client measures of it is the client. It reads no more of a request than where it ends.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import partial

import trio

__all__ = ("serve",)


def answer_of(tokens: int) -> bytes:
    """A whole answer: head, a chunk of the transfer coding for each token, usage, end."""

    def event(**fields: object) -> bytes:
        data = {"id": "null", "object": "chat.completion.chunk", "created": 0, "model": "null", **fields}
        text = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
        return b"%x\r\n%b\r\n" % (len(text), text)

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, object]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    return b"".join(
        [
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            *(event(choices=choice({"content": " word"})) for _ in range(tokens)),
            event(choices=choice({}, "stop")),
            event(choices=[], usage=usage),
            b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
        ]
    )


async def _serve(answer: bytes, stream: trio.SocketStream) -> None:
    buffer = b""
    fd = stream.socket.fileno()
    async with stream:
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end >= 0:
                head = buffer[:end].lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                if len(buffer) >= end + 4 + length:
                    buffer = buffer[end + 4 + length :]
                    try:
                        sent = os.write(fd, answer)
                    except BlockingIOError:
                        sent = 0
                    if sent < len(answer):
                        await stream.send_all(answer[sent:])
                    continue
            try:
                data = await stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            buffer += data


async def serve(tokens: int) -> None:
    """Serve until cancelled; prints the base URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    print(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1", flush=True)  # noqa: T201
    await trio.serve_listeners(partial(_serve, answer_of(tokens)), listeners)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(serve, int(sys.argv[1]) if len(sys.argv) > 1 else 16)
