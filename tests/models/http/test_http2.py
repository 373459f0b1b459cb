"""HTTP/2 through a client of the user's, as the page of models says, against a real server: hypercorn under TLS."""

import json
import shutil
import ssl
import subprocess

import httpx2
import pytest
import trio

from runmgr.exceptions import ModelHTTPError, ModelTimeoutError
from runmgr.messages import ModelRequest, TextPart, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.http import Timeouts
from runmgr.models.openai import OpenAIChatModel
from runmgr.models.retry import NO_RETRY
from runmgr.providers.openai import OpenAIProvider

hypercorn_trio = pytest.importorskip("hypercorn.trio")
from hypercorn.config import Config  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")

ASK = [ModelRequest([UserPromptPart("q")])], None, ModelRequestParameters()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return key, cert


def chunk(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


class App:
    """Answers chat completions with the prompt; remembers by which version of HTTP, and over which connection, it was asked."""

    def __init__(self):
        self.seen = []
        self.together = 0
        self.most_together = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.seen.append((scope["http_version"], tuple(scope["client"])))
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            await self.answer(json.loads(body), send)
        finally:
            self.together -= 1

    async def answer(self, asked, send):
        async def head(status, kind):
            headers = [(b"content-type", kind), (b"x-request-id", b"r")]
            await send({"type": "http.response.start", "status": status, "headers": headers})

        async def body(data, *, more=False):
            await send({"type": "http.response.body", "body": data, "more_body": more})

        prompt = asked["messages"][-1]["content"]
        if prompt == "silent":
            await trio.sleep(30)
        if prompt == "fail":
            await head(429, b"application/json")
            await body(b'{"error": {"message": "slow down"}}')
        elif asked["stream"]:
            await head(200, b"text/event-stream")
            for letter in prompt:
                await body(chunk(letter), more=True)
                await trio.sleep(0.01)
            await body(chunk("", "stop") + b"data: [DONE]\n\n")
        else:
            await trio.sleep(0.1)
            choice = {"message": {"role": "assistant", "content": prompt}, "finish_reason": "stop"}
            await head(200, b"application/json")
            await body(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())


@pytest.fixture
async def served(certificate):
    key, cert = certificate
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile, config.keyfile = str(cert), str(key)
    config.accesslog = config.errorlog = None
    config.graceful_timeout = config.shutdown_timeout = 0.2
    app, stop = App(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(task_status):
            await hypercorn_trio.serve(
                app, config, shutdown_trigger=stop.wait, task_status=task_status, mode="asgi"
            )

        bound = await nursery.start(serve)
        app.port = int(bound[0].rstrip("/").rpartition(":")[2])
        yield app
        stop.set()
        with trio.move_on_after(1):
            await trio.sleep(0.3)
        nursery.cancel_scope.cancel()


def model_of(app, client, **options):
    provider = OpenAIProvider(f"https://localhost:{app.port}/v1", "k" * 20, http_client=client, **options)
    return OpenAIChatModel("m", provider=provider, retry=NO_RETRY)


def prompt(text):
    return [ModelRequest([UserPromptPart(text)])], None, ModelRequestParameters()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # hypercorn's sockets, where it is stopped
async def test_http2(served, certificate):
    context = ssl.create_default_context(cafile=certificate[1])
    async with httpx2.AsyncClient(http2=True, verify=context) as client:
        model = model_of(served, client)
        answers = {}

        async def ask(text):
            answers[text] = (await model.request(*prompt(text))).parts

        await ask("first")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, f"q{number}")
        assert answers == {text: [TextPart(text)] for text in ("first", *(f"q{n}" for n in range(20)))}
        # all over one connection, at the same time
        assert {version for version, _ in served.seen} == {"2"}
        assert len({client for _, client in served.seen}) == 1
        assert served.most_together > 5

        async with model.request_stream(*prompt("hello")) as stream:
            events = [event async for event in stream]
        assert stream.get().parts == [TextPart("hello")]
        assert len(events) >= 5

        with pytest.raises(ModelHTTPError, match="slow down") as caught:
            await model.request(*prompt("fail"))
        assert (caught.value.status_code, caught.value.request_id) == (429, "r")

        hasty = model_of(served, client, timeouts=Timeouts(first_byte=0.2))
        with pytest.raises(ModelTimeoutError, match="no answer for 0.2 s"):
            await hasty.request(*prompt("silent"))
        # the connection outlives an answer that was given up
        assert (await model.request(*prompt("again"))).parts == [TextPart("again")]
        assert len({client for _, client in served.seen}) == 1


async def test_the_same_server_by_our_own_pool(served, certificate, monkeypatch):
    """HTTP/1.1, with the certificate of SSL_CERT_FILE."""
    from runmgr.models.http.connect import default_ssl_context

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    default_ssl_context.cache_clear()
    try:
        async with model_of(served, None) as model:
            assert (await model.request(*prompt("x"))).parts == [TextPart("x")]
        assert [version for version, _ in served.seen] == ["1.1"]
    finally:
        default_ssl_context.cache_clear()
