"""Making request parameters fit a model: pure functions, and a small memory of their outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from runmgr.exceptions import UserError
from runmgr.profiles import JsonSchemaTransformer, ModelProfile
from runmgr.records.definitions import ModelRequestParameters, OutputObjectDefinition, ToolDefinition

__all__ = ("Prepared", "prepare_parameters", "transform_schemas")

_REMEMBERED = 16


class Prepared:
    """Outcomes of preparation by the identity of the parameters they were made from; remembers the last few.

    Holds the parameters themselves, so that an identity cannot come again for another object.
    """

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[int, tuple[ModelRequestParameters, ModelProfile, ModelRequestParameters]] = {}
        """By the id of parameters: they themselves, the profile, and what was made of them for it."""

    def put(
        self, params: ModelRequestParameters, profile: ModelProfile, prepared: ModelRequestParameters
    ) -> None:
        entries = self.entries
        if len(entries) >= _REMEMBERED:
            del entries[next(iter(entries))]
        entries[id(params)] = (params, profile, prepared)


def prepare_parameters(params: ModelRequestParameters, profile: ModelProfile) -> ModelRequestParameters:
    """Parameters with the output mode settled and everything dropped that this mode does not use.

    Returns the same object where nothing changes.

    Raises:
        UserError: the model cannot do what is asked for.
    """
    changes: dict[str, Any] = {}
    if params.builtin_tools:
        by_id = {tool.unique_id: tool for tool in params.builtin_tools}
        if len(by_id) != len(params.builtin_tools):
            changes["builtin_tools"] = list(by_id.values())
        _check_builtin_tools(list(by_id.values()), profile)

    mode = params.output_mode
    if mode == "auto":
        mode = profile.default_structured_output_mode
        changes["output_mode"] = mode
        changes["allow_text_output"] = mode in {"native", "prompted"}

    if mode == "tool" and not profile.supports_tools:
        raise UserError("Tool output is not supported by this model.")
    if mode == "native" and not profile.supports_json_schema_output:
        raise UserError("Native structured output is not supported by this model.")
    if params.allow_image_output and not profile.supports_image_output:
        raise UserError("Image output is not supported by this model.")

    if params.output_tools and mode != "tool":
        changes["output_tools"] = []
    if params.output_object is not None and mode not in {"native", "prompted"}:
        changes["output_object"] = None
    if mode not in {"native", "prompted"}:
        changes["prompted_output_template"] = None
    elif not params.prompted_output_template and (
        mode == "prompted" or profile.native_output_requires_schema_in_instructions
    ):
        changes["prompted_output_template"] = profile.prompted_output_template

    # An equal value is no change: the caller's object then stays the one to compare identities with.
    changes = {name: value for name, value in changes.items() if getattr(params, name) != value}
    return replace(params, **changes) if changes else params


def _check_builtin_tools(tools: list[Any], profile: ModelProfile) -> None:
    supported = profile.supported_builtin_tools
    unsupported = [type(tool).__name__ for tool in tools if not isinstance(tool, tuple(supported))]
    if unsupported:
        known = sorted(tool.__name__ for tool in supported)
        raise UserError(f"Builtin tool(s) {unsupported} not supported by this model. Supported: {known}")


_D = TypeVar("_D", ToolDefinition, OutputObjectDefinition)


def transform_schemas(
    params: ModelRequestParameters, transformer: type[JsonSchemaTransformer] | None
) -> ModelRequestParameters:
    """Parameters whose tool and output schemas went through a transformer; the same object without one."""
    if transformer is None:
        return params
    changes: dict[str, Any] = {}
    for name in ("function_tools", "output_tools"):
        if tools := getattr(params, name):
            changes[name] = [_transform(transformer, tool, tool.parameters_json_schema) for tool in tools]
    if (output := params.output_object) is not None:
        changes["output_object"] = _transform(transformer, output, output.json_schema)
    return replace(params, **changes) if changes else params


def _transform(transformer: type[JsonSchemaTransformer], definition: _D, schema: dict[str, Any]) -> _D:
    walker = transformer(schema, strict=definition.strict)
    schema = walker.walk()
    strict = walker.is_strict_compatible if definition.strict is None else definition.strict
    if isinstance(definition, ToolDefinition):
        return replace(definition, parameters_json_schema=schema, strict=strict)
    return replace(definition, json_schema=schema, strict=strict)
