"""An example of what a JSON schema allows, chosen by a seed: the arguments with which `TestModel` calls tools.

The same schema and seed always give the same example, and the examples are those of Pydantic AI 1.46, so that tests
can be carried over; formats that it leaves to chance get a valid value here.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, cast

from runmgr.exceptions import UserError

__all__ = ("example",)

_CHARS = string.ascii_letters + string.digits + string.punctuation


def example(schema: dict[str, Any], seed: int = 0) -> Any:
    """A value that the schema allows.

    Only required properties are filled. Patterns are not followed.

    Args:
        schema: a JSON schema with its ``$defs``.
        seed: which of the possible values.

    Raises:
        UserError: the schema has a type that JSON schema doesn't know, or refers to a definition that is not there.
    """
    return _Generator(schema.get("$defs", {}), seed).any(schema)


class _Generator:
    """Holds the seed, which moves on where values of one list must differ."""

    __slots__ = ("defs", "seed")

    def __init__(self, defs: dict[str, Any], seed: int) -> None:
        self.defs = defs
        self.seed = seed

    def any(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            # `true` allows anything.
            return self.char()
        schema = cast("dict[str, Any]", schema)
        if "const" in schema:
            return schema["const"]
        for choices in ("enum", "examples"):
            if options := schema.get(choices):
                return options[self.seed % len(options)]
        if "$ref" in schema:
            return self.any(self.resolve(schema))
        for union in ("anyOf", "oneOf"):
            if options := schema.get(union):
                return self.any(options[self.seed % len(options)])
        kind: Any = schema.get("type")
        if isinstance(kind, list):
            kinds = cast("list[str]", kind)
            kind = kinds[self.seed % len(kinds)] if kinds else None
        if kind is None:
            return self.all_of(schema) if "allOf" in schema else self.char()
        if kind == "object":
            return self.object(schema)
        if kind == "array":
            return self.array(schema)
        if kind == "string":
            return self.string(schema)
        if kind == "integer":
            return self.number(schema)
        if kind == "number":
            return float(self.number(schema))
        if kind == "boolean":
            return bool(self.seed % 2)
        if kind == "null":
            return None
        raise UserError(f"Cannot make an example of {schema!r}: JSON schema has no type {kind!r}")

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while (ref := schema.get("$ref")) is not None:
            name = str(ref).removeprefix("#/$defs/")
            if name not in self.defs:
                raise UserError(f"Could not find $ref definition for {ref} in the schema of a tool or output")
            schema = self.defs[name]
        return schema

    def all_of(self, schema: dict[str, Any]) -> Any:
        merged: dict[str, Any] = {}
        for member in cast("list[dict[str, Any]]", schema["allOf"]):
            for key, value in self.resolve(member).items():
                if key == "properties":
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged[key] = value
        return self.any(merged)

    def object(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties") or {}
        required: set[str] = set(schema.get("required") or ())
        result: dict[str, Any] = {
            name: self.any(member) for name, member in properties.items() if name in required
        }
        if extra := schema.get("additionalProperties"):
            name = "additionalProperty"
            while name in result:
                name += "_"
            result[name] = self.any(extra)
        return result

    def array(self, schema: dict[str, Any]) -> list[Any]:
        result = [self.any(item) for item in schema.get("prefixItems") or ()]
        items = schema.get("items")
        least = schema.get("minItems") or 0
        most = schema.get("maxItems")
        if least <= len(result) and items and (most is None or len(result) < most):
            least = len(result) + 1
        while len(result) < least:
            result.append(self.any(items if items is not None else {}))
            if schema.get("uniqueItems"):
                self.seed += 1
        return result

    def string(self, schema: dict[str, Any]) -> str:
        if (made := _FORMATS.get(schema.get("format", ""))) is not None:
            return made(self.seed)
        most = schema.get("maxLength")
        if most == 0:
            return ""
        text = self.char()
        if least := schema.get("minLength"):
            text *= least
        return text if most is None else text[:most]

    def number(self, schema: dict[str, Any]) -> int | float:
        least = schema.get("minimum")
        if least is None and (beyond := schema.get("exclusiveMinimum")) is not None:
            least = beyond + 1
        most = schema.get("maximum")
        if most is None and (below := schema.get("exclusiveMaximum")) is not None:
            most = below - 1
        if least is not None and most is not None:
            width = most - least
            if width > 0:
                return least + self.seed % width
            # Between exclusive borders less than two apart lies only what is half-way.
            return least if width == 0 else (_middle(schema, least, most))
        if least is not None:
            return least + self.seed
        if most is not None:
            return most - self.seed
        return self.seed

    def char(self) -> str:
        """``a``, ``b``, ... by the seed; two characters and more once they are used up."""
        count = len(_CHARS)
        prefix = ""
        rest = self.seed // count
        while rest > 0:
            prefix += _CHARS[(rest - 1) % count]
            rest //= count
        return prefix + _CHARS[self.seed % count]


def _middle(schema: dict[str, Any], least: float, most: float) -> float:
    """A value between the borders as they were given."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", least))
    high = schema.get("maximum", schema.get("exclusiveMaximum", most))
    return (low + high) / 2


def _date(seed: int) -> str:
    return (date(2024, 1, 1) + timedelta(days=seed)).isoformat()


_FORMATS: dict[str, Callable[[int], str]] = {
    "date": _date,
    "date-time": lambda seed: f"{_date(seed)}T00:00:00Z",
    "time": lambda seed: f"{seed // 3600 % 24:02}:{seed // 60 % 60:02}:{seed % 60:02}",
    "duration": lambda seed: f"PT{seed}S",
    "email": lambda seed: f"user{seed}@example.com",
    "uri": lambda seed: f"https://example.com/{seed}",
    "uuid": lambda seed: f"00000000-0000-4000-8000-{seed % 16**12:012x}",
    "ipv4": lambda seed: f"192.0.2.{seed % 256}",
    "ipv6": lambda seed: f"2001:db8::{seed % 65536:x}",
}
