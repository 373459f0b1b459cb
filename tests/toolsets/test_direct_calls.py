"""The one call of an async function is made without a context: nothing that anybody put in between is passed over for it."""

from __future__ import annotations

import pytest

from runmgr import Agent, ModelResponse, TextPart, ToolCallPart, UsageLimits, open_supervisor
from runmgr.exceptions import ModelRetry, UnexpectedModelBehavior, UsageLimitExceeded
from runmgr.messages import RetryPromptPart, ToolReturnPart
from runmgr.models.function import FunctionModel
from runmgr.tools.context import RunContext
from runmgr.tools.deferred import DeferredToolRequests
from runmgr.toolsets.combined import CombinedToolset
from runmgr.toolsets.function import FunctionToolset
from runmgr.toolsets.wrapper import WrapperToolset


def twice(name="add", args=None):
    """A model that calls a tool twice, a call at a time, and says what it got last."""

    def answer(messages, info):
        last = messages[-1].parts[-1]
        if len(messages) < 5:
            return ModelResponse(parts=[ToolCallPart(name, args or {"a": len(messages), "b": 1})])
        return ModelResponse(parts=[TextPart(f"{last.content}")])

    return FunctionModel(answer)


async def add(a: int, b: int) -> int:
    return a + b


class Doubled(FunctionToolset):
    async def call_tool(self, name, tool_args, ctx, tool):
        return 2 * await super().call_tool(name, tool_args, ctx, tool)


class Negated(WrapperToolset):
    async def call_tool(self, name, tool_args, ctx, tool):
        return -await super().call_tool(name, tool_args, ctx, tool)


class Hundred(CombinedToolset):
    async def call_tool(self, name, tool_args, ctx, tool):
        return 100 + await super().call_tool(name, tool_args, ctx, tool)


PLAIN = FunctionToolset([add])


@pytest.mark.parametrize(
    ("toolsets", "name", "output"),
    [
        ([PLAIN], "add", "4"),
        ([Doubled([add])], "add", "8"),
        ([Negated(PLAIN)], "add", "-4"),
        ([Negated(Doubled([add]))], "add", "-8"),
        ([Hundred([PLAIN])], "add", "104"),
        ([Hundred([Negated(PLAIN)])], "add", "96"),
        ([PLAIN.prefixed("x")], "x_add", "4"),
        ([Negated(PLAIN).prefixed("x")], "x_add", "-4"),
    ],
)
async def test_every_toolset_in_between_is_asked(toolsets, name, output):
    agent = Agent(twice(name), toolsets=toolsets)
    assert (await agent.run("go")).output == output
    async with open_supervisor() as sup:
        assert (await (await sup.submit(agent, "go")).outcome()).output == output


async def test_failures_are_counted_and_the_model_is_told():
    seen = []

    async def picky(a: int, b: int) -> int:
        seen.append(a)
        if len(seen) < 3:
            raise ModelRetry("no")
        return a

    messages = (await Agent(twice("picky"), tools=[picky], retries=2).run("go")).all_messages()
    assert [type(message.parts[-1]) for message in messages[2::2]] == [RetryPromptPart, RetryPromptPart]
    seen.clear()
    with pytest.raises(UnexpectedModelBehavior, match="'picky' exceeded max retries count of 1"):
        await Agent(twice("picky"), tools=[picky], retries=1).run("go")
    assert len(seen) == 2
    with pytest.raises(UnexpectedModelBehavior, match="'picky' exceeded max retries count of 0"):
        await Agent(twice("picky", {"a": "x", "b": 1}), tools=[picky], retries=0).run("go")


async def test_a_failure_before_counts_for_a_call_with_a_context():
    retries = []
    calls = []

    async def plain(a: int, b: int) -> int:
        calls.append(a)
        if len(calls) == 1:
            raise ModelRetry("no")
        return a

    agent = Agent(twice("plain"), tools=[plain])

    @agent.output_validator
    def look(ctx: RunContext[None], output: str) -> str:
        retries.append(dict(ctx.retries))
        return output

    await agent.run("go")
    assert calls == [1, 3]
    assert retries == [{}]  # it succeeded since


async def test_a_limit_on_calls_holds():
    agent = Agent(twice(), tools=[add])
    with pytest.raises(UsageLimitExceeded, match="tool_calls_limit of 1"):
        await agent.run("go", usage_limits=UsageLimits(tool_calls_limit=1))
    result = await agent.run("go")
    assert result.usage().tool_calls == 2
    assert [
        part.content
        for message in result.all_messages()
        for part in message.parts
        if type(part) is ToolReturnPart
    ] == [2, 4]


async def test_a_call_may_turn_out_to_be_deferred():
    from runmgr.exceptions import ApprovalRequired

    async def careful(a: int, b: int) -> int:
        raise ApprovalRequired(metadata={"why": a})

    agent = Agent(twice("careful"), tools=[careful], output_type=[str, DeferredToolRequests])
    output = (await agent.run("go")).output
    assert [call.tool_name for call in output.approvals] == ["careful"]
    assert list(output.metadata.values()) == [{"why": 1}]


async def test_it_may_not_end_the_loop_of_whoever_iterates():
    async def ends(a: int, b: int) -> int:
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="ends raised StopAsyncIteration"):
        await Agent(twice("ends"), tools=[ends]).run("go")
    async with open_supervisor() as sup:
        outcome = await (await sup.submit(Agent(twice("ends"), tools=[ends]), "go")).outcome()
    assert outcome.error.type == "RuntimeError"
