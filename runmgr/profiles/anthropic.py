"""What Anthropic's models can do, and which JSON schemas they take."""

from __future__ import annotations

import re
from typing import Any

from runmgr.profiles.json_schema import JsonSchema, JsonSchemaTransformer
from runmgr.profiles.profile import ModelProfile

__all__ = ("AnthropicJsonSchemaTransformer", "anthropic_model_profile")

# https://docs.claude.com/en/docs/build-with-claude/structured-outputs: Sonnet and Opus from 4.5 and 4.1 on, and Haiku 4.5.
_STRUCTURED = re.compile(
    r"claude-(?:sonnet-4-[5-9]|opus-4-[1-9]|haiku-4-[5-9]|(?:sonnet|opus|haiku)-[5-9])(?!\d)"
)


def anthropic_model_profile(model_name: str) -> ModelProfile:
    """The profile of a Claude by its name."""
    return ModelProfile(
        thinking_tags=("<thinking>", "</thinking>"),
        supports_json_schema_output=_STRUCTURED.search(model_name) is not None,
        json_schema_transformer=AnthropicJsonSchemaTransformer,
    )


_FORMATS = frozenset({
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
})  # fmt: skip
_SUPPORTED = frozenset({
    "$ref",
    "$defs",
    "type",
    "anyOf",
    "allOf",
    "enum",
    "const",
    "description",
    "title",
    "properties",
    "required",
    "additionalProperties",
    "items",
})  # fmt: skip


class AnthropicJsonSchemaTransformer(JsonSchemaTransformer):
    """Fits schemas to Anthropic's strict tools and structured outputs.

    Only with ``strict=True``: constraints that it cannot enforce move into the description, nothing is allowed beside an object's
    properties. Otherwise the schema keeps its meaning and is not strict.
    """

    def walk(self) -> JsonSchema:
        """The transformed schema."""
        if self.strict is not True:
            self.is_strict_compatible = False
        return super().walk()

    def transform(self, schema: JsonSchema) -> JsonSchema:
        """One level."""
        schema.pop("title", None)
        schema.pop("$schema", None)
        if self.strict is not True:
            return schema
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        if schema.get("type") == "object":
            schema.setdefault("properties", {})
            schema["additionalProperties"] = False
        unfit = {name: value for name, value in schema.items() if not _fits(name, value)}
        if unfit:
            note = "{" + ", ".join(f"{name}: {value}" for name, value in unfit.items()) + "}"
            described = schema.get("description")
            schema = {name: value for name, value in schema.items() if name not in unfit}
            schema["description"] = f"{described}\n\n{note}" if described else note
        return schema


def _fits(name: str, value: Any) -> bool:
    if name == "format":
        return value in _FORMATS
    if name == "minItems":
        return value in {0, 1}
    return name in _SUPPORTED
