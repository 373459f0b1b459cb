"""Files named by a stranger's URL: which addresses are connected to, redirects, limits."""

import socket

import pytest
import trio

from runmgr.exceptions import UserError
from runmgr.models.http import ConnectFailed
from runmgr.models.http import download as module
from runmgr.models.http.download import download


class Names(trio.abc.HostnameResolver):
    """Answers a name with the next of its lists of addresses: what an attacker's name server can do."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(lists) for name, lists in answers.items()}
        self.asked = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if not self.answers.get(name):
            raise OSError("unknown name")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.answers[name].pop(0)
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture
def names():
    def use(**answers):
        resolver = Names(**answers)
        trio.socket.set_custom_hostname_resolver(resolver)
        return resolver

    return use


@pytest.fixture
def public(monkeypatch):
    """The test's server counts as a public one, and nothing else of this machine does."""
    real = module._is_public
    monkeypatch.setattr(module, "_is_public", lambda address: address == "127.0.0.1" or real(address))


def moved(to):
    return b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % to.encode()


async def test_a_name_is_looked_up_once_and_that_address_is_connected_to(server, tools, names, public):
    # the second answer would be the local address that a check of the first lets through
    resolver = names(rebind_test=[["127.0.0.1"], ["127.0.0.2"]])
    server.will(tools.answer(b"abc"))
    assert await download(f"http://rebind.test:{server.port}/x") == (b"abc", "application/json")
    assert resolver.asked == ["rebind.test"]
    assert server.requests[0].headers["host"] == f"rebind.test:{server.port}"


async def test_each_redirect_is_looked_at_anew(server, tools, names, public):
    resolver = names(rebind_test=[["127.0.0.1"], ["10.0.0.1"]], inner_test=[["192.168.0.1"]])
    for target, address in (
        (f"http://rebind.test:{server.port}/y", "10.0.0.1"),
        ("http://inner.test/y", "192.168.0.1"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("//[::1]/y", "::1"),
    ):
        server.answers.clear()
        server.will(moved(target))
        first = "rebind.test" if "rebind" in target else "127.0.0.1"
        with pytest.raises(UserError, match=f"leads to {address}, which is not a public address"):
            await download(f"http://{first}:{server.port}/x")
    assert len(server.requests) == 4
    assert resolver.asked == ["rebind.test", "rebind.test", "inner.test"]


async def test_one_local_address_among_many_is_enough(names):
    names(mixed_test=[["93.184.216.34", "10.0.0.1"]])
    with pytest.raises(UserError, match=r"http://mixed\.test/x leads to 10\.0\.0\.1"):
        await download("http://mixed.test/x?secret=1")


async def test_an_unknown_name(names):
    names()
    with pytest.raises(ConnectFailed, match=r"http://nobody\.test/x: cannot resolve the name"):
        await download("http://nobody.test/x?secret=1")


async def test_five_redirects_at_most(server, tools):
    hops = [moved(f"/{number}") for number in range(5)]
    server.will(*hops, tools.answer(b"there"))
    assert (await download(server.url, allow_local=True))[0] == b"there"
    server.answers.clear()
    server.will(*hops, moved("/once-more"))
    with pytest.raises(UserError, match="more than 5 redirects"):
        await download(server.url, allow_local=True)
    assert server.requests[-1].target == "/4"


@pytest.mark.parametrize("size", [1_000, 1_001])
async def test_the_limit_holds_however_the_body_is_sent(server, tools, size):
    body = b"x" * size
    for answer in (
        tools.answer(body),
        tools.gzipped(body),
        tools.chunked(*[body[at : at + 100] for at in range(0, size, 100)]),
    ):
        server.answers.clear()
        server.will(answer)
        if size > 1_000:
            with pytest.raises(UserError, match="is larger than 1000 bytes"):
                await download(server.url, limit=1_000, allow_local=True)
        else:
            assert (await download(server.url, limit=1_000, allow_local=True))[0] == body


async def test_what_goes_beyond_the_limit_is_not_read(server, tools):
    sent = 0

    async def endless(request, stream):
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    server.will(endless)
    with trio.fail_after(10), pytest.raises(UserError, match="larger than"):
        await download(server.url, limit=1_000_000, allow_local=True)
    assert sent < 50_000_000
