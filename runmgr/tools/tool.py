"""A function that a model may call."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Generic, Self

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaValidator, core_schema

from runmgr.exceptions import UserError
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.schema import FunctionSchema, function_name, function_schema, is_async_callable
from runmgr.tools.types import DocstringFormat, ToolAgentDepsT, ToolFuncEither, ToolPrepareFunc

__all__ = ("Tool",)


@dataclass(init=False)
class Tool(Generic[ToolAgentDepsT]):
    """A function that a model may call, with everything that is said about it.

    Args:
        function: called with the model's arguments: async ones in the run's task, sync ones in a worker thread.
        takes_ctx: whether its first argument is ``RunContext``; None looks at the annotation.
        max_retries: failures in a row before the run fails; None takes the toolset's or agent's.
        name: by default the function's.
        description: by default from the docstring.
        prepare: changes the definition before each request, or leaves the tool out of it.
        docstring_format: how the docstring is written.
        require_parameter_descriptions: refuse a function whose docstring leaves a parameter out.
        schema_generator: makes the JSON schema.
        strict: ask the provider to enforce the schema; None leaves it to the provider's mapping.
        sequential: never run beside other calls of the same turn.
        requires_approval: a person must approve each call (see ``DeferredToolRequests``).
        metadata: for you; never sent.
        timeout: seconds that one execution may take; the model is told of a timeout, and it counts as a failure.
        idempotent: calling it twice with the same arguments does no harm: a resumed run may repeat it without asking.
        function_schema: a schema made before; by default it is made from the signature.

    Raises:
        UserError: names the function and what is wrong with its signature.
    """

    function: ToolFuncEither[ToolAgentDepsT, ...]
    takes_ctx: bool
    max_retries: int | None
    name: str
    description: str | None
    prepare: ToolPrepareFunc[ToolAgentDepsT] | None
    docstring_format: DocstringFormat
    require_parameter_descriptions: bool
    strict: bool | None
    sequential: bool
    requires_approval: bool
    metadata: dict[str, Any] | None
    timeout: float | None
    idempotent: bool | None
    function_schema: FunctionSchema = field(repr=False)

    def __init__(
        self,
        function: ToolFuncEither[ToolAgentDepsT, ...],
        *,
        takes_ctx: bool | None = None,
        max_retries: int | None = None,
        name: str | None = None,
        description: str | None = None,
        prepare: ToolPrepareFunc[ToolAgentDepsT] | None = None,
        docstring_format: DocstringFormat = "auto",
        require_parameter_descriptions: bool = False,
        schema_generator: type[GenerateJsonSchema] = GenerateToolJsonSchema,
        strict: bool | None = None,
        sequential: bool = False,
        requires_approval: bool = False,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
        function_schema: FunctionSchema | None = None,
    ) -> None:
        schema = function_schema or _schema(
            function,
            schema_generator,
            takes_ctx=takes_ctx,
            docstring_format=docstring_format,
            require_parameter_descriptions=require_parameter_descriptions,
        )
        found = name or function_name(function)
        if not found:
            raise UserError(
                f"The tool's function {function!r} has no name: give one, as in Tool(function, name='...')"
            )
        self.function = function
        self.function_schema = schema
        self.takes_ctx = schema.takes_ctx
        self.max_retries = max_retries
        self.name = found
        self.description = description or schema.description
        self.prepare = prepare
        self.docstring_format = docstring_format
        self.require_parameter_descriptions = require_parameter_descriptions
        self.strict = strict
        self.sequential = sequential
        self.requires_approval = requires_approval
        self.metadata = metadata
        self.timeout = timeout
        self.idempotent = idempotent

    @classmethod
    def from_schema(
        cls,
        function: Callable[..., Any],
        name: str,
        description: str | None,
        json_schema: JsonSchemaValue,
        takes_ctx: bool = False,
        sequential: bool = False,
    ) -> Self:
        """A tool whose JSON schema is given. Arguments are passed by name, and not validated.

        Args:
            function: called with whatever object the model sends.
            name: the tool's name.
            description: what it does.
            json_schema: what the model is told that it takes.
            takes_ctx: whether its first argument is ``RunContext``.
            sequential: never run beside other calls of the same turn.
        """
        schema = FunctionSchema(
            function=function,
            description=description,
            validator=any_object(),
            json_schema=json_schema,
            takes_ctx=takes_ctx,
            is_async=is_async_callable(function),
        )
        return cls(
            function,
            takes_ctx=takes_ctx,
            name=name,
            description=description,
            sequential=sequential,
            function_schema=schema,
        )

    @property
    def tool_def(self) -> ToolDefinition:
        """The tool as a model sees it: a new definition each time, so that ``prepare`` may change it in place."""
        return ToolDefinition(
            name=self.name,
            description=self.description,
            parameters_json_schema=self.function_schema.json_schema,
            strict=self.strict,
            sequential=self.sequential,
            metadata=self.metadata,
            timeout=self.timeout,
            kind="unapproved" if self.requires_approval else "function",
        )

    async def prepare_tool_def(self, ctx: RunContext[ToolAgentDepsT]) -> ToolDefinition | None:
        """The definition for the next request, or None to leave the tool out of it."""
        tool_def = self.tool_def
        if self.prepare is None:
            return tool_def
        # `prepare` may change the schema in place, and other runs must not see that
        tool_def.parameters_json_schema = deepcopy(tool_def.parameters_json_schema)
        prepared = self.prepare(ctx, tool_def)
        return await prepared if isawaitable(prepared) else prepared


def any_object() -> SchemaValidator:
    """A validator that takes any JSON object."""
    return _ANY_OBJECT


_ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))
_schema = function_schema  # `Tool.__init__` has an argument of the same name
