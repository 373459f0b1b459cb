"""A key is in no error, log, journal, message or repr, whatever goes wrong and whatever the server says of it."""

import importlib.util
import json
import logging
import sqlite3
import traceback
from pathlib import Path

import pytest

from runmgr import Agent, open_supervisor
from runmgr.exceptions import ModelAPIError
from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.anthropic import AnthropicModel
from runmgr.models.google import GoogleModel
from runmgr.models.openai import OpenAIChatModel, OpenAIResponsesModel
from runmgr.models.retry import NO_RETRY
from runmgr.providers.anthropic import AnthropicProvider
from runmgr.providers.azure import AzureProvider
from runmgr.providers.google import GoogleProvider
from runmgr.providers.openai import OpenAIProvider

_spec = importlib.util.spec_from_file_location(
    "runmgr_tests_http_server", Path(__file__).parent / "http" / "conftest.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
answer = _module.answer


@pytest.fixture
async def server():
    async with _module.running_server() as server:
        yield server


KEY = "sk-hunter2-hunter2-hunter2"
MODELS = {
    "openai": lambda url: OpenAIChatModel("m", provider=OpenAIProvider(url, KEY), retry=NO_RETRY),
    "responses": lambda url: OpenAIResponsesModel("m", provider=OpenAIProvider(url, KEY), retry=NO_RETRY),
    "anthropic": lambda url: AnthropicModel(
        "m", provider=AnthropicProvider(api_key=KEY, base_url=url), retry=NO_RETRY
    ),
    "google": lambda url: GoogleModel(
        "m", provider=GoogleProvider(api_key=KEY, base_url=url), retry=NO_RETRY
    ),
    "azure": lambda url: OpenAIChatModel(
        "m",
        provider=AzureProvider(api_key=KEY, azure_endpoint=url, api_version="1"),
        retry=NO_RETRY,
    ),
}
ANSWERS = {
    "an error that repeats it": answer({"error": {"message": f"bad key {KEY}"}}, 401),
    "a page that repeats it": answer(f"<p>x-api-key: {KEY}</p>".encode(), 502),
    "no answer of the API": answer({"you_sent": KEY}),
    "not even JSON": answer(f"Bearer {KEY}".encode()),
    "an error with status 200": answer({"error": {"message": KEY, "code": 400}}),
    "no answer": None,
}


def url_of(server):
    return f"http://user:{KEY}@127.0.0.1:{server.port}/v1?token={KEY}"


def sent(server):
    """The key goes out, so that it can come back."""
    return (
        all(KEY in f"{request.target} {request.headers}" for request in server.requests) and server.requests
    )


def all_of(error):
    """Everything that an exception tells: its text, fields, notes, causes, and its traceback with source lines."""
    seen = ["".join(traceback.format_exception(error))]
    while error is not None:
        seen += [str(error), repr(error), repr(vars(error)), repr(getattr(error, "__notes__", ""))]
        error = error.__cause__ or error.__context__
    return "\n".join(seen)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("api", MODELS)
async def test_errors(server, api, what, streamed, caplog):
    caplog.set_level(logging.DEBUG)
    server.will(ANSWERS[what])
    model = MODELS[api](url_of(server))
    assert KEY not in f"{model!r} {model.provider!r} {model.client!r}"
    ask = [ModelRequest([UserPromptPart("q")])], None, ModelRequestParameters()
    with pytest.raises(ModelAPIError) as caught:
        if streamed:
            async with model.request_stream(*ask) as stream:
                async for _ in stream:
                    pass
        else:
            await model.request(*ask)
    assert sent(server)
    assert KEY not in all_of(caught.value)
    assert KEY not in caplog.text


async def test_journal_and_outcome(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "runs.sqlite"
    message = {"role": "assistant", "content": f"your key is {KEY}"}
    fine = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    server.will(ANSWERS["an error that repeats it"], answer(fine))
    agent = Agent(MODELS["openai"](url_of(server)))
    async with open_supervisor(max_running=1, journal=path) as sup:
        failed = await (await sup.submit(agent, "q")).outcome()
        told = await (await sup.submit(agent, "q")).outcome()
    assert sent(server)
    assert failed.status == "failed"
    assert "[secret]" in failed.error.message
    assert told.output == "your key is [secret]"
    assert KEY not in f"{failed!r} {told!r} {caplog.text}"
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    with sqlite3.connect(path) as journal:
        tables = [name for (name,) in journal.execute("select name from sqlite_master where type = 'table'")]
        rows = [journal.execute(f"select * from {name}").fetchall() for name in tables]  # noqa: S608
    assert any(rows)
    assert KEY not in json.dumps(rows, default=lambda value: value.decode("latin-1"))
