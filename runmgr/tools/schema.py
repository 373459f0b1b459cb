"""From a function's signature to what a model may call it with: a JSON schema, a validator, and the call itself.

Everything here happens once per tool. A call afterwards costs one run of the compiled validator and the function.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Required, cast, get_args, get_origin

import typing_extensions
from pydantic import Field, PydanticUndefinedAnnotation, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import get_type_hints

from runmgr.exceptions import UserError
from runmgr.records.definitions import ObjectJsonSchema
from runmgr.tools.context import RunContext
from runmgr.tools.docstrings import describe
from runmgr.tools.foreign import adapted, hoist_definitions, is_model_like, typed_dict
from runmgr.tools.jsonschema import GenerateToolJsonSchema
from runmgr.tools.threads import run_in_thread

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

    from runmgr.tools.types import DocstringFormat

__all__ = (
    "FunctionSchema",
    "call_function",
    "function_name",
    "function_schema",
    "is_async_callable",
    "parameter_hints",
    "takes_run_context",
)

_UNPACK = (typing.Unpack, typing_extensions.Unpack)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass
class FunctionSchema:
    """How a function is described to a model, how arguments are checked, and how it is called.

    Args:
        function: the function, a bound method or a callable object.
        description: from its docstring.
        validator: turns JSON or a dict into arguments.
        json_schema: what ``validator`` accepts.
        takes_ctx: whether ``RunContext`` is its first argument.
        is_async: whether calling it gives something to await.
        single_arg_name: set when the model sends the fields of the function's only argument instead of the argument.
        positional_fields: arguments that can only be given by position.
        var_positional_field: the name of ``*args``.
    """

    function: Callable[..., Any]
    description: str | None
    validator: SchemaValidator
    json_schema: ObjectJsonSchema
    takes_ctx: bool
    is_async: bool
    single_arg_name: str | None = None
    positional_fields: list[str] = field(default_factory=list[str])
    var_positional_field: str | None = None

    @property
    def direct(self) -> Callable[..., Awaitable[Any]] | None:
        """The function, where it is async and given validated arguments by name and nothing else; None where `call` does more."""
        if not self.is_async or self.takes_ctx or self.single_arg_name is not None:
            return None
        if self.positional_fields or self.var_positional_field or type(self).call is not FunctionSchema.call:
            return None
        return self.function

    async def call(self, args_dict: dict[str, Any], ctx: RunContext[Any]) -> Any:
        """Call the function with validated arguments: async ones here, sync ones in a worker thread.

        Cancelling cancels an async function; a sync one is waited for up to a grace time (``tools.threads``).
        """
        kwargs: dict[str, Any] = (
            args_dict if self.single_arg_name is None else {self.single_arg_name: args_dict}
        )
        if self.positional_fields or self.var_positional_field:
            args, kwargs = self._spread(kwargs, ctx)
        else:
            args = (ctx,) if self.takes_ctx else ()
        return await call_function(self.function, args, kwargs, ctx, is_async=self.is_async)

    def _spread(self, named: dict[str, Any], ctx: RunContext[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(named)
        args: list[Any] = [ctx] if self.takes_ctx else []
        args.extend(kwargs.pop(name) for name in self.positional_fields if name in kwargs)
        if self.var_positional_field:
            args.extend(kwargs.pop(self.var_positional_field, ()))
        return tuple(args), kwargs


async def call_function(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ctx: RunContext[Any],
    *,
    is_async: bool,
) -> Any:
    """Call a user's function: an async one in this task, a sync one in a worker thread.

    Args:
        function: what to call.
        args: its arguments by position.
        kwargs: its arguments by name.
        ctx: names the function's tool, and notes a thread that had to be left behind.
        is_async: whether calling it gives something to await.

    Raises:
        RuntimeError: it raised ``StopAsyncIteration``, which would end the loop of whoever iterates over the run.
        Exception: whatever else it raises.
    """
    try:
        if is_async:
            return await function(*args, **kwargs)
        return await run_in_thread(
            ctx.tool_name or function_name(function) or "function",
            partial(function, *args, **kwargs),
            abandoned=ctx.abandoned_threads,
        )
    except StopAsyncIteration as error:
        raise stopped(function) from error


def stopped(function: Callable[..., Any]) -> RuntimeError:
    """What is raised in place of a function's ``StopAsyncIteration``, which would end the loop of whoever iterates over the run."""
    name = function_name(function) or repr(function)
    return RuntimeError(f"{name} raised StopAsyncIteration: give anext() a default there")


def function_schema(
    function: Callable[..., Any],
    schema_generator: type[GenerateJsonSchema] = GenerateToolJsonSchema,
    *,
    takes_ctx: bool | None = None,
    docstring_format: DocstringFormat = "auto",
    require_parameter_descriptions: bool = False,
) -> FunctionSchema:
    """Build a function's schema.

    Args:
        function: a function, method, class or callable object.
        schema_generator: makes the JSON schema.
        takes_ctx: whether the first parameter is ``RunContext``; None looks at its annotation.
        docstring_format: see ``DocstringFormat``.
        require_parameter_descriptions: refuse parameters that the docstring does not describe.

    Raises:
        UserError: names the function and everything that is wrong with its signature.
    """
    signature = inspect.signature(function)
    hints = _hints(function)
    errors: list[str] = []
    parameters = list(signature.parameters.values())
    if takes_ctx is None:
        takes_ctx = bool(parameters) and _is_run_context(hints.get(parameters[0].name))
    if takes_ctx and parameters:
        annotation = hints.get(parameters[0].name, RunContext)
        if not _is_run_context(annotation):
            errors.append("First parameter of tools that take context must be annotated with RunContext[...]")
        parameters = parameters[1:]
    errors.extend(
        "RunContext annotations can only be used as the first argument"
        if takes_ctx
        else "RunContext annotations can only be used with tools that take context"
        for parameter in parameters
        if _is_run_context(hints.get(parameter.name))
    )
    description, described = describe(_documented(function), signature, docstring_format)
    if require_parameter_descriptions:
        missing = [p.name for p in parameters if p.name not in described]
        if missing:
            errors.append(f"Missing parameter descriptions for {', '.join(missing)}")
    if errors:
        raise UserError(f"Error generating schema for {_qualified(function)}:\n  " + "\n  ".join(errors))

    single = _single_argument(parameters, hints)
    shape: Any = adapted(hints[single]) if single else _typed_dict(function, parameters, hints, described)
    adapter = _adapter(function, shape)
    schema = hoist_definitions(adapter.json_schema(schema_generator=schema_generator))
    if single is None:
        schema.pop("title", None)
        schema.pop("description", None)
    elif not description and parameters[0].default is inspect.Parameter.empty:
        # A lone argument's own description stands in for the one that the function lacks.
        description = schema.pop("description", None)
    var_positional = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
    return FunctionSchema(
        function=function,
        description=description,
        validator=adapter.validator,  # pyright: ignore[reportArgumentType]  # plugins wrap it in a look-alike
        json_schema=schema,
        takes_ctx=takes_ctx,
        is_async=is_async_callable(function),
        single_arg_name=single,
        positional_fields=_positional(parameters, has_var_positional=var_positional is not None),
        var_positional_field=var_positional,
    )


def _adapter(function: Callable[..., Any], shape: Any) -> TypeAdapter[Any]:
    adapter = TypeAdapter[Any](shape)
    if not adapter.pydantic_complete:
        try:
            adapter.rebuild(raise_errors=True)
        except PydanticUndefinedAnnotation as error:
            raise UserError(
                f"Error generating schema for {_qualified(function)}:\n  an annotation names {error.name!r}, which is not defined "
                "where the function's types are: import it outside of `if TYPE_CHECKING:`"
            ) from error
    return adapter


def takes_run_context(function: Callable[..., Any]) -> bool:
    """Whether a function's first parameter is annotated as ``RunContext``."""
    try:
        parameters = list(inspect.signature(function).parameters)
    except ValueError:  # builtins such as `int` have no signature
        return False
    return bool(parameters) and _is_run_context(_hints(function).get(parameters[0]))


def parameter_hints(function: Callable[..., Any]) -> list[Any]:
    """The annotations of a function's parameters, ``Any`` where there is none."""
    hints = _hints(function)
    return [hints.get(name, Any) for name in inspect.signature(function).parameters]


def is_async_callable(function: Any) -> bool:
    """Whether calling this gives something to await: async functions, methods, partials and callable objects."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        not isinstance(function, type) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
    )


def function_name(function: Any) -> str | None:
    """The name of a function, of the function in a partial, or of a callable object's class."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _qualified(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _documented(function: Any) -> Any:
    """Where the docstring and annotations of a callable are."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def _hints(function: Any) -> dict[str, Any]:
    documented = _documented(function)
    if isinstance(documented, type):
        documented = documented.__init__
    try:
        return get_type_hints(documented, include_extras=True)
    except TypeError:  # builtins
        return {}
    except NameError as error:
        error.add_note(
            f"This is an annotation of {_qualified(function)}. With `from __future__ import annotations`, types must be "
            "defined in the module, not in a function or under `if TYPE_CHECKING:`."
        )
        raise


def _is_run_context(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation is RunContext or get_origin(annotation) is RunContext


def _single_argument(parameters: list[inspect.Parameter], hints: dict[str, Any]) -> str | None:
    if len(parameters) != 1 or parameters[0].kind in _VARIABLE:
        return None
    name = parameters[0].name
    return name if is_model_like(hints.get(name)) else None


def _positional(parameters: list[inspect.Parameter], *, has_var_positional: bool) -> list[str]:
    kinds = _POSITIONAL if has_var_positional else _POSITIONAL[:1]
    return [p.name for p in parameters if p.kind in kinds]


def _typed_dict(
    function: Any, parameters: list[inspect.Parameter], hints: dict[str, Any], described: dict[str, str]
) -> Any:
    """The arguments as a TypedDict: pydantic then gives names, defaults, errors and partial validation for free."""
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for parameter in parameters:
        annotation = adapted(hints.get(parameter.name, Any))
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            if get_origin(annotation) in _UNPACK:
                fields.update(_unpacked(annotation))
            else:
                options["extra_items"] = annotation
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            fields[parameter.name] = Required[_described(list[annotation], described.get(parameter.name))]
        else:
            fields[parameter.name] = _field(annotation, parameter.default, described.get(parameter.name))
    # closed, rather than a pydantic config that forbids extras: nested dataclasses would inherit a config
    options = options or {"closed": True}
    return typed_dict(function_name(function) or "arguments", fields, **options)


def _field(annotation: Any, default: Any, description: str | None) -> Any:
    annotation = _described(annotation, description)
    if default is inspect.Parameter.empty:
        has_default = get_origin(annotation) is Annotated and any(
            isinstance(item, FieldInfo) and not item.is_required() for item in annotation.__metadata__
        )
        return (NotRequired if has_default else Required)[annotation]
    if isinstance(default, dataclasses.Field):
        default = _dataclass_default(cast("dataclasses.Field[Any]", default))
    elif not isinstance(default, FieldInfo):
        default = Field(default=default)
    return NotRequired[Annotated[annotation, default]]


def _dataclass_default(spec: dataclasses.Field[Any]) -> Any:
    """What ``dataclasses.field(...)`` says of a default, as pydantic says it."""
    if spec.default is not dataclasses.MISSING:
        return Field(default=spec.default)
    if spec.default_factory is not dataclasses.MISSING:
        return Field(default_factory=spec.default_factory)
    return Field()


def _described(annotation: Any, description: str | None) -> Any:
    """The docstring's description goes innermost: what the annotation itself says has the last word."""
    if not description:
        return annotation
    base, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    return Annotated[(base, Field(description=description), *metadata)]


def _unpacked(annotation: Any) -> dict[str, Any]:
    """The fields of ``**kwargs: Unpack[SomeTypedDict]``."""
    (shape,) = get_args(annotation)
    hints = get_type_hints(shape, include_extras=True)
    required: frozenset[str] = shape.__required_keys__
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        inner = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        fields[name] = (Required if name in required else NotRequired)[adapted(inner)]
    return fields
