"""Python values as XML for a prompt: models often read examples and records better as XML than as JSON.

Nothing here is a general XML writer: names are written as they are, without a check, since what reads this is a
language model and a key such as ``unit price`` says more unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from typing import Any, Literal, cast

import msgspec
from pydantic import BaseModel, RootModel
from pydantic.fields import ComputedFieldInfo, FieldInfo

__all__ = ("format_as_xml",)

_LEAVES = (str, bytes, bytearray, bool, int, float, date, time, timedelta, Enum)
_SHOWN = ("title", "description")
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#09;"}
)


def format_as_xml(
    obj: Any,
    root_tag: str | None = None,
    item_tag: str = "item",
    none_str: str = "null",
    indent: str | None = "  ",
    include_field_info: Literal["once"] | bool = False,
) -> str:
    """Write a value as XML. Never blocks; the result has no XML declaration and no trailing newline.

    Args:
        obj: A string, bytes, number, bool, date, time, timedelta, enum member or None; or a mapping, an iterable, a
            dataclass, a pydantic model, an attrs object or a msgspec struct of such values. An iterator is used up.
        root_tag: The outer element. None leaves it out: the fields or items then stand side by side, and a plain
            value is written as an `item_tag` element.
        item_tag: The element of each item of an iterable; items with fields are named by their class instead.
        none_str: What to write for None.
        indent: One level's indentation; None writes everything on one line.
        include_field_info: Write the `title` and `description` of pydantic fields (or of a dataclass field's
            `metadata`) as attributes: True, every time; `'once'`, the first time that a field is written.

    Raises:
        TypeError: For a value, or a mapping's key, of another type. The message names the type.
    """
    writer = _Writer(item_tag, none_str, include_field_info)
    element = writer.element(root_tag or item_tag, obj)
    bare = root_tag is None and element.children is not None
    elements = element.children or [] if bare else [element]
    if indent is None:
        return "".join(line for each in elements for line in each.lines("", 0))
    return "\n".join(line for each in elements for line in each.lines(indent, 0))


@dataclass(slots=True)
class _Element:
    tag: str
    attributes: str = ""
    text: str = ""
    children: list[_Element] | None = None
    """None for a plain value: text is all it has."""

    def lines(self, indent: str, depth: int) -> Iterator[str]:
        """The element's lines; the caller decides what stands between them."""
        margin = indent * depth
        if self.children:
            yield f"{margin}<{self.tag}{self.attributes}>"
            for child in self.children:
                yield from child.lines(indent, depth + 1)
            yield f"{margin}</{self.tag}>"
        elif self.text:
            yield f"{margin}<{self.tag}{self.attributes}>{self.text}</{self.tag}>"
        else:
            yield f"{margin}<{self.tag}{self.attributes} />"


@dataclass(slots=True)
class _Field:
    """A field of an object: its value, the class that it is of, and where its title and description are."""

    name: str
    value: Any
    owner: type | None = None
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class _Writer:
    item_tag: str
    none_str: str
    info: Literal["once"] | bool
    shown: set[tuple[type | None, str]] = field(default_factory=set[tuple[type | None, str]])

    def element(self, tag: str, value: Any) -> _Element:
        if isinstance(value, RootModel):
            value = cast("RootModel[Any]", value).root
        if value is None:
            return _Element(tag, text=self.none_str.translate(_TEXT))
        if isinstance(value, _LEAVES):
            return _Element(tag, text=_leaf(value).translate(_TEXT))
        element = _Element(tag, children=[])
        children = cast("list[_Element]", element.children)
        if isinstance(value, Mapping):
            for key, item in cast("Mapping[Any, Any]", value).items():
                if not isinstance(key, (str, int)):
                    raise TypeError(
                        f"Unsupported key type for XML formatting: {type(key)}, only str and int are allowed"
                    )
                children.append(self.element(str(key), item))
        elif (found := _fields(value)) is not None:
            for each in found:
                attributes = self.attributes(
                    each
                )  # before its children: a nested field of the same name comes later
                child = self.element(each.name, each.value)
                child.attributes = attributes
                children.append(child)
        elif isinstance(value, Iterable):
            for item in cast("Iterable[Any]", value):
                children.append(self.element(_item_tag(item, self.item_tag), item))
        else:
            raise TypeError(f"Unsupported type for XML formatting: {type(value)}")
        return element

    def attributes(self, field: _Field) -> str:
        if not self.info or not field.info:
            return ""
        if self.info == "once":
            if (field.owner, field.name) in self.shown:
                return ""
            self.shown.add((field.owner, field.name))
        return "".join(
            f' {name}="{str(field.info[name]).translate(_ATTRIBUTE)}"'
            for name in _SHOWN
            if field.info.get(name) is not None
        )


def _item_tag(item: object, default: str) -> str:
    kind = type(item)
    has_fields = (
        isinstance(item, (BaseModel, msgspec.Struct))
        or is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
    )
    return kind.__name__ if has_fields else default


def _leaf(value: Any) -> str:
    if isinstance(value, str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="ignore")
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value)


def _fields(value: Any) -> list[_Field] | None:
    """The fields of an object in the order of their definition, or None for an object that has none."""
    kind = cast("type[Any]", type(value))
    if isinstance(value, BaseModel):
        return _model_fields(value)
    if is_dataclass(kind):
        return [_Field(each.name, getattr(value, each.name), kind, each.metadata) for each in fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [
            _Field(each.name, getattr(value, each.name), kind, each.metadata) for each in kind.__attrs_attrs__
        ]
    if isinstance(value, msgspec.Struct):
        return [_Field(name, getattr(value, name)) for name in value.__struct_fields__]
    return None


def _model_fields(model: BaseModel) -> list[_Field]:
    kind = type(model)
    if kind.__pydantic_decorators__.model_serializers:
        return [_Field(name, value) for name, value in model.model_dump().items()]
    info: dict[str, Any] = {**kind.model_fields, **(model.model_extra or {}), **kind.model_computed_fields}
    values = {name: getattr(model, name) for name in info if not getattr(info[name], "exclude", None)}
    # leaves as the model's serializers write them; what has fields of its own stays an object, to be named by its class
    leaves = {name for name, value in values.items() if value is None or isinstance(value, _LEAVES)}
    values.update(model.model_dump(include=leaves, by_alias=False, warnings=False))
    return [_model_field(kind, name, value, info[name]) for name, value in values.items()]


def _model_field(kind: type, name: str, value: Any, info: Any) -> _Field:
    if not isinstance(info, (FieldInfo, ComputedFieldInfo)):
        return _Field(name, value)
    return _Field(name, value, kind, {"title": info.title, "description": info.description})
