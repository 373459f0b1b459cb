from dataclasses import replace

import pytest
import trio

from runmgr.exceptions import ApprovalRequired, UserError
from runmgr.tools import RunContext, Tool, ToolDefinition
from runmgr.toolsets import (
    AbstractToolset,
    ApprovalRequiredToolset,
    CombinedToolset,
    DeferredToolset,
    DynamicToolset,
    ExternalToolset,
    FunctionToolset,
    WrapperToolset,
)


def add(x: int, y: int = 1) -> int:
    return x + y


def who(ctx: RunContext) -> str | None:
    return ctx.tool_name


async def call(toolset, name, args, ctx):
    return await toolset.call_tool(name, args, ctx, (await toolset.get_tools(ctx))[name])


class Logging(WrapperToolset):
    log: list

    async def call_tool(self, name, tool_args, ctx, tool):
        self.log.append((name, ctx.tool_name, tool.tool_def.name))
        return await super().call_tool(name, tool_args, ctx, tool)


class Entering(WrapperToolset):
    log: list

    async def __aenter__(self):
        self.log.append("enter")
        return self

    async def __aexit__(self, *args):
        self.log.append("exit")


def logging(wrapped, log, cls=Logging):
    toolset = cls(wrapped)
    toolset.log = log
    return toolset


async def test_prefixed(make_context):
    toolset = FunctionToolset([add], id="math").prefixed("my")
    assert list(await toolset.get_tools(make_context())) == ["my_add"]
    assert await call(toolset, "my_add", {"x": 1}, make_context()) == 2
    assert toolset.label == "PrefixedToolset(FunctionToolset 'math')"
    assert toolset.id is None


async def test_renamed(make_context):
    toolset = FunctionToolset([add, who]).renamed({"plus": "add", "not_there": "nothing"})
    assert list(await toolset.get_tools(make_context())) == ["plus", "who"]
    assert await call(toolset, "plus", {"x": 1}, make_context()) == 2
    assert await call(toolset, "who", {}, make_context(tool_name="who")) == "who"


async def test_each_layer_sees_its_own_names(make_context):
    log = []
    toolset = logging(FunctionToolset([who]), log)
    toolset = logging(toolset.prefixed("p"), log)
    toolset = logging(toolset.renamed({"new": "p_who"}), log)
    ctx = make_context(tool_name="new")
    assert await call(toolset, "new", {}, ctx) == "who"
    assert log == [("new",) * 3, ("p_who",) * 3, ("who",) * 3]
    assert ctx.tool_name == "new"


async def test_naming_is_static_where_the_inside_is(make_context):
    inside = FunctionToolset([add])
    toolset = inside.prefixed("p").renamed({"new": "p_add"}).approval_required()
    static = toolset.static_tools()
    assert list(static) == ["new"]
    assert toolset.static_tools() is static
    inside.add_function(who)
    assert list(toolset.static_tools()) == ["new", "p_who"]
    assert inside.filtered(lambda ctx, tool_def: True).prefixed("p").static_tools() is None


async def test_filtered(make_context):
    toolset = FunctionToolset([add, who]).filtered(lambda ctx, tool_def: ctx.deps or tool_def.name == "add")
    assert list(await toolset.get_tools(make_context(deps=False))) == ["add"]
    assert list(await toolset.get_tools(make_context(deps=True))) == ["add", "who"]


async def test_prepared(make_context):
    async def prepare(ctx, tool_defs):
        if ctx.deps is None:
            return None
        return [replace(d, description=ctx.deps) for d in tool_defs if d.name == "add"]

    toolset = FunctionToolset([add, who]).prepared(prepare)
    assert await toolset.get_tools(make_context()) == {}
    tools = await toolset.get_tools(make_context(deps="described"))
    assert {name: tool.tool_def.description for name, tool in tools.items()} == {"add": "described"}
    assert await call(toolset, "add", {"x": 1}, make_context(deps="d")) == 2

    async def rename(ctx, tool_defs):
        return [replace(d, name="new") for d in tool_defs]

    with pytest.raises(
        UserError, match="^Prepare function cannot add or rename tools. Use `FunctionToolset.add_function"
    ):
        await FunctionToolset([add]).prepared(rename).get_tools(make_context())


async def test_approval(make_context):
    toolset = FunctionToolset([add]).approval_required(lambda ctx, tool_def, args: args["x"] > 3)
    assert await call(toolset, "add", {"x": 3}, make_context()) == 4
    with pytest.raises(ApprovalRequired):
        await call(toolset, "add", {"x": 4}, make_context())
    assert await call(toolset, "add", {"x": 4}, make_context(tool_call_approved=True)) == 5
    with pytest.raises(ApprovalRequired):
        await call(ApprovalRequiredToolset(FunctionToolset([add])), "add", {"x": 0}, make_context())


async def test_external(make_context):
    toolset = ExternalToolset([ToolDefinition(name="ext", description="d")], id="e")
    tools = await toolset.get_tools(make_context())
    assert tools["ext"].tool_def == ToolDefinition(name="ext", description="d", kind="external")
    assert tools["ext"].max_retries == 0
    assert toolset.static_tools() is toolset.static_tools()
    toolset.tool_defs.append(ToolDefinition(name="more"))
    assert list(toolset.static_tools()) == ["ext", "more"]
    assert DeferredToolset is ExternalToolset


async def test_combined(make_context):
    toolset = CombinedToolset([FunctionToolset([add], id="a").prefixed("p"), FunctionToolset([who])])
    assert toolset.label == "CombinedToolset(PrefixedToolset(FunctionToolset 'a'), FunctionToolset)"
    assert list(await toolset.get_tools(make_context())) == ["p_add", "who"]
    assert await call(toolset, "p_add", {"x": 1}, make_context()) == 2
    static = toolset.static_tools()
    assert static is toolset.static_tools()
    toolset.toolsets[1].add_function(add)
    assert list(toolset.static_tools()) == ["p_add", "who", "add"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            FunctionToolset([add], id="a"),
            FunctionToolset([add]),
            (
                "FunctionToolset defines a tool whose name conflicts with existing tool from FunctionToolset 'a': "
                "'add'. Rename the tool or wrap the toolset in a `PrefixedToolset` to avoid name conflicts."
            ),
        ),
        (
            FunctionToolset([add], id="a").prefixed("p"),
            FunctionToolset([add], id="b").prefixed("p"),
            (
                "PrefixedToolset(FunctionToolset 'b') defines a tool whose name conflicts with existing tool from "
                "PrefixedToolset(FunctionToolset 'a'): 'p_add'. Change the `prefix` attribute to avoid name conflicts."
            ),
        ),
    ],
)
async def test_combined_names_are_unique(make_context, first, second, message):
    with pytest.raises(UserError) as error:
        await CombinedToolset([first, second]).get_tools(make_context())
    assert str(error.value) == message


async def test_combined_respects_what_wrappers_do(make_context):
    log = []
    toolset = CombinedToolset([logging(FunctionToolset([add]), log)])
    assert await call(toolset, "add", {"x": 1}, make_context(tool_name="add")) == 2
    assert log == [("add", "add", "add")]


async def test_lifecycles_are_known_and_passed_on():
    log = []
    plain = CombinedToolset([FunctionToolset([add]).prefixed("p")])
    assert not plain.has_lifecycle
    entering = logging(FunctionToolset(), log, Entering)
    toolset = CombinedToolset([FunctionToolset(), entering.prefixed("p").approval_required()])
    assert toolset.has_lifecycle
    async with toolset as entered:
        assert entered is toolset
        assert log == ["enter"]
        async with toolset:
            assert log == ["enter", "enter"]
    assert log == ["enter", "enter", "exit", "exit"]


async def test_combined_is_shared_by_concurrent_runs():
    """What a task entered, the same task leaves, whatever others do meanwhile."""
    log = []

    class Owned(WrapperToolset):
        async def __aenter__(self):
            log.append(("enter", trio.lowlevel.current_task().name))
            return self

        async def __aexit__(self, *args):
            log.append(("exit", trio.lowlevel.current_task().name))

    toolset = CombinedToolset([Owned(FunctionToolset())])

    async def run(steps):
        async with toolset:
            for _ in range(steps):
                await trio.sleep(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, 1, name="short")
        nursery.start_soon(run, 5, name="long")
    assert sorted(log[:2]) == [("enter", "long"), ("enter", "short")]
    assert log[2:] == [("exit", "short"), ("exit", "long")]


async def test_combined_closes_what_it_opened_when_a_later_one_fails():
    log = []

    class Failing(WrapperToolset):
        async def __aenter__(self):
            raise OSError("no server")

    toolset = CombinedToolset([logging(FunctionToolset(), log, Entering), Failing(FunctionToolset())])
    with pytest.raises(OSError, match="no server"):
        async with toolset:
            pass
    assert log == ["enter", "exit"]


async def test_visiting(make_context):
    leaf, dynamic = FunctionToolset([add]), DynamicToolset(lambda ctx: leaf)
    toolset = CombinedToolset([leaf.prefixed("p"), dynamic])
    seen: list[AbstractToolset] = []
    toolset.apply(seen.append)
    assert seen == [leaf, dynamic]
    other = FunctionToolset([who])
    replaced = toolset.visit_and_replace(lambda toolset: other if toolset is leaf else toolset)
    seen.clear()
    replaced.apply(seen.append)
    assert seen == [other, dynamic]
    assert list(await CombinedToolset([replaced.toolsets[0]]).get_tools(make_context())) == ["p_who"]


async def test_dynamic_per_step(make_context):
    log = []

    def make(ctx):
        log.append(("make", ctx.run_step))
        return logging(FunctionToolset([add]), log, Entering)

    toolset = DynamicToolset(make, id="dyn")
    async with toolset:
        for step in (1, 1, 2):
            assert list(await toolset.get_tools(make_context(run_step=step))) == ["add"]
        assert await call(toolset, "add", {"x": 1}, make_context(run_step=2)) == 2
    assert log == [("make", 1), "enter", ("make", 2), "exit", "enter", "exit"]
    assert toolset.label == "DynamicToolset 'dyn'"


async def test_dynamic_once_a_run(make_context):
    made = []

    async def make(ctx):
        made.append(ctx.run_step)
        return FunctionToolset([add])

    toolset = DynamicToolset(make, per_run_step=False)
    async with toolset:
        for step in (1, 2, 3):
            await toolset.get_tools(make_context(run_step=step))
    assert made == [1]
    copied = toolset.copy()
    async with copied:
        await copied.get_tools(make_context(run_step=1))
    assert made == [1, 1]


async def test_tools_may_close_over_the_context_that_made_them(make_context):
    def make(ctx):
        return FunctionToolset([Tool(lambda: ctx.run_step, name="step")])

    toolset = DynamicToolset(make, per_run_step=False)
    ctx = make_context()
    async with toolset:
        await toolset.get_tools(ctx)
        ctx.run_step = 2  # what the run does
        assert await call(toolset, "step", {}, ctx) == 1


async def test_dynamic_may_give_nothing(make_context):
    toolset = DynamicToolset(lambda ctx: None)
    async with toolset:
        assert await toolset.get_tools(make_context()) == {}
        with pytest.raises(UserError, match="gave no toolset for this step"):
            await toolset.call_tool("x", {}, make_context(), None)  # pyright: ignore


async def test_dynamic_replaced_inside(make_context):
    inner = FunctionToolset([add])
    toolset = DynamicToolset(lambda ctx: inner)
    async with toolset:
        await toolset.get_tools(make_context())
        seen = []
        toolset.apply(seen.append)
        assert seen == [inner]
        replaced = toolset.visit_and_replace(lambda toolset: FunctionToolset([who]))
        assert list(await replaced.get_tools(make_context())) == ["who"]
        assert list(await toolset.get_tools(make_context())) == ["add"]
