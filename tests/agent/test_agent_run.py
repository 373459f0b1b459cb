"""Runs: the order of nodes, driving by hand, results, what a run can be asked."""

import dataclasses
import os
import subprocess
import sys
import tracemalloc

import pytest
import trio
from pydantic import BaseModel

from runmgr.agent import (
    Agent,
    AgentRunResult,
    CallToolsNode,
    ModelRequestNode,
    UserPromptNode,
    capture_run_messages,
)
from runmgr.exceptions import ModelRetry, UnexpectedModelBehavior, UserError
from runmgr.graph import End
from runmgr.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models import Model
from runmgr.models.function import FunctionModel
from runmgr.models.test import TestModel
from runmgr.tools import RunContext
from runmgr.usage import RequestUsage, RunUsage, UsageLimits


class City(BaseModel):
    name: str


async def test_nodes_of_a_text_run(says):
    agent = Agent(says("Paris"))
    nodes = []
    async with agent.iter("Capital of France?") as run:
        assert run.next_node == UserPromptNode("Capital of France?")
        assert run.result is None
        async for node in run:
            nodes.append(node)
            assert run.next_node is node
    prompt, request, respond, end = nodes
    assert prompt == UserPromptNode("Capital of France?")
    assert isinstance(request, ModelRequestNode)
    assert request.request.parts[0].content == "Capital of France?"
    assert isinstance(respond, CallToolsNode)
    assert respond.model_response.parts == [TextPart("Paris")]
    assert end.data.output == "Paris"
    assert run.result.output == "Paris"
    assert (run.usage().requests, run.usage().input_tokens) == (1, 10)


async def test_nodes_of_a_run_with_a_tool(says, call):
    agent = Agent(
        says([call("lookup", {"city": "Paris"})], [call("final_result", {"name": "Paris"})]), output_type=City
    )

    @agent.tool_plain
    async def lookup(city: str) -> int:
        return len(city)

    async with agent.iter("?") as run:
        kinds = [type(node) async for node in run]
    assert kinds == [UserPromptNode, ModelRequestNode, CallToolsNode, ModelRequestNode, CallToolsNode, End]
    assert run.result.output == City(name="Paris")
    assert run.usage() == RunUsage(requests=2, tool_calls=1, input_tokens=20, output_tokens=2)


async def test_the_node_checks(says):
    async with Agent(says("x")).iter("?") as run:
        seen = [
            (
                Agent.is_user_prompt_node(node),
                Agent.is_model_request_node(node),
                Agent.is_call_tools_node(node),
                Agent.is_end_node(node),
            )
            async for node in run
        ]
    assert seen == [tuple(i == j for j in range(4)) for i in range(4)]


async def test_driven_by_hand(says):
    async with Agent(says("Paris")).iter("?") as run:
        node = run.next_node
        steps = 0
        while not isinstance(node, End):
            node = await run.next(node)
            assert run.next_node is node
            steps += 1
    assert steps == 3
    assert node.data.output == run.result.output == "Paris"


async def test_a_request_can_be_changed_before_it_is_sent():
    heard = []

    def model(messages, info):
        heard.append(messages[-1].parts[0].content)
        return ModelResponse([TextPart("ok")])

    async with Agent(FunctionModel(model)).iter("one") as run:
        node = await run.next(run.next_node)
        node.request.parts[0].content = "two"
        await run.next(node)
    assert heard == ["two"]


async def test_a_node_can_be_replaced(says, call):
    agent = Agent(says([call("boom", {})], "done"))

    @agent.tool_plain
    async def boom() -> str:
        raise AssertionError("not to be run")

    async with agent.iter("?") as run:
        async for node in run:
            if isinstance(node, CallToolsNode) and node.model_response.tool_calls:
                break
        answer = ModelRequest([ToolReturnPart("boom", "by hand", "c1")])
        node = await run.next(ModelRequestNode(answer))
        assert isinstance(await run.next(node), End)
    assert run.all_messages()[2] is answer
    assert run.result.output == "done"


async def test_a_run_can_be_ended_early(says):
    async with Agent(says("never asked")).iter("?") as run:
        await run.next(run.next_node)
    assert run.result is None
    assert run.usage().requests == 0


async def test_next_refuses_the_end(says):
    async with Agent(says("x")).iter("?") as run:
        async for node in run:  # noqa: B007
            pass
        with pytest.raises(TypeError, match="must be an instance of `BaseNode`"):
            await run.next(node)


async def test_a_step_that_failed_can_be_tried_again():
    tries = []

    def model(messages, info):
        tries.append(len(messages))
        if len(tries) == 1:
            raise ConnectionError("gone")
        return ModelResponse([TextPart("ok")])

    async with Agent(FunctionModel(model)).iter("?") as run:
        node = await run.next(run.next_node)
        with pytest.raises(ConnectionError):
            await run.next(node)
        assert run.next_node is node
        assert len(run.all_messages()) == 1
        await run.next(await run.next(node))
    assert tries == [1, 1]
    assert [m.kind for m in run.all_messages()] == ["request", "response"]
    assert run.usage().requests == 1


async def test_errors_are_raised_where_the_step_was_driven():
    def model(messages, info):
        raise ValueError("no")

    agent = Agent(FunctionModel(model))
    async with agent.iter("?") as run:
        with pytest.raises(ValueError, match="no"):
            async for _ in run:
                pass
        assert isinstance(run.next_node, ModelRequestNode)
    with pytest.raises(ValueError, match="no"):
        await agent.run("?")


async def test_what_a_run_tells_of_itself(says):
    agent = Agent(says("x"), metadata={"a": 1})
    async with agent.iter("?", run_id="my-run", metadata={"b": 2}) as run:
        assert run.run_id == "my-run"
        assert run.metadata == {"a": 1, "b": 2}
        assert repr(run) == "<AgentRun result=<run not finished> usage=RunUsage()>"
        async for _ in run:
            assert run.ctx.state.run_id == "my-run"
    assert repr(run) == "<AgentRun result='x' usage=RunUsage(input_tokens=10, output_tokens=1, requests=1)>"
    assert {m.run_id for m in run.all_messages()} == {"my-run"}
    result = run.result
    assert (result.run_id, result.metadata) == ("my-run", {"a": 1, "b": 2})
    assert result.response is run.all_messages()[-1]
    assert result.timestamp() == result.response.timestamp
    assert result == AgentRunResult("x")
    assert repr(result) == "AgentRunResult(output='x')"
    with pytest.raises(AttributeError, match="No span was created"):
        result._traceparent()
    assert run._traceparent(required=False) is None


async def test_run_ids_are_uuids_and_differ():
    agent = Agent(TestModel())
    ids = {(await agent.run("?")).run_id for _ in range(20)}
    assert len(ids) == 20
    import uuid

    assert {uuid.UUID(i).version for i in ids} == {4}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_run_ids_differ_after_a_fork():
    script = """
import os, sys
from runmgr.agent.state import GraphAgentState
read, write = os.pipe()
child = os.fork()
os.write(write, GraphAgentState().run_id.encode())
if child:
    os.wait()
    print(os.read(read, 100).decode())
"""
    out = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert len({out[:36], out[36:]} - {""}) == 2


async def test_json_of_messages(says, call):
    agent = Agent(says([call("final_result", {"name": "Rome"})]), output_type=City)
    async with agent.iter("?") as run:
        async for _ in run:
            pass
    result = run.result
    assert ModelMessagesTypeAdapter.validate_json(run.all_messages_json()) == run.all_messages()
    assert ModelMessagesTypeAdapter.validate_json(result.new_messages_json()) == result.new_messages()
    told = result.all_messages(output_tool_return_content="Flight booked")
    assert told[-1].parts[0].content == "Flight booked"
    assert run.all_messages()[-1].parts[0].content == "Final result processed."
    assert b"Flight booked" in run.all_messages_json(output_tool_return_content="Flight booked")
    assert b"Flight booked" in run.new_messages_json(output_tool_return_content="Flight booked")
    assert b"Flight booked" in result.all_messages_json(output_tool_return_content="Flight booked")


async def test_no_output_tool_return_to_replace(says):
    result = await Agent(says("x")).run("?")
    with pytest.raises(ValueError, match="Cannot set output tool return content"):
        result.all_messages(output_tool_return_content="y")


def test_run_sync(says):
    result = Agent(says("x")).run_sync("?")
    assert result.output == "x"


async def test_run_sync_within_trio_is_refused(says):
    with pytest.raises(RuntimeError, match="run"):
        Agent(says("x")).run_sync("?")


async def test_no_model(says):
    with pytest.raises(
        UserError, match="`model` must either be set on the agent or included when calling it"
    ):
        await Agent().run("?")
    assert (await Agent().run("?", model=says("x"))).output == "x"


async def test_output_type_of_a_run(says, call):
    agent = Agent(says([call("final_result", {"name": "Oslo"})], "text"))
    assert (await agent.run("?", output_type=City)).output == City(name="Oslo")
    assert (await agent.run("?")).output == "text"


async def test_output_type_of_a_run_and_validators(says):
    agent = Agent(says("x"))
    agent.output_validator(lambda output: output)
    with pytest.raises(UserError, match="custom run `output_type`"):
        await agent.run("?", output_type=City)


async def test_validators_see_text_and_tool_outputs(says, call):
    seen = []

    def make(model, output_type):
        agent = Agent(model, output_type=output_type, output_retries=2)

        @agent.output_validator
        async def check(ctx: RunContext, output):
            seen.append((output, ctx.retry, ctx.max_retries, ctx.last_attempt, ctx.tool_name))
            if len(seen) % 3:
                raise ModelRetry("again")
            return output

        return agent

    assert (await make(says("a", "b", "c"), str).run("?")).output == "c"
    assert seen == [("a", 0, 2, False, None), ("b", 1, 2, False, None), ("c", 2, 2, True, None)]
    seen.clear()
    model = says(*([call("final_result", {"name": n}, n)] for n in "xyz"))
    assert (await make(model, City).run("?")).output == City(name="z")
    assert [s[1:] for s in seen] == [
        (0, 2, False, "final_result"),
        (1, 2, False, "final_result"),
        (2, 2, True, "final_result"),
    ]


async def test_n_output_retries_are_n_plus_1_tries():
    asked = []

    def model(messages, info):
        asked.append(messages)
        return ModelResponse([TextPart("x")])

    agent = Agent(FunctionModel(model), output_retries=3)
    agent.output_validator(_never)
    with pytest.raises(
        UnexpectedModelBehavior, match=r"Exceeded maximum retries \(3\) for output validation"
    ):
        await agent.run("?")
    assert len(asked) == 4


def _never(output):
    raise ModelRetry("no")


async def test_captured_messages_of_a_run_that_fails(says, call):
    agent = Agent(says([call("boom", {})]))

    @agent.tool_plain
    async def boom() -> str:
        raise RuntimeError("boom")

    with capture_run_messages() as messages:
        with pytest.raises(RuntimeError, match="boom"):
            await agent.run("?")
        assert [m.kind for m in messages] == ["request", "response"]
        await Agent(says("x")).run("second")
        assert len(messages) == 2
        with capture_run_messages() as inner:
            assert inner is messages


async def test_captured_messages_are_the_outer_runs(says, call):
    inner = Agent(says("inner"))
    outer = Agent(says([call("ask", {})], "outer"))

    @outer.tool_plain
    async def ask() -> str:
        return (await inner.run("inner?")).output

    with capture_run_messages() as messages:
        result = await outer.run("outer?")
    assert messages is result.all_messages()
    assert len(messages) == 4


async def test_runs_at_once_do_not_share_anything():
    agent = Agent(TestModel(), deps_type=int)

    @agent.tool
    async def which(ctx: RunContext[int]) -> int:
        await trio.lowlevel.checkpoint()
        return ctx.deps

    outputs = {}

    async def one(n):
        outputs[n] = (await agent.run("?", deps=n)).output

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(one, n)
    assert outputs == {n: f'{{"which":{n}}}' for n in range(20)}


async def test_a_sub_agent_counts_on_its_parents_usage(says, call):
    inner = Agent(says("4"))
    outer = Agent(says([call("ask", {})], "done"))

    @outer.tool
    async def ask(ctx: RunContext) -> str:
        return (await inner.run("2+2", usage=ctx.usage)).output

    result = await outer.run("?")
    assert result.usage() == RunUsage(requests=3, tool_calls=1, input_tokens=30, output_tokens=3)


async def test_a_hand_off_by_output_function(says, call):
    specialist = Agent(says("42"))

    async def hand_off(ctx: RunContext, question: str) -> str:
        """Ask the specialist."""
        return (await specialist.run(question, usage=ctx.usage)).output

    router = Agent(says([call("final_result", {"question": "why?"})]), output_type=hand_off)
    result = await router.run("?")
    assert result.output == "42"
    assert result.usage().requests == 2


def test_nodes_are_dataclasses_that_compare():
    request = ModelRequest([UserPromptPart("x")])
    assert ModelRequestNode(request) == ModelRequestNode(request)
    assert [f.name for f in dataclasses.fields(UserPromptNode)] == [
        "user_prompt",
        "deferred_tool_results",
        "instructions",
        "instructions_functions",
        "system_prompts",
        "system_prompt_functions",
        "system_prompt_dynamic_functions",
    ]
    assert repr(UserPromptNode("x")) == (
        "UserPromptNode(user_prompt='x', instructions_functions=[], system_prompts=(), system_prompt_functions=[], "
        "system_prompt_dynamic_functions={})"
    )
    assert repr(End(3)) == "End(data=3)"


class Calls(Model):
    """Calls a tool so many times; adds nothing of its own to what a turn costs."""

    model_name = "calls"
    system = "test"

    def __init__(self, turns):
        super().__init__()
        self.left = turns

    async def request(self, messages, model_settings, model_request_parameters):
        self.left -= 1
        usage = RequestUsage(input_tokens=1, output_tokens=1)
        if self.left:
            return ModelResponse([ToolCallPart("look", {"x": self.left}, f"c{self.left}")], usage=usage)
        return ModelResponse([TextPart("done")], usage=usage)


def cost_of_turns(turns, **options):
    """Calls of functions (C ones too) and bytes that a run of so many turns takes."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    async def main():
        agent = Agent(Calls(turns), **options)

        @agent.tool_plain
        async def look(x: int) -> int:
            return x

        tracemalloc.start()
        sys.setprofile(count)
        try:
            result = await agent.run("?", usage_limits=UsageLimits(request_limit=None))
        finally:
            sys.setprofile(None)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert result.usage().requests == turns
        return peak

    peak = trio.run(main)
    return calls, peak


@pytest.mark.parametrize(
    "options",
    [{}, {"instructions": [lambda: "be brief"]}, {"history_processors": [lambda messages: messages]}],
)
def test_long_runs_are_linear(options):
    cost_of_turns(10, **options)
    (calls, size), (more_calls, more_size) = cost_of_turns(200, **options), cost_of_turns(800, **options)
    assert more_calls / 800 == pytest.approx(calls / 200, rel=0.1)
    assert more_size / 800 < 1.2 * size / 200
