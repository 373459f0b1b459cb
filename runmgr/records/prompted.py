"""The text that asks a model for structured output in its answer (prompted mode)."""

from __future__ import annotations

import json

from runmgr.records.definitions import OutputObjectDefinition

__all__ = ("prompted_instructions",)


def prompted_instructions(template: str, output_object: OutputObjectDefinition) -> str:
    """Fill a template with the output's JSON schema.

    Args:
        template: text with one ``{schema}``; where it is missing, the schema is appended.
        output_object: the schema, with a title and description where it has them.
    """
    schema = dict(output_object.json_schema)
    if output_object.name:
        schema["title"] = output_object.name
    if output_object.description:
        schema["description"] = output_object.description
    if "{schema}" not in template:
        template = f"{template}\n\n{{schema}}"
    return template.format(schema=json.dumps(schema))
