"""Types that pydantic does not know: attrs classes and msgspec structs, as arguments of tools and as outputs."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, NotRequired, Required, Union, cast, get_args, get_origin

import attrs
import msgspec
from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from typing_extensions import TypedDict, get_type_hints, is_typeddict

from runmgr.exceptions import UserError

__all__ = ("adapted", "hoist_definitions", "inlined", "is_model_like", "opaque_schema", "typed_dict")


def is_model_like(annotation: Any) -> bool:
    """Whether values of this type are objects with named fields, so that their fields can be a tool's arguments."""
    if not isinstance(annotation, type):
        return False
    cls = cast("type[Any]", annotation)
    return (
        issubclass(cls, BaseModel | msgspec.Struct)
        or is_dataclass(cls)
        or is_typeddict(cls)
        or bool(attrs.has(cls))
        or getattr(cls, "__is_model_like__", False)
    )


def adapted(annotation: Any) -> Any:
    """The same annotation, with attrs classes and msgspec structs wrapped so that pydantic can handle them.

    Looks into generics and unions, not into the fields of pydantic models and dataclasses.
    """
    origin: Any = get_origin(annotation)
    cls: Any = annotation if origin is None else origin
    if isinstance(cls, type) and not hasattr(
        cls, "__get_pydantic_core_schema__"
    ):  # else it has told pydantic itself
        if issubclass(cls, msgspec.Struct):
            return Annotated[annotation, _StructSchema(annotation)]
        known = cast("type[Any]", cls)
        if attrs.has(known):
            return Annotated[annotation, _AttrsSchema(known)]
    if origin is None:
        return annotation
    args = get_args(annotation)
    if origin is Annotated:
        inner = adapted(args[0])
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    if origin is typing.Literal:
        return annotation
    new = tuple(adapted(arg) for arg in args)
    if all(a is b for a, b in zip(new, args, strict=True)):
        return annotation
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007
    try:
        return origin[new]
    except TypeError:
        return annotation


_PREFIX = "#/$defs/"
_OPAQUE = "x-runmgr-foreign-schema"
"""Key under which a foreign schema passes through pydantic's generator, as text."""


def opaque_schema(schema: JsonSchemaValue) -> JsonSchemaValue:
    """A schema with definitions of its own, in the form in which it passes through pydantic's generator.

    ``hoist_definitions`` unpacks it.
    """
    return {_OPAQUE: msgspec.json.encode(schema).decode()}


class _StructSchema:
    """Validates by ``msgspec.convert``, so that tags, constraints, renaming and hooks mean what msgspec says."""

    def __init__(self, struct: Any) -> None:
        self.struct = struct
        self.cls: type[msgspec.Struct] = get_origin(struct) or struct

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._convert)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return opaque_schema(msgspec.json.schema(self.struct))

    def _convert(self, value: Any) -> msgspec.Struct:
        if isinstance(value, self.cls):
            return value
        try:
            return msgspec.convert(value, self.struct, strict=False)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `")
            loc, found = _locate(path.rstrip("`"), value)
            message = text.replace("{", "{{").replace("}", "}}")
            raise ValidationError.from_exception_data(
                self.cls.__name__,
                [InitErrorDetails(type=PydanticCustomError("msgspec", message), loc=loc, input=found)],  # pyright: ignore[reportArgumentType]  # the text is not a literal
            ) from None


def _locate(path: str, value: Any) -> tuple[tuple[str | int, ...], Any]:
    """Msgspec's path (``$.items[0].name``) as pydantic's location, and what is found there."""
    loc: list[str | int] = []
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path):
        if index == "...":
            break  # any value of a mapping: msgspec does not say which
        step: str | int = name or int(index)
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            break
        loc.append(step)
    return tuple(loc), value


class _AttrsSchema:
    """Validates the arguments of ``__init__`` as a TypedDict, then calls the class: its validators and converters run."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._construct, handler.generate_schema(_shape(self.cls))
        )

    def _construct(self, values: dict[str, Any]) -> Any:
        try:
            return self.cls(**values)
        except TypeError as error:  # attrs' own validators raise these
            raise ValueError(str(error.args[0] if error.args else error)) from None


@cache
def _shape(cls: type[Any]) -> Any:
    """The arguments of an attrs class as a TypedDict; one per class, so that recursive classes end."""
    # attrs annotates __init__ with what its converters take
    names = {**vars(sys.modules[cls.__module__]), cls.__name__: cls}
    hints = get_type_hints(cls.__init__, globalns=names, include_extras=True)
    fields: dict[str, Any] = {}
    for attribute in attrs.fields(cls):
        if not attribute.init:
            continue
        name = attribute.alias or attribute.name
        annotation = adapted(hints.get(name, Any))
        description = attribute.metadata.get("description")
        if description:
            annotation = Annotated[annotation, Field(description=description)]
        default = attribute.default
        if default is attrs.NOTHING:
            fields[name] = Required[annotation]
        elif isinstance(default, attrs.Factory):  # pyright: ignore[reportArgumentType]  # typed as a function
            fields[name] = NotRequired[annotation]  # the class fills it in
        else:
            fields[name] = NotRequired[Annotated[annotation, Field(default=default)]]
    shape = typed_dict(cls.__name__, fields)
    shape.__doc__ = cls.__doc__
    shape.__module__ = cls.__module__
    shape.__qualname__ = cls.__qualname__
    return shape


def typed_dict(name: str, fields: dict[str, Any], **options: Any) -> Any:
    """A TypedDict whose fields are only known now."""
    make: Any = TypedDict
    return make(name, fields, **options)


def hoist_definitions(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Put msgspec's schemas, and their definitions, where they belong in a finished schema."""
    hoist = _Hoist(set(schema.get("$defs", ())))
    result: JsonSchemaValue = hoist.walk(schema)
    if not hoist.added:
        return result
    definitions = {**result.pop("$defs", {}), **hoist.added}
    name = result.get("$ref", "").removeprefix(_PREFIX)
    if name in hoist.added:  # a lone struct: its fields are the arguments
        del result["$ref"]
        result = {**definitions[name], **result}
        rest = {other: body for other, body in definitions.items() if other != name}
        if not _refers(result, name) and not _refers(rest, name):
            definitions = rest
    return {**result, "$defs": definitions} if definitions else result


def inlined(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The schema with its definitions put in place of the references to them; as it is where one refers to itself.

    Fewer models understand references than plain nesting.

    Raises:
        UserError: a reference into ``$defs`` leads nowhere.
    """
    definitions: dict[str, Any] = schema.get("$defs", {})

    def walk(node: Any, within: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(item, within) for item in _items(node)]
        if not isinstance(node, dict):
            return node
        found = dict(cast("dict[str, Any]", node))
        ref = found.get("$ref")
        if not isinstance(ref, str) or not ref.startswith(_PREFIX):
            return {key: walk(value, within) for key, value in found.items()}
        name = ref.removeprefix(_PREFIX)
        if name not in definitions:
            raise UserError(f"Could not find $ref definition for {name}: it is not among the schema's $defs")
        if name in within:
            raise RecursionError(name)
        del found["$ref"]
        return {**walk(definitions[name], (*within, name)), **walk(found, within)}

    try:
        return walk({key: value for key, value in schema.items() if key != "$defs"}, ())
    except RecursionError:
        return schema


class _Hoist:
    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.added: dict[str, Any] = {}
        self.names: dict[tuple[str, str], str] = {}

    def walk(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.walk(item) for item in _items(node)]
        if not isinstance(node, dict):
            return node
        found = cast("dict[str, Any]", node)
        new = {key: self.walk(value) for key, value in found.items() if key != _OPAQUE}
        text = found.get(_OPAQUE)
        return new if text is None else {**self._unpack(text), **new}

    def _unpack(self, text: str) -> dict[str, Any]:
        foreign: dict[str, Any] = msgspec.json.decode(text)
        local: dict[str, Any] = foreign.pop("$defs", {})
        names = {name: self._name(name, body) for name, body in local.items()}
        for name, body in local.items():
            self.added[names[name]] = _renamed(body, names)
        return _renamed(foreign, names)

    def _name(self, name: str, body: Any) -> str:
        """A free name for a definition; the same one again for the same definition."""
        key = (name, msgspec.json.encode(body).decode())
        if key not in self.names:
            free, n = name, 1
            while free in self.taken:
                n += 1
                free = f"{name}_{n}"
            self.taken.add(free)
            self.names[key] = free
        return self.names[key]


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in _items(node)]
    if not isinstance(node, dict):
        return node
    found = cast("dict[str, Any]", node)
    return {
        key: _reference(value, names) if key == "$ref" and isinstance(value, str) else _renamed(value, names)
        for key, value in found.items()
    }


def _reference(ref: str, names: Mapping[str, str]) -> str:
    name = names.get(ref.removeprefix(_PREFIX)) if ref.startswith(_PREFIX) else None
    return ref if name is None else _PREFIX + name


def _refers(node: Any, name: str) -> bool:
    if isinstance(node, list):
        return any(_refers(item, name) for item in _items(node))
    if not isinstance(node, dict):
        return False
    found = cast("dict[str, Any]", node)
    return found.get("$ref") == _PREFIX + name or any(_refers(value, name) for value in found.values())


def _items(node: Any) -> list[Any]:
    return node
