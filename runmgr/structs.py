"""What every value struct shares: a repr without defaults, a place in pydantic schemas, ``dataclasses.replace``.

Users of Pydantic AI know messages and usage as dataclasses: they print them, put them in pydantic models, copy them
with ``dataclasses.replace`` (:func:`replace` does the same, faster) and take them apart with ``dataclasses.fields``.
Ours are ``msgspec.Struct``s, and :class:`Value` makes them behave so at no cost to construction: everything here is
worked out on first use, per class.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ("Value", "replace")


class _DataclassFields:
    """``Value.__dataclass_fields__``: what makes ``dataclasses.replace``, ``fields`` and ``asdict`` work.

    Built when first asked for, from the struct's own description; the discriminator (``part_kind`` and its kin) is
    listed as a field that is not an argument, so that ``asdict`` shows it and ``replace`` leaves it alone.
    """

    def __init__(self) -> None:
        self._known: dict[type, dict[str, dataclasses.Field[Any]]] = {}

    def __get__(self, instance: object, owner: type[Value]) -> dict[str, dataclasses.Field[Any]]:
        known = self._known.get(owner)
        if known is None:
            known = self._known[owner] = self._build(owner)
        return known

    @staticmethod
    def _build(owner: type[Value]) -> dict[str, dataclasses.Field[Any]]:
        described: list[tuple[str, Any, Any]] = []
        for field in msgspec.structs.fields(owner):
            if field.default is not msgspec.NODEFAULT:
                item = dataclasses.field(default=field.default, kw_only=True)
            elif field.default_factory is not msgspec.NODEFAULT:
                item = dataclasses.field(default_factory=field.default_factory, kw_only=True)
            else:
                item = dataclasses.field(kw_only=True)
            described.append((field.name, field.type, item))
        config = owner.__struct_config__
        if config.tag_field is not None:
            described.append(
                (config.tag_field, str, dataclasses.field(default=config.tag, init=False, repr=False))
            )
        made: Any = dataclasses.make_dataclass(owner.__name__, described, repr=False, eq=False)
        return made.__dataclass_fields__


class Value(msgspec.Struct):
    """Base of messages, parts, events and usage; see the module.

    Equality is by value and only within one class; instances are mutable and so not hashable. Nothing is validated
    on construction: validation happens where strangers' data comes in (``ModelMessagesTypeAdapter`` and pydantic
    schemas).
    """

    if not TYPE_CHECKING:
        __dataclass_fields__ = _DataclassFields()

    _repr_skips_empty: ClassVar[frozenset[str]] = frozenset()
    """Fields with a default factory that the repr leaves out when they are empty."""

    def __repr__(self) -> str:
        cls = type(self)
        defaults = cls.__struct_defaults__
        # Positional defaults belong to the last fields; every one is there when any keyword-only field follows.
        fields = cls.__struct_fields__
        first = len(fields) - len(defaults)
        shown: list[str] = []
        for index, name in enumerate(fields):
            value = getattr(self, name)
            if index >= first and _is_default(value, defaults[index - first]):
                continue
            if not value and name in cls._repr_skips_empty:
                continue
            shown.append(f"{name}={value!r}")
        return f"{cls.__qualname__}({', '.join(shown)})"

    def __rich_repr__(self) -> Any:
        cls = type(self)
        defaults = cls.__struct_defaults__
        first = len(cls.__struct_fields__) - len(defaults)
        for index, name in enumerate(cls.__struct_fields__):
            value = getattr(self, name)
            if index < first or not _is_default(value, defaults[index - first]):
                yield name, value

    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        """An instance from what ``json.loads`` gives. Raises ``ValueError`` where it does not fit."""
        return msgspec.convert(value, cls, strict=False)

    def _to_plain(self, *, json: bool) -> Any:
        """The opposite of :meth:`_from_plain`: dicts and lists; with ``json``, only what JSON has."""
        return msgspec.to_builtins(self, builtin_types=None if json else _PYTHON_TYPES)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def validate(value: Any) -> Any:
            return value if isinstance(value, cls) else cls._from_plain(value)

        def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
            return value._to_plain(json=info.mode == "json") if isinstance(value, Value) else value

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return json_schema(cls)


_PYTHON_TYPES: tuple[type, ...] = (
    bytes,
    bytearray,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    Decimal,
    UUID,
)
"""What ``_to_plain`` leaves as it is when JSON is not asked for."""


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    # A mutable or computed default is a factory object in `__struct_defaults__`: such fields are always shown.
    return type(value) is type(default) and value == default


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of ``kind``, without references (values are never recursive), so that it nests anywhere."""
    schema, components = msgspec.json.schema_components((kind,), schema_hook=_schema_hook)
    return _inline(schema[0], components)


def _schema_hook(kind: type) -> dict[str, Any]:
    hook = getattr(kind, "__runmgr_json_schema__", None)
    return {} if hook is None else hook


def _inline(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(item, components) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast("dict[str, Any]", schema)
    reference: str | None = known.get("$ref")
    if reference is not None:
        return _inline(components[reference.rpartition("/")[2]], components)
    inlined = {key: _inline(item, components) for key, item in known.items() if key != "discriminator"}
    if isinstance(described := inlined.get("description"), str):
        # Schemas may go to models: the first paragraph is enough, without the list of arguments.
        inlined["description"] = described.partition("\n\n")[0]
    return inlined
