"""Our JSON is Pydantic AI's: histories of every kind of part, both directions."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pydantic_ai.messages as theirs
import pydantic_ai.usage as their_usage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runmgr.messages as ours
import runmgr.usage as our_usage

THEIRS = {**vars(their_usage), **vars(theirs)}
OURS = {**vars(our_usage), **vars(ours)}


class Make:
    """A description of a message value that can be built with either library's classes."""

    def __init__(self, name, *args, **kwargs):
        self.name, self.args, self.kwargs = name, args, {k: v for k, v in kwargs.items() if v is not ...}

    def __repr__(self):
        return f"Make({self.name}, {self.args}, {self.kwargs})"


def build(value, names):
    if isinstance(value, Make):
        made = names[value.name]
        return made(
            *(build(v, names) for v in value.args), **{k: build(v, names) for k, v in value.kwargs.items()}
        )
    if isinstance(value, list):
        return [build(v, names) for v in value]
    return value


text = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text("abc_-", min_size=1, max_size=6)
maybe_text = st.none() | text
numbers = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, json_values, max_size=3)
maybe_object = st.none() | objects
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
dates = st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.none() | offsets | st.just(UTC))
# What a tool may return that JSON does not know.
anything = json_values | st.recursive(
    st.binary(max_size=5)
    | dates
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
    | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=90))
    | st.floats()
    | st.uuids()
    | st.sets(st.integers(0, 5), max_size=1),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2) | st.tuples(inner, inner)
    ),
    max_leaves=3,
)
media_types = st.sampled_from(
    ["image/png", "image/x-own", "application/pdf", "audio/wav", "video/mp4", "a/b"]
)


@st.composite
def files(draw, kind="BinaryContent", types=media_types):
    return Make(
        kind,
        draw(st.binary(max_size=9)),
        media_type=draw(types),
        identifier=draw(st.none() | names),
        vendor_metadata=draw(maybe_object),
    )


@st.composite
def urls(draw):
    kind, addresses, types = draw(
        st.sampled_from(
            [
                ("ImageUrl", ["https://example.com/a.png", "https://example.com/b.JPEG"], ["image/webp"]),
                ("AudioUrl", ["https://example.com/a.mp3"], ["audio/wav"]),
                ("DocumentUrl", ["https://example.com/a.pdf", "https://example.com/b.docx"], ["text/csv"]),
                ("VideoUrl", ["https://example.com/a.mkv", "https://youtu.be/a"], ["video/mp4"]),
            ]
        )
    )
    return Make(
        kind,
        draw(st.sampled_from(addresses)),
        media_type=draw(st.none() | st.sampled_from(types)),
        identifier=draw(st.none() | names),
        force_download=draw(st.booleans()),
        vendor_metadata=draw(maybe_object),
    )


user_content = text | st.lists(
    text | files() | urls() | st.sampled_from(["5m", "1h"]).map(lambda ttl: Make("CachePoint", ttl=ttl)),
    max_size=4,
)
error_details = st.fixed_dictionaries(
    {
        "type": names,
        "loc": st.lists(names | st.integers(0, 3), max_size=2).map(tuple),
        "msg": text,
        "input": json_values,
    }
)


def part(name, *args, **kwargs):
    return st.builds(Make, st.just(name), *args, **kwargs)


def returns(name, **more):
    return part(name, names, anything, names, metadata=st.none() | anything, timestamp=dates, **more)


request_parts = st.one_of(
    part("SystemPromptPart", text, timestamp=dates, dynamic_ref=maybe_text),
    part("UserPromptPart", user_content, timestamp=dates),
    returns("ToolReturnPart"),
    part(
        "RetryPromptPart",
        text | st.lists(error_details, max_size=2),
        tool_name=st.none() | names,
        tool_call_id=names,
        timestamp=dates,
    ),
)
calls = {"id": maybe_text, "provider_details": maybe_object}
response_parts = st.one_of(
    part("TextPart", text, id=maybe_text, provider_details=maybe_object),
    part(
        "ThinkingPart",
        text,
        id=maybe_text,
        signature=maybe_text,
        provider_name=maybe_text,
        provider_details=maybe_object,
    ),
    part("ToolCallPart", names, st.none() | text | objects, names, **calls),
    part("BuiltinToolCallPart", names, st.none() | text | objects, names, provider_name=maybe_text, **calls),
    returns("BuiltinToolReturnPart", provider_name=maybe_text, provider_details=maybe_object),
    part(
        "FilePart",
        # Theirs keeps an image that was not narrowed as it is, and so does not equal itself after a round trip.
        files("BinaryImage", st.sampled_from(["image/png", "image/x-own"]))
        | files("BinaryContent", st.sampled_from(["audio/wav", "a/b"])),
        id=maybe_text,
        provider_name=maybe_text,
        provider_details=maybe_object,
    ),
)
counts = st.integers(0, 2**40)
usages = st.builds(
    Make,
    st.just("RequestUsage"),
    input_tokens=counts,
    cache_write_tokens=counts,
    cache_read_tokens=counts,
    output_tokens=counts,
    input_audio_tokens=counts,
    cache_audio_read_tokens=counts,
    output_audio_tokens=counts,
    details=st.dictionaries(text, counts, max_size=2),
)
messages = st.one_of(
    part(
        "ModelRequest",
        st.lists(request_parts, max_size=4),
        timestamp=st.none() | dates,
        instructions=maybe_text,
        run_id=maybe_text,
        metadata=maybe_object,
    ),
    part(
        "ModelResponse",
        st.lists(response_parts, max_size=4),
        usage=usages,
        model_name=maybe_text,
        timestamp=dates,
        provider_name=maybe_text,
        provider_url=maybe_text,
        provider_details=maybe_object,
        provider_response_id=maybe_text,
        finish_reason=st.sampled_from([None, "stop", "length", "content_filter", "tool_call", "error"]),
        run_id=maybe_text,
        metadata=maybe_object,
    ),
)
histories = st.lists(messages, max_size=3)

thorough = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(histories)
def test_both_write_the_same_and_read_each_other(described):
    here, there = build(described, OURS), build(described, THEIRS)
    here_json = ours.ModelMessagesTypeAdapter.dump_json(here)
    there_json = theirs.ModelMessagesTypeAdapter.dump_json(there)
    assert json.loads(here_json) == json.loads(there_json)
    # After one trip through JSON, a tool's result is JSON: from there on everything must be equal.
    there_back = theirs.ModelMessagesTypeAdapter.validate_json(here_json)
    assert there_back == theirs.ModelMessagesTypeAdapter.validate_json(there_json)
    here_back = ours.ModelMessagesTypeAdapter.validate_json(there_json)
    assert here_back == ours.ModelMessagesTypeAdapter.validate_json(here_json)
    assert ours.encode_messages(here_back) == here_json == ours.encode_messages(here)
    assert ours.decode_messages(ours.encode_messages(here_back)) == here_back
    assert theirs.ModelMessagesTypeAdapter.validate_json(ours.encode_messages(here_back)) == there_back


@thorough
@given(histories)
def test_dicts_are_the_same_too(described):
    here, there = build(described, OURS), build(described, THEIRS)
    for mode in ("json", "python"):
        here_dicts = ours.ModelMessagesTypeAdapter.dump_python(here, mode=mode)
        there_dicts = theirs.ModelMessagesTypeAdapter.dump_python(there, mode=mode)
        assert repr_sorted(here_dicts) == repr_sorted(there_dicts)  # by repr, as NaN does not equal itself
        back = ours.ModelMessagesTypeAdapter.validate_python(there_dicts)
        assert ours.encode_messages(back) == ours.encode_messages(here)
        assert [type(message).__name__ for message in back] == [made.name for made in described]


def repr_sorted(value):
    if isinstance(value, dict):
        return {key: repr_sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [repr_sorted(item) for item in value]
    return repr(value)


@thorough
@given(histories)
def test_what_people_ask_messages_is_answered_alike(described):
    here, there = build(described, OURS), build(described, THEIRS)
    for mine, other in zip(here, there, strict=True):
        if isinstance(mine, ours.ModelResponse):
            assert mine.text == other.text
            assert mine.thinking == other.thinking
            assert [call.tool_call_id for call in mine.tool_calls] == [
                call.tool_call_id for call in other.tool_calls
            ]
            assert [file.data for file in mine.files] == [file.data for file in other.files]
            assert [file.data for file in mine.images] == [file.data for file in other.images]
            assert len(mine.builtin_tool_calls) == len(other.builtin_tool_calls)
            assert mine.usage.total_tokens == other.usage.total_tokens
            assert mine.usage.opentelemetry_attributes() == other.usage.opentelemetry_attributes()
        for part_here, part_there in zip(mine.parts, other.parts, strict=True):
            if isinstance(part_here, ours.BaseToolReturnPart):
                assert part_here.model_response_str() == part_there.model_response_str()
                assert repr(part_here.model_response_object()) == repr(part_there.model_response_object())
            elif isinstance(part_here, ours.RetryPromptPart):
                assert part_here.model_response() == part_there.model_response()
            elif isinstance(part_here, ours.BaseToolCallPart):
                assert part_here.args_as_json_str() == part_there.args_as_json_str()
            if hasattr(part_there, "has_content"):
                assert part_here.has_content() == part_there.has_content()


def old_response(**changes):
    message = {
        "kind": "response",
        "parts": [{"part_kind": "text", "content": "a"}],
        "timestamp": "2025-01-01T00:00:00Z",
    }
    return json.dumps([message | changes])


OLD = [
    {"vendor_details": {"a": 1}, "vendor_id": "r"},
    {"vendor_details": {"a": 1}, "provider_details": {"b": 2}},
    {"usage": {"request_tokens": 3, "response_tokens": 4, "total_tokens": 7, "details": None, "requests": 1}},
    {"usage": {"input_tokens": "3", "details": {"x": 1}}},
    {"usage": {}, "field_of_the_future": [1]},
    {"timestamp": 1_700_000_000},
    {"timestamp": "1700000000.5"},
    {"timestamp": "2025-01-01"},
    {"timestamp": "2025-01-01 10:00:00+02:00"},
    {"timestamp": "2025-01-01T10:00:00"},
    {"parts": [{"part_kind": "text", "content": "a", "surprise": True}]},
    {"parts": [{"part_kind": "thinking", "content": "a", "signature": "s"}]},
    {"parts": [{"part_kind": "tool-call", "tool_name": "t", "args": '{"a":1}', "tool_call_id": "i"}]},
]


@pytest.mark.parametrize("changes", OLD, ids=lambda changes: "+".join(changes))
def test_what_older_versions_wrote_is_read_as_they_read_it(changes):
    data = old_response(**changes)
    there = theirs.ModelMessagesTypeAdapter.validate_json(data)
    here = ours.ModelMessagesTypeAdapter.validate_json(data)
    assert json.loads(ours.encode_messages(here)) == json.loads(
        theirs.ModelMessagesTypeAdapter.dump_json(there)
    )
    assert ours.ModelMessagesTypeAdapter.validate_python(json.loads(data)) == here


@pytest.mark.parametrize("data", ["__77", "//77", "AAA", "AAA=", ""])
def test_base64_is_read_in_either_alphabet(data):
    content = {"kind": "binary", "data": data, "media_type": "image/png"}
    history = json.dumps([{"kind": "request", "parts": [{"part_kind": "user-prompt", "content": [content]}]}])
    there = theirs.ModelMessagesTypeAdapter.validate_json(history)
    here = ours.ModelMessagesTypeAdapter.validate_json(history)
    assert here[0].parts[0].content[0].data == there[0].parts[0].content[0].data
    assert here[0].parts[0].content[0].identifier == there[0].parts[0].content[0].identifier


def test_a_url_whose_type_cannot_be_told_is_written_and_read():
    history = [ours.ModelRequest([ours.UserPromptPart([ours.ImageUrl("https://example.com/unknown")])])]
    for loads in (ours.ModelMessagesTypeAdapter, theirs.ModelMessagesTypeAdapter):
        url = loads.validate_json(ours.encode_messages(history))[0].parts[0].content[0]
        assert url.url == "https://example.com/unknown"
        with pytest.raises(ValueError, match="Explicitly provide a `media_type`"):
            _ = url.media_type
    assert ours.ModelMessagesTypeAdapter.dump_python(history)[0]["parts"][0]["content"][0]["url"]


def test_integers_that_no_machine_word_holds_survive():
    history = [ours.ModelResponse([ours.ToolCallPart("t", {"n": 2**70}, "i")])]
    data = ours.encode_messages(history)
    assert ours.decode_messages(data)[0].parts == history[0].parts
    assert theirs.ModelMessagesTypeAdapter.validate_json(data)[0].parts[0].args == {"n": 2**70}


def test_objects_of_users_in_metadata_and_results():
    import dataclasses
    import enum

    import attrs
    import msgspec
    import pydantic

    class Model(pydantic.BaseModel):
        a: int
        price: Decimal = Decimal("1.50")

    @dataclasses.dataclass
    class Data:
        model: Model

    @attrs.frozen
    class Attrs:
        data: Data

    class Struct(msgspec.Struct):
        attrs: Attrs

    class Colour(enum.Enum):
        RED = "red"

    plain = {"a": 1, "price": "1.50"}
    for value, expected in [
        (Model(a=1), plain),
        (Data(Model(a=1)), {"model": plain}),
        (Attrs(Data(Model(a=1))), {"data": {"model": plain}}),
        (Struct(Attrs(Data(Model(a=1)))), {"attrs": {"data": {"model": plain}}}),
        ([Colour.RED, b"\xff\xff", {"x": frozenset({1})}], ["red", "__8=", {"x": [1]}]),
        (ours.TextPart("x"), {"part_kind": "text", "content": "x", "id": None, "provider_details": None}),
    ]:
        part = ours.ToolReturnPart("t", value, "i", metadata=value)
        (back,) = ours.decode_messages(
            ours.encode_messages([ours.ModelRequest([part], metadata={"m": value})])
        )
        assert back.parts[0].content == back.parts[0].metadata == back.metadata["m"] == expected
        assert json.loads(part.model_response_str()) == expected


def test_what_has_no_json_form_is_named():
    history = [ours.ModelRequest([ours.ToolReturnPart("t", object(), "i")])]
    with pytest.raises(ValueError, match="object"):
        ours.encode_messages(history)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("[", "Invalid JSON"),
        ("{}", "Expected `array`"),
        ('[{"parts":[]}]', "missing required field `kind`"),
        ('[{"kind":"question","parts":[]}]', "known kinds: of messages request, response"),
        (
            '[{"kind":"request","parts":[{"part_kind":"smell"}]}]',
            r"'smell' - at `\$\[0\].parts\[0\].part_kind`; known",
        ),
        ('[{"kind":"request","parts":[{"part_kind":"text","content":""}]}]', "known kinds"),
        (
            '[{"kind":"request","parts":[{"part_kind":"user-prompt","content":[{"kind":"hologram"}]}]}]',
            "hologram",
        ),
        ('[{"kind":"response","parts":[],"finish_reason":"boredom"}]', "boredom"),
        ('[{"kind":"response","parts":[],"timestamp":"yesterday"}]', "timestamp"),
        ('[{"kind":"request","parts":[{"part_kind":"user-prompt","content":5}]}]', "content"),
        (b"\xff", "Invalid JSON"),
    ],
)
def test_nonsense_raises_the_error_that_pydantic_users_catch(data, says):
    import pydantic

    with pytest.raises(pydantic.ValidationError, match=says):
        ours.ModelMessagesTypeAdapter.validate_json(data)
    with pytest.raises(ValueError, match=says):
        ours.decode_messages(data)
    with pytest.raises(pydantic.ValidationError):
        theirs.ModelMessagesTypeAdapter.validate_json(data)


def test_instances_among_dicts_are_taken():
    part, message = ours.TextPart("a"), ours.ModelRequest([])
    loaded = ours.ModelMessagesTypeAdapter.validate_python([{"kind": "response", "parts": [part]}, message])
    assert loaded[0].parts == [part]
    assert loaded[1] == message


def test_dump_options():
    history = [ours.ModelRequest([ours.SystemPromptPart("s", timestamp=datetime(2025, 1, 1, tzinfo=UTC))])]
    dump = ours.ModelMessagesTypeAdapter.dump_json
    assert dump(history, indent=2).startswith(b"[\n  {\n")
    assert b"null" not in dump(history, exclude_none=True)
    assert json.loads(dump(history, indent=2)) == json.loads(dump(history))
    assert ours.ModelMessagesTypeAdapter.dump_python(history, exclude_none=True) == [
        {
            "kind": "request",
            "parts": [
                {"part_kind": "system-prompt", "content": "s", "timestamp": datetime(2025, 1, 1, tzinfo=UTC)}
            ],
        }
    ]
    assert ours.decode_message(ours.encode_message(history[0])) == history[0]
