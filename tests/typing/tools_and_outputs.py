"""Calls of tools, toolsets and outputs whose types must be inferred, or refused (``pyright: ignore`` that must be needed)."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from dataclasses import dataclass
from typing import Any, TypeVar, assert_type

from pydantic import BaseModel

from runmgr.output import (
    NativeOutput,
    OutputSchema,
    OutputSpec,
    PromptedOutput,
    StructuredDict,
    TextOutput,
    ToolOutput,
)
from runmgr.tools import DeferredToolRequests, RunContext, Tool
from runmgr.toolsets import (
    AbstractToolset,
    CombinedToolset,
    FunctionToolset,
    PrefixedToolset,
    ToolsetTool,
    WrapperToolset,
)

T = TypeVar("T")


class Point(BaseModel):
    x: int


class Name(BaseModel):
    first: str


def function(x: int) -> Point:
    return Point(x=x)


async def coroutine(ctx: RunContext[int], first: str) -> Name:
    return Name(first=first * ctx.deps)


def words(text: str) -> list[str]:
    return text.split()


class Service:
    def method(self, x: int) -> bool:
        return bool(x)


def output_of(spec: OutputSpec[T]) -> T:
    raise NotImplementedError(spec)


def outputs() -> None:
    assert_type(output_of(Point), Point)
    assert_type(output_of([Point, Name]), Point | Name)
    assert_type(output_of([Point, str]), Point | str)
    assert_type(output_of(list[int]), list[int])
    assert_type(output_of(function), Point)
    assert_type(output_of(coroutine), Name)
    assert_type(output_of(Service().method), bool)
    assert_type(output_of([function, coroutine]), Point | Name)
    assert_type(output_of(ToolOutput(Point)), Point)
    assert_type(output_of([ToolOutput(Point), ToolOutput(coroutine, name="n"), str]), Point | Name | str)
    assert_type(output_of(NativeOutput([Point, Name])), Point | Name)
    assert_type(output_of(PromptedOutput([Point, coroutine])), Point | Name)
    assert_type(output_of([TextOutput(words), Point]), list[str] | Point)
    assert_type(output_of([Point, DeferredToolRequests]), Point | DeferredToolRequests)
    assert_type(output_of(StructuredDict({"type": "object"})), dict[str, Any])
    assert_type(OutputSchema.build([Point, str]), OutputSchema[Point | str])
    output_of(3)  # pyright: ignore[reportArgumentType]
    TextOutput(function)  # pyright: ignore[reportArgumentType]


toolset: FunctionToolset[int] = FunctionToolset()


@toolset.tool
async def with_context(ctx: RunContext[int], a: int, b: str = "") -> str:
    assert_type(ctx.deps, int)
    return f"{a}{b}"


@toolset.tool(name="named", retries=2)
def plain(a: int) -> float:
    return a


def tools(ctx: RunContext[int]) -> None:
    assert_type(plain(3), float)
    plain("3")  # pyright: ignore[reportArgumentType]
    with_context(ctx, "3")  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    assert_type(Tool(with_context), Tool[int])
    assert_type(FunctionToolset([with_context, plain]), FunctionToolset[int])
    assert_type(toolset.prefixed("p"), PrefixedToolset[int])
    assert_type(CombinedToolset([toolset, toolset.prefixed("p")]), CombinedToolset[int])
    needs_less: Tool[bool] = Tool(with_context)
    del needs_less


@dataclass
class Own(WrapperToolset[int]):
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[int], tool: ToolsetTool[int]
    ) -> Any:
        assert_type(ctx.deps, int)
        return await super().call_tool(name, tool_args, ctx, tool)


own: AbstractToolset[int] = Own(toolset)
wrong: AbstractToolset[str] = Own(toolset)  # pyright: ignore[reportAssignmentType]
