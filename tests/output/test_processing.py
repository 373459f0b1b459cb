"""From what the model said to the output."""

from typing import Any

import attrs
import msgspec
import pytest
import trio
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from runmgr.exceptions import ModelRetry, ToolRetryError, UnexpectedModelBehavior
from runmgr.messages import ToolCallPart
from runmgr.output import (
    NativeOutput,
    OutputSchema,
    OutputValidator,
    PromptedOutput,
    StructuredDict,
    TextOutput,
    ToolOutput,
)
from runmgr.tools import RunContext
from runmgr.toolsets import ToolManager


class Point(BaseModel):
    x: int
    labels: list[str] = []


class Name(BaseModel):
    first: str


class Partial(TypedDict, total=False):
    x: int
    labels: list[str]
    note: str


class Struct(msgspec.Struct):
    """A struct."""

    x: int
    labels: list[str] = []


@attrs.define
class Attrs:
    """An attrs class."""

    x: int
    labels: list[str] = attrs.Factory(list)


def checked(x: int) -> str:
    if x == 1:
        raise ModelRetry("not 1")
    if x == 2:
        raise ValueError("a bug")
    return f"checked {x}"


async def with_context(ctx: RunContext, x: int) -> Any:
    return ctx.tool_name, ctx.tool_call_id, ctx.retry, ctx.max_retries, ctx.partial_output, x


async def of_text(ctx: RunContext, output_type: Any, text: str, **options: Any) -> Any:
    schema = OutputSchema.build(output_type)
    assert schema.text_processor is not None
    return await schema.text_processor.process(text, ctx, **options)


async def of_call(
    ctx: RunContext, output_type: Any, args: Any, name: str = "final_result", retries=None, **options: Any
) -> Any:
    toolset = OutputSchema.build(output_type).toolset
    assert toolset is not None
    manager = ToolManager(toolset.configured(max_retries=3), retries=retries)
    await manager.prepare(ctx)
    return await manager.call(ToolCallPart(name, args, tool_call_id="id"), ctx, **options)


async def retried(call) -> Any:
    with pytest.raises(ToolRetryError) as error:
        await call
    return error.value.tool_retry.content


@pytest.mark.parametrize("marker", [PromptedOutput, NativeOutput])
@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        '  {"x": 1}\n',
        '```json\n{"x": 1}\n```',
        '```\n{"x": 1}\n```',
        'Here you are:\n```json\n{"x": 1}\n```\nAnything else?',
        '```JSON {"x": 1}```',
    ],
)
async def test_json_in_text(make_context, marker, text):
    assert await of_text(make_context(), marker(Point), text) == Point(x=1)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"x": "q"}', [("int_parsing", ("x",))]),
        ("not JSON", [("json_invalid", ())]),
        ("", [("missing", ("x",))]),
        ('{"x": 1, "labels": ["a"', [("json_invalid", ())]),
        ('bla {"x": 1} bla', [("json_invalid", ())]),
    ],
)
async def test_bad_text(make_context, text, content):
    details = await retried(of_text(make_context(), PromptedOutput(Point), text))
    assert [(d["type"], d["loc"]) for d in details] == content
    with pytest.raises(ValidationError):
        await of_text(make_context(), PromptedOutput(Point), text, wrap_validation_errors=False)


async def test_bad_text_details_can_be_sent(make_context):
    """Exceptions that pydantic keeps in an error's context are turned into text."""

    class Fussy(BaseModel):
        x: int

        def model_post_init(self, context):
            raise ValueError("fussy")

    (detail,) = await retried(of_text(make_context(), PromptedOutput(Fussy), '{"x": 1}'))
    assert detail["ctx"] == {"error": "fussy"}


async def test_wrapped(make_context):
    ctx = make_context()
    assert await of_text(ctx, PromptedOutput(int), '{"response": 3}') == 3
    assert await of_call(ctx, int, '{"response": "3"}') == 3
    assert await of_call(ctx, list[int], '{"response": "[1, 2]"}') == [1, 2]
    assert await of_call(ctx, type(None), '{"response": null}') is None
    assert await of_call(ctx, ToolOutput(str), '{"response": "[1]"}') == "[1]"
    assert (await retried(of_call(ctx, int, "3")))[0]["type"] == "dict_type"
    assert [d["loc"] for d in await retried(of_call(ctx, int, '{"response": "q"}'))] == [
        ("response", "int"),
        ("response", "json[int]"),
    ]


async def test_a_root_model_is_wrapped(make_context):
    class Root(RootModel[list[int]]):
        pass

    assert await of_call(make_context(), Root, '{"response": [1]}') == Root([1])


async def test_union_in_text(make_context):
    ctx = make_context()
    output = PromptedOutput([Point, Name, int])
    assert await of_text(ctx, output, '{"result": {"kind": "Name", "data": {"first": "a"}}}') == Name(
        first="a"
    )
    assert await of_text(ctx, output, '{"result": {"kind": "int", "data": {"response": 4}}}') == 4
    assert await retried(of_text(ctx, output, '{"result": {"kind": "Q", "data": {}}}')) == "Invalid kind: Q"
    details = await retried(of_text(ctx, output, '{"result": {"kind": "Name", "data": {"first": 1}}}'))
    assert [d["loc"] for d in details] == [("first",)]
    assert (await retried(of_text(ctx, output, "{}")))[0]["loc"] == ("result",)


async def test_union_tools(make_context):
    ctx = make_context()
    assert await of_call(ctx, [Point, Name], '{"first": "a"}', "final_result_Name") == Name(first="a")
    content = await retried(of_call(ctx, [Point, Name], '{"first": "a"}'))
    assert (
        content
        == "Unknown tool name: 'final_result'. Available tools: 'final_result_Point', 'final_result_Name'"
    )


async def test_functions(make_context):
    ctx = make_context()
    assert await of_text(ctx, PromptedOutput(checked), '{"x": 5}') == "checked 5"
    assert await of_call(ctx, checked, '{"x": 5}') == "checked 5"
    assert await retried(of_text(ctx, PromptedOutput(checked), '{"x": 1}')) == "not 1"
    assert await retried(of_call(ctx, checked, '{"x": 1}')) == "not 1"
    with pytest.raises(ValueError, match="a bug"):
        await of_call(ctx, checked, '{"x": 2}')
    assert await of_text(ctx, PromptedOutput(with_context), '{"x": 1}') == (None, None, 0, 0, False, 1)
    assert await of_call(ctx, with_context, '{"x": 1}', retries={"final_result": 2}) == (
        "final_result",
        "id",
        2,
        3,
        False,
        1,
    )


async def test_bound_methods_and_callable_objects(make_context):
    class Service:
        factor = 10

        def times(self, x: int) -> int:
            return self.factor * x

        async def plus(self, x: int) -> int:
            return self.factor + x

        def __call__(self, x: int) -> int:
            return -x

    ctx = make_context()
    assert await of_call(ctx, Service().times, '{"x": 2}') == 20
    assert await of_call(ctx, Service().plus, '{"x": 2}') == 12
    assert await of_call(ctx, Service(), '{"x": 2}') == -2


async def test_text_functions(make_context):
    def shout(text: str) -> str:
        if not text:
            raise ModelRetry("say something")
        return text.upper()

    async def seen(ctx: RunContext, text: str):
        return ctx.partial_output, text

    ctx = make_context()
    assert await of_text(ctx, str, "plain") == "plain"
    assert await of_text(ctx, TextOutput(shout), "loud") == "LOUD"
    assert await of_text(ctx, TextOutput(str.title), "a title") == "A Title"
    assert await retried(of_text(ctx, TextOutput(shout), "")) == "say something"
    with pytest.raises(ModelRetry):
        await of_text(ctx, TextOutput(shout), "", wrap_validation_errors=False)
    assert await of_text(ctx, TextOutput(seen), "t") == (False, "t")
    assert await of_text(ctx, TextOutput(seen), "t", allow_partial=True) == (True, "t")


async def test_a_validation_error_out_of_a_function_is_its_own(make_context):
    """The model is told of what it sent; not of what a function found wrong elsewhere. So it is with Pydantic AI."""

    def looked_up(text: str) -> int:
        return TypeAdapter(int).validate_python(f"no number: {text}")

    for output, sent in (
        (TextOutput(looked_up), "1"),
        (PromptedOutput(looked_up), '{"text": "1"}'),
        (PromptedOutput([looked_up, Struct]), '{"result": {"kind": "looked_up", "data": {"text": "1"}}}'),
    ):
        with pytest.raises(ValidationError, match="no number: 1"):
            await of_text(make_context(), output, sent)


async def test_structured_dict_is_not_validated(make_context):
    output = StructuredDict({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    value = await of_call(make_context(), output, '{"a": 3}')
    assert value == {"a": 3}
    assert (await retried(of_call(make_context(), output, "[]")))[0]["type"] == "dict_type"


@pytest.mark.parametrize("cls", [Struct, Attrs])
async def test_structs_and_attrs_classes(make_context, cls):
    ctx = make_context()
    assert await of_call(ctx, cls, '{"x": 1, "labels": ["a"]}') == cls(1, ["a"])
    assert await of_text(ctx, PromptedOutput(cls), '```json\n{"x": 1}\n```') == cls(1)
    assert await of_text(
        ctx, NativeOutput([cls, Name]), f'{{"result": {{"kind": "{cls.__name__}", "data": {{"x": 1}}}}}}'
    ) == (cls(1))
    assert await of_call(ctx, list[cls], '{"response": [{"x": 1}]}') == [cls(1)]
    assert await of_call(ctx, [cls, Name], '{"x": 1}', f"final_result_{cls.__name__}") == cls(1)

    async def function(value: cls) -> Any:
        return value.x

    assert await of_call(ctx, function, '{"x": 7}') == 7
    (detail,) = await retried(of_call(ctx, cls, '{"x": "q"}'))
    assert detail["loc"] == ("x",)
    (tool_def,) = OutputSchema.build(cls).toolset.tool_defs
    assert tool_def.description == cls.__doc__
    assert tool_def.outer_typed_dict_key is None
    assert set(tool_def.parameters_json_schema["properties"]) == {"x", "labels"}
    assert tool_def.parameters_json_schema["required"] == ["x"]


@pytest.mark.parametrize(
    ("output_type", "args", "expected"),
    [
        (Point, '{"x": 1, "labels": ["a", "b', Point(x=1, labels=["a", "b"])),
        (Partial, '{"x": 1, "labels": ["a"], "note": "hal', {"x": 1, "labels": ["a"], "note": "hal"}),
        (Partial, "", {}),
        (list[int], '{"response": [1, 2', [1, 2]),
        (Struct, '{"x": 1, "labels": ["a"', Struct(1, ["a"])),
        (Attrs, '{"x": 1, "labels": ["a"', Attrs(1, ["a"])),
        (with_context, '{"x": 1', ("final_result", "id", 0, 3, True, 1)),
    ],
)
async def test_partial_calls(make_context, output_type, args, expected):
    options = {"allow_partial": True, "wrap_validation_errors": False}
    assert await of_call(make_context(), output_type, args, **options) == expected


@pytest.mark.parametrize(
    ("output_type", "text", "expected"),
    [
        (Partial, '{"x": 1, "labels": ["a", "b', {"x": 1, "labels": ["a", "b"]}),
        (Partial, '```json\n{"x": 1, "lab', {"x": 1}),
        (
            [Partial, Name],
            '{"result": {"kind": "Partial", "data": {"x": 1, "labels": ["a',
            {"x": 1, "labels": ["a"]},
        ),
        (with_context, '{"x": 1', (None, None, 0, 0, True, 1)),
    ],
)
async def test_partial_texts(make_context, output_type, text, expected):
    options = {"allow_partial": True, "wrap_validation_errors": False}
    assert await of_text(make_context(), PromptedOutput(output_type), text, **options) == expected


async def test_partial_that_says_too_little_is_an_error(make_context):
    options = {"allow_partial": True, "wrap_validation_errors": False}
    with pytest.raises(ValidationError):
        await of_text(make_context(), PromptedOutput([Partial, Name]), '{"result": {"ki', **options)
    with pytest.raises(ValidationError):
        await of_call(make_context(), list[int], '{"resp', **options)


async def test_validators(make_context):
    class Service:
        async def method(self, output):
            return ("method", output)

        def __call__(self, ctx: RunContext, output):
            return ("called", ctx.tool_name, output)

    def plain(output):
        return output + 1

    def second_argument_decides(a, b):
        return type(a).__name__, b

    ctx = make_context(tool_name="t")
    assert await OutputValidator(plain).validate(1, ctx) == 2
    assert await OutputValidator(Service().method).validate(1, ctx) == ("method", 1)
    assert await OutputValidator(Service()).validate(1, ctx) == ("called", "t", 1)
    assert await OutputValidator(second_argument_decides).validate(1, ctx) == ("RunContext", 1)


async def test_validators_ask_again(make_context):
    async def refuse(ctx: RunContext, output):
        raise ModelRetry(f"no: {ctx.partial_output}")

    validator = OutputValidator(refuse)
    with pytest.raises(ToolRetryError) as error:
        await validator.validate(1, make_context(tool_name="t", tool_call_id="id"))
    prompt = error.value.tool_retry
    assert (prompt.content, prompt.tool_name, prompt.tool_call_id) == ("no: False", "t", "id")
    with pytest.raises(ModelRetry, match="no: True"):
        await validator.validate(1, make_context(), wrap_validation_errors=False, allow_partial=True)


async def test_output_tools_run_validators(make_context):
    async def positive(ctx: RunContext, output: int) -> int:
        if output < 0:
            raise ModelRetry("positive, please")
        return output + ctx.retry

    toolset = OutputSchema.build(int).toolset.configured(
        max_retries=1, output_validators=[OutputValidator(positive)]
    )
    ctx = make_context()
    manager = ToolManager(toolset)
    await manager.prepare(ctx)
    call = ToolCallPart("final_result", '{"response": -1}', tool_call_id="id")
    assert await retried(manager.call(call, ctx)) == "positive, please"
    ctx.run_step = 2
    await manager.prepare(ctx)
    assert await manager.call(ToolCallPart("final_result", '{"response": 1}'), ctx) == 2
    with pytest.raises(UnexpectedModelBehavior, match="Tool 'final_result' exceeded max retries count of 1"):
        await manager.call(call, ctx)


def test_retries_of_output_tools():
    schema = OutputSchema.build([ToolOutput(Point, max_retries=5), ToolOutput(Name)])
    tools = schema.toolset.configured(max_retries=2).static_tools()
    assert {name: tool.max_retries for name, tool in tools.items()} == {
        "final_result_Point": 5,
        "final_result_Name": 2,
    }


async def test_cancelling_a_sync_output_function_names_it(make_context):
    import threading

    from runmgr.tools import tool_threads

    begun, release = threading.Event(), threading.Event()

    def stuck(x: int) -> int:
        begun.set()
        release.wait(5)
        return x

    tool_threads().grace = 0.01
    ctx = make_context()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(of_call, ctx, stuck, '{"x": 1}')
        while not begun.is_set():
            await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    release.set()
    assert ctx.abandoned_threads == ["final_result"]
