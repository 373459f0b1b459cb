"""Schemas for OpenAI's strict mode; each case was compared with Pydantic AI 1.46, which is installed for the tests."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.profiles.openai import OpenAIJsonSchemaTransformer


def walk(schema, strict):
    before = copy.deepcopy(schema)
    transformer = OpenAIJsonSchemaTransformer(schema, strict=strict)
    result = transformer.walk()
    assert schema == before
    return result, transformer.is_strict_compatible


def obj(properties, required=None, **fields):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    } | fields


REF = {
    "$defs": {
        "A": {
            "type": "object",
            "title": "A",
            "properties": {
                "x": {"type": "integer"},
                "n": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
            },
            "required": ["x"],
        }
    }
}


def test_constraints_move_into_the_description():
    field = {"type": "string", "minLength": 1, "format": "uri", "pattern": "x", "title": "T", "default": "y"}
    result, fits = walk(obj({"a": field | {"description": "desc"}, "b": field}), True)
    assert fits
    note = "minLength=1, format=uri"
    assert result["properties"] == {
        "a": {"type": "string", "pattern": "x", "description": f"desc ({note})"},
        "b": {"type": "string", "pattern": "x", "description": note},
    }


def test_a_root_that_is_a_reference_is_put_in_its_place():
    result, _ = walk({"$ref": "#/$defs/A", **REF}, True)
    assert result["type"] == "object"
    assert result["required"] == ["x", "n"]
    assert result["properties"]["n"] == {"anyOf": [{"$ref": "#"}, {"type": "null"}]}


def test_nothing_stands_beside_a_reference():
    result, _ = walk({**obj({"b": {"$ref": "#/$defs/A", "description": "d"}}), **REF}, True)
    assert result["properties"]["b"] == {"description": "d", "anyOf": [{"$ref": "#/$defs/A"}]}


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (obj({"a": {"type": "string"}}), True),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, True),
        (obj({"a": {"type": "string"}}, []), False),
        (obj({"a": {"type": "string"}}, additionalProperties=True), False),
        ({"type": "object"}, False),
        (obj({"a": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}), False),
        (obj({"a": {"type": "string", "maxLength": 2}}), False),
        (obj({"a": {"type": "string", "format": "date"}}), True),
        (obj({"a": {"type": "array", "items": obj({}, [], additionalProperties=True)}}), False),
    ],
)
def test_whether_a_schema_fits_as_it_is(schema, fits):
    assert walk(schema, None)[1] is fits
    assert walk(schema, True)[1] is True


LEAVES = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "null", "boolean"])},
    optional={
        "title": st.just("T"),
        "description": st.text(max_size=3),
        "default": st.none() | st.integers(),
        "minLength": st.integers(0, 3),
        "format": st.sampled_from(["date", "uri", "email"]),
        "pattern": st.just("x"),
        "minimum": st.integers(),
        "$schema": st.just("s"),
        "uniqueItems": st.booleans(),
        "examples": st.just([1]),
    },
)


def nested(inner):
    names = st.sampled_from(["a", "b", "title"])
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(names, inner, max_size=3),
            "required": st.lists(names, max_size=3, unique=True),
            "additionalProperties": st.booleans() | inner,
            "description": st.just("d"),
            "minProperties": st.just(1),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner}, optional={"maxItems": st.just(3)}
    )
    unions = st.fixed_dictionaries({}, optional={"anyOf": st.lists(inner, min_size=1, max_size=3)})
    ones = st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=2, max_size=3)})
    refs = st.fixed_dictionaries(
        {"$ref": st.just("#/$defs/A")}, optional={"description": st.just("d"), "default": st.none()}
    )
    return objects | arrays | unions | ones | refs


SCHEMAS = st.recursive(LEAVES, nested, max_leaves=6)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, st.sampled_from([None, True, False]))
def test_like_pydantic_ai(schema, strict):
    theirs_module = pytest.importorskip("pydantic_ai.profiles.openai")
    schema = {**schema, **REF}
    theirs = theirs_module.OpenAIJsonSchemaTransformer(copy.deepcopy(schema), strict=strict)
    expected = theirs.walk()
    assert walk(schema, strict) == (expected, theirs.is_strict_compatible)
