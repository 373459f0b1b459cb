"""Snapshots: a run that stops after any step and goes on elsewhere comes to the same, and pays for nothing twice."""

import msgspec
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import ModelRetry, UnexpectedModelBehavior
from runmgr.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.records.snapshots import (
    PendingCallTools,
    PendingEnd,
    PendingModelRequest,
    PendingUserPrompt,
    RunSnapshot,
)
from runmgr.tools import DeferredToolRequests, DeferredToolResults, RunContext
from runmgr.usage import RequestUsage, RunUsage


def scripted(script):
    """An agent whose model says ``script[n]`` when it is asked with ``n`` responses in the history."""
    asked = []

    def model(messages, info):
        n = sum(isinstance(m, ModelResponse) for m in messages)
        asked.append(n)
        parts = [TextPart("")] if n >= len(script) else [_part(p, n) for p in script[n]]
        return ModelResponse(parts, usage=RequestUsage(input_tokens=10, output_tokens=1))

    agent = Agent(FunctionModel(model), output_type=[str, int], retries=2, output_retries=3)

    @agent.tool_plain
    async def double(x: int) -> int:
        if x < 0:
            raise ModelRetry("negative")
        return 2 * x

    @agent.instructions
    def step(ctx: RunContext) -> str:
        return f"step {ctx.run_step} of {ctx.prompt}"

    return agent, asked


def _part(spec, n):
    if isinstance(spec, str):
        return TextPart(spec)
    name, args = spec
    return ToolCallPart(name, args, f"c{n}")


def _id(part):
    found = getattr(part, "tool_call_id", None)
    return None if found is None or found.startswith("pyd_ai_") else found


def told(run):
    messages = [
        (
            m.kind,
            [(type(p).__name__, getattr(p, "content", None), _id(p)) for p in m.parts],
        )
        for m in run.all_messages()
    ]
    instructions = [m.instructions for m in run.all_messages() if isinstance(m, ModelRequest)]
    return messages, instructions, run.usage(), run.result.output, run.run_id, len(run.new_messages())


def copied(snapshot):
    """What comes out of a journal: equal, and shares nothing."""
    return msgspec.structs.replace(
        snapshot,
        messages=[msgspec.structs.replace(m, parts=m.parts[:]) for m in snapshot.messages],
        usage=RunUsage() + snapshot.usage,
        tool_retries=dict(snapshot.tool_retries),
    )


async def uninterrupted(script):
    agent, asked = scripted(script)
    async with agent.iter("the prompt", run_id="r") as run:
        async for _ in run:
            pass
    return run, asked


async def interrupted_after(script, steps):
    """Stop after so many steps, go on in a second run from the snapshot."""
    agent, asked = scripted(script)
    async with agent.iter("the prompt", run_id="r") as run:
        for _ in range(steps):
            await run.next(run.next_node)
        snapshot = copied(run.snapshot())
    other, asked_later = scripted(script)
    async with other.iter(snapshot=snapshot) as resumed:
        async for _ in resumed:
            pass
    return resumed, asked + asked_later


SCRIPT = [
    [("double", {"x": 2})],
    [("double", {"x": -1})],
    [("double", {"x": "z"})],
    ["let me", ("double", {"x": 3})],
    ["done"],
]


async def test_every_step_of_a_run_can_be_the_last():
    whole, asked = await uninterrupted(SCRIPT)
    assert whole.result.output == "done"
    steps = 2 * len(SCRIPT) + 1
    for n in range(steps + 1):
        resumed, asked_too = await interrupted_after(SCRIPT, n)
        assert told(resumed) == told(whole), n
        assert asked_too == asked, "every response is paid for once"


async def test_what_is_pending():
    agent, _ = scripted([[("double", {"x": 2})], ["done"]])
    kinds = []
    async with agent.iter("the prompt") as run:
        async for _ in run:
            snapshot = run.snapshot()
            kinds.append(type(snapshot.pending))
            assert snapshot.run_id == run.run_id
    assert kinds == [
        PendingUserPrompt,
        PendingModelRequest,
        PendingCallTools,
        PendingModelRequest,
        PendingCallTools,
        PendingEnd,
    ]
    assert snapshot.pending.output == "done"


async def test_a_request_that_failed_is_pending_still(says):
    def gone(messages, info):
        raise ConnectionError

    async with Agent(says(gone)).iter("?") as run:
        with pytest.raises(ConnectionError):
            async for _ in run:
                pass
        snapshot = run.snapshot()
    assert isinstance(snapshot.pending, PendingModelRequest)
    assert snapshot.messages == []
    async with Agent(says("x")).iter(snapshot=copied(snapshot)) as resumed:
        async for _ in resumed:
            pass
    assert [m.kind for m in resumed.all_messages()] == ["request", "response"]


async def test_failures_in_a_row_are_counted_over_a_resume(says, call):
    fails = [call("double", {"x": -1})]
    agent, _ = scripted([])
    with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 2"):
        await agent.run("?", model=says(fails, fails, fails))
    for steps in (2, 3, 4, 5):
        async with agent.iter("?", model=says(fails, fails, fails)) as run:
            for _ in range(steps):
                await run.next(run.next_node)
            snapshot = copied(run.snapshot())
        left = 3 - snapshot.usage.requests
        async with agent.iter(snapshot=snapshot, model=says(*[fails] * left, "never")) as resumed:
            with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries count of 2"):
                async for _ in resumed:
                    pass


async def test_a_tool_left_alone_for_a_step_starts_again_over_a_resume_too():
    fails = ("double", {"x": -1})
    script = [[fails], [fails], [], [fails], ["done"]]
    whole, _ = await uninterrupted(script)
    assert whole.result.output == "done"
    for steps in range(12):
        resumed, _ = await interrupted_after(script, steps)
        assert told(resumed) == told(whole), steps


async def test_a_resumed_context_knows_its_prompt_and_step(says, call):
    agent, _ = scripted([])
    seen = []

    @agent.tool
    async def look(ctx: RunContext) -> None:
        seen.append((ctx.prompt, ctx.run_step, ctx.run_id))

    async with agent.iter("the prompt", model=says([call("look")]), run_id="r") as run:
        await run.next(await run.next(run.next_node))
        snapshot = copied(run.snapshot())
    async with agent.iter(snapshot=snapshot, model=says("done")) as resumed:
        async for _ in resumed:
            pass
    assert seen == [("the prompt", 1, "r")]


async def test_deferred_results_are_given_again(says, call):
    def agent(*responses):
        made = Agent(says(*responses), output_type=[str, DeferredToolRequests])

        @made.tool_plain(requires_approval=True)
        async def delete() -> str:
            return "deleted"

        return made

    first = await agent([call("delete")]).run("?")
    results = DeferredToolResults(approvals={"c1": True})
    async with agent("done").iter(message_history=first.all_messages(), deferred_tool_results=results) as run:
        await run.next(run.next_node)
        snapshot = copied(run.snapshot())
    assert isinstance(snapshot.pending, PendingUserPrompt)
    async with agent("done").iter(snapshot=snapshot, deferred_tool_results=results) as resumed:
        async for _ in resumed:
            pass
    assert [p.content for m in resumed.new_messages() for p in m.parts] == ["deleted", "done"]


async def test_the_end_is_kept():
    snapshot = RunSnapshot(run_id="r", pending=PendingEnd("done", "tool", "c1"), usage=RunUsage(requests=3))
    async with Agent().iter(snapshot=snapshot, model=FunctionModel(lambda m, i: 1 / 0)) as run:
        nodes = [node async for node in run]
    assert len(nodes) == 1
    assert (run.result.output, run.usage().requests) == ("done", 3)


async def test_a_journaled_response_that_is_missing_in_the_history_is_put_there(says):
    response = ModelResponse([TextPart("paid")])
    snapshot = RunSnapshot(run_id="r", pending=PendingCallTools(response))
    async with Agent(says()).iter(snapshot=snapshot) as run:
        async for _ in run:
            pass
    assert run.result.output == "paid"
    assert run.all_messages() == [response]


_spec = st.one_of(
    st.sampled_from(["", "text"]),
    st.tuples(st.just("double"), st.sampled_from([{"x": 1}, {"x": -1}, {"x": "z"}])),
    st.tuples(st.just("final_result"), st.sampled_from([{"response": 1}, {"response": "z"}])),
    st.tuples(st.just("nope"), st.just({})),
)


_fails = ("double", {"x": -1})


@settings(max_examples=60, deadline=None)
@example(script=[[_fails], [_fails], [], [_fails]], steps=6)
@given(script=st.lists(st.lists(_spec, max_size=2, unique_by=str), max_size=4), steps=st.integers(0, 9))
def test_any_run_can_be_interrupted_anywhere(script, steps):
    async def main():
        whole = failure = resumed = later = None
        try:
            whole, _ = await uninterrupted(script)
        except UnexpectedModelBehavior as error:
            failure = str(error)
        try:
            resumed, _ = await interrupted_after(script, steps)
        except UnexpectedModelBehavior as error:
            later = str(error)
        except TypeError:
            return  # it was over before that step
        assert later == failure
        if resumed is not None:
            assert told(resumed) == told(whole)

    trio.run(main)
