"""The least that HTTP on trio costs with h11: a stream a connection, a request, an answer, its JSON."""

from __future__ import annotations

import json
import time

import h11
import trio
from http_common import PROMPT, Server, arguments

args = arguments()


async def main() -> None:
    server = Server(args.delay, args.python)
    errors = 0
    latencies: list[float] = []
    streams: list[tuple[trio.SocketStream, h11.Connection]] = []

    async def request(stream: trio.SocketStream, connection: h11.Connection) -> None:
        body = json.dumps({
            "model": "bench",
            "messages": PROMPT,
            "stream": False,
            "max_completion_tokens": 100,
            "temperature": 0.0,
        }).encode()  # fmt: skip
        headers = [
            ("host", "127.0.0.1"),
            ("accept", "application/json"),
            ("user-agent", "bench"),
            ("content-type", "application/json"),
            ("authorization", "Bearer key"),
            ("content-length", str(len(body))),
        ]
        data = connection.send(h11.Request(method="POST", target="/v1/chat/completions", headers=headers))
        data += connection.send(h11.Data(data=body))
        data += connection.send(h11.EndOfMessage())
        await stream.send_all(data)
        pieces: list[bytes] = []
        status = 0
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
        connection.start_next_cycle()
        assert status == 200
        assert json.loads(b"".join(pieces))["usage"]["completion_tokens"] == 60

    async def worker(number: int, count: int) -> None:
        nonlocal errors
        for _ in range(count):
            begun = time.perf_counter()
            try:
                await request(*streams[number])
            except Exception as error:
                errors += 1
                print(repr(error)[:300])
            latencies.append(time.perf_counter() - begun)

    async def everybody(count: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(args.connections):
                nursery.start_soon(worker, number, count)

    for _ in range(args.connections):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        streams.append((stream, h11.Connection(our_role=h11.CLIENT)))
    await everybody(1)
    latencies.clear()
    count = max(1, args.requests // args.connections)
    server.start()
    await everybody(count)
    server.stop(count * args.connections, errors, latencies)


trio.run(main)
