"""From what the model said to the run's output: JSON or text in, validated value or a function's result out."""

from __future__ import annotations

import inspect
import re
from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import attrs
from pydantic import Json, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator
from typing_extensions import TypedDict, override

from runmgr.exceptions import ModelRetry, ToolRetryError, UserError
from runmgr.messages import RetryPromptPart
from runmgr.records.definitions import ObjectJsonSchema, OutputObjectDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.foreign import adapted, hoist_definitions, is_model_like, typed_dict
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.schema import (
    FunctionSchema,
    call_function,
    function_schema,
    is_async_callable,
    parameter_hints,
    takes_run_context,
)
from runmgr.tools.types import AgentDepsT

if TYPE_CHECKING:
    from runmgr.toolsets.abstract import ArgsValidator

__all__ = (
    "ObjectProcessor",
    "TextFunctionProcessor",
    "TextProcessor",
    "UnionProcessor",
    "is_output_function",
)

_Partial = Literal["off", "trailing-strings"]

_FENCE = re.compile(r"```[\w-]*\s*(\{.*\})\s*```", re.DOTALL)
_OPEN_FENCE = re.compile(r"```[\w-]*\s*(\{.*)", re.DOTALL)


class Processor(Protocol):
    """What makes an output of a text."""

    async def process(
        self,
        text: str,
        ctx: RunContext[Any],
        *,
        allow_partial: bool = False,
        wrap_validation_errors: bool = True,
    ) -> Any:
        """Make the output.

        Args:
            text: what the model said.
            ctx: the run's context.
            allow_partial: the text is still being streamed; functions see ``ctx.partial_output``.
            wrap_validation_errors: raise ``ToolRetryError`` for ``ValidationError`` and ``ModelRetry``.

        Raises:
            ToolRetryError: the text is no valid output, or a function asked for another try.
        """
        ...


def is_output_function(output: Any) -> bool:
    """Whether an output is a function to call, rather than a type to validate by."""
    if isinstance(output, type) or get_origin(output) is not None or hasattr(output, "__supertype__"):
        return False
    return inspect.isroutine(output) or (callable(output) and type(output).__module__ not in _TYPING)


_TYPING = ("typing", "typing_extensions")


class TextProcessor(Processor):
    """Plain text is the output."""

    @override
    async def process(
        self,
        text: str,
        ctx: RunContext[Any],
        *,
        allow_partial: bool = False,
        wrap_validation_errors: bool = True,
    ) -> Any:
        return text


class _Processing(Processor):
    """Validates, then calls; tells the model what was wrong.

    A ``ValidationError`` out of a user's function is the function's own: it fails the run.
    """

    @override
    async def process(
        self,
        text: str,
        ctx: RunContext[Any],
        *,
        allow_partial: bool = False,
        wrap_validation_errors: bool = True,
    ) -> Any:
        partial: _Partial = "off"
        if allow_partial:
            partial = "trailing-strings"
            ctx = partial_context(ctx)
        try:
            valid = self._validated(text, ctx, partial)
        except (ValidationError, ModelRetry) as error:
            if wrap_validation_errors:
                raise as_retry(error) from error
            raise
        try:
            return await self.call(valid, ctx)
        except ModelRetry as error:
            if wrap_validation_errors:
                raise as_retry(error) from error
            raise

    @abstractmethod
    def _validated(self, text: str, ctx: RunContext[Any], partial: _Partial) -> Any:
        """What ``call`` takes. Raises ``ValidationError`` or ``ModelRetry``."""
        raise NotImplementedError

    @abstractmethod
    async def call(self, valid: Any, ctx: RunContext[Any]) -> Any:
        """The output."""
        raise NotImplementedError


@attrs.define(eq=False, init=False)
class TextFunctionProcessor(_Processing):
    """A function of the text makes the output.

    Raises:
        UserError: the function does not take exactly one text.
    """

    function: Callable[..., Any]
    takes_ctx: bool
    is_async: bool

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.takes_ctx = takes_run_context(function)
        self.is_async = is_async_callable(function)
        hints = parameter_hints(function)[1 if self.takes_ctx else 0 :]
        if len(hints) != 1 or hints[0] not in (str, Any):
            raise UserError("TextOutput must take a function taking a single `str` argument")

    @override
    def _validated(self, text: str, ctx: RunContext[Any], partial: _Partial) -> str:
        return text

    @override
    async def call(self, valid: str, ctx: RunContext[Any]) -> Any:
        args = (ctx, valid) if self.takes_ctx else (valid,)
        return await call_function(self.function, args, {}, ctx, is_async=self.is_async)


@attrs.define(eq=False, init=False)
class ObjectProcessor(_Processing):
    """One type or function that takes an object; what is no object is wrapped in ``{"response": ...}``.

    Args:
        output: a type, or a function whose arguments are the object's fields.
        name: of the schema; by default the type's or function's.
        description: goes before the type's own.
        strict: ask the provider to enforce the schema.
    """

    object_def: OutputObjectDefinition
    outer_key: str | None
    validator: SchemaValidator | ArgsValidator
    function: FunctionSchema | None

    def __init__(
        self,
        output: Any,
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> None:
        if isinstance(output, list | tuple):
            raise UserError(
                f"An output marker takes one type or function, got {output!r}: use a list of markers"
            )
        self.outer_key = None
        self.function = None
        own: str | None
        if is_output_function(output):
            made = function_schema(output, GenerateToolJsonSchema)
            self.function = made
            self.validator = made.validator
            schema: ObjectJsonSchema = dict(made.json_schema)
            schema.pop("description", None)
            own = made.description
            found = schema.get("title") or getattr(output, "__name__", type(output).__name__)
        else:
            schema = self._of_type(output)
            own = schema.pop("description", None)
            found = schema.get("title") or _type_name(output)
        if description and own:
            description = f"{description}. {own}"
        self.object_def = OutputObjectDefinition(
            json_schema=schema, name=name or found, description=description or own, strict=strict
        )

    def _of_type(self, output: Any) -> ObjectJsonSchema:
        annotation = adapted(output)
        if is_model_like(output):
            adapter = TypeAdapter[Any](annotation)
            schema = hoist_definitions(adapter.json_schema(schema_generator=GenerateToolJsonSchema))
            if schema.get("type") == "object" or "$ref" in schema:
                self.validator = adapter.validator  # pyright: ignore[reportAttributeAccessIssue]
                return schema
        self.outer_key = "response"
        # Models like to send a JSON text where a list or number is asked for.
        lenient = typed_dict("response", {"response": Union[annotation, Json[annotation]]})  # noqa: UP007 (a value)
        shape = typed_dict("response", {"response": annotation})
        self.validator = TypeAdapter[Any](lenient).validator  # pyright: ignore[reportAttributeAccessIssue]
        schema = hoist_definitions(
            TypeAdapter[Any](shape).json_schema(schema_generator=GenerateToolJsonSchema)
        )
        schema.pop("title", None)
        return schema

    def validate(
        self, data: str | dict[str, Any] | None, ctx: RunContext[Any], *, partial: _Partial = "off"
    ) -> Any:
        """Validated data, still wrapped; raises ``ValidationError``."""
        if isinstance(data, dict):
            return self.validator.validate_python(data, allow_partial=partial, context=ctx.validation_context)
        return self.validator.validate_json(
            data or "{}", allow_partial=partial, context=ctx.validation_context
        )

    @override
    async def call(self, valid: Any, ctx: RunContext[Any]) -> Any:
        """The output: validated data unwrapped, or what the function makes of it."""
        if self.function is not None:
            return await self.function.call(valid, ctx)
        return valid if self.outer_key is None else valid[self.outer_key]

    @override
    def _validated(self, text: str, ctx: RunContext[Any], partial: _Partial) -> Any:
        return self.validate(without_fence(text, partial != "off"), ctx, partial=partial)


class _Chosen(TypedDict):
    kind: str
    data: dict[str, Any]


class _Union(TypedDict):
    result: _Chosen


@cache
def _union_validator() -> Any:
    return TypeAdapter(_Union).validator


@attrs.define(eq=False, init=False)
class UnionProcessor(_Processing):
    """One of several types or functions: ``{"result": {"kind": ..., "data": ...}}``.

    Args:
        outputs: types and functions.
        name: of the whole schema.
        description: of the whole schema.
        strict: ask the provider to enforce the schema.
    """

    object_def: OutputObjectDefinition
    processors: dict[str, ObjectProcessor]

    def __init__(
        self,
        outputs: list[Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> None:
        self.processors = {}
        choices: list[ObjectJsonSchema] = []
        definitions: dict[str, Any] = {}
        for output in outputs:
            processor = ObjectProcessor(output, strict=strict)
            found = processor.object_def
            kind = base = found.name or "output"
            n = 1
            while kind in self.processors:
                n += 1
                kind = f"{base}_{n}"
            self.processors[kind] = processor
            data = dict(found.json_schema)
            definitions.update(data.pop("$defs", {}))
            choice: ObjectJsonSchema = {
                "type": "object",
                "properties": {"kind": {"type": "string", "const": kind}, "data": data},
                "required": ["kind", "data"],
                "additionalProperties": False,
                "title": data.pop("title", None) or base,
            }
            if found.description:
                choice["description"] = found.description
            choices.append(choice)
        schema: ObjectJsonSchema = {
            "type": "object",
            "properties": {"result": {"anyOf": choices}},
            "required": ["result"],
            "additionalProperties": False,
        }
        if definitions:
            schema["$defs"] = definitions
        self.object_def = OutputObjectDefinition(
            json_schema=schema, name=name, description=description, strict=strict
        )

    @override
    def _validated(self, text: str, ctx: RunContext[Any], partial: _Partial) -> tuple[ObjectProcessor, Any]:
        chosen = _union_validator().validate_json(
            without_fence(text, partial != "off") or "{}", allow_partial=partial
        )["result"]
        processor = self.processors.get(chosen["kind"])
        if processor is None:
            raise ModelRetry(f"Invalid kind: {chosen['kind']}")
        return processor, processor.validate(chosen["data"], ctx, partial=partial)

    @override
    async def call(self, valid: tuple[ObjectProcessor, Any], ctx: RunContext[Any]) -> Any:
        processor, data = valid
        return await processor.call(data, ctx)


def without_fence(text: str, allow_partial: bool = False) -> str:
    """The JSON object in a Markdown code fence, where there is one; otherwise the text."""
    if "```" not in text or text.lstrip().startswith("{"):
        return text
    match = _FENCE.search(text) or (_OPEN_FENCE.search(text) if allow_partial else None)
    return match.group(1) if match else text


def as_retry(error: ValidationError | ModelRetry, **part: Any) -> ToolRetryError:
    """An error as a prompt that tells the model of it."""
    content: Any
    if isinstance(error, ModelRetry):
        content = error.message
    else:
        content = error.errors(include_url=False)
        for detail in content:  # exceptions in the context are for people, not for JSON
            context = detail.get("ctx")
            if context is not None:
                detail["ctx"] = {k: str(v) if isinstance(v, Exception) else v for k, v in context.items()}
    return ToolRetryError(RetryPromptPart(content, **part))


def partial_context(ctx: RunContext[AgentDepsT]) -> RunContext[AgentDepsT]:
    """The context for functions that see an output which is still being streamed."""
    if not ctx.partial_output:
        ctx = ctx.copied()
        ctx.partial_output = True
    return ctx


def _type_name(output: Any) -> str | None:
    if get_origin(output) is Annotated:
        output = get_args(output)[0]
    return getattr(output, "__name__", None)
