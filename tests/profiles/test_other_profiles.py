"""What models of Anthropic and Google can do, and how schemas are fitted to them: as Pydantic AI 1.46 has it."""

import copy

import pytest

from runmgr.profiles.anthropic import AnthropicJsonSchemaTransformer, anthropic_model_profile
from runmgr.profiles.google import GoogleJsonSchemaTransformer, google_model_profile


@pytest.mark.parametrize(
    ("name", "structured"),
    [
        ("claude-sonnet-4-5", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-1", True),
        ("claude-opus-4-5-20251101", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-0", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-opus-4-20250514", False),
        ("claude-3-7-sonnet-latest", False),
        ("claude-3-5-haiku-latest", False),
    ],
)
def test_claude(name, structured):
    profile = anthropic_model_profile(name)
    assert profile.supports_json_schema_output is structured
    assert profile.thinking_tags == ("<thinking>", "</thinking>")


@pytest.mark.parametrize(
    ("name", "tools", "structured", "images", "third"),
    [
        ("gemini-2.5-flash", True, True, False, False),
        ("gemini-2.5-flash-image", False, False, True, False),
        ("gemini-3-pro-preview", True, True, False, True),
        ("gemini-3-pro-image-preview", False, True, True, True),
    ],
)
def test_gemini(name, tools, structured, images, third):
    profile = google_model_profile(name)
    assert profile.supports_tools is tools
    assert profile.supports_json_schema_output is profile.supports_json_object_output is structured
    assert profile.supports_image_output is images
    assert profile.google_supports_native_output_with_builtin_tools is third


SCHEMA = {
    "type": "object",
    "title": "T",
    "description": "D",
    "properties": {
        "a": {"type": "string", "pattern": "x", "maxLength": 3, "format": "email"},
        "f": {"type": "string", "format": "color", "description": "dd"},
        "l": {"type": "array", "items": {"$ref": "#/$defs/I"}, "minItems": 1, "maxItems": 5},
        "m": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "c": {"type": "integer", "const": 1},
        "n": {"const": None},
        "e": {"type": "string", "enum": ["a"]},
        "o": {"oneOf": [{"type": "string"}, {"type": "integer", "exclusiveMinimum": 0}]},
    },
    "required": ["a"],
    "$defs": {
        "I": {"type": "object", "properties": {"z": {"type": "number", "multipleOf": 2, "default": 3}}}
    },
}


def test_claudes_strict_schema():
    before = copy.deepcopy(SCHEMA)
    transformer = AnthropicJsonSchemaTransformer(SCHEMA, strict=True)
    assert transformer.walk() == {
        "type": "object",
        "description": "D",
        "additionalProperties": False,
        "properties": {
            "a": {"type": "string", "format": "email", "description": "{pattern: x, maxLength: 3}"},
            "f": {"type": "string", "description": "dd\n\n{format: color}"},
            "l": {
                "type": "array",
                "items": {"$ref": "#/$defs/I"},
                "minItems": 1,
                "description": "{maxItems: 5}",
            },
            "m": {"type": "array", "items": {"type": "string"}, "description": "{minItems: 2}"},
            "c": {"type": "integer", "const": 1},
            "n": {"const": None},
            "e": {"type": "string", "enum": ["a"]},
            "o": {"anyOf": [{"type": "string"}, {"type": "integer", "description": "{exclusiveMinimum: 0}"}]},
        },
        "required": ["a"],
        "$defs": {
            "I": {
                "type": "object",
                "properties": {"z": {"type": "number", "description": "{multipleOf: 2, default: 3}"}},
                "additionalProperties": False,
            }
        },
    }
    assert transformer.is_strict_compatible
    assert before == SCHEMA


@pytest.mark.parametrize("strict", [None, False])
def test_claudes_loose_schema_keeps_its_meaning(strict):
    transformer = AnthropicJsonSchemaTransformer(SCHEMA, strict=strict)
    assert transformer.walk() == {name: value for name, value in SCHEMA.items() if name != "title"}
    assert not transformer.is_strict_compatible


@pytest.mark.parametrize("strict", [None, True])
def test_geminis_schema(strict):
    transformer = GoogleJsonSchemaTransformer(SCHEMA, strict=strict)
    assert transformer.walk() == {
        "type": "object",
        "description": "D",
        "properties": {
            "a": {"type": "string", "pattern": "x", "maxLength": 3, "description": "Format: email"},
            "f": {"type": "string", "description": "dd (format: color)"},
            "l": {"type": "array", "items": {"$ref": "#/$defs/I"}, "minItems": 1, "maxItems": 5},
            "m": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "c": {"type": "integer", "enum": [1]},
            "n": {},
            "e": {"type": "string", "enum": ["a"]},
            "o": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "required": ["a"],
        "$defs": {
            "I": {"type": "object", "properties": {"z": {"type": "number", "multipleOf": 2, "default": 3}}}
        },
    }
    assert transformer.is_strict_compatible


@pytest.mark.parametrize(
    ("value", "kind"), [("a", "string"), (True, "boolean"), (1, "integer"), (1.5, "number")]
)
def test_geminis_constants_have_a_type(value, kind):
    assert GoogleJsonSchemaTransformer({"const": value}).walk() == {"enum": [value], "type": kind}
