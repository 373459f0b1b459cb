"""What an ``output_type`` may be made of: markers that say how the model gives its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType, TypeVar

from runmgr.exceptions import UserError
from runmgr.tools.context import RunContext
from runmgr.tools.foreign import inlined, opaque_schema

__all__ = (
    "NativeOutput",
    "OutputDataT",
    "OutputSpec",
    "OutputTypeOrFunction",
    "PromptedOutput",
    "StructuredDict",
    "StructuredOutputMode",
    "TextOutput",
    "TextOutputFunc",
    "ToolOutput",
)

T_co = TypeVar("T_co", covariant=True)

OutputDataT = TypeVar("OutputDataT", default=str, covariant=True)  # noqa: PLC0105 (a documented name)
"""The type of a run's output."""

StructuredOutputMode = Literal["tool", "native", "prompted"]
"""The ways to ask for structured output."""

OutputTypeOrFunction = TypeAliasType(
    "OutputTypeOrFunction", type[T_co] | Callable[..., Awaitable[T_co] | T_co], type_params=(T_co,)
)
"""A type, or a function that the model's answer is given to."""

TextOutputFunc = TypeAliasType(
    "TextOutputFunc",
    Callable[[RunContext[Any], str], Awaitable[T_co] | T_co] | Callable[[str], Awaitable[T_co] | T_co],
    type_params=(T_co,),
)
"""A function of the model's text, with or without ``RunContext`` first."""


@dataclass(init=False)
class ToolOutput(Generic[OutputDataT]):
    """The model gives the output by calling a tool.

    Args:
        type_: a type, or a function that is called with the tool's arguments.
        name: the tool's name.
        description: what the model is told of it; the type's own docstring follows.
        max_retries: failures in a row before the run fails; None takes the agent's.
        strict: ask the provider to enforce the schema.
    """

    output: OutputTypeOrFunction[OutputDataT]
    name: str | None
    description: str | None
    max_retries: int | None
    strict: bool | None

    def __init__(
        self,
        type_: OutputTypeOrFunction[OutputDataT],
        *,
        name: str | None = None,
        description: str | None = None,
        max_retries: int | None = None,
        strict: bool | None = None,
    ) -> None:
        self.output = type_
        self.name = name
        self.description = description
        self.max_retries = max_retries
        self.strict = strict


@dataclass
class NativeOutput(Generic[OutputDataT]):
    """The model gives the output by the provider's own structured output.

    Args:
        outputs: a type or function, or several.
        name: the schema's name.
        description: what the model is told of it; the type's own docstring follows.
        strict: ask the provider to enforce the schema.
        template: text with ``{schema}`` for models that also need the schema in their instructions.
    """

    outputs: OutputTypeOrFunction[OutputDataT] | Sequence[OutputTypeOrFunction[OutputDataT]]
    _: KW_ONLY
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    template: str | None = None


@dataclass
class PromptedOutput(Generic[OutputDataT]):
    """The model is asked, in its instructions, to answer with JSON.

    Args:
        outputs: a type or function, or several.
        name: the schema's title.
        description: the schema's description; the type's own docstring follows.
        template: text with ``{schema}``; None takes the model profile's.
    """

    outputs: OutputTypeOrFunction[OutputDataT] | Sequence[OutputTypeOrFunction[OutputDataT]]
    _: KW_ONLY
    name: str | None = None
    description: str | None = None
    template: str | None = None


@dataclass
class TextOutput(Generic[OutputDataT]):
    """The model answers with text, which a function makes the output of.

    Args:
        output_function: takes the text, after ``RunContext`` if it wants that.
    """

    output_function: TextOutputFunc[OutputDataT]


_OutputSpecItem = TypeAliasType(
    "_OutputSpecItem",
    OutputTypeOrFunction[T_co]
    | ToolOutput[T_co]
    | NativeOutput[T_co]
    | PromptedOutput[T_co]
    | TextOutput[T_co],
    type_params=(T_co,),
)

OutputSpec = TypeAliasType(
    "OutputSpec", _OutputSpecItem[T_co] | Sequence["OutputSpec[T_co]"], type_params=(T_co,)
)
"""What ``output_type=`` takes: types, functions, markers, and sequences of them."""


def StructuredDict(  # noqa: N802 (reads as a type where it is used)
    json_schema: JsonSchemaValue, name: str | None = None, description: str | None = None
) -> type[JsonSchemaValue]:
    """A ``dict[str, Any]`` with a JSON schema that the model is held to. What it sends is not validated.

    Args:
        json_schema: a schema of type ``object``.
        name: by default the schema's title.
        description: by default the schema's own.

    Raises:
        UserError: the schema is not an object's.
    """
    schema = dict(json_schema)
    if name:
        schema["title"] = name
    if description:
        schema["description"] = description
    schema = inlined(schema)
    if schema.get("type") != "object" and "$ref" not in schema:
        error = UserError("Schema must be an object")
        error.add_note(f"Its 'type' is {schema.get('type')!r}: wrap it in {{'type': 'object', ...}}.")
        raise error

    class _StructuredDict(dict[str, Any]):
        __is_model_like__ = True

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            return core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())

        @classmethod
        def __get_pydantic_json_schema__(
            cls, core: CoreSchema, handler: GetJsonSchemaHandler
        ) -> JsonSchemaValue:
            return opaque_schema(schema)

    return _StructuredDict
