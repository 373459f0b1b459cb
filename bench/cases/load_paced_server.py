"""A server of paced streams that costs little: one task writes the tokens of all streams, straight to their sockets.

    python bench/cases/load_paced_server.py TOKENS TTFT ITL LOG

On SIGTERM it writes the seconds from each request's arrival to its first token, a line each: the truth.
"""

from __future__ import annotations

import heapq
import os
import signal
import sys
from functools import partial
from pathlib import Path

import trio

from runmgr.load.null import answer_of

TOKENS, TTFT, ITL = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
HEAD, *PIECES = (
    answer_of(TOKENS).split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n",
    *answer_of(TOKENS).split(b"\r\n\r\n", 1)[1:],
)
EVENTS = PIECES[0].split(b"\n\n\r\n")
FIRST = HEAD + EVENTS[0] + b"\n\n\r\n"
TOKEN = EVENTS[1] + b"\n\n\r\n"
LAST = b"\n\n\r\n".join(EVENTS[TOKENS - 1 :])
due: list[
    tuple[float, int, int, float]
] = []  # when, which socket, how many tokens went out, when the request came
truth: list[float] = []


async def pace():
    while True:
        now = trio.current_time()
        while due and due[0][0] <= now:
            when, fd, sent, came = heapq.heappop(due)
            try:
                os.write(fd, FIRST if not sent else TOKEN if sent + 1 < TOKENS else LAST)
            except OSError:
                continue
            if not sent:
                truth.append(trio.current_time() - came)
            if sent + 1 < TOKENS:
                heapq.heappush(due, (when + ITL, fd, sent + 1, came))
        await trio.sleep(0.0005)


async def serve(stream):
    fd, buffer = stream.socket.fileno(), b""
    async with stream:
        while data := await stream.receive_some(65_536):
            buffer += data
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                head = buffer[:end].lower()
                length = int(head[head.find(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
                if len(buffer) < end + 4 + length:
                    break
                buffer = buffer[end + 4 + length :]
                now = trio.current_time()
                heapq.heappush(due, (now + TTFT, fd, 0, now))


async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    print(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1", flush=True)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pace)
            nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
            async for _ in signals:
                break
            Path(sys.argv[4]).write_text("\n".join(map(str, truth)))
            nursery.cancel_scope.cancel()


trio.run(main)
