"""`ModelProfile`: what a model can do, whoever serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, Literal, Self, TypeAlias

from runmgr.builtin_tools import SUPPORTED_BUILTIN_TOOLS, AbstractBuiltinTool
from runmgr.profiles.json_schema import JsonSchemaTransformer

__all__ = ("DEFAULT_PROFILE", "ModelProfile", "ModelProfileSpec", "StructuredOutputMode")

StructuredOutputMode: TypeAlias = Literal["tool", "native", "prompted"]

_PROMPTED_OUTPUT_TEMPLATE = """
Always respond with a JSON object that's compatible with this schema:

{schema}

Don't include any text or Markdown fencing before or after.
"""


@dataclass(kw_only=True)
class ModelProfile:
    """What a model can do and how requests to it must be shaped; a model class's subclasses add its own switches.

    Args:
        supports_tools: it can call tools.
        supports_json_schema_output: it can hold its answer to a JSON schema (`NativeOutput`).
        supports_json_object_output: it can hold its answer to being some JSON object (helps `PromptedOutput`).
        supports_image_output: it can answer with images.
        default_structured_output_mode: used where an output type names no mode.
        prompted_output_template: instructions for prompted output, with ``{schema}`` where the schema goes.
        native_output_requires_schema_in_instructions: put the schema into the instructions in native mode too.
        json_schema_transformer: makes tool and output schemas acceptable to the model.
        thinking_tags: start and end of thinking inside text.
        ignore_streamed_leading_whitespace: drop whitespace before a streamed response's first text.
        supported_builtin_tools: the provider's own tools that it can use.
    """

    supports_tools: bool = True
    supports_json_schema_output: bool = False
    supports_json_object_output: bool = False
    supports_image_output: bool = False
    default_structured_output_mode: StructuredOutputMode = "tool"
    prompted_output_template: str = _PROMPTED_OUTPUT_TEMPLATE
    native_output_requires_schema_in_instructions: bool = False
    json_schema_transformer: type[JsonSchemaTransformer] | None = None
    thinking_tags: tuple[str, str] = ("<think>", "</think>")
    ignore_streamed_leading_whitespace: bool = False
    supported_builtin_tools: frozenset[type[AbstractBuiltinTool]] = field(
        default_factory=lambda: SUPPORTED_BUILTIN_TOOLS
    )

    @classmethod
    def from_profile(cls, profile: ModelProfile | None) -> Self:
        """The given profile as one of this class: itself, or its switches on top of this class's defaults."""
        if isinstance(profile, cls):
            return profile
        return cls().update(profile)

    def update(self, profile: ModelProfile | None) -> Self:
        """A profile of this class with those switches of ``profile`` that are not at their defaults."""
        if profile is None:
            return self
        known = {spec.name for spec in fields(self)}
        changed = {
            spec.name: value
            for spec in fields(profile)
            if spec.name in known and (value := getattr(profile, spec.name)) != _default(spec)
        }
        return replace(self, **changed)


def _default(spec: Field[Any]) -> Any:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default


ModelProfileSpec: TypeAlias = ModelProfile | Callable[[str], ModelProfile | None]
"""A profile, or a function from the model's name to one."""

DEFAULT_PROFILE = ModelProfile()
