"""The response cache and single flight."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, CachePolicy
from runmgr.supervisor import RunSpec, open_supervisor
from runmgr.supervisor.cache import Cache, request_key
from runmgr.usage import RequestUsage


class Answers:
    """A model whose answers are numbered."""

    def __init__(self, fail=()):
        self.sent = 0
        self.fail = list(fail)
        self.model = FunctionModel(self.answer, model_name="numbered")
        self.agent = Agent(self.model)

    async def answer(self, messages, info):
        self.sent += 1
        number = self.sent
        await trio.sleep(1)
        if self.fail:
            raise self.fail.pop(0)
        return ModelResponse(
            parts=[TextPart(f"answer {number}")], usage=RequestUsage(input_tokens=10, output_tokens=5)
        )


async def outputs(agent, items, **options):
    async with open_supervisor(**options) as sup, sup.map(agent, items, ordered=True) as outcomes:
        return [outcome.output async for outcome in outcomes], sup.usage(), sup.snapshot().models


async def test_answers_are_kept_over_processes_and_cost_nothing_again(tmp_path, autojump_clock):
    answers = Answers()
    path = tmp_path / "cache.sqlite"
    said, usage, _ = await outputs(answers.agent, ["a", "b"], cache=path, max_running=1)
    assert said == ["answer 1", "answer 2"]
    assert usage.requests == 2
    said, usage, models = await outputs(
        answers.agent, ["a", "b", "c"], cache=path, max_running=1, budget=Budget(requests=1)
    )
    assert said == ["answer 1", "answer 2", "answer 3"]
    assert (usage.requests, answers.sent) == (1, 3)
    assert models["numbered"].cached == 2


async def test_equal_requests_in_flight_are_sent_once_when_asked(autojump_clock):
    answers = Answers()
    said, usage, models = await outputs(answers.agent, ["same"] * 50, cache=CachePolicy())
    assert said == ["answer 1"] * 50
    assert (answers.sent, usage.requests, models["numbered"].cached) == (1, 1, 49)
    answers = Answers()
    await outputs(answers.agent, ["same"] * 50)
    assert answers.sent == 50


async def test_where_the_one_in_flight_fails_another_is_sent(autojump_clock):
    answers = Answers(fail=[ModelHTTPError(400, "m")])
    said, _, _ = await outputs(answers.agent, ["same"] * 10, cache=CachePolicy())
    assert said.count(None) == 1
    assert set(said) == {None, "answer 2"}
    async with open_supervisor(cache=CachePolicy()) as sup:
        handles = [await sup.submit(answers.agent, "other") for _ in range(3)]
        await trio.sleep(0.5)
        sent = answers.sent
        for handle in handles:
            if handle.state == "running" and sup.snapshot().models["numbered"].in_flight == 1:
                handle.cancel()
                await trio.sleep(0.1)
        await sup.drain()
        assert answers.sent >= sent


async def test_epochs_never_share_an_answer(tmp_path, autojump_clock):
    answers = Answers()
    path = tmp_path / "cache.sqlite"
    specs = [RunSpec(prompt="q", cache_salt=epoch) for epoch in (1, 2, 1, 2)]
    said, _, _ = await outputs(answers.agent, specs, cache=path)
    assert len(set(said)) == 2
    assert said[0] == said[2]
    again, _, _ = await outputs(answers.agent, specs, cache=path)
    assert again == said
    assert answers.sent == 2


async def test_tool_turns_are_answered_again_from_the_file(tmp_path, autojump_clock):
    sent = called = 0

    async def answer(messages, info):
        nonlocal sent
        sent += 1
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("add", {"a": 1}, "call")])
        return ModelResponse(parts=[TextPart(messages[-1].parts[0].model_response_str())])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def add(a: int) -> int:
        nonlocal called
        called += 1
        return a + 1

    for _ in range(2):
        said, _, _ = await outputs(agent, ["q"], cache=tmp_path / "c.sqlite")
        assert said == ["2"]
    assert (sent, called) == (2, 2)


def test_the_key_is_all_that_determines_a_response_and_nothing_else():
    model = Answers().model

    def key(text="q", settings=None, params=None, salt=None, model=model, content="2", args=None, run_id="r"):
        messages = [
            ModelRequest(parts=[UserPromptPart(content=text)], run_id=run_id),
            ModelResponse(parts=[ToolCallPart("t", args or {"timestamp": 1}, "c")], run_id=run_id),
            ModelRequest(parts=[ToolReturnPart("t", content, "c")], run_id=run_id),
        ]
        return request_key(model, messages, settings, params, salt)

    base = key()
    assert key() == key(run_id="other") == key(settings={}) == base
    keys = [
        base,
        key("r"),
        key(settings={"temperature": 0}),
        key(settings={"temperature": 1}),
        key(params={"tools": 1}),
        key(salt=1),
        key(salt="1"),
        key(model=FunctionModel(model.function, model_name="another")),
        key(content="3"),
        key(args={"timestamp": 2}),
    ]
    assert len(set(keys)) == len(keys)


def test_age_and_size(tmp_path):
    time = 0.0
    cache = Cache(CachePolicy(path=str(tmp_path / "c"), max_age=100, max_bytes=1_000), lambda: time)
    cache.put(b"old", b"x" * 100)
    time = 99.0
    assert cache.get(b"old") == b"x" * 100
    time = 101.0
    assert cache.get(b"old") is None
    for number in range(50):
        time += 1
        cache.put(b"%d" % number, b"x" * 90)
        cache.get(b"0")
    assert cache.get(b"0") is not None  # used lately
    assert cache.get(b"1") is None
    assert cache.get(b"49") is not None
    cache.close()
    cache.close()
    again = Cache(CachePolicy(path=str(tmp_path / "c"), max_bytes=1_000), lambda: time)
    assert again._size <= 1_000
    again.close()


def test_a_file_of_another_kind_is_refused(tmp_path):
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("create table t (x)")
    other.close()
    with pytest.raises(UserError, match="another kind of database"):
        Cache(CachePolicy(path=str(tmp_path / "other.sqlite")))
    (tmp_path / "text").write_text("no database at all, but long enough to be looked at" * 10)
    with pytest.raises(UserError, match="cannot be used"):
        Cache(CachePolicy(path=str(tmp_path / "text")))
    with pytest.raises(ValueError, match="not be negative"):
        CachePolicy(max_age=-1)
