"""Where schemas and calls go further than Pydantic AI 1.46, or are stricter."""

import functools
from typing import Annotated, Any, Unpack

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from runmgr.exceptions import UserError
from runmgr.tools import GenerateToolJsonSchema, RunContext, Tool
from runmgr.usage import RunUsage


def context(**kwargs: Any) -> RunContext[Any]:
    return RunContext(deps=None, model=None, usage=RunUsage(), **kwargs)  # pyright: ignore


class Point(BaseModel):
    x: int


async def call(function, data, **kwargs):
    schema = Tool(function, **kwargs).function_schema
    return await schema.call(schema.validator.validate_json(data), context())


async def test_arguments_reach_the_function_however_it_takes_them():
    def every(x: int, /, y: int = 2, *args: str, z: int = 5, **rest: int):
        return x, y, args, z, rest

    assert await call(every, '{"x": 1, "args": ["a"]}') == (1, 2, ("a",), 5, {})
    assert await call(every, '{"x": 1, "y": 4, "args": ["a", "b"], "z": 3, "q": 7}') == (
        1,
        4,
        ("a", "b"),
        3,
        {"q": 7},
    )

    def with_context(ctx: RunContext, /, x: int):
        return type(ctx).__name__, x

    assert await call(with_context, '{"x": 1}') == ("RunContext", 1)

    def model_by_position(ctx: RunContext, m: Point, /):
        return m

    assert await call(model_by_position, '{"x": 1}') == Point(x=1)


async def test_alias_is_only_the_models_name_for_it():
    def function(x: Annotated[int, Field(alias="ex")]):
        return x

    assert await call(function, '{"ex": 3}') == 3


async def test_callables_of_all_kinds():
    class Service:
        def method(self, x: int) -> int:
            return x + 1

        async def coroutine(self, x: int) -> int:
            return x + 2

        def __call__(self, x: int) -> int:
            "Calls."
            return x + 3

    class Async:
        async def __call__(self, x: int) -> int:
            return x + 4

    def two(x: int, y: int):
        return x + y

    async def two_async(x: int, y: int):
        return x + y

    service = Service()
    assert await call(service.method, '{"x": 1}') == 2
    assert await call(service.coroutine, '{"x": 1}') == 3
    assert await call(service, '{"x": 1}') == 4
    assert await call(Async(), '{"x": 1}') == 5
    assert await call(functools.partial(two, 10), '{"y": 1}') == 11
    assert await call(functools.partial(two_async, y=10), '{"x": 1}') == 11
    assert (Tool(service).name, Tool(service).description) == ("Service", "Calls.")
    assert Tool(functools.partial(two, 10)).name == "two"


async def test_unpacked_typed_dict_names_the_arguments():
    class Options(TypedDict, total=False):
        a: int
        b: str

    def function(**options: Unpack[Options]):
        return options

    assert Tool(function).tool_def.parameters_json_schema == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "additionalProperties": False,
    }
    assert await call(function, '{"a": 1}') == {"a": 1}


def test_a_context_may_be_annotated_further():
    def function(ctx: Annotated[RunContext[int], "note"], x: int): ...

    assert Tool(function).takes_ctx


def test_missing_descriptions_are_named():
    def half(x: int, y: int, z: int):
        """Half.

        Args:
            x: known
        """

    with pytest.raises(
        UserError, match="Error generating schema for .*half:\n  Missing parameter descriptions for y, z"
    ):
        Tool(half, require_parameter_descriptions=True)


def test_a_name_that_only_type_checkers_know_is_named():
    def function(ctx: "RunContext | None", x: int): ...

    with pytest.raises(UserError, match="names 'Model', which is not defined"):
        Tool(function)


def test_a_type_that_cannot_be_found_is_placed():
    def function(x: "Nowhere"): ...  # noqa: F821

    with pytest.raises(NameError, match="Nowhere") as error:
        Tool(function)
    assert "an annotation of test_a_type_that_cannot_be_found_is_placed" in error.value.__notes__[0]


def test_own_schema_generator():
    class Loud(GenerateToolJsonSchema):
        def int_schema(self, schema):
            return {"type": "integer", "loud": True}

    def function(x: int): ...

    schema = Tool(function, schema_generator=Loud).tool_def.parameters_json_schema
    assert schema["properties"] == {"x": {"type": "integer", "loud": True}}


async def test_from_schema_passes_anything_by_name():
    def function(ctx: RunContext, **kwargs: Any):
        return kwargs

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = Tool.from_schema(function, "named", "described", schema, takes_ctx=True, sequential=True)
    assert (tool.name, tool.description, tool.tool_def.parameters_json_schema) == (
        "named",
        "described",
        schema,
    )
    assert tool.tool_def.sequential
    function_schema = tool.function_schema
    assert await function_schema.call(function_schema.validator.validate_json('{"a": "not"}'), context()) == {
        "a": "not"
    }


def test_prepare_gets_a_definition_of_its_own():
    def function(x: int): ...

    tool = Tool(function)
    tool.tool_def.description = "changed"
    assert tool.tool_def.description is None


async def test_prepare_may_change_the_schema_in_place():
    def greet(name: str): ...

    async def prepare(ctx, tool_def):
        tool_def.parameters_json_schema["properties"]["name"]["description"] = f"for {ctx.deps}"
        return tool_def

    tool = Tool(greet, prepare=prepare)
    own = context()
    own.deps = "you"
    prepared = await tool.prepare_tool_def(own)
    assert prepared is not None
    assert prepared.parameters_json_schema["properties"]["name"]["description"] == "for you"
    assert "description" not in tool.tool_def.parameters_json_schema["properties"]["name"]


@pytest.mark.parametrize(
    "docstring",
    [
        "Look it up.\n\n        :param x: what to look for\n        ",
        "Look it up.\n\n:param x: what to look for",
        "Look it up.\n\n    Args:\n        nobody: reads this\n\n    :param x: what to look for\n    ",
    ],
)
def test_one_described_parameter_is_enough_to_know_sphinx_by(docstring):
    def function(x: int) -> int:
        return x

    function.__doc__ = docstring
    definition = Tool(function).tool_def
    assert definition.description.startswith("Look it up.")
    assert ":param" not in definition.description
    assert definition.parameters_json_schema["properties"]["x"]["description"] == "what to look for"
