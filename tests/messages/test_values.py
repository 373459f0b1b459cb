"""Messages and parts as values: built, compared, copied, edited, printed, put into pydantic models."""

import copy
import dataclasses
import gc
import inspect
import pickle
from datetime import UTC, datetime

import pydantic
import pydantic_ai.messages as theirs
import pytest
from dirty_equals import IsDatetime, IsInstance, IsNow, IsPartialDict, IsStr

import runmgr.messages as ours
from runmgr.messages import (
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.usage import RequestUsage

WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)

EXAMPLES = [
    lambda m: m.SystemPromptPart("s", timestamp=WHEN, dynamic_ref="r"),
    lambda m: m.UserPromptPart(["a", m.CachePoint()], timestamp=WHEN),
    lambda m: m.ToolReturnPart("t", {"a": 1}, "i", metadata=1, timestamp=WHEN),
    lambda m: m.RetryPromptPart("again", tool_name="t", tool_call_id="i", timestamp=WHEN),
    lambda m: m.TextPart("t", id="i"),
    lambda m: m.TextPart("t"),
    lambda m: m.ThinkingPart("t", signature="s", provider_name="p"),
    lambda m: m.ToolCallPart("t", {"a": 1}, "i"),
    lambda m: m.BuiltinToolCallPart("t", None, "i", provider_name="p"),
    lambda m: m.BuiltinToolReturnPart("t", [1], "i", timestamp=WHEN),
    lambda m: m.FilePart(m.BinaryImage(b"a", media_type="image/png")),
    lambda m: m.ModelRequest([m.UserPromptPart("a", timestamp=WHEN)], instructions="i", run_id="r"),
    lambda m: m.ModelResponse([m.TextPart("a")], timestamp=WHEN, model_name="m", finish_reason="stop"),
    lambda m: m.TextPartDelta("a"),
    lambda m: m.ThinkingPartDelta(content_delta="a", signature_delta="s"),
    lambda m: m.ToolCallPartDelta(tool_name_delta="a", args_delta="{"),
    lambda m: m.PartStartEvent(index=0, part=m.TextPart("a"), previous_part_kind="text"),
    lambda m: m.PartDeltaEvent(index=0, delta=m.TextPartDelta("a")),
    lambda m: m.PartEndEvent(index=0, part=m.TextPart("a")),
    lambda m: m.FinalResultEvent(tool_name=None, tool_call_id=None),
    lambda m: m.FunctionToolCallEvent(m.ToolCallPart("t", "{}", "i")),
    lambda m: m.FunctionToolResultEvent(m.ToolReturnPart("t", 1, "i", timestamp=WHEN), content="c"),
    lambda m: m.ToolReturn(1, content=["a"], metadata={"a": 1}),
]


# CachePoint takes its discriminator first there; the deprecated events are wrapped and have no signature.
NOT_ALIKE = {"CachePoint", "BuiltinToolCallEvent", "BuiltinToolResultEvent"}


def test_every_public_name_is_here():
    public = {
        name
        for name, value in vars(theirs).items()
        if not name.startswith("_") and getattr(value, "__module__", theirs.__name__) == theirs.__name__
    }
    public |= {
        name for name in vars(theirs) if name.endswith(("Format", "MediaType", "Content", "Event", "Reason"))
    }
    modules = {name for name in public if inspect.ismodule(getattr(theirs, name))}
    internal = {"TYPE_CHECKING", "KW_ONLY", "file", "tool_return_ta", "error_details_ta"}
    imported = {"Discriminator", "ModelMessagesTypeAdapter"}
    missing = {name for name in public - modules - internal - imported if not hasattr(ours, name)}
    assert missing == set()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(theirs).items()
        if dataclasses.is_dataclass(value) and value.__module__ == theirs.__name__ and name not in NOT_ALIKE
    ],
)
def test_fields_and_arguments_are_theirs(name):
    other, mine = getattr(theirs, name), getattr(ours, name)
    discriminators = {"kind", "part_kind", "event_kind", "part_delta_kind"}
    expected = {
        parameter.name: parameter.kind
        for parameter in inspect.signature(other).parameters.values()
        if parameter.name not in discriminators and not parameter.name.startswith("_")
    }
    assert {
        parameter.name: parameter.kind for parameter in inspect.signature(mine).parameters.values()
    } == expected
    for attribute in vars(other):
        if not attribute.startswith("_") and attribute not in {"otel_event", "otel_events"}:
            assert hasattr(mine, attribute), attribute


@pytest.mark.parametrize("make", EXAMPLES)
def test_repr_is_theirs_without_defaults(make):
    mine = repr(make(ours)).replace("CachePoint()", "CachePoint(kind='cache-point', ttl='5m')")
    assert mine == repr(make(theirs))


@pytest.mark.parametrize("make", EXAMPLES)
def test_copies_are_equal_and_independent(make):
    value = make(ours)
    assert value == make(ours)
    assert copy.copy(value) == value
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert ours.replace(value) == value
    assert dataclasses.replace(value) == value
    assert value != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


@pytest.mark.parametrize("make", EXAMPLES)
def test_asdict_is_theirs(make):
    value = make(ours)
    assert dataclasses.is_dataclass(value)
    assert dataclasses.asdict(value) == dataclasses.asdict(make(theirs)) or "_identifier" in str(
        dataclasses.asdict(make(theirs))
    )


def test_replace_changes_a_copy():
    request = ModelRequest([UserPromptPart("a")], run_id="r")
    for replace in (ours.replace, dataclasses.replace):
        changed = replace(request, parts=[], instructions="i")
        assert (changed.parts, changed.instructions, changed.run_id) == ([], "i", "r")
    assert len(request.parts) == 1
    with pytest.raises(TypeError, match="nonsense"):
        ours.replace(request, nonsense=1)


def test_messages_are_edited_in_place():
    response = ModelResponse([TextPart("a")])
    response.parts.append(ToolCallPart("t"))
    response.parts[0].content += "b"
    response.usage.input_tokens += 3
    response.metadata = {"seen": True}
    assert response.text == "ab"
    assert response == ModelResponse(
        [TextPart("ab"), ToolCallPart("t", tool_call_id=response.parts[1].tool_call_id)],
        usage=RequestUsage(input_tokens=3),
        timestamp=response.timestamp,
        metadata={"seen": True},
    )
    with pytest.raises(AttributeError):
        response.typo = 1


def test_comparison_with_wildcards_in_either_place():
    history = [ModelRequest([UserPromptPart("hi")]), ModelResponse([ToolCallPart("t", {"a": 1})])]
    expected = [
        ModelRequest(parts=[UserPromptPart(content="hi", timestamp=IsNow(tz=UTC))]),
        ModelResponse(
            parts=[
                ToolCallPart(tool_name=IsStr(), args=IsPartialDict(), tool_call_id=IsStr(regex="pyd_ai_.*"))
            ],
            timestamp=IsDatetime(),
            usage=IsInstance(RequestUsage),
        ),
    ]
    assert history == expected
    assert expected == history
    assert history[0] == IsInstance(ModelRequest)
    assert history != [
        ModelRequest(parts=[UserPromptPart(content="ho", timestamp=IsDatetime())]),
        expected[1],
    ]


def test_kinds_are_attributes_and_patterns_match():
    kinds = {
        part.part_kind
        for part in (
            SystemPromptPart(""),
            UserPromptPart(""),
            ToolReturnPart("", 1),
            RetryPromptPart(""),
            TextPart(""),
            ThinkingPart(""),
            ToolCallPart(""),
        )
    }
    assert kinds == {
        "system-prompt", "user-prompt", "tool-return", "retry-prompt", "text", "thinking", "tool-call"
    }  # fmt: skip
    match ModelResponse([TextPart("found")]):
        case ModelResponse(parts=[TextPart(content=text)], kind="response"):
            assert text == "found"
        case _:
            pytest.fail("no match")


def test_default_timestamps_are_aware_and_can_be_set_for_a_block():
    assert TextPart("").part_kind == "text"
    assert ModelRequest([]).timestamp is None
    assert UserPromptPart("").timestamp == IsNow(tz=UTC)
    with ours.use_clock(lambda: WHEN):
        assert UserPromptPart("").timestamp is WHEN
        assert ModelResponse([]).timestamp is WHEN
        assert ours.now_utc() is WHEN
    assert ModelResponse([]).timestamp == IsNow(tz=UTC)


def test_tool_call_ids_are_unique_and_can_be_set_for_a_block():
    assert len({ToolCallPart("t").tool_call_id for _ in range(1000)}) == 1000
    numbers = iter("abc")
    with ours.use_tool_call_ids(lambda: next(numbers)):
        assert [ToolCallPart("t").tool_call_id, ToolReturnPart("t", 1).tool_call_id] == ["a", "b"]
        assert RetryPromptPart("").tool_call_id == "c"
    assert ToolCallPart("t").tool_call_id.startswith("pyd_ai_")


def test_in_pydantic_models():
    class Stored(pydantic.BaseModel):
        messages: list[ModelMessage]
        usage: RequestUsage = RequestUsage()
        part: ours.ModelResponsePart | None = None

    stored = Stored(
        messages=[ModelRequest([UserPromptPart("a")]), ModelResponse([TextPart("b")])], part=TextPart("c")
    )
    assert stored.messages[1].text == "b"
    again = Stored.model_validate_json(stored.model_dump_json())
    assert again == stored
    assert isinstance(again.part, TextPart)
    assert Stored.model_validate(stored.model_dump()) == stored
    assert (
        Stored.model_validate({"messages": [{"kind": "response", "parts": [], "vendor_id": "v"}]})
        .messages[0]
        .provider_response_id
        == "v"
    )
    assert stored.model_dump(mode="json")["messages"][0]["parts"][0]["part_kind"] == "user-prompt"
    assert isinstance(stored.model_dump()["messages"][0]["parts"][0]["timestamp"], datetime)
    with pytest.raises(pydantic.ValidationError):
        Stored.model_validate(
            {"messages": [{"kind": "request", "parts": [{"part_kind": "text", "content": "a"}]}]}
        )
    with pytest.raises(pydantic.ValidationError):
        Stored.model_validate({"messages": [1]})
    schema = Stored.model_json_schema()
    assert "$ref" not in str(schema["properties"]["messages"])
    assert pydantic.TypeAdapter(list[ModelMessage]).validate_python(stored.messages) == stored.messages
    assert pydantic.TypeAdapter(TextPart).validate_python({"content": "a"}) == TextPart("a")


def fits(value, schema):
    """Just enough of JSON schema for what we generate."""
    kinds = {
        "string": str,
        "array": list,
        "object": dict,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "type" not in schema:
        return True
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            fits(item, properties[key]) for key, item in value.items() if key in properties
        )
    return True


def test_json_schema_fits_what_we_write_and_nothing_else():
    schema = ours.ModelMessagesTypeAdapter.json_schema()
    history = [
        ModelRequest([UserPromptPart(["a", ours.BinaryContent(b"a", media_type="image/png")])]),
        ModelResponse([FilePart(ours.BinaryContent(b"a", media_type="audio/wav")), ToolCallPart("t", "{}")]),
    ]
    assert fits(ours.ModelMessagesTypeAdapter.dump_python(history, mode="json"), schema)
    assert not fits([{"kind": "request", "parts": [{"part_kind": "nope"}]}], schema)
    assert not fits([{"kind": "response", "parts": [{"part_kind": "text"}]}], schema)
    assert "$ref" not in str(schema)


def test_cycles_through_tool_results_are_collected():
    import weakref

    class Holder:
        pass

    holder = Holder()
    request = ModelRequest([ToolReturnPart("t", holder, "i")])
    holder.history = [request, ModelResponse([TextPart("a")])]
    gone = weakref.ref(holder)
    del holder, request
    gc.collect()
    assert gone() is None


def test_users_may_subclass_and_rebuild_from_fields():
    class Mine(TextPart, kw_only=True, tag="text"):
        mark: int = 0

    assert repr(Mine("a", mark=3)) == f"{Mine.__qualname__}(content='a', mark=3)"
    assert dataclasses.replace(Mine("a", mark=3), mark=4) == Mine("a", mark=4)


@pytest.mark.parametrize(
    ("args", "message"),
    [('{"a"', None), ("[1]", "args should be a dict"), ("nope", None), ('{"a": 1} trailing', None)],
)
def test_arguments_that_are_no_object(args, message):
    with pytest.raises((ValueError, AssertionError), match=message) as caught:
        ToolCallPart("t", args).args_as_dict()
    with pytest.raises((ValueError, AssertionError)) as other:
        theirs.ToolCallPart("t", args).args_as_dict()
    assert type(caught.value) is type(other.value)


@pytest.mark.parametrize(
    "args", [None, "", {}, "{}", '{"a": 1, "b": [NaN]}', {"a": 1}, '{"n": 123456789012345678901234}']
)
def test_arguments_as_dict(args):
    assert repr(ToolCallPart("t", args).args_as_dict()) == repr(theirs.ToolCallPart("t", args).args_as_dict())


def test_cost():
    response = ModelResponse([], model_name="gpt-4o", usage=RequestUsage(input_tokens=1_000_000))
    other = theirs.ModelResponse(
        [],
        model_name="gpt-4o",
        usage=theirs.RequestUsage(input_tokens=1_000_000),
        provider_url="https://api.openai.com/v1/",
    )
    assert response.cost().total_price == other.cost().total_price > 0
    assert ours.replace(response, provider_url="https://api.openai.com/v1/").cost().total_price > 0
    assert (
        ours.replace(response, provider_url="https://proxy.example", provider_name="openai")
        .cost()
        .total_price
        > 0
    )
    with pytest.raises(AssertionError, match="Model name"):
        ModelResponse([]).cost()
    with pytest.raises(LookupError):
        ModelResponse([], model_name="unheard-of").cost()


@pytest.mark.parametrize("name", ["vendor_details", "vendor_id", "provider_request_id"])
def test_old_names_of_responses_warn(name):
    response = ModelResponse([], provider_details={"a": 1}, provider_response_id="i")
    with pytest.warns(DeprecationWarning, match=f"`{name}` is deprecated, use `provider_"):
        value = getattr(response, name)
    assert value in ({"a": 1}, "i")


def test_old_events_warn():
    with pytest.warns(DeprecationWarning, match="`BuiltinToolCallEvent` is deprecated"):
        call = ours.BuiltinToolCallEvent(ours.BuiltinToolCallPart("t"))
    with pytest.warns(DeprecationWarning, match="`BuiltinToolResultEvent` is deprecated"):
        result = ours.BuiltinToolResultEvent(ours.BuiltinToolReturnPart("t", [1], "i"))
    assert (call.event_kind, result.result.content) == ("builtin_tool_call", [1])
    with pytest.warns(DeprecationWarning, match="`call_id` is deprecated"):
        assert ours.FunctionToolCallEvent(ToolCallPart("t", tool_call_id="i")).call_id == "i"
    with pytest.warns(DeprecationWarning, match="use `cost` instead"), pytest.raises(AssertionError):
        ModelResponse([]).price()


@pytest.mark.parametrize("make", EXAMPLES[13:22])
def test_events_in_pydantic_adapters(make):
    event, other = make(ours), make(theirs)
    kind, their_kind = type(event), type(other)
    here, there = pydantic.TypeAdapter(kind), pydantic.TypeAdapter(their_kind)
    assert here.dump_python(event, mode="json") == there.dump_python(other, mode="json")
    assert here.validate_json(there.dump_json(other)) == event
    assert here.dump_python(event) == there.dump_python(other)
