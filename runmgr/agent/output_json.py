"""The JSON schema of what a run puts out."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from runmgr.output.markers import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from runmgr.output.processors import is_output_function
from runmgr.output.schema import flat_outputs
from runmgr.tools.foreign import adapted, hoist_definitions

__all__ = ("output_json_schema",)


def output_json_schema(output_type: Any) -> dict[str, Any]:
    """The schema of the result's ``output``: of one type, or ``anyOf`` for several.

    For output functions it is that of what they return.
    """
    schemas: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for result in _results(output_type):
        schema = hoist_definitions(TypeAdapter[Any](adapted(result)).json_schema(mode="serialization"))
        definitions.update(schema.pop("$defs", {}))
        if schema not in schemas:
            schemas.append(schema)
    combined: dict[str, Any] = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if definitions:
        combined["$defs"] = definitions
    return combined


def _results(output_type: Any) -> list[Any]:
    found: list[Any] = []
    for output in flat_outputs(output_type):
        if isinstance(output, (NativeOutput, PromptedOutput)):
            found += _results(output.outputs)  # pyright: ignore[reportUnknownMemberType]
        elif isinstance(output, ToolOutput):
            found += _results(output.output)  # pyright: ignore[reportUnknownMemberType]
        elif isinstance(output, TextOutput):
            found.append(_returned(output.output_function))  # pyright: ignore[reportUnknownMemberType]
        elif is_output_function(output):
            found.append(_returned(output))
        else:
            found.append(output)
    return found


def _returned(function: Any) -> Any:
    routine = function if inspect.isroutine(function) else type(function).__call__
    return get_type_hints(routine, include_extras=True).get("return", Any)
