from typing import Annotated, Any

import pytest
import trio
from pydantic import AfterValidator, Field, ValidationInfo

from runmgr.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    ToolRetryError,
    UnexpectedModelBehavior,
)
from runmgr.messages import RetryPromptPart, ToolCallPart
from runmgr.tools import RunContext, ToolDefinition
from runmgr.toolsets import ExternalToolset, FunctionToolset, ToolManager


async def double(x: int) -> int:
    if x == 1:
        raise ModelRetry("no ones")
    if x == 2:
        raise ValueError("a bug")
    return x * 2


@pytest.fixture
def prepared(make_context):
    async def prepare(toolset, *, retries=None, **kwargs):
        manager = ToolManager(toolset, retries=retries, **kwargs)
        ctx = make_context()
        await manager.prepare(ctx)
        return manager, ctx

    return prepare


def part(name: str, args: Any = None) -> ToolCallPart:
    return ToolCallPart(name, args, tool_call_id="id")


async def retried(call) -> RetryPromptPart:
    with pytest.raises(ToolRetryError) as error:
        await call
    return error.value.tool_retry


@pytest.mark.parametrize("args", ['{"x": 3}', {"x": 3}, '{"x": "3"}'])
async def test_calls(prepared, args):
    manager, ctx = await prepared(FunctionToolset([double]))
    assert await manager.call(part("double", args), ctx) == 6


@pytest.mark.parametrize(
    ("args", "content"),
    [
        (None, [{"type": "missing", "loc": ("x",), "msg": "Field required", "input": {}}]),
        ("", [{"type": "missing", "loc": ("x",), "msg": "Field required", "input": {}}]),
        (
            '{"x": ',
            [
                {
                    "type": "json_invalid",
                    "loc": (),
                    "msg": "Invalid JSON: EOF while parsing a value at line 1 column 6",
                    "input": '{"x": ',
                }
            ],
        ),
        (
            {"x": "q", "y": 2},
            [
                {
                    "type": "int_parsing",
                    "loc": ("x",),
                    "msg": "Input should be a valid integer, unable to parse string as an integer",
                    "input": "q",
                },
                {
                    "type": "extra_forbidden",
                    "loc": ("y",),
                    "msg": "Extra inputs are not permitted",
                    "input": 2,
                },
            ],
        ),
        ({"x": 1}, "no ones"),
    ],
)
async def test_failures_become_prompts(prepared, args, content):
    manager, ctx = await prepared(FunctionToolset([double]))
    prompt = await retried(manager.call(part("double", args), ctx))
    assert (prompt.content, prompt.tool_name, prompt.tool_call_id) == (content, "double", "id")


async def test_failures_say_what_was_wrong(prepared):
    manager, ctx = await prepared(FunctionToolset([double]))
    with pytest.raises(ToolRetryError) as error:
        await manager.call(part("double", {"x": "q", "y": 2}), ctx)
    assert str(error.value) == (
        "2 validation errors for 'double'\n"
        "x\n"
        "  Input should be a valid integer, unable to parse string as an integer [type=int_parsing, input_value='q']\n"
        "y\n"
        "  Extra inputs are not permitted [type=extra_forbidden, input_value=2]"
    )
    with pytest.raises(ToolRetryError, match="^no ones$"):
        await manager.call(part("double", {"x": 1}), ctx)


async def test_unknown_names(prepared):
    manager, ctx = await prepared(FunctionToolset([double]).prefixed("a"))
    prompt = await retried(manager.call(part("nope"), ctx))
    assert prompt.content == "Unknown tool name: 'nope'. Available tools: 'a_double'"
    manager, ctx = await prepared(FunctionToolset())
    prompt = await retried(manager.call(part("nope"), ctx))
    assert prompt.content == "Unknown tool name: 'nope'. No tools available."


async def test_not_prepared(make_context):
    with pytest.raises(ValueError, match="has not been prepared"):
        await ToolManager(FunctionToolset([double])).call(part("double"), make_context())


async def test_other_errors_pass(prepared):
    manager, ctx = await prepared(FunctionToolset([double]))
    with pytest.raises(ValueError, match="a bug"):
        await manager.call(part("double", {"x": 2}), ctx)

    def deferring(kind: str):
        raise CallDeferred({"a": 1}) if kind == "call" else ApprovalRequired({"b": 2})

    manager, ctx = await prepared(FunctionToolset([deferring], max_retries=0))
    with pytest.raises(CallDeferred):
        await manager.call(part("deferring", {"kind": "call"}), ctx)
    with pytest.raises(ApprovalRequired):
        await manager.call(part("deferring", {"kind": "approval"}), ctx)
    assert manager.pending_retries() == {}


async def test_n_retries_are_n_plus_one_executions(prepared):
    executions = []

    async def fails(ctx: RunContext) -> None:
        executions.append((ctx.retry, ctx.max_retries, ctx.last_attempt, dict(ctx.retries)))
        raise ModelRetry("again")

    manager, ctx = await prepared(FunctionToolset([fails], max_retries=2))
    for step in (1, 2):
        ctx.run_step = step
        await manager.prepare(ctx)
        await retried(manager.call(part("fails"), ctx))
    ctx.run_step = 3
    await manager.prepare(ctx)
    with pytest.raises(
        UnexpectedModelBehavior, match="^Tool 'fails' exceeded max retries count of 2$"
    ) as error:
        await manager.call(part("fails"), ctx)
    assert error.value.__cause__ == ModelRetry("again")
    assert executions == [
        (0, 2, False, {}),
        (1, 2, False, {"fails": 1}),
        (2, 2, True, {"fails": 2}),
    ]


async def test_success_resets_the_count(prepared):
    manager, ctx = await prepared(FunctionToolset([double]))
    for step in range(1, 6):
        ctx.run_step = step
        await manager.prepare(ctx)
        if step % 2:
            await retried(manager.call(part("double", {"x": 1}), ctx))
        else:
            assert manager.retries == {"double": 1}
            assert await manager.call(part("double", {"x": 3}), ctx) == 6


async def test_several_failures_in_a_step_count_once(prepared):
    manager, ctx = await prepared(FunctionToolset([double], max_retries=1))
    for _ in range(3):
        await retried(manager.call(part("double", {"x": 1}), ctx))
    assert manager.retries == {}
    assert manager.pending_retries() == {"double": 1}
    await manager.prepare(ctx)  # the same step: nothing changes
    assert manager.retries == {}


async def test_counts_survive_a_restart(prepared):
    manager, ctx = await prepared(FunctionToolset([double], max_retries=1), retries={"double": 1})
    assert ctx.retries == {"double": 1}
    with pytest.raises(UnexpectedModelBehavior):
        await manager.call(part("double", {"x": 1}), ctx)


async def test_the_call_has_a_context_of_its_own(prepared):
    async def look(ctx: RunContext):
        return (
            ctx.tool_name,
            ctx.tool_call_id,
            ctx.tool_call_approved,
            ctx.tool_call_metadata,
            ctx.partial_output,
            ctx.retry,
            ctx.max_retries,
        )

    manager, ctx = await prepared(FunctionToolset([look]).prefixed("p"), retries={"p_look": 1})
    assert await manager.call(part("p_look"), ctx, approved=True, metadata={"a": 1}) == (
        "look",
        "id",
        True,
        {"a": 1},
        False,
        1,
        1,
    )
    assert ctx.tool_name is None


async def test_validation_context(prepared):
    def check(value: int, info: ValidationInfo) -> int:
        return value * info.context

    async def scaled(
        x: Annotated[int, AfterValidator(lambda v: v), Field(ge=0)], y: Annotated[int, AfterValidator(check)]
    ):
        return x, y

    manager, ctx = await prepared(FunctionToolset([scaled]))
    ctx.validation_context = 10
    assert await manager.call(part("scaled", '{"x": 1, "y": 2}'), ctx) == (1, 20)
    assert await manager.call(part("scaled", {"x": 1, "y": 2}), ctx) == (1, 20)


async def test_unwrapped(prepared):
    manager, ctx = await prepared(FunctionToolset([double]))
    with pytest.raises(ModelRetry):
        await manager.call(part("double", {"x": 1}), ctx, wrap_validation_errors=False)
    with pytest.raises(ValueError, match="validation error"):
        await manager.call(part("double", "{}"), ctx, wrap_validation_errors=False)
    assert manager.pending_retries() == {}


async def test_partial_arguments(prepared):
    async def listed(names: list[str], last: str = ""):
        return names, last

    manager, ctx = await prepared(FunctionToolset([listed], max_retries=0))
    for args, expected in (
        ('{"names": ["a", "b', (["a", "b"], "")),
        ('{"names": ["a"], "last": "x', (["a"], "x")),
        ({"names": ["a"]}, (["a"], "")),
    ):
        assert (
            await manager.call(part("listed", args), ctx, allow_partial=True, wrap_validation_errors=False)
            == expected
        )
    with pytest.raises(ValueError, match="Field required"):  # not the last word: more is to come
        await manager.call(part("listed", '{"na'), ctx, allow_partial=True, wrap_validation_errors=False)


async def test_external_tools_are_not_called(prepared):
    manager, ctx = await prepared(ExternalToolset([ToolDefinition(name="ext")]))
    with pytest.raises(RuntimeError, match="^External tools cannot be called$"):
        await manager.call(part("ext", "{}"), ctx)


async def test_sequential(prepared):
    toolset = FunctionToolset([double])
    toolset.add_function(double, name="alone", sequential=True)
    manager, _ = await prepared(toolset)
    assert not manager.should_call_sequentially([part("double"), part("nope")])
    assert manager.should_call_sequentially([part("double"), part("alone")])


async def test_default_timeout(prepared, autojump_clock):
    async def slow() -> str:
        await trio.sleep(5)
        return "done"

    toolset = FunctionToolset([slow])
    toolset.add_function(slow, name="patient", timeout=6)
    manager, ctx = await prepared(toolset, default_timeout=2)
    prompt = await retried(manager.call(part("slow"), ctx))
    assert prompt.content == "Timed out after 2 seconds."
    assert await manager.call(part("patient"), ctx) == "done"


async def test_static_tools_need_no_waiting_and_stay_the_same(prepared):
    toolset = FunctionToolset([double])
    manager, ctx = await prepared(toolset)
    tools, defs = manager.tools, manager.tool_defs
    ctx.run_step = 2
    coroutine = manager.prepare(ctx)
    with pytest.raises(StopIteration):
        coroutine.send(None)  # did not yield
    assert manager.tools is tools
    assert manager.tool_defs is defs
    toolset.add_function(double, name="more")
    ctx.run_step = 3
    await manager.prepare(ctx)
    assert [d.name for d in manager.tool_defs] == ["double", "more"]
    assert manager.get_tool_def("more").name == "more"
    assert manager.get_tool_def("nope") is None


async def test_cancelling_reaches_the_tool(prepared, autojump_clock):
    cancelled = []

    async def waits():
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(True)
            raise

    manager, ctx = await prepared(FunctionToolset([waits]))
    with trio.move_on_after(1) as scope:
        await manager.call(part("waits"), ctx)
    assert scope.cancelled_caught
    assert cancelled == [True]
    assert manager.pending_retries() == {}
