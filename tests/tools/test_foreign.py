"""attrs classes and msgspec structs as arguments."""
# ruff: noqa: UP007, UP045, B006, B008 (the spellings are what is tested)

from typing import Annotated, Any, Literal, Optional, Union

import attrs
import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from runmgr.tools import RunContext, Tool
from runmgr.usage import RunUsage


@attrs.define
class Address:
    """Where."""

    street: str
    number: int = attrs.field(default=1, metadata={"description": "of the house"})


@attrs.define
class Person:
    name: str
    age: int = attrs.field(validator=attrs.validators.ge(0))
    _secret: str = "s"
    addresses: list[Address] = attrs.Factory(list)
    boss: "Optional[Person]" = None
    upper: str = attrs.field(init=False, default="")

    def __attrs_post_init__(self):
        self.upper = self.name.upper()


class Item(msgspec.Struct):
    """An item."""

    name: str
    price: Annotated[float, msgspec.Meta(gt=0)]
    tags: set[str] = set()


class Order(msgspec.Struct, kw_only=True, rename="camel"):
    items_: list[Item]
    parent_order: "Order | None" = None


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    name: str


async def call(function, data):
    schema = Tool(function).function_schema
    return await schema.call(
        schema.validator.validate_json(data),
        RunContext(deps=None, model=None, usage=RunUsage()),  # pyright: ignore
    )


def errors(function, data):
    with pytest.raises(ValidationError) as error:
        Tool(function).function_schema.validator.validate_json(data)
    return [(e["loc"], e["type"], e["msg"]) for e in error.value.errors()]


async def test_attrs_fields_become_the_arguments():
    def function(person: Person):
        return person

    tool = Tool(function)
    assert tool.tool_def.parameters_json_schema == {
        "$defs": {
            "Address": {
                "title": "Address",
                "description": "Where.",
                "type": "object",
                "properties": {
                    "street": {"type": "string"},
                    "number": {"type": "integer", "default": 1, "description": "of the house"},
                },
                "required": ["street"],
            },
            "Person": {
                "title": "Person",
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": "integer"},
                    "secret": {"type": "string", "default": "s"},
                    "addresses": {"type": "array", "items": {"$ref": "#/$defs/Address"}},
                    "boss": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}], "default": None},
                },
                "required": ["name", "age"],
            },
        },
        "$ref": "#/$defs/Person",
    }
    assert await call(
        function, '{"name": "a", "age": "3", "addresses": [{"street": "b"}], "boss": {"name": "c", "age": 4}}'
    ) == Person("a", 3, addresses=[Address("b", 1)], boss=Person("c", 4))


def test_attrs_errors_say_where():
    def function(person: Person): ...

    assert errors(function, '{"name": 1, "addresses": [{"number": "x"}]}') == [
        (("name",), "string_type", "Input should be a valid string"),
        (("age",), "missing", "Field required"),
        (("addresses", 0, "street"), "missing", "Field required"),
        (
            ("addresses", 0, "number"),
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
    ]
    ((loc, kind, message),) = errors(function, '{"name": "a", "age": -1}')
    assert (loc, kind) == ((), "value_error")
    assert "'age' must be >= 0: -1" in message


async def test_attrs_converters_decide_what_is_taken():
    def to_int(text: str) -> int:
        return int(text)

    @attrs.define
    class Converted:
        count: int = attrs.field(converter=to_int)

    def function(c: Converted):
        return c

    assert Tool(function).tool_def.parameters_json_schema["properties"] == {"count": {"type": "string"}}
    assert await call(function, '{"count": "12"}') == Converted("12")
    assert errors(function, '{"count": "x"}')[0][1] == "value_error"


async def test_struct_fields_become_the_arguments():
    def function(item: Item):
        return item

    tool = Tool(function)
    assert tool.description == "An item."
    assert tool.tool_def.parameters_json_schema == {
        "title": "Item",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "price": {"type": "number", "exclusiveMinimum": 0},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []},
        },
        "required": ["name", "price"],
    }
    assert await call(function, '{"name": "a", "price": 2}') == Item("a", 2.0)


def test_struct_errors_say_where():
    def function(order: Order, n: int): ...

    assert errors(function, '{"order": {"things": []}, "n": "x"}') == [
        (("order",), "msgspec", "Object missing required field `items`"),
        (("n",), "int_parsing", "Input should be a valid integer, unable to parse string as an integer"),
    ]
    assert errors(
        function, '{"order": {"items": [{"name": "a", "price": 1}, {"name": 2, "price": 1}]}, "n": 1}'
    ) == [
        (("order", "items", 1, "name"), "msgspec", "Expected `str`, got `int`"),
    ]
    assert errors(function, '{"order": {"items": [{"name": "a", "price": 0}]}, "n": 1}') == [
        (("order", "items", 0, "price"), "msgspec", "Expected `float` > 0.0"),
    ]


async def test_recursive_struct_keeps_its_definition():
    def function(order: Order):
        return order

    schema = Tool(function).tool_def.parameters_json_schema
    assert schema["type"] == "object"
    assert schema["properties"]["items"] == {"type": "array", "items": {"$ref": "#/$defs/Item"}}
    assert schema["properties"]["parentOrder"]["anyOf"] == [{"$ref": "#/$defs/Order"}, {"type": "null"}]
    assert set(schema["$defs"]) == {"Item", "Order"}
    order = await call(function, '{"items": [], "parentOrder": {"items": [{"name": "a", "price": 1}]}}')
    assert order == Order(items_=[], parent_order=Order(items_=[Item("a", 1.0)]))


async def test_foreign_types_within_generics_and_beside_pydantic_ones():
    class Model(BaseModel):
        item: int

    def function(
        pets: list[Cat | Dog], by_name: dict[str, Item], model: Model, who: Union[Address, None] = None
    ):
        return pets, by_name, model, who

    schema = Tool(function).tool_def.parameters_json_schema
    assert schema["properties"]["by_name"] == {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Item"},
    }
    assert set(schema["$defs"]) == {"Address", "Cat", "Dog", "Item", "Model"}
    assert schema["properties"]["pets"] == {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]},
    }
    assert await call(
        function,
        '{"pets": [{"type": "dog", "name": "d"}, {"type": "cat", "lives": 9}], "by_name": {"a": {"name": "n", "price": 1}},'
        ' "model": {"item": 1}, "who": {"street": "s"}}',
    ) == ([Dog("d"), Cat(9)], {"a": Item("n", 1.0)}, Model(item=1), Address("s"))


def test_definitions_of_the_same_name_do_not_collide():
    class Item(BaseModel):
        other: int

    pydantic_item = Item

    def function(a: pydantic_item, b: Order): ...

    schema = Tool(function).tool_def.parameters_json_schema
    assert schema["properties"]["a"] == {"$ref": "#/$defs/Item"}
    assert schema["$defs"]["Item"]["properties"] == {"other": {"type": "integer"}}
    assert schema["$defs"]["Order"]["properties"]["items"]["items"] == {"$ref": "#/$defs/Item_2"}
    assert "price" in schema["$defs"]["Item_2"]["properties"]


def test_annotations_without_foreign_types_stay_as_they_are():
    from runmgr.tools.foreign import adapted

    for annotation in (
        int,
        list[int],
        Literal["a"],
        Any,
        dict[str, list[int]],
        Annotated[int, "x"],
        int | None,
    ):
        assert adapted(annotation) is annotation
