"""The simulated model: what its text says is what it does."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runmgr.exceptions import MalformedResponseError, ModelConnectionError, ModelHTTPError, UserError
from runmgr.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models.sim import SimModel
from runmgr.models.sim_config import Distribution, SimConfig, parse_distribution, parse_sim
from runmgr.models.sim_engine import Engine, Offer, example
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition

PLAIN = ModelRequestParameters()
ADD = ToolDefinition(
    name="add",
    parameters_json_schema={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "minimum": 3}},
        "required": ["a", "b"],
    },
)


def asked(text="hello there"):
    return [ModelRequest(parts=[UserPromptPart(text)])]


def test_text_form():
    config = parse_sim(
        "ttft=200ms, itl=lognormal(10ms,0.3), tokens=uniform(20,80), fail=1%, faults=429+hang, seed=7, calls=2"
    )
    assert config == SimConfig(
        ttft=Distribution(a=0.2),
        itl=Distribution("lognormal", 0.01, 0.3),
        tokens=Distribution("uniform", 20, 80),
        fail=0.01,
        faults=("429", "hang"),
        seed=7,
        calls=2,
    )
    assert parse_sim("") == SimConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tfft=1s", "did you mean ttft?"),
        ("ttft=soon", "'soon' is not a number"),
        ("ttft=gauss(1,2)", "is not a distribution"),
        ("ttft=uniform(2,1)", "low end above its high end"),
        ("fail=150%", "more than the whole"),
        ("faults=418", "'418' is not a fault"),
        ("calls=1.5", "not a whole number"),
        ("ttft", "is not KEY=VALUE"),
    ],
)
def test_text_form_mistakes(text, says):
    with pytest.raises(UserError) as caught:
        parse_sim(text)
    assert says in str(caught.value)


@given(st.sampled_from(["uniform(1,3)", "normal(2,0.5)", "exp(2)", "lognormal(2,0.4)", "2"]))
def test_draws_have_the_mean(text):
    distribution = parse_distribution(text, "x")
    draws = [distribution.draw((i + 0.5) / 20_000) for i in range(20_000)]
    assert min(draws) >= 0
    assert sum(draws) / len(draws) == pytest.approx(distribution.mean, rel=0.01)


async def test_time_and_tokens(autojump_clock):
    model = SimModel("ttft=2s,itl=0.5s,tokens=5")
    began = trio.current_time()
    response = await model.request(asked(), None, PLAIN)
    assert trio.current_time() - began == pytest.approx(2 + 4 * 0.5)
    assert response.parts == [TextPart("the run keeps its place")]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (2, 5)
    assert response.finish_reason == "stop"
    cut = await model.request(asked(), {"max_tokens": 2}, PLAIN)
    assert (cut.text, cut.finish_reason, cut.usage.output_tokens) == ("the run", "length", 2)


async def test_stream_is_the_same_answer_in_the_same_time(autojump_clock):
    model = SimModel("ttft=2s,itl=exp(100ms),tokens=uniform(3,30),seed=3")
    began = trio.current_time()
    whole = await model.request(asked(), None, PLAIN)
    took = trio.current_time() - began
    began = trio.current_time()
    async with model.request_stream(asked(), None, PLAIN) as stream:
        first = None
        async for _ in stream:
            first = first or trio.current_time()
    assert first - began == pytest.approx(2)
    assert trio.current_time() - began == pytest.approx(took)
    assert stream.get().parts == whole.parts
    assert stream.timestamp == stream.get().timestamp >= whole.timestamp
    assert stream.usage() == whole.usage


async def test_calls_then_answer(autojump_clock):
    model = SimModel("calls=1")
    offered = ModelRequestParameters(function_tools=[ADD])
    history = asked()
    response = await model.request(history, None, offered)
    (call,) = response.parts
    assert isinstance(call, ToolCallPart)
    assert call.tool_name == "add"
    assert call.args_as_dict()["b"] >= 3
    history += [response, ModelRequest(parts=[ToolReturnPart("add", 4, call.tool_call_id)])]
    assert isinstance((await model.request(history, None, offered)).parts[0], TextPart)
    assert isinstance((await model.request(asked(), None, PLAIN)).parts[0], TextPart)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", ModelHTTPError),
        ("500", ModelHTTPError),
        ("503", ModelHTTPError),
        ("disconnect", ModelConnectionError),
        ("hang", ModelConnectionError),
        ("truncate", MalformedResponseError),
        ("garbage", MalformedResponseError),
    ],
)
async def test_faults(fault, error, autojump_clock):
    model = SimModel(f"fail=1,faults={fault},hang=40s")
    with pytest.raises(error):
        await model.request_once(asked(), None, PLAIN)
    with pytest.raises(error):
        async with model.request_stream(asked(), None, PLAIN) as stream:
            async for _ in stream:
                pass


def test_faults_follow_the_share_and_a_resend_can_pass():
    engine = Engine(parse_sim("fail=20%,seed=1"))
    offer = Offer(question="q", digest_of=b"q", input_tokens=1)
    plans = [engine.plan(offer) for _ in range(5_000)]
    assert 900 < sum(plan.fault is not None for plan in plans) < 1_100
    assert len({plan.text for plan in plans}) == 1
    again = Engine(parse_sim("fail=20%,seed=1"))
    assert [again.plan(offer) for _ in range(5_000)] == plans


def test_known_answers():
    engine = Engine(parse_sim("wrong=25%"), {f"question {i}?": f"it is {i}" for i in range(400)})
    right = 0
    for i in range(400):
        text = engine.plan(Offer(question=f"Please: question {i}?", digest_of=b"%d" % i, input_tokens=3)).text
        assert text in {f"it is {i}", f"it is {i + 1}"}
        right += text == f"it is {i}"
    assert 260 < right < 340


def test_examples_satisfy_their_schema():
    from pydantic import BaseModel, Field, TypeAdapter

    class Inner(BaseModel):
        kind: str = Field(min_length=6, max_length=8)

    class Outer(BaseModel):
        a: int = Field(gt=4, lt=8)
        b: list[Inner] = Field(min_length=2)
        c: bool
        d: str | None
        e: tuple[int, str]

    schema = TypeAdapter(Outer).json_schema()
    for pick in range(20):
        Outer.model_validate(example(schema, schema["$defs"], pick))


async def test_same_request_same_answer_whatever_else_runs(autojump_clock):
    texts = []
    for others in (0, 3):
        model = SimModel("tokens=uniform(3,40),seed=5")
        for i in range(others):
            await model.request(asked(f"other {i}"), None, PLAIN)
        response = await model.request(asked(), None, PLAIN)
        assert isinstance(response, ModelResponse)
        texts.append(response.text)
    assert texts[0] == texts[1]
