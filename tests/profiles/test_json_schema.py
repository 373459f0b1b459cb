"""Schema transformers: beside Pydantic AI's where both can, and what only ours does."""

import copy
from typing import Literal

import pydantic_ai.profiles as theirs
import pytest
from pydantic import BaseModel

import runmgr.profiles as ours
from runmgr.exceptions import UserError


class Leaf(BaseModel):
    name: str
    kind: Literal["a", "b"] | None = None


class Node(BaseModel):
    value: Leaf
    children: list["Node"] = []


class Tree(BaseModel):
    root: Node
    table: dict[str, Leaf]
    pair: tuple[Leaf, int]
    either: Leaf | int | None


X = {"X": {"type": "object", "properties": {"q": {"type": "string"}}}}
SCHEMAS = [
    Leaf.model_json_schema(),
    Node.model_json_schema(),
    Tree.model_json_schema(),
    {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "string"}}},
    {"anyOf": [{"type": "string", "title": "A"}, {"type": "null"}], "title": "B", "default": None},
    {"anyOf": [{"type": "string"}], "title": "B", "description": "q"},
    {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    {"oneOf": [{"$ref": "#/$defs/X"}, {"type": "integer"}], "discriminator": {"mapping": {}}, "$defs": X},
    {"type": "object", "patternProperties": {"a": {"$ref": "#/$defs/X"}}, "$defs": X},
    {"type": "array", "prefixItems": [{"$ref": "#/$defs/X"}], "items": {"$ref": "#/$defs/X"}, "$defs": X},
    {"type": ["string", "null"]},
    {"anyOf": []},
]


def transformer(library, inlined, nullable):
    class Marks(library.JsonSchemaTransformer):
        def __init__(self, schema, *, strict=None):
            super().__init__(
                schema, strict=strict, prefer_inlined_defs=inlined, simplify_nullable_unions=nullable
            )
            self.seen = []

        def transform(self, schema):
            self.seen.append(copy.deepcopy(schema))
            if schema.get("type") == "integer":
                self.is_strict_compatible = False
            schema["marked"] = True
            return schema

    return Marks


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("nullable", [False, True])
@pytest.mark.parametrize("inlined", [False, True])
def test_schemas_are_pydantic_ais(schema, inlined, nullable):
    results = []
    for library in (ours, theirs):
        before = copy.deepcopy(schema)
        made = transformer(library, inlined, nullable)(before)
        walked = made.walk()
        results.append((walked, made.is_strict_compatible))
        if library is ours:
            assert before == schema
    assert results[0] == results[1]


def test_inlining_keeps_what_is_said_beside_a_reference():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/X", "description": "which"}},
        "$defs": X,
    }
    assert ours.InlineDefsJsonSchemaTransformer(schema).walk() == {
        "type": "object",
        "properties": {"a": {**X["X"], "description": "which"}},
    }


def test_inlining_goes_into_all_of_and_leaves_booleans():
    schema = {
        "type": "object",
        "properties": {"a": {"allOf": [{"$ref": "#/$defs/X"}]}, "b": True},
        "additionalProperties": False,
        "$defs": X,
    }
    walked = ours.InlineDefsJsonSchemaTransformer(schema).walk()
    assert walked["properties"] == {"a": {"allOf": [X["X"]]}, "b": True}
    assert walked["additionalProperties"] is False


def test_a_missing_definition_is_named():
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/nobody"}}}
    with pytest.raises(UserError, match=r"Could not find \$ref definition for nobody"):
        ours.InlineDefsJsonSchemaTransformer(schema).walk()


def test_profiles_update_what_is_not_at_its_default():
    from dataclasses import dataclass

    @dataclass(kw_only=True)
    class Mine(ours.ModelProfile):
        extra: int = 1

    base = ours.ModelProfile()
    assert base == ours.DEFAULT_PROFILE
    assert base.update(None) is base
    assert base.update(ours.ModelProfile(supports_tools=False)).supports_tools is False
    mine = Mine(extra=7)
    assert Mine.from_profile(mine) is mine
    assert Mine.from_profile(ours.ModelProfile(supports_tools=False)) == Mine(supports_tools=False)
    assert Mine.from_profile(None) == Mine()
    # A value at its default says nothing; what a profile doesn't know is left out.
    assert mine.update(Mine(supports_tools=False)) == Mine(extra=7, supports_tools=False)
    assert type(base.update(Mine(extra=9))) is ours.ModelProfile


def test_defaults_are_pydantic_ais():
    def shown(profile):
        values = dict(vars(profile))
        values["supported_builtin_tools"] = {tool.__name__ for tool in values["supported_builtin_tools"]}
        return values

    assert shown(ours.ModelProfile()) == shown(theirs.ModelProfile())
