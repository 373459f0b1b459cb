"""Calls of agents whose types must be inferred, or refused (``pyright: ignore`` that must be needed)."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, assert_type

from pydantic import BaseModel

from runmgr.agent import (
    AbstractAgent,
    Agent,
    AgentRun,
    AgentRunResult,
    AgentRunResultEvent,
    CallToolsNode,
    FinalResult,
    ModelRequestNode,
    RunEvents,
    StreamedRunResult,
    StreamedRunResultSync,
    WrapperAgent,
    capture_run_messages,
)
from runmgr.exceptions import ModelRetry
from runmgr.graph import End
from runmgr.messages import AgentStreamEvent, ModelMessage, ModelResponse
from runmgr.output import NativeOutput, TextOutput, ToolOutput
from runmgr.settings import ModelSettings
from runmgr.tools import DeferredToolRequests, RunContext, ToolDefinition
from runmgr.toolsets import FunctionToolset
from runmgr.usage import RunUsage, UsageLimits


@dataclass
class Deps:
    name: str


class City(BaseModel):
    name: str


class Country(BaseModel):
    name: str


# ------------------------------------------------------------------ what an agent puts out

plain = Agent("test")
assert_type(plain, Agent[None, str])
structured = Agent("test", output_type=City)
assert_type(structured, Agent[None, City])
with_deps = Agent("test", deps_type=Deps, output_type=City)
assert_type(with_deps, Agent[Deps, City])
several: Agent[None, City | Country] = Agent("test", output_type=[City, Country])
union: Agent[None, City | str] = Agent("test", output_type=City | str)  # pyright: ignore[reportArgumentType]
marked = Agent("test", output_type=ToolOutput(City, name="city"))
assert_type(marked, Agent[None, City])
native = Agent("test", output_type=NativeOutput(City))
assert_type(native, Agent[None, City])
deferring = Agent("test", output_type=[str, DeferredToolRequests])
assert_type(deferring, Agent[None, str | DeferredToolRequests])


def area(side: int) -> float:
    return float(side * side)


async def shout(ctx: RunContext, text: str) -> bool:
    return text.isupper()


function = Agent("test", output_type=area)
assert_type(function, Agent[None, float])
text_function = Agent("test", output_type=TextOutput(shout))
assert_type(text_function, Agent[None, bool])


# ------------------------------------------------------------------ runs


async def runs() -> None:
    result = await plain.run("hi")
    assert_type(result, AgentRunResult[str])
    assert_type(result.output, str)
    assert_type(result.usage(), RunUsage)
    assert_type(result.all_messages(), list[ModelMessage])
    assert_type(result.response, ModelResponse)
    assert_type((await structured.run("hi")).output, City)
    assert_type((await structured.run("hi", output_type=int)).output, int)
    assert_type((await plain.run("hi", output_type=City)).output, City)
    assert_type((await with_deps.run("hi", deps=Deps("x"))).output, City)
    assert_type((await deferring.run("hi")).output, str | DeferredToolRequests)
    assert_type(plain.run_sync("hi").output, str)

    await with_deps.run("hi", deps=3)  # pyright: ignore[reportArgumentType]
    await with_deps.run("hi")  # pyright: ignore[reportArgumentType]  # its deps are not None
    await with_deps.run("hi", output_type=int)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with_deps.run_sync("hi")  # pyright: ignore[reportArgumentType]
    with_deps.iter("hi")  # pyright: ignore[reportArgumentType]
    with_deps.run_stream("hi")  # pyright: ignore[reportArgumentType]
    with_deps.run_stream_sync("hi")  # pyright: ignore[reportArgumentType]
    with_deps.run_stream_events("hi")  # pyright: ignore[reportArgumentType]
    await plain.run(3)  # pyright: ignore[reportArgumentType]
    await plain.run("hi", usage_limits=3)  # pyright: ignore[reportArgumentType]
    await plain.run("hi", nonsense=True)  # pyright: ignore[reportCallIssue]
    await plain.run(
        ["look", "at this"],
        message_history=result.all_messages(),
        model_settings=ModelSettings(temperature=0),
        usage_limits=UsageLimits(request_limit=3),
        usage=result.usage(),
        metadata={"a": 1},
        instructions=["be brief", lambda: "and kind"],
    )


async def iteration() -> None:
    async with with_deps.iter("hi", deps=Deps("x")) as run:
        assert_type(run, AgentRun[Deps, City])
        async for node in run:
            if Agent.is_model_request_node(node):
                assert_type(node, ModelRequestNode[Deps, City])
                async with node.stream(run.ctx) as stream:
                    async for output in stream.stream_output():
                        assert_type(output, City)
            elif Agent.is_call_tools_node(node):
                assert_type(node, CallToolsNode[Deps, City])
            elif Agent.is_end_node(node):
                assert_type(node, End[FinalResult[City]])
                assert_type(node.data.output, City)
        if run.result is not None:
            assert_type(run.result.output, City)
    async with plain.iter("hi", output_type=int) as typed:
        assert_type(typed, AgentRun[None, int])


async def streaming() -> None:
    async with structured.run_stream("hi") as result:
        assert_type(result, StreamedRunResult[None, City])
        async for city in result.stream_output():
            assert_type(city, City)
        async for text in result.stream_text(delta=True):
            assert_type(text, str)
        async for response, last in result.stream_responses():
            assert_type(response, ModelResponse)
            assert_type(last, bool)
        assert_type(await result.get_output(), City)
    async with structured.run_stream("hi", output_type=int) as other:
        assert_type(await other.get_output(), int)
    events = structured.run_stream_events("hi")
    assert_type(events, RunEvents[None, City])
    as_iterator: AsyncIterator[AgentStreamEvent | AgentRunResultEvent[City]] = events
    async for event in as_iterator:
        assert_type(event, AgentStreamEvent | AgentRunResultEvent[City])
    await events.aclose()
    async with structured.run_stream_events("hi", output_type=int) as block:
        assert_type(block, RunEvents[None, int])
    assert_type(structured.run_stream_sync("hi"), StreamedRunResultSync[None, City])


# ------------------------------------------------------------------ decorators


@with_deps.tool
async def greet(ctx: RunContext[Deps], times: int) -> str:
    return ctx.deps.name * times


@with_deps.tool(retries=2, timeout=5)
def greet_twice(ctx: RunContext[Deps], name: str) -> str:
    return name


@with_deps.tool_plain
def add(a: int, b: int) -> int:
    return a + b


@with_deps.tool_plain(name="subtract", sequential=True)
async def minus(a: int, b: int) -> int:
    return a - b


@with_deps.tool_plain(retrys=2)  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def mistyped() -> None: ...


@with_deps.tool  # pyright: ignore[reportArgumentType]
def wrong_deps(ctx: RunContext[int]) -> str:
    return str(ctx.deps)


@with_deps.instructions
def instruct(ctx: RunContext[Deps]) -> str:
    return ctx.deps.name


@with_deps.instructions
async def instruct_plainly() -> str:
    return "be brief"


@with_deps.system_prompt(dynamic=True)
async def prompt(ctx: RunContext[Deps]) -> str:
    return ctx.deps.name


@with_deps.output_validator
def validate(ctx: RunContext[Deps], city: City) -> City:
    if ctx.last_attempt:
        return city
    raise ModelRetry("again")


@with_deps.output_validator  # pyright: ignore[reportArgumentType]
def validate_another_type(output: int) -> int:
    return output


@with_deps.toolset
def toolset(ctx: RunContext[Deps]) -> FunctionToolset[Deps]:
    return FunctionToolset()


# A decorated function stays what it was.
assert_type(add(1, 2), int)


# ------------------------------------------------------------------ what an agent is made of


async def prepare(ctx: RunContext[Deps], tools: list[ToolDefinition]) -> list[ToolDefinition]:
    return tools


def process(messages: list[ModelMessage]) -> list[ModelMessage]:
    return messages


async def process_with_context(ctx: RunContext[Deps], messages: list[ModelMessage]) -> list[ModelMessage]:
    return messages


everything = Agent(
    "openai:gpt-5",
    deps_type=Deps,
    instructions=["be brief", instruct],
    system_prompt="x",
    tools=[add, greet],
    toolsets=[FunctionToolset[Deps](), toolset],
    prepare_tools=prepare,
    history_processors=[process, process_with_context],
    model_settings=lambda ctx: ModelSettings(max_tokens=len(ctx.deps.name)),
    metadata=lambda ctx: {"who": ctx.deps.name},
    end_strategy="exhaustive",
    defer_model_check=True,
)
assert_type(everything, Agent[Deps, str])
Agent("test", end_strategy="sometimes")  # pyright: ignore[reportArgumentType]
Agent("test", retrys=1)  # pyright: ignore[reportArgumentType]


class Quiet(WrapperAgent[Deps, City]):
    pass


def anything(agent: AbstractAgent[Any, Any]) -> None:
    with agent.override(model="test", deps=None), capture_run_messages() as messages:
        assert_type(messages, list[ModelMessage])


anything(Quiet(with_deps))
