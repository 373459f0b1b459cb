"""What Google's Gemini models can do, and which JSON schemas they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runmgr.profiles.json_schema import JsonSchema, JsonSchemaTransformer
from runmgr.profiles.profile import ModelProfile

__all__ = ("GoogleJsonSchemaTransformer", "GoogleModelProfile", "google_model_profile")


@dataclass(kw_only=True)
class GoogleModelProfile(ModelProfile):
    """A profile with the switches of Gemini models.

    Args:
        google_supports_native_output_with_builtin_tools: native output goes together with Google's own tools.
    """

    google_supports_native_output_with_builtin_tools: bool = False


def google_model_profile(model_name: str) -> ModelProfile | None:
    """The profile of a Gemini by its name."""
    image = "image" in model_name
    third = "gemini-3" in model_name
    return GoogleModelProfile(
        json_schema_transformer=GoogleJsonSchemaTransformer,
        supports_image_output=image,
        supports_json_schema_output=third or not image,
        supports_json_object_output=third or not image,
        supports_tools=not image,
        google_supports_native_output_with_builtin_tools=third,
    )


_NOISE = ("$schema", "title", "discriminator", "examples", "exclusiveMaximum", "exclusiveMinimum")
_TYPES: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


class GoogleJsonSchemaTransformer(JsonSchemaTransformer):
    """Fits schemas to what Gemini's ``responseJsonSchema`` and ``parametersJsonSchema`` take.

    https://ai.google.dev/gemini-api/docs/structured-output#json_schema_support lists it.
    """

    def transform(self, schema: JsonSchema) -> JsonSchema:
        """One level."""
        for name in _NOISE:
            schema.pop(name, None)
        if "const" in schema:
            self._const(schema)
        if schema.get("type") == "string" and (form := schema.pop("format", None)):
            described = schema.get("description")
            schema["description"] = f"{described} (format: {form})" if described else f"Format: {form}"
        return schema

    @staticmethod
    def _const(schema: JsonSchema) -> None:
        value: Any = schema.pop("const")
        if value is None:
            return  # there is no enum of null
        schema["enum"] = [value]
        if "type" not in schema and (kind := _TYPES.get(value.__class__)):
            schema["type"] = kind
