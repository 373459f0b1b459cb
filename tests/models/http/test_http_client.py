"""PoolClient against a server that misbehaves."""

import contextlib
import gc
import socket
import time
import zlib

import pytest
import trio

from runmgr.exceptions import UserError
from runmgr.models.http import (
    BrokenConnection,
    ConnectFailed,
    HttpTimeout,
    MalformedResponse,
    PoolClient,
    Timeouts,
    timeouts_of,
)


def idle(client):
    return client.pool().statistics()["idle"]


def in_use(client):
    return client.pool().statistics()["in_use"]


async def test_a_connection_is_used_again(server, tools):
    server.will(tools.answer({"a": 1}, x_request_id="r1"))
    client = PoolClient(server.url + "/", headers={"authorization": "Bearer k", "X-Own": "1"})
    for number in range(3):
        reply = await client.post("/x", b"body%d" % number)
        assert (reply.status, reply.body, reply.headers["x-request-id"]) == (200, b'{"a": 1}', "r1")
    assert server.connections == 1
    request = server.requests[-1]
    assert (request.method, request.target, request.body) == ("POST", "/v1/x", b"body2")
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["x-own"] == "1"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "5"


async def test_headers_of_one_request(server, tools):
    server.will(tools.answer())
    client = PoolClient(server.url, headers={"authorization": "Bearer k"})
    await client.post("/x", b"", {"User-Agent": "me", "x-a": "b"})
    assert server.requests[0].headers["user-agent"] == "me"
    assert server.requests[0].headers["x-a"] == "b"
    assert server.requests[0].headers["authorization"] == "Bearer k"
    await client.post("/x", b"")
    assert server.requests[1].headers["user-agent"].startswith("runmgr")


async def test_the_query_of_the_base_url_stays_behind_the_path(server, tools):
    server.will(tools.answer())
    client = PoolClient(server.url + "?api-version=2024")
    await client.post("/chat", b"")
    assert server.requests[0].target == "/v1/chat?api-version=2024"
    await client.post("/chat?beta=true", b"")
    assert server.requests[1].target == "/v1/chat?beta=true&api-version=2024"


BODY = b'{"text": "' + b"abc" * 1000 + b'"}'


async def test_every_way_to_end_a_body(server, tools):
    deflated = zlib.compress(BODY)
    raw = zlib.compressobj(wbits=-15)
    raw_deflated = raw.compress(BODY) + raw.flush()
    server.will(
        tools.answer(BODY),
        tools.chunked(BODY[:10], BODY[10:]),
        tools.chunked(BODY).removesuffix(b"\r\n") + b"x-trailer: y\r\n\r\n",
        tools.gzipped(BODY),
        tools.answer(deflated, content_encoding="deflate"),
        tools.answer(raw_deflated, content_encoding="deflate"),
        tools.answer(BODY, content_encoding="identity"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + tools.answer(BODY),
        b"HTTP/1.1 200 OK\r\n\r\n" + BODY + tools.CLOSE,
        tools.answer(BODY, connection="close") + tools.CLOSE,
        b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY) + tools.CLOSE,
        tools.answer(BODY),
    )
    client = PoolClient(server.url)
    for _ in range(12):
        reply = await client.post("/x", b"")
        assert reply.body == BODY
        assert "link" not in reply.headers
    assert server.connections == 4
    assert in_use(client) == 0


async def test_no_content(server, tools):
    server.will(b"HTTP/1.1 204 No Content\r\n\r\n")
    client = PoolClient(server.url)
    reply = await client.post("/x", b"")
    assert (reply.status, reply.body) == (204, b"")
    assert idle(client) == 1


async def test_large_bodies_both_ways(server, tools):
    server.will(tools.answer(b"y" * 5_000_000))
    client = PoolClient(server.url)
    reply = await client.post("/x", b"x" * 5_000_000)
    assert len(reply.body) == 5_000_000
    assert server.requests[0].body == b"x" * 5_000_000


async def test_a_refusal_before_a_large_body_was_read(server, tools):
    refusal = tools.answer(b'{"error": "too large"}', status=413, connection="close")

    async def refuse(stream):
        await stream.receive_some(1000)
        await stream.send_all(refusal)
        await trio.sleep(0.05)
        await stream.aclose()

    server.handle = refuse
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, refuse, 0)
        client = PoolClient(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        try:
            reply = await client.post("/x", b"x" * 50_000_000)
        except (BrokenConnection, MalformedResponse):
            pass  # the reset can overtake the answer; what must not happen is waiting for ever
        else:
            assert reply.status == 413
        assert in_use(client) == 0
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- connections that go away


async def test_a_kept_connection_that_was_closed_meanwhile(server, tools):
    server.will(tools.answer(b"1") + tools.CLOSE, tools.answer(b"2"))
    client = PoolClient(server.url)
    assert (await client.post("/x", b"")).body == b"1"
    while server.open:
        await trio.sleep(0.01)
    assert (await client.post("/x", b"")).body == b"2"
    assert len(server.requests) == 2


async def test_a_kept_connection_that_dies_at_the_request_is_replaced_once(server, tools):
    server.will(tools.answer(b"1"), None, tools.answer(b"2"))
    client = PoolClient(server.url)
    await client.post("/x", b"")
    assert (await client.post("/x", b"")).body == b"2"
    assert [request.connection for request in server.requests] == [1, 1, 2]

    server.answers.clear()
    server.will(None)
    with pytest.raises(BrokenConnection, match=f"http://127.0.0.1:{server.port}/v1/x: .*without an answer"):
        await client.post("/x", b"")
    assert [request.connection for request in server.requests][3:] == [2, 3]
    assert in_use(client) == idle(client) == 0


async def test_a_new_connection_that_dies_is_an_error(server, tools):
    server.will(None)
    client = PoolClient(server.url)
    with pytest.raises(BrokenConnection):
        await client.post("/x", b"")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n123",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-encoding: br\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
        b"\0\1\2",
    ],
)
async def test_cut_short_or_not_http(server, tools, cut):
    server.will(cut + tools.CLOSE)
    client = PoolClient(server.url)
    with pytest.raises(MalformedResponse) as caught:
        await client.post("/x", b"")
    assert server.url + "/x" in str(caught.value)
    assert len(server.requests) == 1  # part of an answer: not sent again behind the caller's back
    assert in_use(client) == idle(client) == 0


async def test_a_compressed_body_that_ends_too_early(server, tools):
    import gzip

    packed = gzip.compress(BODY)
    server.will(tools.answer(packed[:-12], content_encoding="gzip"))
    client = PoolClient(server.url)
    with pytest.raises(MalformedResponse, match="too early"):
        await client.post("/x", b"")


async def test_a_decompression_bomb(server, tools, monkeypatch):
    import runmgr.models.http.exchange as module

    monkeypatch.setattr(module, "MAX_BODY", 100_000)
    server.will(tools.gzipped(b"0" * 200_000))
    with pytest.raises(MalformedResponse, match="larger than 100000 bytes"):
        await PoolClient(server.url).post("/x", b"")


async def test_a_body_above_the_limit(server, tools, monkeypatch):
    import runmgr.models.http.exchange as module

    monkeypatch.setattr(module, "MAX_BODY", 100_000)
    server.will(tools.answer(b"0" * 1_000_000))
    with pytest.raises(MalformedResponse, match="larger than 100000 bytes"):
        await PoolClient(server.url).post("/x", b"")


@pytest.mark.parametrize("extra", [b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"\0"])
async def test_bytes_behind_the_answer_end_the_connection(server, tools, extra):
    server.will(tools.answer(b"1") + extra, tools.answer(b"2"))
    client = PoolClient(server.url)
    assert (await client.post("/x", b"")).body == b"1"
    assert (await client.post("/x", b"")).body == b"2"
    assert server.connections == 2


async def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(ConnectFailed) as caught:
                await PoolClient(f"http://{host}:{port}/v1").post("/x", b"")
            assert str(caught.value) == f"http://{host}:{port}/v1/x: cannot connect: Connection refused"


async def test_a_name_that_does_not_resolve():
    with pytest.raises(ConnectFailed, match="http://nowhere.invalid/v1/x: cannot connect"):
        await PoolClient("http://nowhere.invalid/v1").post("/x", b"")


async def test_by_name(server, tools):
    server.will(tools.answer(b"1"))
    client = PoolClient(f"http://localhost:{server.port}")
    assert (await client.post("/x", b"")).body == b"1"
    assert server.requests[0].headers["host"] == f"localhost:{server.port}"


# ---------------------------------------------------------------- time


async def silent(request, stream):
    await trio.sleep(60)


@pytest.mark.parametrize(
    ("timeouts", "message"),
    [
        (Timeouts(total=0.1), "no whole answer within 0.1 s"),
        (Timeouts(first_byte=0.1), "no answer within 0.1 s"),
        (timeouts_of(0.1, Timeouts()), "no whole answer within 0.1 s"),
    ],
)
async def test_a_silent_server(server, timeouts, message):
    server.will(silent)
    client = PoolClient(server.url)
    with pytest.raises(HttpTimeout, match=f"{server.url}/x: {message}"):
        await client.post("/x", b"", timeouts=timeouts)
    assert in_use(client) == idle(client) == 0
    with pytest.raises(HttpTimeout, match=message):
        async with client.stream("/x", b"", timeouts=timeouts):
            pass
    assert in_use(client) == idle(client) == 0


def trickle(tools, pause, pieces=(b"a", b"b", b"c"), end=True):
    async def answer(request, stream):
        whole = tools.chunked(*pieces)
        cuts = [whole.index(b"\r\n\r\n") + 4 + 6 * n for n in range(len(pieces) + 1)]
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            await stream.send_all(whole[start:stop])
            await trio.sleep(pause)
        return tools.KEEP

    return answer


async def test_silence_inside_an_answer(server, tools):
    server.will(trickle(tools, 0.08))
    client = PoolClient(server.url, timeouts=Timeouts(between=0.3))
    assert (await client.post("/x", b"")).body == b"abc"
    async with client.stream("/x", b"") as stream:
        assert await stream.read() == b"abc"
    with pytest.raises(HttpTimeout, match="silent for 0.02 s inside an answer"):
        await client.post("/x", b"", timeouts=Timeouts(between=0.02))
    async with client.stream("/x", b"", timeouts=Timeouts(between=0.02)) as stream:
        with pytest.raises(HttpTimeout, match="silent for 0.02 s inside an answer"):
            await stream.read()
        assert in_use(client) == 0
        assert await stream.receive() == b""


async def test_the_total_bounds_a_trickle(server, tools):
    server.will(trickle(tools, 0.05, pieces=(b"a",) * 100))
    client = PoolClient(server.url)
    for timeouts in (
        Timeouts(total=0.2),
        Timeouts(total=0.2, between=0.1),
        Timeouts(total=0.2, first_byte=0.1),
    ):
        start = time.perf_counter()
        with pytest.raises(HttpTimeout, match="no whole answer within 0.2 s"):
            await client.post("/x", b"", timeouts=timeouts)
        async with client.stream("/x", b"", timeouts=timeouts) as stream:
            with pytest.raises(HttpTimeout, match="no whole answer within 0.2 s"):
                await stream.read()
        assert time.perf_counter() - start < 2


async def test_waiting_for_room_in_the_pool_does_not_count(server, tools):
    async def slow(request, stream):
        await trio.sleep(0.1)
        return tools.answer(b"1")

    server.will(slow)
    client = PoolClient(server.url, max_connections=1)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(client.post, "/x", b"", None, Timeouts(total=0.25))
    assert len(server.requests) == 4
    assert server.connections == 1


async def test_a_handshake_that_never_comes(server):
    async def accept(stream):
        await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, accept, 0)
        port = listeners[0].socket.getsockname()[1]
        client = PoolClient(f"https://127.0.0.1:{port}", timeouts=Timeouts(connect=0.1))
        with pytest.raises(HttpTimeout, match=r"no connection within 0\.1 s"):
            await client.post("/x", b"")
        assert in_use(client) == 0
        nursery.cancel_scope.cancel()


def test_timeout_settings():
    import httpx2

    default = Timeouts(total=7)
    assert timeouts_of(None, default) is default
    assert timeouts_of(default, Timeouts()) is default
    assert timeouts_of(3, default) == Timeouts(total=3)
    mapped = timeouts_of(httpx2.Timeout(2.0, connect=1.0), default)
    assert mapped == Timeouts(connect=1.0, first_byte=2.0, between=2.0, total=7)
    for wrong in (0, -1, float("nan"), "1"):
        with pytest.raises(UserError, match="timeout="):
            timeouts_of(wrong, default)


# ---------------------------------------------------------------- cancelling


async def test_cancelling_closes_the_connection_at_once(server):
    server.will(silent_until_eof(server))
    client = PoolClient(server.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/x", b"")
        await server.got_request.wait()
        nursery.cancel_scope.cancel()
    assert in_use(client) == idle(client) == 0
    with trio.fail_after(10):
        await server.eof.wait()


def silent_until_eof(server):
    async def answer(request, stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some(1)
        server.eof.set()

    return answer


async def test_cancelling_inside_an_answer(server, tools):
    server.will(trickle(tools, 0.05, pieces=(b"a",) * 100), tools.answer(b"whole"))
    client = PoolClient(server.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/x", b"")
        await server.got_request.wait()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert in_use(client) == idle(client) == 0
    assert (await client.post("/x", b"")).body == b"whole"
    assert server.connections == 2


# ---------------------------------------------------------------- streams


async def test_a_stream_read_to_its_end_gives_the_connection_back(server, tools):
    server.will(trickle(tools, 0.01))
    client = PoolClient(server.url)
    for _ in range(2):
        async with client.stream("/x", b"") as stream:
            assert stream.head.status == 200
            pieces = []
            while piece := await stream.receive():
                pieces.append(piece)
            assert pieces == [b"a", b"b", b"c"]
            assert in_use(client) == 0
            assert await stream.receive() == b""
    assert server.connections == 1


async def test_a_stream_left_early_is_closed(server, tools):
    server.will(trickle(tools, 0.01, pieces=(b"a",) * 1000))
    client = PoolClient(server.url)
    async with client.stream("/x", b"") as stream:
        assert await stream.receive() == b"a"
        assert in_use(client) == 1
    assert in_use(client) == idle(client) == 0
    with trio.fail_after(10):
        await server.eof.wait()


async def test_a_stream_cut_short(server, tools):
    server.will(tools.chunked(b"abc", end=False) + tools.CLOSE)
    client = PoolClient(server.url)
    async with client.stream("/x", b"") as stream:
        assert await stream.receive() == b"abc"
        with pytest.raises(MalformedResponse, match=f"{server.url}/x: .*cut short"):
            await stream.receive()
        assert in_use(client) == idle(client) == 0


async def test_a_compressed_stream(server, tools):
    import gzip

    packed = gzip.compress(BODY)
    pieces = [packed[n : n + 7] for n in range(0, len(packed), 7)]
    server.will(
        tools.chunked(*pieces, content_encoding="gzip"), tools.chunked(*pieces[:-1], content_encoding="gzip")
    )
    client = PoolClient(server.url)
    async with client.stream("/x", b"") as stream:
        assert await stream.read() == BODY
    async with client.stream("/x", b"") as stream:
        with pytest.raises(MalformedResponse, match="too early"):
            await stream.read()


async def test_an_empty_stream(server, tools):
    server.will(tools.chunked())
    client = PoolClient(server.url)
    async with client.stream("/x", b"") as stream:
        assert await stream.receive() == b""
    assert idle(client) == 1


# ---------------------------------------------------------------- life time


async def test_the_last_user_closes(server, tools):
    server.will(tools.answer())
    client, other = PoolClient(server.url), PoolClient(server.url)
    async with client:
        async with other:
            await other.post("/x", b"")
        await client.post("/x", b"")
        assert server.connections == 1
    assert idle(client) == 0
    await client.post("/x", b"")
    assert idle(client) == 1
    await client.aclose()
    await client.aclose()
    assert idle(client) == 0


async def test_closing_while_a_request_is_under_way(server, tools):
    server.will(trickle(tools, 0.03))
    client = PoolClient(server.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/x", b"")
        await server.got_request.wait()
        await client.aclose()
        assert in_use(client) == 1
    assert in_use(client) == idle(client) == 0


def test_a_client_outlives_trio_run(tools):
    clients = []

    async def main():
        async with tools.running_server() as server:
            server.will(tools.answer())
            # the same port cannot be had again, so the second run has a client more
            clients.append(PoolClient(server.url))
            for client in clients[-1:]:
                await client.post("/x", b"")
                await client.post("/x", b"")
            assert server.connections == 1
            for client in clients[:-1]:
                with pytest.raises(ConnectFailed):
                    await client.post("/x", b"")

    trio.run(main)
    trio.run(main)
    gc.collect()  # a socket left open would warn here, and warnings are errors


def test_closing_outside_of_trio_is_allowed():
    async def close():
        await PoolClient("http://127.0.0.1:1").aclose()

    with pytest.raises(StopIteration):
        close().send(None)


async def test_idle_connections_expire(server, tools):
    server.will(tools.answer())
    client = PoolClient(server.url, idle_expiry=0.05)
    await client.post("/x", b"")
    await client.post("/x", b"")
    assert server.connections == 1
    await trio.sleep(0.06)
    await client.post("/x", b"")
    assert server.connections == 2


# ---------------------------------------------------------------- what users write


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x/", "http://", "http://[::1", "http://x:99999/", "http://x/a b", "//x"],
)
def test_bad_urls(url):
    with pytest.raises(UserError, match="URL|percent"):
        PoolClient(url)


def test_secrets_stay_out_of_errors_and_reprs():
    url = "http://user:hunter2@127.0.0.1:1/v1?key=hunter2"
    client = PoolClient(url, headers={"authorization": "Bearer hunter2"})
    assert "hunter2" not in repr(client)
    for headers in (
        {"authorization": "hunter2\r\nx: y"},
        {"x-key": "hunter2\0"},
        {"authorization": "hunter2\u2028"},
    ):
        with pytest.raises(UserError) as caught:
            PoolClient(url, headers=headers)
        assert "hunter2" not in str(caught.value)
        assert next(iter(headers)) in str(caught.value)

    async def main():
        with pytest.raises(ConnectFailed) as caught:
            await client.post("/x", b"hunter2")
        assert "hunter2" not in str(caught.value)
        assert "http://127.0.0.1:1/v1/x" in str(caught.value)

    trio.run(main)
    for name in ("a b", "", "x\r\ny", "a:b", "ü"):
        with pytest.raises(UserError, match="header"):
            PoolClient(url, headers={name: "v"})
