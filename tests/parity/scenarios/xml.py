"""Values as XML: every kind of value, with every option."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer, model_serializer
from pydantic_ai import format_as_xml

OPTIONS = [
    {},
    {"root_tag": "root"},
    {"indent": None},
    {"root_tag": "root", "indent": None},
    {"item_tag": "thing", "none_str": "NIL", "indent": "\t"},
    {"indent": ""},
    {"include_field_info": True},
    {"include_field_info": "once"},
    {"include_field_info": "once", "root_tag": "root", "item_tag": "el", "indent": None},
]


def write(show, *values):
    for value in values:
        for options in OPTIONS:
            try:
                show(format_as_xml(value, **options))
            except TypeError as error:
                show(error)


class Color(Enum):
    RED = "red"


class Shade(str, Enum):  # noqa: UP042 (a StrEnum is written otherwise)
    DARK = "dark"


class Pair(NamedTuple):
    first: int
    second: str


@dataclass
class Point:
    x: int
    label: str = field(
        default="p", metadata={"title": "Label", "description": 'what <it> "is"', "unit": "no"}
    )
    next: "Point | None" = None
    _hidden: int = 1


@dataclass
class Named(Point):
    name: str = field(default="", metadata={"title": 3, "description": ""})


class Person(BaseModel):
    name: str = Field(title="Name", description="a\n\tname")
    children: list["Person"] = Field(default_factory=list, description="in order of age")
    age: int = Field(default=1, alias="AGE", description="in years")
    secret: int = Field(default=5, exclude=True)

    @computed_field(title="Size", description="computed")
    @property
    def size(self) -> int:
        return len(self.name)


class Employee(Person):
    points: dict[str, Point] = Field(default={}, title="Points")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = Field(title="Number")

    @field_serializer("number")
    def in_brackets(self, number):
        return f"<{number}>"


class Rewritten(BaseModel):
    a: int = 1

    @model_serializer
    def other(self):
        return {"b": self.a}


@dataclass
class Holder:
    person: Person = field(metadata={"description": "one"})
    people: list[Person] = field(default_factory=list)
    anything: Any = None


def check_plain_values(show):
    day = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    write(
        show,
        "hi",
        'a<b & "c" > d',
        "",
        " ",
        "two\nlines",
        1,
        1.5,
        True,
        None,
        b"abc",
        bytearray(b"x"),
        b"\xff",
    )
    write(show, day, day.date(), day.time(), dt.timedelta(days=1, seconds=5), float("nan"), 10**30)
    write(show, Color.RED, Shade.DARK)


def check_containers(show):
    write(
        show,
        [],
        {},
        (),
        [1, 2, "x"],
        (1, None),
        {1},
        frozenset(["q"]),
        range(3),
        Pair(1, "b"),
        [[1, 2], [3]],
        [[], {}],
    )
    write(
        show,
        {"a": 1, "b": [1, 2], "c": {"d": None}},
        {"a b": 1},
        {1: 2},
        {"": 1},
        {"<x>": 1},
        {"m": {"m": {"m": 1}}},
    )
    write(show, {"x": [{"y": 1}, {"y": 2}]}, [{"a": [1, {"b": 2}]}])


def check_what_cannot_be_written(show):
    write(
        show,
        Decimal("1.5"),
        object(),
        complex(1, 2),
        Person,
        {3.5: 1},
        {None: 1},
        {(1, 2): 1},
        [{"a": Decimal(1)}],
    )


def check_iterators(show):
    for options in OPTIONS:
        show(format_as_xml((number for number in range(2)), **options))
        show(format_as_xml(map(str, [1, 2]), **options))


def check_dataclasses(show):
    write(show, Point(1), Point(1, next=Point(2)), [Point(1), Point(2)], {"d": Point(1), "l": [Point(2)]})
    write(show, [Named(1, next=Point(3)), Point(2), Named(4)], [Point(1), {"x": 3, "label": 4}, Point(2)])
    write(show, [[Point(1)], [Point(2)]], [Point(1), Person(name="q"), 3])


def check_models(show):
    write(show, Person(name="n", children=[Person(name="k")], AGE=4), [Person(name="a"), Person(name="b")])
    write(show, Employee(name="s", points={"k": Point(3)}), [Person(name="a"), Employee(name="b")])
    write(show, Open(number=1), Open(number=1, extra=2, more=[1]), Rewritten(), [Rewritten(a=2)])
    write(show, Holder(Person(name="z"), [Person(name="y"), Person(name="x")]))
    write(show, Holder(Person(name="z"), anything=[Point(1), Point(2, next=Point(5))]))
