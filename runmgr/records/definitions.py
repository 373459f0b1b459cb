"""What a model is told of tools and outputs.

Plain dataclasses rather than structs: people who know Pydantic AI change a definition in ``prepare`` functions with
``dataclasses.replace``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

__all__ = (
    "ModelRequestParameters",
    "ObjectJsonSchema",
    "OutputMode",
    "OutputObjectDefinition",
    "ToolDefinition",
    "ToolKind",
)

ObjectJsonSchema: TypeAlias = dict[str, Any]
"""A JSON schema of an object: what tools take as arguments."""

ToolKind: TypeAlias = Literal["function", "output", "external", "unapproved"]
OutputMode: TypeAlias = Literal["text", "tool", "native", "prompted", "tool_or_text", "image", "auto"]


def _empty_schema() -> ObjectJsonSchema:
    return {"type": "object", "properties": {}}


@dataclass(repr=False, kw_only=True)
class ToolDefinition:
    """A tool as a model sees it.

    Args:
        name: the tool's name, unique within a run.
        parameters_json_schema: schema of its arguments.
        description: what it does.
        outer_typed_dict_key: key under which a non-object output was wrapped, if it was.
        strict: ask the provider to enforce the schema, where it can; None leaves it to the provider's mapping.
        sequential: never run beside other calls of the same turn.
        kind: ``function`` (runmgr runs it), ``output`` (ends the run), ``external`` (its result comes from outside),
            ``unapproved`` (a person must approve each call).
        metadata: for toolsets and their users; never sent.
        timeout: seconds that one execution may take.
    """

    name: str
    parameters_json_schema: ObjectJsonSchema = field(default_factory=_empty_schema)
    description: str | None = None
    outer_typed_dict_key: str | None = None
    strict: bool | None = None
    sequential: bool = False
    kind: ToolKind = "function"
    metadata: dict[str, Any] | None = None
    timeout: float | None = None

    @property
    def defer(self) -> bool:
        """Whether calls of this tool are handed out instead of run."""
        return self.kind in {"external", "unapproved"}

    def __repr__(self) -> str:
        return repr_without_defaults(self)


@dataclass
class OutputObjectDefinition:
    """Schema of a structured output for the native and prompted modes."""

    json_schema: ObjectJsonSchema
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(repr=False, kw_only=True)
class ModelRequestParameters:
    """What a request tells the model of tools and outputs, apart from messages and settings."""

    function_tools: list[ToolDefinition] = field(default_factory=list[ToolDefinition])
    builtin_tools: list[Any] = field(default_factory=list[Any])
    output_mode: OutputMode = "text"
    output_object: OutputObjectDefinition | None = None
    output_tools: list[ToolDefinition] = field(default_factory=list[ToolDefinition])
    prompted_output_template: str | None = None
    allow_text_output: bool = True
    allow_image_output: bool = False

    @cached_property
    def tool_defs(self) -> dict[str, ToolDefinition]:
        """Function and output tools by name."""
        return {tool.name: tool for tool in (*self.function_tools, *self.output_tools)}

    @cached_property
    def prompted_output_instructions(self) -> str | None:
        """The instructions that ask for the output in prompted mode."""
        if self.prompted_output_template is None or self.output_object is None:
            return None
        from runmgr.records.prompted import prompted_instructions

        return prompted_instructions(self.prompted_output_template, self.output_object)

    def __repr__(self) -> str:
        return repr_without_defaults(self)


def repr_without_defaults(value: Any) -> str:
    """The repr of a dataclass without the fields that have their defaults; those made by a factory are shown."""
    from dataclasses import MISSING, fields

    shown: list[str] = []
    for spec in fields(value):
        item = getattr(value, spec.name)
        if spec.repr and (spec.default is MISSING or item != spec.default):
            shown.append(f"{spec.name}={item!r}")
    return f"{type(value).__qualname__}({', '.join(shown)})"
