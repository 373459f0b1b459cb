import time
from dataclasses import replace

import pytest
import trio

from runmgr.exceptions import ModelRetry, UserError
from runmgr.tools import RunContext, Tool
from runmgr.toolsets import FunctionToolset


def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


async def call(toolset, name, args, ctx):
    return await toolset.call_tool(name, args, ctx, (await toolset.get_tools(ctx))[name])


async def test_functions_are_added_in_every_way(make_context):
    toolset = FunctionToolset([add, Tool(add, name="tool")])
    toolset.add_function(lambda: 5, name="five")

    @toolset.tool
    async def plus_deps(ctx: RunContext[int], x: int) -> int:
        return ctx.deps + x

    @toolset.tool(
        name="renamed", description="Described.", retries=7, strict=True, sequential=True, timeout=3
    )
    def original(x: int) -> int:
        return x

    assert original(3) == 3
    ctx = make_context(deps=10)
    tools = await toolset.get_tools(ctx)
    assert list(tools) == ["add", "tool", "five", "plus_deps", "renamed"]
    assert await call(toolset, "add", {"x": 1, "y": 2}, ctx) == 3
    assert await call(toolset, "five", {}, ctx) == 5
    assert await call(toolset, "plus_deps", {"x": 1}, ctx) == 11
    tool = tools["renamed"]
    assert (tool.max_retries, tool.tool_def.strict, tool.tool_def.sequential) == (7, True, True)
    assert (tool.tool_def.description, tool.tool_def.timeout) == ("Described.", 3)
    assert tools["add"].max_retries == 1


async def test_defaults_are_for_functions_and_metadata_is_merged(make_context):
    given = Tool(add, name="given", metadata={"b": 2, "c": 4})
    toolset = FunctionToolset(
        [given],
        strict=True,
        sequential=True,
        requires_approval=True,
        metadata={"a": 1, "b": 1},
        max_retries=5,
    )
    toolset.add_function(add)
    toolset.add_function(
        add, name="own", sequential=False, requires_approval=False, strict=False, metadata={"b": 7}
    )
    tools = await toolset.get_tools(make_context())
    defs = {name: tool.tool_def for name, tool in tools.items()}
    assert [tool.max_retries for tool in tools.values()] == [5, 5, 5]
    assert [(d.strict, d.sequential, d.kind) for d in defs.values()] == [
        (None, False, "function"),
        (True, True, "unapproved"),
        (False, False, "function"),
    ]
    assert [d.metadata for d in defs.values()] == [
        {"a": 1, "b": 2, "c": 4},
        {"a": 1, "b": 1},
        {"a": 1, "b": 7},
    ]
    assert given.max_retries is None  # a tool can be in two toolsets
    assert given.metadata == {"b": 2, "c": 4}


def test_names_are_unique():
    with pytest.raises(UserError, match="^Tool name conflicts with existing tool: 'add'$"):
        FunctionToolset([add, add])


async def test_prepare_sees_the_tools_own_counts_and_may_leave_it_out(make_context):
    seen = []

    async def prepare(ctx, tool_def):
        seen.append((ctx.tool_name, ctx.retry, ctx.max_retries))
        return None if ctx.deps is None else replace(tool_def, description=f"for {ctx.deps}")

    toolset = FunctionToolset(max_retries=4)
    toolset.add_function(add, prepare=prepare)
    toolset.add_function(add, name="other")
    assert toolset.static_tools() is None
    assert list(await toolset.get_tools(make_context(retries={"add": 2}))) == ["other"]
    assert seen == [("add", 2, 4)]
    tools = await toolset.get_tools(make_context(deps="you"))
    assert tools["add"].tool_def.description == "for you"


async def test_prepare_may_rename_but_not_to_a_taken_name(make_context):
    async def to_zed(ctx, tool_def):
        return replace(tool_def, name="zed")

    toolset = FunctionToolset()
    toolset.add_function(add, prepare=to_zed)
    assert await call(toolset, "zed", {"x": 1, "y": 1}, make_context()) == 2
    toolset.add_function(add, name="zed")
    with pytest.raises(UserError, match="^Renaming tool 'add' to 'zed' conflicts with existing tool.$"):
        await toolset.get_tools(make_context())


async def test_static_tools_are_the_same_until_one_is_added():
    toolset = FunctionToolset([add])
    first = toolset.static_tools()
    assert first is toolset.static_tools()
    toolset.add_function(lambda: 1, name="one")
    second = toolset.static_tools()
    assert first is not second
    assert list(first) == ["add"]
    assert list(second) == ["add", "one"]


async def test_a_subclass_that_lists_tools_itself_is_asked(make_context):
    class Own(FunctionToolset):
        async def get_tools(self, ctx):
            return {name: tool for name, tool in (await super().get_tools(ctx)).items() if ctx.deps}

    toolset = Own([add])
    assert toolset.static_tools() is None
    assert await toolset.get_tools(make_context(deps=False)) == {}


async def test_a_tool_that_prepares_itself_is_asked(make_context):
    class OnlyFor42(Tool):
        async def prepare_tool_def(self, ctx):
            return await super().prepare_tool_def(ctx) if ctx.deps == 42 else None

    toolset = FunctionToolset([OnlyFor42(add)])
    assert await toolset.get_tools(make_context(deps=41)) == {}
    assert list(await toolset.get_tools(make_context(deps=42))) == ["add"]


async def test_timeouts(make_context, autojump_clock):
    async def slow():
        await trio.sleep(10)

    toolset = FunctionToolset(timeout=2)
    toolset.add_function(slow, timeout=1)
    toolset.add_function(slow, name="by_default")
    ctx = make_context()
    with pytest.raises(ModelRetry, match="^Timed out after 1 seconds.$"):
        await call(toolset, "slow", {}, ctx)
    assert trio.current_time() == 1
    with pytest.raises(ModelRetry, match="^Timed out after 2 seconds.$"):
        await call(toolset, "by_default", {}, ctx)
    assert trio.current_time() == 3


def test_labels():
    assert FunctionToolset().label == "FunctionToolset"
    assert FunctionToolset(id="x").label == "FunctionToolset 'x'"
    assert FunctionToolset(id="x").id == "x"


async def test_timeout_of_a_sync_tool_waits_for_its_thread_and_drops_the_result(make_context):
    finished = []

    def slow():
        time.sleep(0.1)
        finished.append(True)
        return "late"

    toolset = FunctionToolset([slow], timeout=0.01)
    with pytest.raises(ModelRetry, match="^Timed out after 0.01 seconds.$"):
        await call(toolset, "slow", {}, make_context())
    assert finished == [True]
