"""How JSON schemas of tools differ from those that pydantic makes by itself."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import override

__all__ = ("GenerateToolJsonSchema",)


class GenerateToolJsonSchema(GenerateJsonSchema):
    """Leaves out the titles of properties: they repeat the names, and every request pays for them."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _without_titles(super().typed_dict_schema(schema))

    @override
    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        return _without_titles(super().model_fields_schema(schema))

    @override
    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> JsonSchemaValue:
        return _without_titles(super().dataclass_args_schema(schema))


def _without_titles(schema: JsonSchemaValue) -> JsonSchemaValue:
    properties: dict[str, JsonSchemaValue] = schema.get("properties", {})
    for prop in properties.values():
        prop.pop("title", None)
    return schema
