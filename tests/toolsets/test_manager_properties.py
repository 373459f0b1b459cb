"""Whatever a model sends, a call ends in a value or in an error that the run knows."""
# ruff: noqa: B006, PT017 (defaults are what is tested; either outcome is right)

import json
from contextlib import suppress
from typing import Any, Literal

import trio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runmgr.exceptions import ToolRetryError, UnexpectedModelBehavior
from runmgr.messages import ToolCallPart
from runmgr.tools import RunContext
from runmgr.toolsets import CombinedToolset, FunctionToolset, ToolManager
from runmgr.usage import RunUsage


class Item(BaseModel):
    name: str
    count: int = 1


async def take(
    x: int, kind: Literal["a", "b"] = "a", items: list[Item] = [], *more: int, **rest: float
) -> Any:
    return x, kind, items, more, rest


async def one(item: Item) -> Item:
    return item


TOOLSET = CombinedToolset([FunctionToolset([take, one], max_retries=2)])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "kind", "items", "more", "name", "count", "z"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
ARGS = st.one_of(
    st.none(),
    st.text(max_size=20),
    JSON.map(json.dumps),
    JSON.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda n: text[:n])),
    st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    st.fixed_dictionaries({"x": JSON, "more": JSON}),
)
CALLS = st.lists(st.tuples(st.sampled_from(["take", "one", "unknown"]), ARGS, st.booleans()), max_size=8)


@given(CALLS)
def test_calls_end_in_a_value_or_a_known_error(calls):
    async def main():
        manager = ToolManager(TOOLSET)
        ctx = RunContext(deps=None, model=None, usage=RunUsage())  # pyright: ignore
        streaks: dict[str, int] = {}
        for step, (name, args, new_step) in enumerate(calls):
            if new_step or not step:
                ctx.run_step = step + 1
                before = manager.pending_retries()
                await manager.prepare(ctx)
                streaks = before if step else {}
            assert manager.retries == streaks
            try:
                await manager.call(ToolCallPart(name, args), ctx)
            except ToolRetryError as error:
                assert error.tool_retry.tool_name == name
                assert error.tool_retry.model_response()
                assert manager.pending_retries()[name] == streaks.get(name, 0) + 1
            except UnexpectedModelBehavior:
                assert streaks[name] == {"take": 2, "one": 2, "unknown": 1}[name]

    trio.run(main)


@given(ARGS)
def test_partial_arguments_never_count(args):
    async def main():
        manager = ToolManager(TOOLSET)
        ctx = RunContext(deps=None, model=None, usage=RunUsage(), run_step=1)  # pyright: ignore
        await manager.prepare(ctx)
        with suppress(ValueError):
            await manager.call(
                ToolCallPart("take", args), ctx, allow_partial=True, wrap_validation_errors=False
            )
        assert manager.pending_retries() == {}

    trio.run(main)
