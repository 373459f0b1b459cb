"""TestModel: its answers in every situation beside Pydantic AI's, and the arguments it makes up from schemas."""

import datetime as dt
import ipaddress
import uuid
from typing import Literal

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter, create_model

from runmgr.agent import Agent
from runmgr.exceptions import UserError
from runmgr.messages import ModelRequest, RetryPromptPart, UserPromptPart
from runmgr.models import ModelRequestParameters, ToolDefinition
from runmgr.models.test import TestModel

ASK = [ModelRequest([UserPromptPart("q")])]
F = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}
X = {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}


def parameters(lib, name):
    f = lib.ToolDefinition(name="f", parameters_json_schema=F)
    g = lib.ToolDefinition(name="g")
    first = lib.ToolDefinition(name="final_result", kind="output", parameters_json_schema=X)
    second = lib.ToolDefinition(name="final_two", kind="output")
    wrapped = lib.ToolDefinition(name="final_two", kind="output", outer_typed_dict_key="response")
    make = lib.ModelRequestParameters
    return {
        "text": make(),
        "tools": make(function_tools=[f, g]),
        "output": make(output_mode="tool", allow_text_output=False, output_tools=[first, second]),
        "wrapped output": make(output_mode="tool", allow_text_output=False, output_tools=[wrapped]),
        "output and tool": make(
            output_mode="tool", allow_text_output=False, output_tools=[first, second], function_tools=[f]
        ),
        "nothing allowed": make(output_mode="tool", allow_text_output=False),
        "text or output": make(output_mode="tool", output_tools=[first]),
        "prompted": make(
            output_mode="prompted", output_object=lib.OutputObjectDefinition(json_schema=X, name="X")
        ),
        "external": make(function_tools=[lib.ToolDefinition(name="e", kind="external")]),
        "image": make(allow_image_output=True),
        "builtin": make(builtin_tools=[lib.WebSearchTool()]),
    }[name]


PARAMETERS = [
    "text", "tools", "output", "wrapped output", "output and tool", "nothing allowed", "text or output", "prompted",
    "external", "image", "builtin",
]  # fmt: skip


def history(lib, name):
    ask = lib.ModelRequest(parts=[lib.SystemPromptPart("s"), lib.UserPromptPart("q")])

    def called(*names):
        return lib.ModelResponse(parts=[lib.ToolCallPart(n, {"a": "a"}, tool_call_id=n) for n in names])

    def request(*parts):
        return lib.ModelRequest(parts=list(parts))

    def back(n, content):
        return lib.ToolReturnPart(n, content, n)

    def retry(n=None):
        return lib.RetryPromptPart("bad", tool_name=n, tool_call_id=n or "x")

    text = lib.ModelResponse(parts=[lib.TextPart("x")])
    return {
        "start": [ask],
        "returns": [ask, called("f", "g"), request(back("f", "r1"), back("g", {"z": [1, None]}))],
        "two turns": [ask, called("f"), request(back("f", "r1")), called("g"), request(back("g", "r2"))],
        "retry": [ask, called("f", "g"), request(retry("f"), back("g", 1))],
        "retry output": [ask, called("final_result"), request(retry("final_result"))],
        "retry other output": [ask, called("final_two"), request(retry("final_two"))],
        "retry text": [ask, text, request(retry())],
        "again": [ask, text, request(lib.UserPromptPart("two"))],
        "ends in a response": [ask, text],
        "return and prompt": [ask, called("f"), request(back("f", "r1"), lib.UserPromptPart("more"))],
    }[name]


HISTORIES = [
    "start", "returns", "two turns", "retry", "retry output", "retry other output", "retry text", "again",
    "ends in a response", "return and prompt",
]  # fmt: skip
MODELS = {
    "plain": {},
    "seed": {"seed": 3},
    "no tools": {"call_tools": []},
    "one tool": {"call_tools": ["f"]},
    "text": {"custom_output_text": "custom words"},
    "args": {"custom_output_args": {"q": 1}},
}
# Where Pydantic AI fails by accident, runmgr says what is wrong or does what was asked for: see
# test_custom_output_that_does_not_fit.
OUR_OWN = {("text", "text or output"), *(("args", p) for p in PARAMETERS if "output" not in p)}


@pytest.mark.parametrize(
    ("model", "params"), [(m, p) for m in MODELS for p in PARAMETERS if (m, p) not in OUR_OWN]
)
def test_answers_are_pydantic_ais(same, model, params):
    async def scenario(lib, name):
        made = lib.TestModel(**MODELS[model])
        return await made.request(history(lib, name), None, parameters(lib, params))

    for name in HISTORIES:
        same(scenario, name)


@pytest.mark.parametrize("text", ["four", "hello big world", "", "x", "one", " lead two  sp\nnl ", "a b"])
def test_streams_are_pydantic_ais(same, text):
    async def scenario(lib, params):
        model = lib.TestModel(custom_output_text=text if params == "text" else None)
        events = []
        async with model.request_stream(history(lib, "start"), None, parameters(lib, params)) as response:
            events.extend([(event, response.usage()) async for event in response])
            events.append((response.get(), response.model_name, response.provider_name))
        return events

    same(scenario, "text")
    same(scenario, "tools")
    same(scenario, "output")


async def test_custom_output_that_does_not_fit(ours):
    # A text where a text is allowed beside an output tool is what was asked for.
    either = parameters(ours, "text or output")
    response = await TestModel(custom_output_text="words").request(ASK, None, either)
    assert response.text == "words"
    with pytest.raises(AssertionError, match="No output tools provided, but `custom_output_args` is set"):
        await TestModel(custom_output_args={}).request(ASK, None, ModelRequestParameters())
    with pytest.raises(AssertionError, match="Plain response not allowed, but `custom_output_text` is set"):
        await TestModel(custom_output_text="x").request(ASK, None, parameters(ours, "output"))
    with pytest.raises(AssertionError, match="Cannot set both"):
        await TestModel(custom_output_text="x", custom_output_args={}).request(
            ASK, None, ModelRequestParameters()
        )
    with pytest.raises(KeyError, match="nobody"):
        await TestModel(call_tools=["nobody"]).request(ASK, None, ModelRequestParameters())


async def test_custom_output_args_of_a_wrapped_output(ours):
    response = await TestModel(custom_output_args=7).request(ASK, None, parameters(ours, "wrapped output"))
    (call,) = response.parts
    assert call.args == {"response": 7}
    assert call.tool_call_id == "pyd_ai_tool_call_id__final_two"


async def test_a_retried_call_gets_an_id_of_its_own(ours):
    retry = ModelRequest([RetryPromptPart("bad", tool_name="f", tool_call_id="1")])
    messages = [*history(ours, "retry")[:2], retry]
    calls = []
    for _ in range(2):
        response = await TestModel().request(messages, None, parameters(ours, "tools"))
        calls.extend(response.parts)
    assert [call.tool_name for call in calls] == ["f", "f"]
    assert calls[0].tool_call_id != calls[1].tool_call_id


async def test_it_keeps_what_it_was_asked(ours):
    model = TestModel(settings={"temperature": 0.0})
    assert model.last_model_request_parameters is None
    params = ModelRequestParameters(
        output_mode="auto", output_tools=[ToolDefinition(name="o", kind="output")]
    )
    await model.request(ASK, None, params)
    assert model.last_model_request_parameters.output_mode == "tool"
    assert model.last_model_request_parameters.allow_text_output is False
    assert repr(model).startswith("TestModel(call_tools='all', custom_output_text=None,")


# --------------------------------------------------------------- arguments

S = dict
SCHEMAS = [
    S(type="string"), S(type="integer"), S(type="number"), S(type="boolean"), S(type="null"), S(), S(type="object"),
    S(type="array"), S(type="string", maxLength=0), S(type="string", minLength=5), S(type="string", format="date"),
    S(type="string", enum=["p", "q"]), S(enum=[1, 2, 3]), S(const="c"), S(type="string", examples=["e1", "e2"]),
    S(type="string", enum=["p", "q"], examples=["e"]), S(type="string", default="d"),
    S(type="integer", minimum=5), S(type="integer", maximum=-5), S(type="integer", minimum=2, maximum=9),
    S(type="integer", exclusiveMinimum=5), S(type="integer", exclusiveMaximum=5), S(type="number", minimum=1.5),
    S(type="number", exclusiveMinimum=0), S(type="number", minimum=0.25, maximum=0.5),
    S(type="array", items=S(type="string")), S(type="array", items=S(type="integer"), minItems=3),
    S(type="array", items=S(type="integer"), maxItems=0), S(type="array", minItems=2),
    S(type="array", prefixItems=[S(type="string"), S(type="integer")]),
    S(type="array", prefixItems=[S(type="string")], items=S(type="integer")),
    S(type="array", prefixItems=[S(type="string")], items=S(type="integer"), maxItems=1),
    S(type="array", items=S(type="integer"), uniqueItems=True, minItems=3),
    S(anyOf=[S(type="string"), S(type="null")]), S(type="object", additionalProperties=True),
    S(type="object", additionalProperties=S(type="integer")), S(type="object", additionalProperties=False),
    S(type="object", properties={"a": S(type="string"), "b": S(type="integer")}, required=["b"]),
    S(type="object", properties={"additionalProperty": S(type="string")}, required=["additionalProperty"],
      additionalProperties=True),
    {"$ref": "#/$defs/X", "$defs": {"X": S(enum=["u", "v"])}},
    S(type="object", required=["a", "b"], properties={
        "a": S(type="array", items=S(type="integer"), uniqueItems=True, minItems=3), "b": S(type="integer")}),
]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 25, 26, 51, 52, 93, 94, 100, 8929])
def test_arguments_are_pydantic_ais(ours, theirs, seed):
    for schema in SCHEMAS:
        made = [
            lib.TestModel(seed=seed).gen_tool_args(
                lib.ToolDefinition(name="t", parameters_json_schema=schema)
            )
            for lib in (ours, theirs)
        ]
        assert made[0] == made[1], schema


def arguments(schema, seed=0):
    return TestModel(seed=seed).gen_tool_args(ToolDefinition(name="t", parameters_json_schema=schema))


class Inner(BaseModel):
    when: dt.datetime
    day: dt.date
    clock: dt.time
    wait: dt.timedelta
    key: uuid.UUID
    link: AnyUrl
    address: ipaddress.IPv4Address
    address6: ipaddress.IPv6Address


FIELDS = st.sampled_from(
    [
        str, int, float, bool, None, Inner, dt.datetime, dt.timedelta, uuid.UUID,
        list[int], set[int], tuple[int, str], dict[str, int], dict[str, Inner], list[Inner],
        int | None, Inner | None, list[int] | str, Literal["a", "b"], Literal[1],
        tuple[int, ...], list[tuple[int, bool]],
    ]
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from("abcdef"), FIELDS, min_size=1, max_size=6),
    st.integers(0, 10_000),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_arguments_satisfy_the_schema_they_come_from(fields, seed, low, width):
    bounded = {
        "low": (int, Field(ge=low, le=low + width)),
        "open": (float, Field(gt=low, lt=low + width + 1)),
        "text": (str, Field(min_length=low, max_length=low + width)),
        "many": (list[str], Field(min_length=min(low, 5))),
    }
    model = create_model("Model", **{name: (kind, ...) for name, kind in fields.items()}, **bounded)
    schema = model.model_json_schema()
    made = arguments(schema, seed)
    assert model.model_validate_json(TypeAdapter(dict).dump_json(made))
    assert arguments(schema, seed) == made


def test_a_schema_that_cannot_be_is_named():
    with pytest.raises(UserError, match="no type 'file'"):
        arguments({"type": "object", "properties": {"a": {"type": "file"}}, "required": ["a"]})
    with pytest.raises(UserError, match=r"Could not find \$ref definition for #/\$defs/nobody"):
        arguments({"$ref": "#/$defs/nobody"})


def test_all_of_is_what_its_members_say_together():
    schema = {
        "allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
        "$defs": {"A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
    }
    assert arguments(schema) == {"a": "a", "b": 0}


async def test_results_of_all_kinds_of_classes_are_told():
    @attrs.define
    class Point:
        x: int

    class Size(msgspec.Struct):
        width: int

    agent = Agent(TestModel())
    agent.tool_plain(name="point")(lambda: Point(1))
    agent.tool_plain(name="sizes")(lambda: [Size(2)])
    assert (await agent.run("?")).output == '{"point":{"x":1},"sizes":[{"width":2}]}'
