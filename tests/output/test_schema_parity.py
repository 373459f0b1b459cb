"""What models are told of outputs is what Pydantic AI 1.46 tells them, side by side."""
# ruff: noqa: UP007, UP045, B006, B008 (the spellings are what is tested)

import asyncio
import dataclasses
import enum
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union

import pydantic_ai
import pydantic_ai.models.function
import pydantic_ai.output
import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType, TypedDict

import runmgr.messages
import runmgr.output
import runmgr.tools
from runmgr.exceptions import UserError

T = TypeVar("T")


class Point(BaseModel):
    """A point."""

    x: int = Field(description="across", title="EX")


class Name(BaseModel):
    first: str


class Titled(BaseModel):
    model_config = ConfigDict(title="Custom Title")
    x: int


class Box(BaseModel, Generic[T]):
    content: T


class Tree(BaseModel):
    kids: "list[Tree]" = []


@dataclasses.dataclass
class Size:
    """A size."""

    width: int


class Options(TypedDict):
    """Options."""

    key: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


Alias = TypeAliasType("Alias", Union[Point, Name])


def object_schema(**more: str) -> dict[str, Any]:
    """New each time: Pydantic AI changes what it is given."""
    return {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], **more}


def make(output: Any, RunContext: Any) -> dict[str, Any]:
    """Output types by name, with the markers of one library or the other."""
    ToolOutput, StructuredDict = output.ToolOutput, output.StructuredDict

    def function(x: int, y: str = "a") -> Point:
        """Function doc.

        Args:
            x: ex
        """

    def of_model(p: Point) -> int:
        "of_model doc"

    def with_context(ctx: RunContext, p: Point) -> int: ...
    async def coroutine(ctx: RunContext, s: str) -> int: ...

    class Service:
        def method(self, q: int) -> int:
            "method doc"

    return {
        "int": int,
        "bool": bool,
        "bytes": bytes,
        "list": list[int],
        "bare list": list,
        "dict": dict[str, int],
        "tuple": tuple[int, str],
        "literal": Literal["a", "b"],
        "enum": Colour,
        "any": Any,
        "object": object,
        "none": type(None),
        "optional": Optional[int],
        "model": Point,
        "undocumented model": Name,
        "titled": Titled,
        "generic": Box[int],
        "recursive": Tree,
        "dataclass": Size,
        "typed dict": Options,
        "models": list[Point],
        "union": Union[Point, Name],
        "new union": Point | Name,
        "sequence": [Point, Name],
        "nested": [Point, [Name, Size]],
        "alias": Alias,
        "twice": [Point, Point],
        "generic union": [Box[int], Name],
        "titled union": [Titled, Name],
        "lists": [list[Point], list[Name]],
        "with str": [Point, str],
        "union with str": Union[str, Point],
        "str and none": [str, type(None)],
        "function": function,
        "function of a model": of_model,
        "function with context": with_context,
        "coroutine": coroutine,
        "method": Service().method,
        "lambda": lambda x: x,
        "functions": [function, of_model],
        "mixed": [Point, function, str],
        "tool": ToolOutput(Point, name="made", description="Given", strict=True),
        "tool of int": ToolOutput(int, description="Given"),
        "tool of str": ToolOutput(str),
        "tool of union": ToolOutput(Union[Point, Name]),
        "tool of function": ToolOutput(function),
        "tools": [ToolOutput(Point, name="a"), ToolOutput(Name)],
        "described tools": [ToolOutput(int, description="Given"), ToolOutput(Point, description="Given")],
        "tools of one name": [ToolOutput(Point, name="a"), ToolOutput(Name, name="a")],
        "tool and str": [ToolOutput(int, name="a"), str],
        "structured dict": StructuredDict(object_schema(title="Titled", description="Described")),
        "named structured dict": StructuredDict(object_schema(), name="named", description="Described"),
        "structured dicts": [StructuredDict(object_schema(), name="A"), StructuredDict(object_schema())],
        "deferred": [Point, output.DeferredToolRequests],
    }


class Namespace:
    def __init__(self, *modules: Any) -> None:
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return next(getattr(m, name) for m in self.modules if hasattr(m, name))


OURS = make(Namespace(runmgr.output, runmgr.tools), runmgr.tools.RunContext)
THEIRS = make(Namespace(pydantic_ai.output, pydantic_ai), pydantic_ai.RunContext)


class Stop(Exception):
    pass


def what_pydantic_ai_sends(output_type: Any, mode: str) -> Any:
    """The parameters of a request that Pydantic AI would send."""
    seen = []

    def model(messages, info):
        seen.append(info.model_request_parameters)
        raise Stop

    profile = {"supports_json_schema_output": True, "default_structured_output_mode": mode}
    agent = pydantic_ai.Agent(
        pydantic_ai.models.function.FunctionModel(
            model, profile=pydantic_ai.profiles.ModelProfile(**profile)
        ),
        output_type=output_type,
    )
    with pytest.raises(Stop):
        asyncio.run(agent.run("x"))
    return seen[0]


def fields(definition: Any) -> dict[str, Any]:
    return {f.name: getattr(definition, f.name) for f in dataclasses.fields(definition)}


@pytest.mark.parametrize("name", OURS)
def test_output_tools(name):
    params = what_pydantic_ai_sends(THEIRS[name], "tool")
    schema = runmgr.output.OutputSchema.build(OURS[name])
    assert schema.toolset is not None
    ours, theirs = schema.toolset.tool_defs, params.output_tools
    assert [fields(d) for d in ours] == [fields(d) for d in theirs]
    if schema.mode == "tool":
        assert schema.allows_text == params.allow_text_output


STRUCTURED = [
    name for name, output in OURS.items() if runmgr.output.OutputSchema.build(output).object_def is not None
]


@pytest.mark.parametrize("name", STRUCTURED)
def test_output_objects(name):
    params = what_pydantic_ai_sends(THEIRS[name], "native")
    ours = runmgr.output.OutputSchema.build(OURS[name]).object_def
    theirs = params.output_object
    assert ours.json_schema == theirs.json_schema
    assert (ours.name, ours.strict) == (theirs.name, theirs.strict)
    if "result" not in ours.json_schema.get("properties", {}):
        # Of several outputs Pydantic AI gives the last one's description for all: not followed.
        assert ours.description == theirs.description


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            runmgr.output.NativeOutput([Point, Name], name="n", strict=True),
            pydantic_ai.NativeOutput([Point, Name], name="n", strict=True),
        ),
        (
            runmgr.output.NativeOutput(Point, name="n", description="Given", template="as {schema}"),
            pydantic_ai.NativeOutput(Point, name="n", description="Given", template="as {schema}"),
        ),
        (
            runmgr.output.PromptedOutput(Point, name="n", description="Given", template="as {schema}"),
            pydantic_ai.PromptedOutput(Point, name="n", description="Given", template="as {schema}"),
        ),
        (runmgr.output.PromptedOutput(int), pydantic_ai.PromptedOutput(int)),
        (runmgr.output.PromptedOutput([Point, str]), pydantic_ai.PromptedOutput([Point, str])),
    ],
)
def test_markers(ours, theirs):
    params = what_pydantic_ai_sends(theirs, "tool")
    schema = runmgr.output.OutputSchema.build(ours)
    assert schema.mode == params.output_mode
    assert schema.toolset is None
    assert fields(schema.object_def) == fields(params.output_object)
    if schema.mode == "prompted" and schema.template:
        assert schema.template == params.prompted_output_template


@pytest.mark.parametrize(
    ("output_type", "message"),
    [
        ([], "At least one output type must be provided."),
        (
            runmgr.tools.DeferredToolRequests,
            "At least one output type must be provided other than `DeferredToolRequests`.",
        ),
        ([str, runmgr.output.TextOutput(lambda text: text)], "Only one `str` or `TextOutput` is allowed."),
        ([runmgr.output.NativeOutput(Point), str], "`NativeOutput` must be the only output type."),
        ([Point, runmgr.output.PromptedOutput(Name)], "`PromptedOutput` must be the only output type."),
        (
            runmgr.output.TextOutput(lambda a, b: a),
            "TextOutput must take a function taking a single `str` argument",
        ),
    ],
)
def test_impossible(output_type, message):
    with pytest.raises(UserError) as error:
        runmgr.output.OutputSchema.build(output_type)
    assert str(error.value) == message


def test_a_marker_takes_one_type():
    with pytest.raises(UserError, match="use a list of markers"):
        runmgr.output.OutputSchema.build(runmgr.output.ToolOutput([Point, Name]))  # pyright: ignore


@pytest.mark.parametrize(
    ("output_type", "mode", "text", "image", "deferred"),
    [
        (str, "text", True, False, False),
        ([str, runmgr.tools.DeferredToolRequests], "text", True, False, True),
        (runmgr.output.TextOutput(str.upper), "text", True, False, False),
        (runmgr.messages.BinaryImage, "image", False, True, False),
        ([runmgr.messages.BinaryImage, str], "text", True, True, False),
        ([Point, runmgr.messages.BinaryImage], "auto", True, True, False),
        ([Point, str], "tool", True, False, False),
        (runmgr.output.ToolOutput(Point), "tool", False, False, False),
        (Point, "auto", True, False, False),
    ],
)
def test_modes(output_type, mode, text, image, deferred):
    schema = runmgr.output.OutputSchema.build(output_type)
    assert (schema.mode, schema.allows_text, schema.allows_image, schema.allows_deferred_tools) == (
        mode,
        text,
        image,
        deferred,
    )


def test_default_mode_and_name():
    schema = runmgr.output.OutputSchema.build(
        [Point, Name], name="out", description="Given", default_mode="tool"
    )
    assert (schema.mode, schema.allows_text, schema.object_def) == ("tool", False, None)
    assert [d.name for d in schema.toolset.tool_defs] == ["out_Point", "out_Name"]
    assert [d.description for d in schema.toolset.tool_defs] == ["Given. A point.", "Given"]


def test_structured_dict_must_be_an_object():
    with pytest.raises(UserError, match="Schema must be an object"):
        runmgr.output.StructuredDict({"type": "array"})


def with_definitions() -> dict[str, Any]:
    return {
        "$defs": {
            "Tire": {
                "type": "object",
                "properties": {"brand": {"type": "string"}, "size": {"$ref": "#/$defs/Size"}},
            },
            "Size": {"type": "integer", "title": "Size"},
        },
        "type": "object",
        "properties": {
            "tires": {"type": "array", "items": {"$ref": "#/$defs/Tire"}},
            "size": {"anyOf": [{"$ref": "#/$defs/Size"}, {"type": "null"}]},
        },
    }


def test_structured_dict_has_its_definitions_in_place():
    params = what_pydantic_ai_sends(pydantic_ai.StructuredDict(with_definitions(), name="Car"), "native")
    schema = runmgr.output.OutputSchema.build(runmgr.output.StructuredDict(with_definitions(), name="Car"))
    assert fields(schema.object_def) == fields(params.output_object)
    of_root = runmgr.output.StructuredDict(
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "title": "T"}}}
    )
    assert runmgr.output.OutputSchema.build(of_root).object_def.json_schema == {
        "type": "object",
        "title": "T",
    }


@pytest.mark.parametrize("definitions", [{}, {"$defs": {"A": {"type": "string"}}}])
def test_structured_dict_with_a_reference_to_nowhere(definitions):
    with pytest.raises(UserError, match=r"Could not find \$ref definition for Z"):
        runmgr.output.StructuredDict(
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/Z"}}, **definitions}
        )


def test_structured_dict_may_refer_to_elsewhere_and_have_odd_names():
    schema = {"type": "object", "properties": {"a": {"$ref": "https://x.org/s"}, "$ref": {"type": "string"}}}
    built = runmgr.output.OutputSchema.build(runmgr.output.StructuredDict(schema))
    assert built.object_def.json_schema == schema


def test_structured_dict_may_be_recursive():
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Tree"}},
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
            }
        },
    }
    built = runmgr.output.OutputSchema.build(runmgr.output.StructuredDict(schema, name="S"))
    assert built.object_def.json_schema == schema | {"title": "S"}


def test_annotated_is_named_by_its_type():
    schema = runmgr.output.OutputSchema.build([Annotated[int, Field(ge=3, description="counted")], Point])
    first = schema.toolset.tool_defs[0]
    assert first.name == "final_result_int"
    assert first.parameters_json_schema["properties"]["response"] == {
        "type": "integer",
        "minimum": 3,
        "description": "counted",
    }
