"""Answers in the shape that providers' API references and real servers give them, decoded through the models.

Each ``*.json`` beside this file lists answers of one API: ``source`` is where the shape is described, ``answer`` or ``events`` what comes
over the wire, ``means`` what it has to become (``python tests/models/recorded/test_recorded.py`` writes what it becomes now; read the
difference). Pydantic AI 1.46 makes the same of them, but for what ``differs`` says.
"""

import json
import os
import re
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.exceptions import MalformedResponseError, ModelAPIError, ModelHTTPError, UnexpectedModelBehavior
from runmgr.messages import ModelMessagesTypeAdapter, ModelRequest, UserPromptPart
from runmgr.models import ModelRequestParameters
from runmgr.models.anthropic import AnthropicModel
from runmgr.models.google import GoogleModel
from runmgr.models.http import Reply, Timeouts
from runmgr.models.openai import OpenAIChatModel, OpenAIResponsesModel
from runmgr.models.retry import NO_RETRY
from runmgr.providers import Provider
from runmgr.providers.openai import OpenAIProvider

HERE = Path(__file__).parent
MODELS = {
    "openai": (OpenAIChatModel, "gpt-4o", "openai"),
    "responses": (OpenAIResponsesModel, "gpt-5", "openai"),
    "anthropic": (AnthropicModel, "claude-sonnet-4-5", "anthropic"),
    "google": (GoogleModel, "gemini-2.5-flash", "google-gla"),
}
PROMPT = [ModelRequest([UserPromptPart("q")])]
PARAMS = ModelRequestParameters()
TIMES = int(os.environ.get("RUNMGR_FUZZ", "1"))
"""Examples of each property: `make fuzz-providers` asks for many more."""


class Canned:
    """A client that answers with what it was given, in the pieces that it was given in."""

    base_url = "http://canned"
    timeouts = Timeouts()

    def __init__(self, status, headers, pieces):
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.head = Reply(status, raw, b"")
        self.pieces = list(pieces)
        self.closed = False

    async def post(self, path, body, headers=None, timeouts=None):
        return Reply(self.head.status, self.head.raw_headers, b"".join(self.pieces))

    def stream(self, path, body, headers=None, timeouts=None):
        return self

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        self.closed = True


class CannedProvider(Provider):
    def __init__(self, name, client, profile):
        self.name_, self.client_, self.profile = name, client, profile

    name = property(lambda self: self.name_)
    base_url = property(lambda self: "http://canned")
    client = property(lambda self: self.client_)

    def model_profile(self, model_name):
        return self.profile(model_name)


def profile_of(api):
    if api in {"openai", "responses"}:
        return OpenAIProvider(api_key="k", base_url="http://canned").model_profile
    return lambda name: None


def wire(found):
    """The bytes of a recorded answer."""
    if "answer" in found:
        answer = found["answer"]
        return answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    lines = []
    for event in found["events"]:
        if isinstance(event, str):
            lines.append(event)
            continue
        named = found["api"] in {"anthropic", "responses"}
        end = "\r\n\r\n" if found["api"] == "google" else "\n\n"
        name = f"event: {event['type']}\n" if named else ""
        lines.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}{end}")
    return "".join(lines).encode()


def pieces_of(data, cuts):
    cuts = sorted({cut for cut in cuts if 0 < cut < len(data)})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def ask(found, pieces=None):
    """The response to a recorded answer, and the events of a streamed one."""
    streamed = "events" in found
    kind = found.get("type") or ("text/event-stream" if streamed else "application/json")
    client = Canned(
        found.get("status", 200),
        {"content-type": kind} | found.get("headers", {}),
        [wire(found)] if pieces is None else pieces,
    )
    cls, name, provider = MODELS[found["api"]]
    model = cls(name, provider=CannedProvider(provider, client, profile_of(found["api"])), retry=NO_RETRY)
    if not streamed:
        return await model.request_once(PROMPT, None, PARAMS)
    try:
        async with model.request_stream_once(PROMPT, None, PARAMS) as stream:
            async for _ in stream:
                pass
            return stream.get()
    finally:
        assert client.closed


def compact(response):
    """A response without what is empty, and without what differs from run to run."""
    (plain,) = json.loads(ModelMessagesTypeAdapter.dump_json([response]))
    made = {}

    def cleaned(value):
        if isinstance(value, dict):
            return {name: cleaned(item) for name, item in value.items()}
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        if isinstance(value, str) and re.match(r"pyd_ai_\w{32}$", value):
            return made.setdefault(value, f"made {len(made)}")
        return value

    kept = (
        "usage",
        "model_name",
        "provider_name",
        "provider_response_id",
        "provider_details",
        "finish_reason",
    )
    parts = [
        {name: item for name, item in part.items() if item is not None and name != "timestamp"}
        for part in plain["parts"]
    ]
    usage = {name: count for name, count in plain["usage"].items() if count}
    rest = {name: plain[name] for name in kept if plain[name] is not None}
    return cleaned({"parts": parts} | rest | {"usage": usage})


def error_of(error):
    """What is said of a failed request."""
    if not isinstance(error, ModelHTTPError):
        return {
            "error": type(error).__name__,
            "text": re.sub(r" \(.*", "", str(error), flags=re.DOTALL)[:120],
        }
    return {
        "status": error.status_code,
        "message": error.provider_message,
        "code": error.provider_code,
        "request_id": error.request_id,
        "retriable": error.retriable,
    }


async def meaning(found, pieces=None):
    try:
        return compact(await ask(found, pieces))
    except (ModelAPIError, UnexpectedModelBehavior) as error:
        return error_of(error)


def load():
    for api in MODELS:
        for found in json.loads((HERE / f"{api}.json").read_text("utf-8")):
            yield found | {"api": api}


RECORDED = list(load())
STREAMS = [found for found in RECORDED if "events" in found]


def named(found):
    return f"{found['api']}-{'stream' if 'events' in found else 'whole'}-{found['name']}"


@pytest.mark.parametrize("found", RECORDED, ids=named)
async def test_it_means(found):
    assert await meaning(found) == found["means"]


def test_names_and_sources():
    assert len({named(found) for found in RECORDED}) == len(RECORDED)
    assert all(found["source"].startswith("https://") for found in RECORDED)


# ---------------------------------------------------------------- cut and re-chunked


def to_cut(api):
    return next(found for found in STREAMS if (found["api"], found["name"]) == (api, "cut"))


def parts_of(meant):
    return meant.get("parts"), meant.get("finish_reason")


@pytest.mark.parametrize("api", MODELS)
async def test_cut_in_two_at_every_byte(api):
    found = to_cut(api)
    data = wire(found)
    for cut in range(1, len(data)):
        assert await meaning(found, [data[:cut], data[cut:]]) == found["means"], cut


@pytest.mark.parametrize("api", MODELS)
async def test_ended_at_every_byte(api):
    found = to_cut(api)
    data = wire(found)
    whole = 0
    for cut in range(len(data)):
        meant = await meaning(found, [data[:cut]] if cut else [])
        if "parts" in meant:  # it ended after its own end: nothing is missing but, at most, what it cost
            assert parts_of(meant) == parts_of(found["means"]), cut
            whole += 1
        else:
            assert meant["error"] == "MalformedResponseError", (cut, meant)
            assert not whole or b"\n" not in data[cut - 1 : cut], (cut, meant)
    assert 0 < whole < len(data) / 2


@given(st.sampled_from(STREAMS), st.lists(st.integers(1, 20_000), max_size=30), st.booleans())
@settings(max_examples=60 * TIMES, deadline=None)
def test_rechunked(found, cuts, bytewise):
    data = wire(found)
    if bytewise:
        cuts = range(len(data)) if len(data) < 1_500 else cuts
    assert trio.run(meaning, found, pieces_of(data, cuts)) == found["means"]


@given(st.sampled_from(STREAMS), st.floats(0, 1))
@settings(max_examples=60 * TIMES, deadline=None)
def test_ended_anywhere(found, where):
    data = wire(found)
    data = data[: int(where * len(data))]
    meant = trio.run(meaning, found, [data] if data else [])
    if "parts" in meant and "parts" in found["means"]:
        # A tool's arguments and a text are whole or there is an error.
        assert meant["parts"] == found["means"]["parts"]
    else:
        assert "error" in meant or "status" in meant


# ---------------------------------------------------------------- whatever may come

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw, found):
    """A recorded answer with one value anywhere in it exchanged or left out."""
    answer = json.loads(json.dumps(found.get("answer", found.get("events"))))
    places = []

    def walk(holder):
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            places.append((holder, key))
            if isinstance(value, dict | list):
                walk(value)

    if isinstance(answer, str):
        return found
    walk(answer)
    holder, key = draw(st.sampled_from(places))
    if draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = draw(JSON)
    if "events" not in found:
        return found | {"answer": answer}
    kept = [
        event for event in answer if isinstance(event, str) or (isinstance(event, dict) and "type" in event)
    ]
    return found | {"events": kept if found["api"] in {"anthropic", "responses"} else answer}


def typed(found, pieces=None):
    """Nothing but a response or an error of ours comes out; ``meaning`` lets everything else through."""
    meant = trio.run(meaning, found, pieces)
    assert "parts" in meant or "error" in meant or "status" in meant


@given(st.sampled_from(RECORDED).flatmap(mutated))
@settings(max_examples=150 * TIMES, deadline=None)
def test_mutated(found):
    typed(found)


@given(
    st.sampled_from(sorted(MODELS)), st.booleans(), st.binary(max_size=200), st.sampled_from([200, 400, 503])
)
@settings(max_examples=80 * TIMES, deadline=None)
def test_any_bytes(api, streamed, data, status):
    found = {"api": api, "status": status} | ({"events": []} if streamed else {"answer": ""})
    typed(found, [data] if data else [])


@given(st.sampled_from(sorted(MODELS)), st.booleans(), JSON, st.sampled_from([200, 429]))
@settings(max_examples=80 * TIMES, deadline=None)
def test_any_json(api, streamed, value, status):
    body = json.dumps(value).encode()
    if streamed:
        typed({"api": api, "events": []}, [b"data: " + body + b"\n\n"])
    else:
        typed({"api": api, "answer": "", "status": status}, [body])


@pytest.mark.parametrize("given", [1, True, [1]])
@pytest.mark.parametrize("kind", ["server_tool_use", "tool_use", "mcp_tool_use"])
async def test_a_call_whose_arguments_are_no_object(kind, given):
    block = {"type": kind, "id": "s", "name": "code_execution", "input": given}
    delta = {"type": "input_json_delta", "partial_json": "{}"}
    events = [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    with pytest.raises(MalformedResponseError):
        await ask({"api": "anthropic", "events": events})
    with pytest.raises(MalformedResponseError):
        await ask({"api": "anthropic", "answer": {"content": [block]}})


async def test_an_empty_stream_is_an_error():
    for api in MODELS:
        with pytest.raises(MalformedResponseError):
            await ask({"api": api, "events": []}, [])


def write():
    """Put what each answer becomes now into the files."""
    for api in MODELS:
        kept = [found for found in RECORDED if found["api"] == api]
        for found in kept:
            found["means"] = trio.run(meaning, found)
        (HERE / f"{api}.json").write_text(layout(kept), "utf-8")


def layout(answers):
    """JSON with a line an event."""
    blocks = []
    for found in answers:
        fields = {name: value for name, value in found.items() if name not in {"api", "stream"}}
        lines = []
        for name, value in fields.items():
            if name == "events":
                events = ",\n      ".join(json.dumps(event, ensure_ascii=False) for event in value)
                lines.append(f'    "events": [\n      {events}\n    ]' if value else '    "events": []')
            else:
                lines.append(f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
        blocks.append("  {\n" + ",\n".join(lines) + "\n  }")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


if __name__ == "__main__":
    write()
