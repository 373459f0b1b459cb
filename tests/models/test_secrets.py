"""A key is in no error, log, journal, message or repr, whatever goes wrong and whatever the server says of it."""

import json
import logging
import sqlite3
import traceback

import httpx2
import pytest
import trio

from runmgr import Agent, open_supervisor
from runmgr.exceptions import ModelAPIError
from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.anthropic import AnthropicModel
from runmgr.models.google import GoogleModel
from runmgr.models.http import Timeouts
from runmgr.models.openai import OpenAIChatModel, OpenAIResponsesModel
from runmgr.models.retry import NO_RETRY
from runmgr.providers.anthropic import AnthropicProvider
from runmgr.providers.azure import AzureProvider
from runmgr.providers.google import GoogleProvider
from runmgr.providers.openai import OpenAIProvider

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
    "an error that repeats it": ({"error": {"message": f"bad key {KEY}"}}, 401),
    "a page that repeats it": (f"<p>x-api-key: {KEY}</p>".encode(), 502),
    "no answer of the API": ({"you_sent": KEY}, 200),
    "not even JSON": (f"Bearer {KEY}".encode(), 200),
    "an error with status 200": ({"error": {"message": KEY, "code": 400}}, 200),
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
async def test_errors(server, tools, api, what, streamed, caplog):
    caplog.set_level(logging.DEBUG)
    server.will(ANSWERS[what] and tools.answer(*ANSWERS[what]))
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


def held(error):
    """What a debugger shows of the requests that an exception and its causes hold."""
    shown = []
    while error is not None:
        if (request := vars(error).get("_request")) is not None:
            shown += [repr(request), repr(request.headers), str(request.url)]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # httpx2's, where an answer breaks off
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("what", ["nothing", "a part", "silence"])
async def test_errors_of_a_users_client(server, tools, what, streamed, caplog):
    """httpx2's errors hold their request, and its headers show every key but ``authorization``."""
    caplog.set_level(logging.DEBUG)

    async def silence(request, stream):
        await trio.sleep(30)

    server.will(
        {"nothing": None, "a part": tools.answer(b"abc")[:-1] + tools.CLOSE, "silence": silence}[what]
    )
    async with httpx2.AsyncClient() as client:
        provider = GoogleProvider(
            # httpx2 logs its URLs with their queries by itself: nothing of ours can keep a key there secret
            api_key=KEY,
            base_url=url_of(server).partition("?")[0],
            http_client=client,
            timeouts=Timeouts(total=0.3),
        )
        model = GoogleModel("m", provider=provider, retry=NO_RETRY)
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
    assert KEY not in held(caught.value)
    assert what == "silence" or "POST" in held(caught.value)
    assert KEY not in caplog.text


def pieces_of(api, text):
    """A stream of an API's events that say the text."""
    if api == "google":
        content = {"parts": [{"text": text}]}
        return [{"candidates": [{"content": content, "finishReason": "STOP"}]}]
    if api == "anthropic":
        return [
            {"type": "message_start", "message": {"content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        ]
    if api == "responses":
        return [
            {"type": "response.output_text.delta", "item_id": "i", "delta": text},
            {"type": "response.completed", "response": {"status": "completed", "output": []}},
        ]
    return [{"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}]


@pytest.mark.parametrize("api", MODELS)
async def test_a_stream_that_repeats_it(server, tools, api):
    events = [f"data: {json.dumps(event)}\n\n".encode() for event in pieces_of(api, f"your key is {KEY}!")]
    server.will(tools.chunked(*events))
    model = MODELS[api](url_of(server))
    async with model.request_stream(
        [ModelRequest([UserPromptPart("q")])], None, ModelRequestParameters()
    ) as stream:
        seen = [repr(event) async for event in stream]
    assert sent(server)
    assert [part.content for part in stream.get().parts] == ["your key is [secret]!"]
    assert KEY not in "".join(seen)


async def test_journal_and_outcome(server, tools, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "runs.sqlite"
    message = {"role": "assistant", "content": f"your key is {KEY}"}
    fine = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    server.will(tools.answer(*ANSWERS["an error that repeats it"]), tools.answer(fine))
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
