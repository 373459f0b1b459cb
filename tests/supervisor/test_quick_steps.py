"""A hosted run's steps go the short way wherever they can: whatever the program, they come to what the nodes themselves come to."""

from __future__ import annotations

import json
from random import Random

import pydantic
import pytest
import trio
import trio.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent, AgentRun
from runmgr.agent.start import RunBlock
from runmgr.exceptions import ApprovalRequired, CallDeferred, ModelConnectionError, ModelRetry, ToolRetryError
from runmgr.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturn,
    UserPromptPart,
)
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import RestartPolicy
from runmgr.supervisor import RunSpec, open_supervisor
from runmgr.testing.schedule import run_in_virtual_time
from runmgr.tools import DeferredToolRequests, RunContext
from runmgr.tools.threads import tool_threads
from runmgr.toolsets import FunctionToolset, WrapperToolset
from runmgr.usage import RequestUsage, UsageLimits


class Out(pydantic.BaseModel):
    a: int


FITS, DOES_NOT = '{"x": 1}', '{"x": -1}'
OTHERS = ("files", "sync", "seen", "checked", "slow", "late", "asks", "refuses", "ends", "breaks", "nope")
calls = st.one_of(
    st.tuples(st.just("plain"), st.sampled_from([FITS, {"x": 1}, '{"x"', "", None, '{"y": 1}'])),
    st.tuples(st.just("picky"), st.sampled_from([FITS, DOES_NOT, DOES_NOT])),
    st.tuples(st.sampled_from(OTHERS), st.just(FITS)),
    st.tuples(st.just("final_result"), st.sampled_from(['{"a": 1}', FITS])),
)  # fmt: skip
parts = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(["", "hello", '{"a": 1}'])),
    st.tuples(st.just("thinking"), st.just("hm")),
    st.tuples(st.just("call"), calls),
)
replies = st.one_of(
    st.tuples(st.just("call"), calls).map(lambda call: [call]),
    st.tuples(st.just("call"), calls).map(lambda call: [("text", "so"), call]),
    st.lists(parts, max_size=3),
    st.just("broken"),
)
programs = st.fixed_dictionaries(
    {
        "replies": st.lists(replies, max_size=5),
        "limits": st.fixed_dictionaries(
            {}, optional={name: st.integers(0, 5) for name in ("request_limit", "tool_calls_limit", "total_tokens_limit")}
        ),
        "prompt": st.sampled_from(["hi", "hi", None]),
        "history": st.booleans(),
        "streams": st.booleans(),
        "extras": st.sets(
            st.sampled_from(["instructions", "system prompt", "validator", "processor", "wrapped", "prepare", "metadata"]),
            max_size=2,
        ),
        "options": st.fixed_dictionaries(
            {
                "output_type": st.sampled_from([str, str, Out, [str, Out], [str, DeferredToolRequests]]),
                "retries": st.integers(0, 2),
                "end_strategy": st.sampled_from(["early", "exhaustive"]),
            },
            optional={
                "instructions": st.just("be brief"),
                "system_prompt": st.just("be kind"),
                "tool_timeout": st.just(0.05),
            },
        ),
    }
)  # fmt: skip


def tools():
    async def plain(x: int) -> int:
        await trio.sleep(0)
        return x

    async def picky(x: int) -> str:
        if x < 0:
            raise ModelRetry("negative")
        return "fine"

    async def files(x: int) -> ToolReturn:
        return ToolReturn(x, content="look", metadata={"x": x})

    def sync(x: int) -> int:
        return x

    async def seen(ctx: RunContext[None], x: int) -> str:
        return f"{ctx.retries} {ctx.run_step} {len(ctx.messages)}"

    async def checked(x: int) -> int:
        return Out(a="x").a  # type: ignore[arg-type]

    async def slow(x: int) -> int:
        await trio.sleep(0.1)
        return x

    async def late(x: int) -> None:
        raise CallDeferred(metadata={"x": x})

    async def asks(x: int) -> None:
        raise ApprovalRequired

    async def refuses(x: int) -> None:
        raise ToolRetryError(RetryPromptPart("no", tool_name="refuses"))

    async def ends(x: int) -> None:
        raise StopAsyncIteration

    async def breaks(x: int) -> None:
        raise KeyError(x)

    return FunctionToolset(
        [plain, picky, files, sync, seen, checked, slow, late, asks, refuses, ends, breaks]
    )


PLAIN = {"limits": {}, "history": False, "streams": False, "extras": (), "prompt": "hi", "options": {}}

RUNS = ("a", "b")
"""The agent's second run starts in the short way: what is the same for all runs is known by then."""


def agent_of(program):
    said, left = 0, {run_id: iter(program["replies"]) for run_id in RUNS}

    async def answer(messages, info):
        nonlocal said
        said += 1
        await trio.sleep(0.1)
        reply = next(left[messages[-1].run_id], [("text", f"the end of {len(messages)}")])
        if reply == "broken":
            raise ModelConnectionError("m", "the line is dead")
        parts = []
        for number, (kind, value) in enumerate(reply):
            match kind:
                case "text":
                    parts.append(TextPart(value))
                case "thinking":
                    parts.append(ThinkingPart(value))
                case _:
                    parts.append(ToolCallPart(*value, f"c{said}.{number}"))
        return ModelResponse(parts, usage=RequestUsage(input_tokens=1, output_tokens=said))

    extras, toolset = program["extras"], tools()
    options = dict(program["options"])
    if "wrapped" in extras:
        toolset = WrapperToolset(toolset)
    if "processor" in extras:
        options["history_processors"] = [lambda messages: messages[-3:]]
    if "metadata" in extras:
        options["metadata"] = {"m": 1}
    agent = Agent(FunctionModel(answer, model_name="m"), toolsets=[toolset], **options)
    if "instructions" in extras:
        agent.instructions(lambda ctx: f"step {ctx.run_step}")
    if "system prompt" in extras:
        agent.system_prompt(lambda: "made up")
    if "validator" in extras:

        @agent.output_validator
        def look(ctx: RunContext[None], output):
            if ctx.retry == 0:
                raise ModelRetry("once more")
            return output

    if "prepare" in extras:

        @agent.tool_plain(prepare=hidden)
        async def hides(x: int) -> int:
            return x

    return agent


async def hidden(ctx, tool_def):
    return None if ctx.run_step > 1 else tool_def


def told(event):
    return type(event).__name__, {
        name: value
        for name in ("node", "step", "after", "reason", "attempt", "error", "resumed", "count")
        if (value := getattr(event, name, None)) is not None
    }


def without_times(messages):
    """What there is of messages, but for what is made up and when they were."""
    found = json.loads(ModelMessagesTypeAdapter.dump_json(messages))
    for message in found:
        message.pop("timestamp", None)
        for part in message["parts"]:
            part.pop("timestamp", None)
            if part.get("tool_name") in (None, "refuses"):  # made up
                part.pop("tool_call_id", None)
    return found


def shown(outcome):
    return {
        "status": outcome.status,
        "output": outcome.output,
        "error": None if outcome.error is None else (outcome.error.type, outcome.error.message),
        "earlier": [error.type for error in outcome.earlier_errors],
        "usage": outcome.usage,
        "attempts": outcome.attempts,
        "metadata": outcome.metadata,
        "messages": without_times(outcome.messages),
        "new": outcome.new_message_index,
    }


def play(program):
    """All that can be seen of two runs, one after the other."""
    agent = agent_of(program)
    history = [ModelRequest([UserPromptPart("before")]), ModelResponse([TextPart("so it was")])]
    options = {
        "prompt": program["prompt"],
        "message_history": history if program["history"] else None,
        "usage_limits": UsageLimits(**program["limits"]) if program["limits"] else None,
    }

    async def main():
        tool_threads().inline = True  # the clock would jump to a tool's timeout while its thread works
        events = []

        async def read():
            async with sup.subscribe(streams=program["streams"]) as seen:
                async for event in seen:
                    events.append(told(event))  # noqa: PERF401  # looked at while it grows

        async with open_supervisor(
            restart=RestartPolicy(max_restarts=1), rng=Random(0), max_running=1
        ) as sup:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                async with sup.map(agent, [RunSpec(run_id=name, **options) for name in RUNS]) as outcomes:
                    ended = [outcome async for outcome in outcomes]
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            return [*map(shown, ended), events, round(trio.current_time(), 6)]

    return run_in_virtual_time(main, seed=0)


def by_nodes(program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AgentRun, "_go", AgentRun._step)
        patch.setattr(Agent, "_start_hosted", lambda *_: None)
        patch.setattr("runmgr.agent.respond.direct_tool", lambda *_: None)
        return play(program)


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(programs)
def test_both_ways_come_to_the_same(program):
    assert play(program) == by_nodes(program)


@pytest.mark.parametrize(
    "options", [{}, {"tool_timeout": 0.05}, {"output_type": [str, DeferredToolRequests]}]
)
@pytest.mark.parametrize("call", [*((name, FITS) for name in OTHERS), ("picky", DOES_NOT), ("plain", "{")])
def test_both_ways_come_to_the_same_of_one_call(call, options):
    program = PLAIN | {"replies": [[("call", call)]], "options": options}
    assert play(program) == by_nodes(program)


def test_the_short_way_is_gone_where_nothing_is_out_of_the_ordinary(monkeypatch):
    """But for the first run's block."""
    opened, enter = [], RunBlock.__aenter__

    def counted(block):
        opened.append(block._run_id)
        return enter(block)

    monkeypatch.setattr(RunBlock, "__aenter__", counted)
    monkeypatch.setattr(AgentRun, "_advance", None)
    monkeypatch.setattr("runmgr.agent.respond.handle_tool_calls", None)
    reply = [("call", ("plain", FITS))]
    first, second, *_ = play(PLAIN | {"replies": [reply, reply]})
    assert (first["output"], second["output"]) == ("the end of 5", "the end of 5")
    assert opened == ["a"]
