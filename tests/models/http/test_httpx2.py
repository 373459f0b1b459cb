"""httpx2 over our pool, and our requests over a user's httpx2 client."""

import gc

import httpx2
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
    http_client_for,
    read_all,
)
from runmgr.models.http.choose import proxy_for
from runmgr.models.http.foreign import ForeignClient
from runmgr.models.http.proxied import ProxiedClient
from runmgr.models.http.transport import http_client

# ---------------------------------------------------------------- httpx2's API over our pool


async def test_httpx2_over_the_pool(server, tools):
    server.will(tools.answer({"a": 1}), tools.gzipped(b'{"a": 1}'), tools.chunked(b'{"a"', b": 1}"))
    async with http_client() as client:
        for _ in range(3):
            response = await client.post(server.url, json={"q": 1}, headers={"x-a": "b"})
            assert (response.status_code, response.json()) == (200, {"a": 1})
    assert server.connections == 1
    assert server.requests[0].json() == {"q": 1}
    assert server.requests[0].headers["x-a"] == "b"


async def test_httpx2_streams_methods_and_redirects(server, tools):
    server.will(
        b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n",
        tools.chunked(b"a", b"b"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + tools.CLOSE,
        tools.answer(),
    )

    async def pieces():
        yield b"x"
        yield b"y"

    async with http_client(follow_redirects=True) as client:
        async with client.stream("GET", server.url) as response:
            assert [piece async for piece in response.aiter_bytes()] == [b"ab"]
        assert (await client.head(server.url)).headers["content-length"] == "10"
        await client.put(server.url, content=pieces())
    assert [(r.method, r.target, r.body) for r in server.requests] == [
        ("GET", "/v1", b""),
        ("GET", "/other", b""),
        ("HEAD", "/v1", b""),
        ("PUT", "/v1", b"xy"),
    ]


async def test_errors_are_httpx2s(server, tools):
    async def silent(request, stream):
        await trio.sleep(60)

    server.will(None, b"nonsense\r\n\r\n" + tools.CLOSE, tools.chunked(b"a", end=False) + tools.CLOSE, silent)
    async with http_client() as client:
        with pytest.raises(httpx2.ReadError):
            await client.get(server.url)
        for _ in range(2):
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(server.url)
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(server.url, timeout=0.05)
        with pytest.raises(httpx2.ConnectError, match="http://127.0.0.1:1/x: cannot connect"):
            await client.get("http://user:secret@127.0.0.1:1/x?key=secret")
        with pytest.raises(httpx2.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")


# ---------------------------------------------------------------- our requests over a user's client


def foreign(server, **options):
    client = httpx2.AsyncClient(**options)
    return client, ForeignClient(server.url, client, headers={"authorization": "Bearer k"})


async def test_a_users_client(server, tools):
    server.will(
        tools.answer({"a": 1}, x_request_id="r"),
        tools.chunked(b"a", b"b"),
        tools.answer({"e": 1}, status=429),
    )
    client, ours = foreign(server)
    async with client:
        reply = await ours.post("/x", b"body", {"x-a": "b"})
        assert (reply.status, reply.body, reply.headers["x-request-id"]) == (200, b'{"a": 1}', "r")
        assert server.requests[0].headers["authorization"] == "Bearer k"
        assert server.requests[0].headers["x-a"] == "b"
        async with ours, ours.stream("/x", b"") as stream:
            assert await read_all(stream) == b"ab"
        assert (await ours.post("/x", b"")).status == 429
        await ours.aclose()
        assert not client.is_closed
        assert "Bearer" not in repr(ours)


async def test_the_url_of_a_users_client_means_what_it_means_to_the_pool(server, tools):
    server.will(tools.answer())
    base = server.url.replace("://", "://me:pass@") + "/?api-version=1"
    async with httpx2.AsyncClient() as client:
        for ours in (
            ForeignClient(base, client, headers={"authorization": "Bearer k"}),
            PoolClient(base, headers={"authorization": "Bearer k"}),
        ):
            await ours.post("/x?beta=true", b"")
            assert server.requests[-1].target == "/v1/x?beta=true&api-version=1"
            assert server.requests[-1].headers["authorization"] == "Bearer k"


@pytest.fixture
def stalls(tools):
    """An answer of which one byte comes."""

    async def handler(request, stream):
        await stream.send_all(tools.chunked(b"a", end=False))
        await trio.sleep(60)

    return handler


# httpx2 leaves a generator behind where decoding fails, and where a stream is left early
LEFT_BEHIND = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


@LEFT_BEHIND
async def test_a_stream_left_early_with_a_users_client(server, stalls):
    server.will(stalls)
    client, ours = foreign(server)
    async with client:
        with trio.fail_after(2):
            async with ours.stream("/x", b"") as stream:
                assert await stream.receive() == b"a"
    gc.collect()


@LEFT_BEHIND
async def test_silence_inside_an_answer_to_a_users_client(server, stalls):
    server.will(stalls)
    client, ours = foreign(server)
    async with client:
        for limits, message in (
            (Timeouts(between=0.1), "silent inside an answer for 0.1 s"),
            (Timeouts(between=5, total=0.2), "no whole answer within 0.2 s"),
        ):
            with pytest.raises(HttpTimeout, match=message):
                await ours.post("/x", b"", timeouts=limits)
            async with ours.stream("/x", b"", timeouts=limits) as stream:
                assert await stream.receive() == b"a"
                with pytest.raises(HttpTimeout, match=message):
                    await stream.receive()
    gc.collect()


@LEFT_BEHIND
async def test_errors_of_a_users_client(server, tools):
    async def silent(request, stream):
        await trio.sleep(60)

    server.will(
        None,
        tools.answer(b"abc")[:-1] + tools.CLOSE,
        tools.answer(b"nonsense", content_encoding="gzip"),
        silent,
    )
    client, ours = foreign(server)
    async with client:
        with pytest.raises(BrokenConnection, match=f"{server.url}/x"):
            await ours.post("/x", b"")
        with pytest.raises(MalformedResponse, match=f"{server.url}/x"):
            await ours.post("/x", b"")
        with pytest.raises(MalformedResponse):
            await ours.post("/x", b"")
        for limits in (
            Timeouts(total=0.05),
            Timeouts(first_byte=0.05),
            Timeouts(first_byte=0.05, between=0.05),
        ):
            with pytest.raises(HttpTimeout, match=f"{server.url}/x"):
                await ours.post("/x", b"", timeouts=limits)
        with pytest.raises(ConnectFailed, match="http://127.0.0.1:1/x"):
            await ForeignClient("http://127.0.0.1:1", client).post("/x", b"")


async def test_a_users_mock_transport():
    def handle(request):
        return httpx2.Response(200, json={"path": request.url.path})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
        ours = http_client_for("http://x/v1", headers={}, http_client=client)
        assert (await ours.post("/y", b"")).body == b'{"path":"/v1/y"}'


# ---------------------------------------------------------------- proxies


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_which_proxy(no_proxies, monkeypatch):
    assert proxy_for("https://api.example.com/v1") is None
    assert isinstance(http_client_for("https://api.example.com", headers={}), PoolClient)
    monkeypatch.setenv("https_proxy", "proxy:3128")
    assert proxy_for("https://api.example.com/v1") == "http://proxy:3128"
    assert proxy_for("http://api.example.com/v1") is None
    assert proxy_for("https://127.0.0.1/v1") is None
    monkeypatch.setenv("no_proxy", "example.com")
    assert proxy_for("https://api.example.com/v1") is None
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("all_proxy", "http://proxy:1")
    assert proxy_for("http://api.other.com/v1") == "http://proxy:1"
    client = http_client_for("http://someone:secret@api.other.com/v1?key=secret", headers={})
    assert isinstance(client, ProxiedClient)
    assert repr(client) == "ProxiedClient('http://api.other.com/v1')"


async def test_through_a_proxy(server, tools, no_proxies, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    server.will(tools.answer({"a": 1}))
    client = http_client_for("http://model.invalid/v1", headers={"x-a": "b"}, timeouts=Timeouts(total=5))
    assert (await client.post("/x", b"")).body == b'{"a": 1}'
    assert server.requests[0].target == "http://model.invalid/v1/x"
    assert server.requests[0].headers["x-a"] == "b"
    await client.post("/x", b"")
    assert server.connections == 2  # nobody entered it, so nothing is kept that nobody would close
    async with client, client:
        await client.post("/x", b"")
        async with client.stream("/x", b"") as stream:
            assert await read_all(stream) == b'{"a": 1}'
    assert server.connections == 3
    with trio.fail_after(10):
        while server.open:
            await trio.sleep(0.01)
    del client
    gc.collect()


async def test_through_a_proxy_by_connect(tools, no_proxies, monkeypatch):
    """TLS goes through a tunnel: the proxy sees where to, and no key."""
    asked = []

    async def refuse(stream):
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(4096)
        asked.append(data)
        await stream.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, refuse, 0)
        port = listeners[0].socket.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:pass@127.0.0.1:{port}")
        client = http_client_for(
            "https://model.invalid/v1", headers={"authorization": "Bearer hunter2hunter2"}
        )
        async with client:
            with pytest.raises(
                ConnectFailed, match="https://model.invalid/v1/x: cannot connect: 407"
            ) as caught:
                await client.post("/x", b"")
        nursery.cancel_scope.cancel()
    (request,) = asked
    assert request.startswith(b"CONNECT model.invalid:443 HTTP/1.1\r\n")
    assert b"proxy-authorization: basic bwu6cgfzcw==" in request.lower()
    assert b"hunter2" not in request
    assert "pass" not in f"{caught.value}{client!r}"


def test_bad_urls_with_a_users_client():
    with pytest.raises(UserError, match="URL"):
        ForeignClient("nonsense", httpx2.AsyncClient())
