"""For random models and limits a run ends in a result or a documented exception; its history and usage hold up."""

from contextlib import asynccontextmanager

import pydantic
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelConnectionError,
    ModelRetry,
    RunCancelled,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from runmgr.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)
from runmgr.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from runmgr.models.test import TestModel
from runmgr.models.wrapper import WrapperModel
from runmgr.tools import DeferredToolRequests, DeferredToolResults
from runmgr.usage import RequestUsage, RunUsage, UsageLimits


class Out(pydantic.BaseModel):
    a: int


CALLS = st.one_of(
    st.tuples(
        st.just("steady"), st.sampled_from(['{"x": 1}', '{"x": "one"}', '{"x"', "", "null", "[]", '{"y": 1}'])
    ),
    st.tuples(st.just("picky"), st.sampled_from(['{"x": 1}', '{"x": -1}'])),
    st.tuples(st.just("guarded"), st.just('{"x": 1}')),
    st.tuples(st.just("final_result"), st.sampled_from(['{"a": 1}', '{"a": "x"}', '{"a"', "[]"])),
    st.tuples(st.sampled_from(["nope", "", "final_result_2"]), st.just("{}")),
)
PARTS = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(["", " ", "hello", '{"a": 1}', "{"])),
    st.tuples(st.just("thinking"), st.sampled_from(["", "hm"])),
    st.tuples(st.just("call"), CALLS),
)
REASONS = st.sampled_from([None, None, None, "stop", "length", "content_filter", "error", "tool_call"])
USAGES = st.fixed_dictionaries({"input_tokens": st.integers(0, 20), "output_tokens": st.integers(0, 20)})
RESPONSES = st.one_of(
    st.tuples(st.lists(PARTS, max_size=4), REASONS, USAGES),
    st.tuples(st.lists(PARTS, max_size=4), REASONS, USAGES),
    st.tuples(st.lists(PARTS, max_size=4), REASONS, USAGES),
    st.just("broken"),
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "request_limit": st.integers(0, 5),
        "tool_calls_limit": st.integers(0, 4),
        "input_tokens_limit": st.integers(0, 60),
        "output_tokens_limit": st.integers(0, 60),
        "total_tokens_limit": st.integers(0, 100),
    },
)
OPTIONS = st.fixed_dictionaries(
    {
        "output_type": st.sampled_from(
            [[str], [Out], [str, Out], [str, DeferredToolRequests], [Out, DeferredToolRequests]]
        ),
        "retries": st.integers(0, 2),
        "output_retries": st.integers(0, 2),
        "end_strategy": st.sampled_from(["early", "exhaustive"]),
        "max_concurrency": st.sampled_from([None, 1, 2]),
        "instructions": st.sampled_from([None, "be brief"]),
    }
)

DOCUMENTED = (UnexpectedModelBehavior, UsageLimitExceeded, ModelAPIError, UserError)


def make(responses, options, *, streaming=False):
    """An agent whose model says this, then texts; and what it said."""
    said = []
    left = iter(responses)
    count = 0

    def following():
        nonlocal count
        spec = next(left, ([("text", "the end")], None, {}))
        if spec == "broken":
            raise ModelConnectionError("m", "the line is dead")
        parts = []
        for kind, value in spec[0]:
            count += 1
            if kind == "text":
                parts.append(TextPart(value))
            elif kind == "thinking":
                parts.append(ThinkingPart(value))
            else:
                parts.append(ToolCallPart(*value, f"c{count}"))
        return ModelResponse(parts, finish_reason=spec[1], usage=RequestUsage(**spec[2]))

    def model(messages, info):
        assert isinstance(messages[-1], ModelRequest)
        response = following()
        said.append(response)
        return response

    async def stream(messages, info):
        response = following()
        for index, part in enumerate(response.parts):
            if isinstance(part, ToolCallPart):
                half = len(part.args) // 2
                yield {
                    index: DeltaToolCall(
                        name=part.tool_name, json_args=part.args[:half], tool_call_id=part.tool_call_id
                    )
                }
                yield {index: DeltaToolCall(json_args=part.args[half:])}
            elif isinstance(part, ThinkingPart):
                yield {index: DeltaThinkingPart(content=part.content)}
            else:
                yield part.content
        if not response.parts:
            yield ""

    agent = Agent(
        FunctionModel(model, stream_function=stream) if streaming else FunctionModel(model), **options
    )

    @agent.tool_plain
    async def steady(x: int) -> int:
        await trio.lowlevel.checkpoint()
        return x

    @agent.tool_plain
    async def picky(x: int) -> str:
        if x < 0:
            raise ModelRetry("negative")
        return "fine"

    if DeferredToolRequests in options["output_type"]:

        @agent.tool_plain(requires_approval=True)
        async def guarded(x: int) -> str:
            return "passed"

    return agent, said


def check_history(messages):
    """Requests and responses alternate, and every call of a response that was acted on has one answer."""
    for before, after in zip(messages, messages[1:], strict=False):
        if isinstance(before, ModelResponse) and isinstance(after, ModelRequest):
            calls = [c.tool_call_id for c in before.tool_calls]
            answers = [
                p.tool_call_id
                for p in after.parts
                if isinstance(p, ToolReturnPart)
                or (isinstance(p, RetryPromptPart) and p.tool_name is not None)
            ]
            assert len(set(answers)) == len(answers)
            assert set(answers) <= set(calls)
            yield set(calls) - set(answers)
        else:
            assert isinstance(before, ModelRequest)
            assert isinstance(after, ModelResponse)
    assert ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(messages)) == messages


async def goes_on(messages, result):
    """The history can be continued: with a new prompt, or else by acting on the calls that it ends with."""
    results = None
    prompt: str | None = "go on"
    if messages and isinstance(messages[-1], ModelResponse) and messages[-1].tool_calls:
        prompt = None
    if result is not None and isinstance(result.output, DeferredToolRequests):
        prompt = None
        results = DeferredToolResults(
            calls={c.tool_call_id: "x" for c in result.output.calls},
            approvals={c.tool_call_id: True for c in result.output.approvals},
        )
    if not messages:
        return
    follower = Agent(
        TestModel(call_tools=[], custom_output_text="ok"), output_type=[str, DeferredToolRequests], retries=5
    )
    for name in ("steady", "picky"):
        follower.tool_plain(name=name)(_anything)
    follower.tool_plain(name="guarded", requires_approval=True)(_anything)
    continued = await follower.run(prompt, message_history=messages, deferred_tool_results=results)
    assert continued.output == "ok" or isinstance(continued.output, DeferredToolRequests)


async def _anything(x: int = 0, y: int = 0) -> str:
    return "anything"


@settings(max_examples=300, deadline=None)
@given(responses=st.lists(RESPONSES, max_size=6), options=OPTIONS, limits=st.one_of(st.none(), LIMITS))
def test_a_run_always_ends_well(responses, options, limits):
    async def main():
        agent, said = make(responses, options)
        failure = None
        with trio.fail_after(5):
            async with agent.iter(
                "hi", usage_limits=None if limits is None else UsageLimits(**limits)
            ) as run:
                try:
                    async for _ in run:
                        pass
                except DOCUMENTED as error:
                    failure = error
        event(type(failure).__name__)
        assert (run.result is None) == (failure is not None)
        history = run.all_messages()

        # the history holds all that was said, and the usage is its sum
        assert [m for m in history if isinstance(m, ModelResponse)] == said
        total = RunUsage(requests=len(said), tool_calls=run.usage().tool_calls)
        for response in said:
            total.incr(response.usage)
        assert run.usage() == total
        assert {m.run_id for m in history} <= {run.run_id}
        assert run.new_messages() == history

        # limits hold
        if limits is not None:
            assert run.usage().requests <= limits.get("request_limit", 50)
            assert run.usage().tool_calls <= limits.get("tool_calls_limit", 10**6)
        if isinstance(failure, ContentFilterError):
            assert said[-1].finish_reason == "content_filter"

        # only deferred calls, and those of a response that a failure came after, are left without an answer
        deferred = set()
        if run.result is not None and isinstance(run.result.output, DeferredToolRequests):
            output = run.result.output
            deferred = {c.tool_call_id for c in (*output.calls, *output.approvals)}
        unanswered = list(check_history(history))
        assert not any(unanswered[:-1])
        if unanswered:
            assert unanswered[-1] <= deferred
        await goes_on(history, run.result)

    trio.run(main)


@settings(max_examples=150, deadline=None)
@given(
    responses=st.lists(RESPONSES, max_size=5),
    options=OPTIONS,
    leave_after=st.one_of(st.none(), st.integers(0, 4)),
)
def test_a_streamed_run_always_ends_well(responses, options, leave_after):
    async def main():
        agent, _ = make(responses, options, streaming=True)
        result = None
        with trio.fail_after(5):
            try:
                async with agent.run_stream("hi") as result:
                    n = 0
                    async for _ in result.stream_output(debounce_by=None):
                        if n == leave_after:
                            break
                        n += 1
            except (*DOCUMENTED, pydantic.ValidationError, ModelRetry) as error:
                event(type(error).__name__)
        if result is None:
            return
        history = result.all_messages()
        list(check_history(history))
        counted = RunUsage()
        for message in history:
            if isinstance(message, ModelResponse):
                counted.requests += 1
                counted.incr(message.usage)
        counted.tool_calls = result.usage().tool_calls
        assert result.usage() == counted
        if not result.is_complete and isinstance(history[-1], ModelResponse) and not history[-1].tool_calls:
            await goes_on(history, None)

    trio.run(main)


class Waits(WrapperModel):
    """Can be cancelled before it answers."""

    async def request(self, *args, **kwargs):
        await trio.lowlevel.checkpoint()
        return await self.wrapped.request(*args, **kwargs)

    @asynccontextmanager
    async def request_stream(self, *args, **kwargs):
        await trio.lowlevel.checkpoint()
        async with self.wrapped.request_stream(*args, **kwargs) as stream:
            yield stream


@settings(max_examples=300, deadline=None)
@given(
    responses=st.lists(RESPONSES, max_size=5),
    options=OPTIONS,
    streaming=st.booleans(),
    after=st.integers(0, 25),
)
def test_a_run_can_be_cancelled_anywhere(responses, options, streaming, after):
    async def main():
        agent, _ = make(responses, options, streaming=streaming)
        agent.model = Waits(agent.model)

        async def cancel():
            for _ in range(after):
                await trio.lowlevel.checkpoint()
            run.cancel("enough")

        failure = None
        with trio.fail_after(5):
            async with agent.iter("hi") as run, trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                try:
                    async for node in run:
                        if streaming and not (Agent.is_end_node(node) or Agent.is_user_prompt_node(node)):
                            async with node.stream(run.ctx) as stream:
                                async for _ in stream:
                                    await trio.lowlevel.checkpoint()
                except (RunCancelled, *DOCUMENTED) as error:
                    failure = error
                await trio.lowlevel.checkpoint()  # the driver's own code is not cancelled
        event(type(failure).__name__)
        assert (run.result is None) == (failure is not None)
        history = run.all_messages()
        if isinstance(failure, RunCancelled):
            assert failure.outcome.messages is history
        total = RunUsage(tool_calls=run.usage().tool_calls)
        for message in history:
            if isinstance(message, ModelResponse):
                total.requests += 1
                total.incr(message.usage)
        assert run.usage() == total
        list(check_history(history))
        await goes_on(history, run.result)

    trio.run(main)
