"""What load costs at the least: h11 on trio, one connection a worker, every event's moment kept. Prints requests a second.

python bench/cases/load_bare_h11.py URL AT_ONCE SECONDS
"""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

import h11
import trio

BODY = json.dumps(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "word " * 64}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
).encode()


async def worker(url, until, done):
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname, parts.port)
    connection = h11.Connection(h11.CLIENT)
    head = [
        ("Host", parts.netloc),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(BODY))),
    ]
    async with stream:
        while trio.current_time() < until:
            data = connection.send(
                h11.Request(method="POST", target=parts.path + "/chat/completions", headers=head)
            )
            data += connection.send(h11.Data(data=BODY)) + connection.send(h11.EndOfMessage())
            await stream.send_all(data)
            moments, rest = [], b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65_536))
                elif isinstance(event, h11.Data):
                    *events, rest = (rest + bytes(event.data)).split(b"\n\n")
                    now = trio.current_time()
                    moments += [
                        now for one in events if one != b"data: [DONE]" and json.loads(one[6:])["choices"]
                    ]
                elif isinstance(event, h11.EndOfMessage):
                    break
            connection.start_next_cycle()
            done.append(len(moments))


async def main(url, at_once, seconds):
    done = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(worker, url, began + seconds, done)
    print(json.dumps({"requests_per_second": len(done) / (trio.current_time() - began)}))


trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
