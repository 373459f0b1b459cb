"""TLS, with a certificate made for the test."""

import shutil
import ssl
import subprocess

import pytest
import trio

from runmgr.models.http import BrokenConnection, ConnectFailed, MalformedResponse, PoolClient

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.fixture
async def secure(certificate, tools):
    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with tools.running_server(context) as server:
        yield server


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=certificate[1])


def url(server):
    return f"https://localhost:{server.port}/v1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_connection_is_used_again(secure, tools, trusting, version):
    trusting.maximum_version = version
    secure.will(tools.answer(b"1"), tools.answer(b"x" * 300_000), tools.chunked(b"a", b"b"))
    client = PoolClient(url(secure), ssl_context=trusting)
    assert (await client.post("/x", b"")).body == b"1"
    assert (await client.post("/x", b"y" * 3_000_000)).body == b"x" * 300_000
    async with client.stream("/x", b"") as stream:
        assert await stream.read() == b"ab"
    assert client.pool().statistics()["idle"] == 1
    assert secure.connections == 1
    assert secure.requests[1].body == b"y" * 3_000_000


async def test_an_untrusted_certificate(secure):
    with pytest.raises(ConnectFailed, match=f"{secure.url}/x: no TLS connection: .*self-signed certificate"):
        await PoolClient(secure.url).post("/x", b"")


async def test_a_certificate_for_another_host(secure, trusting):
    with pytest.raises(ConnectFailed, match="no TLS connection: .*IP address mismatch"):
        await PoolClient(secure.url, ssl_context=trusting).post("/x", b"")


async def test_a_server_that_speaks_no_tls(server, tools):
    server.will(tools.answer())

    async def plain(stream):
        await stream.receive_some(1)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, plain, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectFailed, match="TLS"):
            await PoolClient(f"https://127.0.0.1:{port}").post("/x", b"")
        nursery.cancel_scope.cancel()


async def test_kept_connections_that_die(secure, tools, trusting):
    secure.will(tools.answer(b"1") + tools.CLOSE, tools.answer(b"2"), None, tools.answer(b"3"))
    client = PoolClient(url(secure), ssl_context=trusting)
    assert (await client.post("/x", b"")).body == b"1"
    while secure.open:
        await trio.sleep(0.01)
    assert (await client.post("/x", b"")).body == b"2"
    assert (await client.post("/x", b"")).body == b"3"
    assert secure.connections == 3


async def test_cut_short(secure, tools, trusting):
    secure.will(tools.answer(b"abc")[:-1] + tools.CLOSE, tools.chunked(b"a", end=False) + tools.CLOSE, None)
    client = PoolClient(url(secure), ssl_context=trusting)
    for _ in range(2):
        with pytest.raises(MalformedResponse, match="cut short"):
            await client.post("/x", b"")
    with pytest.raises(BrokenConnection):
        await client.post("/x", b"")
    assert client.pool().statistics() == {"in_use": 0, "idle": 0, "waiting": 0, "limit": client.pool().limit}


async def test_cancelling(secure, trusting):
    asked = trio.Event()

    async def silent(request, stream):
        asked.set()
        await trio.sleep(60)

    secure.will(silent)
    client = PoolClient(url(secure), ssl_context=trusting)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/x", b"")
        await asked.wait()
        nursery.cancel_scope.cancel()
    assert client.pool().statistics()["in_use"] == 0
