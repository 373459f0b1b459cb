"""A server that misbehaves as told, and the same scenario run with Pydantic AI 1.46 and with runmgr."""

import asyncio
import gzip
import importlib
import json
import re
from collections import deque
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

MODULES = ("messages", "usage", "exceptions", "builtin_tools", "profiles", "models")
MODELS = ("test", "function", "wrapper", "fallback")


# ---------------------------------------------------------------- a server: each connection's requests get a list of raw answers


class Request:
    def __init__(self, head, body, connection):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines if line)}
        self.body = body
        self.connection = connection

    def json(self):
        return json.loads(self.body)


class Server:
    """``answers`` are taken one a request: bytes to send, or ``async def answer(request, stream)``; the last one stays.

    An answer that is bytes and ends in CLOSE is followed by closing the connection; None closes without an answer.
    """

    def __init__(self):
        self.answers = deque()
        self.requests = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.eof = trio.Event()
        self.got_request = trio.Event()
        self.port = None
        self.scheme = "http"

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    def will(self, *answers):
        self.answers.extend(answers)
        return self

    async def _read(self, stream, buffer):
        while b"\r\n\r\n" not in buffer:
            data = await stream.receive_some(65536)
            if not data:
                return None
            buffer += data
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(rest) < length:
            data = await stream.receive_some(65536)
            if not data:
                return None
            rest += data
        buffer[:] = rest[length:]
        return head, rest[:length]

    async def handle(self, stream):
        self.connections += 1
        number = self.connections
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        buffer = bytearray()
        try:
            while (read := await self._read(stream, buffer)) is not None:
                request = Request(*read, number)
                self.requests.append(request)
                self.got_request.set()
                answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    answer = await answer(request, stream)
                if answer is None:
                    return
                if answer is KEEP:
                    continue
                await stream.send_all(answer.removesuffix(CLOSE))
                if answer.endswith(CLOSE):
                    return
            self.eof.set()
        except trio.BrokenResourceError:
            self.eof.set()
        finally:
            self.open -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


CLOSE = b"\0close\0"
KEEP = object()


def answer(body=b"{}", status=200, **headers):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Status", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces, end=True, content_type="text/event-stream", **headers):
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + b"\r\n" + body + (b"0\r\n\r\n" if end else b"")


def gzipped(body, **headers):
    return answer(gzip.compress(body), content_encoding="gzip", **headers)


@asynccontextmanager
async def running_server(ssl_context=None):
    server = Server()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
        server.port = listeners[0].socket.getsockname()[1]
        handler = server.handle
        if ssl_context is not None:
            server.scheme = "https"
            listeners = [trio.SSLListener(one, ssl_context, https_compatible=True) for one in listeners]
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield server
        nursery.cancel_scope.cancel()


class Tools:
    """What tests need beside the server, as attributes, since test modules do not import one another."""

    CLOSE = CLOSE
    KEEP = KEEP
    answer = staticmethod(answer)
    chunked = staticmethod(chunked)
    gzipped = staticmethod(gzipped)
    running_server = staticmethod(running_server)


@pytest.fixture
def tools():
    return Tools


@pytest.fixture
async def server():
    async with running_server() as server:
        yield server


# ---------------------------------------------------------------- two libraries: what comes out of a scenario must read the same


def library(package):
    names = {}
    for module in (*MODULES, *(f"models.{name}" for name in MODELS)):
        names.update(vars(importlib.import_module(f"{package}.{module}")))
    return SimpleNamespace(**names, library=package)


def plain(value):
    """Text that is the same for equal things of both libraries."""
    text = repr(value)
    text = re.sub(r"(, )?timestamp=datetime\.datetime\((\([^)]*\)|[^()])*\)", "", text)
    text = re.sub(r"pyd_ai_[0-9a-f]{32}", "ID", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"(pydantic_ai|runmgr)\.", "", text)


@pytest.fixture(scope="session")
def ours():
    return library("runmgr")


@pytest.fixture(scope="session")
def theirs():
    found = library("pydantic_ai")
    found.ToolDefinition = importlib.import_module("pydantic_ai.tools").ToolDefinition
    found.OutputObjectDefinition = importlib.import_module("pydantic_ai._output").OutputObjectDefinition
    return found


@pytest.fixture(scope="session")
def same(ours, theirs):
    """Calls an async scenario with each library, and compares. Returns what runmgr's gave."""

    def compare(scenario, *args):
        results = []
        for lib, run in ((theirs, lambda main: asyncio.run(main())), (ours, trio.run)):

            async def main(lib=lib):
                try:
                    return plain(await scenario(lib, *args))
                except Exception as error:
                    return f"{type(error).__name__}: {plain(str(error))}"

            results.append(run(main))
        assert results[1] == results[0]
        return results[1]

    return compare
