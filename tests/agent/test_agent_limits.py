"""Usage limits: what is counted, and when it is checked."""

import pytest

from runmgr.agent import Agent, capture_run_messages
from runmgr.exceptions import ModelHTTPError, ModelRetry, UsageLimitExceeded
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage, RunUsage, UsageLimits


def with_tool(model, **options):
    agent = Agent(model, **options)

    @agent.tool_plain
    async def look(fail: bool = False) -> str:
        if fail:
            raise ModelRetry("no")
        return "seen"

    return agent


async def test_requests_are_limited_before_they_are_sent(says, call):
    agent = with_tool(says([call("look")], [call("look")], "x"))
    with capture_run_messages() as messages:
        async with agent.iter("?", usage_limits=UsageLimits(request_limit=2)) as run:
            with pytest.raises(
                UsageLimitExceeded, match="The next request would exceed the request_limit of 2"
            ):
                async for _ in run:
                    pass
    assert run.usage().requests == 2
    assert [m.kind for m in messages] == ["request", "response", "request", "response", "request"]


async def test_fifty_requests_by_default(call):
    agent = with_tool(FunctionModel(lambda m, i: ModelResponse([call("look")])))
    with pytest.raises(UsageLimitExceeded, match="request_limit of 50"):
        await agent.run("?")


async def test_no_request_limit(call):
    model = FunctionModel(lambda m, i: ModelResponse([call("look") if len(m) < 150 else TextPart("x")]))
    result = await with_tool(model).run("?", usage_limits=UsageLimits(request_limit=None))
    assert result.usage().requests > 70


async def test_a_failed_request_is_not_counted():
    def model(messages, info):
        raise ModelHTTPError(500, "m", "no")

    async with Agent(FunctionModel(model)).iter("?") as run:
        with pytest.raises(ModelHTTPError):
            async for _ in run:
                pass
    assert run.usage() == RunUsage()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"input_tokens_limit": 15}, "Exceeded the input_tokens_limit of 15 (input_tokens=20)"),
        ({"output_tokens_limit": 1}, "Exceeded the output_tokens_limit of 1 (output_tokens=2)"),
        ({"total_tokens_limit": 21}, "Exceeded the total_tokens_limit of 21 (total_tokens=22)"),
    ],
)
async def test_tokens_are_limited_after_each_response(says, call, limits, message):
    agent = with_tool(says([call("look")], "x"))
    async with agent.iter("?", usage_limits=UsageLimits(**limits)) as run:
        with pytest.raises(UsageLimitExceeded) as caught:
            async for _ in run:
                pass
    assert str(caught.value) == message
    assert run.usage() == RunUsage(requests=2, tool_calls=1, input_tokens=20, output_tokens=2)
    assert run.all_messages()[-1].parts == [TextPart("x")], "paid for, so it is in the history"
    assert run.result is None


async def test_tool_calls_are_limited_all_or_nothing(says, call):
    ran = []
    agent = Agent(says([call("look", {}, "c1")], [call("look", {}, "c2"), call("look", {}, "c3")], "x"))

    @agent.tool_plain
    async def look() -> str:
        ran.append(1)
        return "seen"

    async with agent.iter("?", usage_limits=UsageLimits(tool_calls_limit=2)) as run:
        with pytest.raises(UsageLimitExceeded) as caught:
            async for _ in run:
                pass
    assert "The next tool call(s) would exceed the tool_calls_limit of 2 (tool_calls=3)." in str(caught.value)
    assert len(ran) == run.usage().tool_calls == 1


async def test_only_successful_tool_calls_count(says, call):
    agent = with_tool(says([call("look", {"fail": True})], [call("look")], "x"))
    result = await agent.run("?", usage_limits=UsageLimits(tool_calls_limit=1))
    assert result.usage().tool_calls == 1


async def test_output_tools_are_no_tool_calls(says, call):
    agent = with_tool(says([call("final_result", {"response": 1})]), output_type=int)
    result = await agent.run("?", usage_limits=UsageLimits(tool_calls_limit=0))
    assert result.usage().tool_calls == 0


async def test_tokens_counted_before_the_request():
    asked = []

    class Counting(FunctionModel):
        async def count_tokens(self, messages, model_settings, model_request_parameters):
            return RequestUsage(input_tokens=100)

    def model(messages, info):
        asked.append(1)
        return ModelResponse([TextPart("x")])

    agent = Agent(Counting(model))
    limits = UsageLimits(input_tokens_limit=99, count_tokens_before_request=True)
    async with agent.iter("?", usage_limits=limits) as run:
        with pytest.raises(UsageLimitExceeded, match="would exceed the input_tokens_limit of 99"):
            async for _ in run:
                pass
    assert asked == []
    assert run.usage() == RunUsage(), "counting uses nothing"
    await agent.run("?", usage_limits=UsageLimits(input_tokens_limit=100, count_tokens_before_request=True))


async def test_a_shared_usage_counts_towards_the_limits(says):
    usage = RunUsage()
    agent = Agent(says("a", "b", "c"))
    limits = UsageLimits(request_limit=2)
    await agent.run("?", usage=usage, usage_limits=limits)
    result = await agent.run("?", usage=usage, usage_limits=limits)
    assert result.usage() is usage
    with pytest.raises(UsageLimitExceeded):
        await agent.run("?", usage=usage, usage_limits=limits)
    assert usage.requests == 2
