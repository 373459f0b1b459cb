"""The formats of three providers, read by our own clients; scripts, limits, metrics and the log over real sockets."""

import json

import httpx2
import pytest
from pydantic import BaseModel

from runmgr import Agent, ModelHTTPError
from runmgr.exceptions import UserError
from runmgr.models.anthropic import AnthropicModel
from runmgr.models.openai import OpenAIChatModel, OpenAIResponsesModel
from runmgr.models.sim import SimModel
from runmgr.models.sim_config import parse_sim
from runmgr.models.sim_script import read_scripts
from runmgr.providers.anthropic import AnthropicProvider
from runmgr.providers.openai import OpenAIProvider
from runmgr.sim import QueueConfig, open_sim_server

KINDS = ["chat", "responses", "messages"]


def model_of(kind, server):
    match kind:
        case "chat":
            return OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.url, api_key="x"))
        case "responses":
            return OpenAIResponsesModel("m", provider=OpenAIProvider(base_url=server.url, api_key="x"))
        case _:
            url = server.url.removesuffix("/v1")
            return AnthropicModel("m", provider=AnthropicProvider(base_url=url, api_key="x"))


@pytest.fixture
def scripts(tmp_path):
    path = tmp_path / "scripts.jsonl"
    calls = [
        {"name": "look", "arguments": {"key": "France"}},
        {"name": "look", "arguments": {"key": "Spain"}},
    ]
    turns = [
        {"calls": calls},
        {"calls": [{"name": "look", "arguments": '{"key": 1'}]},
        {"text": "Paris and Madrid"},
    ]
    path.write_text(json.dumps({"prompt": "capitals", "turns": turns}))
    return read_scripts(path)


def traveller(model, looked):
    agent = Agent(model)

    @agent.tool_plain
    def look(key: str) -> str:
        looked.append(key)
        return f"of {key}"

    return agent


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_plain_and_streamed(kind):
    async with open_sim_server(parse_sim("tokens=6")) as server:
        agent = Agent(model_of(kind, server))
        result = await agent.run("hello you")
        assert result.output == "the run keeps its place while"
        usage = result.usage()
        assert (usage.input_tokens, usage.output_tokens) == (2, 6)
        async with agent.run_stream("hello you") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
            assert "".join(pieces) == result.output
            assert streamed.usage().output_tokens == 6
        cut = await agent.run("hello you", model_settings={"max_tokens": 2})
        assert cut.output == "the run"
        assert cut.all_messages()[-1].finish_reason == "length"
        assert server.stats()["completed"] == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_scripts_call_tools_in_parallel_and_badly(kind, stream, scripts):
    looked = []
    async with open_sim_server(scripts=scripts) as server:
        agent = traveller(model_of(kind, server), looked)
        if stream:
            async with agent.run_stream("name two capitals") as streamed:
                output = await streamed.get_output()
        else:
            output = (await agent.run("name two capitals")).output
        other = (await agent.run("something else")).output
    assert output == "Paris and Madrid"
    assert sorted(looked) == ["France", "Spain"]
    assert other.startswith("the run keeps")


async def test_scripts_in_the_process(scripts):
    looked = []
    agent = traveller(SimModel(scripts=scripts), looked)
    result = await agent.run("name two capitals")
    assert result.output == "Paris and Madrid"
    async with agent.run_stream("name two capitals") as streamed:
        assert await streamed.get_output() == "Paris and Madrid"
    assert sorted(looked) == ["France", "France", "Spain", "Spain"]


@pytest.mark.parametrize("kind", KINDS)
async def test_structured_output(kind):
    class Answer(BaseModel):
        number: int

    async with open_sim_server() as server:
        result = await Agent(model_of(kind, server), output_type=Answer).run("how many?")
        assert isinstance(result.output, Answer)


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_are_in_the_providers_form(kind):
    async with open_sim_server(parse_sim("fail=1,faults=500")) as server:
        with pytest.raises(ModelHTTPError) as caught:
            await Agent(model_of(kind, server)).run("hello")
    assert caught.value.status_code == 500
    body = caught.value.body
    assert (body.get("type") == "error") is (kind == "messages")
    assert body.get("error", body)["message"] == "simulated 500"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_shared_beginning_is_cached_and_said(kind):
    async with open_sim_server(
        parse_sim("tokens=20"), cache_tokens=10_000, queue=QueueConfig(prefill_rate=100_000)
    ) as server:
        agent = Agent(model_of(kind, server), instructions=" ".join(f"w{i}" for i in range(64)))
        first = (await agent.run("hello")).usage()
        second = await agent.run("hello again")
        assert first.cache_read_tokens == 0
        assert second.usage().cache_read_tokens == 64
        assert second.usage().input_tokens == 66
        history = second.all_messages()
        third = await agent.run("and now", message_history=history)
        # 64 of instructions, the question of 2 and the answer of 20: 86 tokens before the new question, five blocks of 16
        assert third.usage().cache_read_tokens == 80
        assert server.stats()["cached_tokens"] == 144
        assert b'vllm:prefix_cache_hits_total{model_name="sim"} 144' in server.metrics()


async def get(url):
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def test_metrics_are_prometheus_text():
    async with open_sim_server(parse_sim("ttft=30ms,itl=2ms,tokens=4")) as server:
        agent = Agent(model_of("chat", server))
        await agent.run("hello you")
        async with agent.run_stream("hello") as streamed:
            await streamed.get_output()
        response = await get(server.url.removesuffix("/v1") + "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    label = '{model_name="sim"}'
    assert found[f"vllm:prompt_tokens_total{label}"] == "3"
    assert found[f"vllm:generation_tokens_total{label}"] == "8"
    assert found[f"vllm:num_requests_running{label}"] == "0"
    assert found['vllm:request_success_total{finished_reason="stop",model_name="sim"}'] == "2"
    assert found[f"vllm:time_to_first_token_seconds_count{label}"] == "1"
    assert found[f"vllm:inter_token_latency_seconds_count{label}"] == "3"
    assert float(found[f"vllm:time_to_first_token_seconds_sum{label}"]) >= 0.03
    assert found['vllm:time_to_first_token_seconds_bucket{le="0.02",model_name="sim"}'] == "0"
    assert found['vllm:time_to_first_token_seconds_bucket{le="+Inf",model_name="sim"}'] == "1"
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {name.partition("{")[0] for name in found} <= {
        name + suffix for name in typed for suffix in ("", "_bucket", "_sum", "_count")
    }


@pytest.mark.parametrize(
    ("route", "body", "left", "limit"),
    [
        ("chat/completions", {}, "x-ratelimit-remaining-tokens", "x-ratelimit-limit-requests"),
        ("responses", {"input": "a b c"}, "x-ratelimit-remaining-tokens", "x-ratelimit-limit-requests"),
        (
            "messages",
            {"max_tokens": 9},
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-requests-limit",
        ),
    ],
)
async def test_limits_are_in_the_headers_of_every_answer(route, body, left, limit):
    body = {"model": "m", "messages": [{"role": "user", "content": "a b c"}], **body}
    async with open_sim_server(parse_sim("tokens=5"), rpm=10, tpm=20) as server:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answers = [await client.post(f"{server.url}/{route}", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    # a prompt of 3 counts when it comes, its answer of 5 when that is whole
    assert [answer.headers[left] for answer in answers] == ["17", "9", "1"]
    assert answers[0].headers[limit] == "10"


async def test_over_a_limit_of_tokens_the_wait_is_said():
    body = {"model": "m", "messages": [{"role": "user", "content": "a b c"}]}
    async with open_sim_server(parse_sim("tokens=5"), tpm=10) as server:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answers = [await client.post(f"{server.url}/chat/completions", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["error"]["message"] == "Rate limit reached for tokens"
    assert 50 <= int(answers[1].headers["retry-after"]) <= 60


async def test_the_log_tells_of_every_request():
    entries = []
    options = {"queue": QueueConfig(max_batch=1, prefill_rate=1000), "log": entries.append, "rpm": 3}
    async with open_sim_server(parse_sim("tokens=4,fail=0.0"), **options) as server:
        async with httpx2.AsyncClient(trust_env=False) as client:
            url, body = f"{server.url}/chat/completions", {"model": "m", "messages": []}
            good = body | {"messages": [{"role": "user", "content": "one two"}]}
            await client.post(url, json=body)
            await client.post(url, json=good)
            await client.post(url, json=good | {"stream": True})
            await client.post(url, json=good)
            await client.post(url, json=good)
    assert [(e.number, e.status, e.output_tokens, len(e.tokens)) for e in entries] == [
        (1, 400, 0, 0),
        (2, 200, 4, 0),
        (3, 200, 4, 4),
        (4, 200, 4, 0),
        (5, 429, 0, 0),
    ]
    assert all(e.route == "/v1/chat/completions" and e.finished >= e.arrived for e in entries)
    assert entries[2].tokens[0] - entries[2].arrived >= 0.002


async def test_tokens_of_a_queue_come_step_by_step():
    entries = []
    queue = QueueConfig(prefill_rate=100, step=0.1)
    async with open_sim_server(parse_sim("tokens=5"), queue=queue, log=entries.append) as server:
        async with Agent(model_of("chat", server)).run_stream("one two three four") as streamed:
            await streamed.get_output()
    (entry,) = entries
    assert len(entry.tokens) == 5
    assert entry.tokens[-1] - entry.tokens[0] > 0.2  # 0.4 where nothing else is to do
    for number, moment in enumerate(entry.tokens):
        assert moment - entry.arrived >= 0.04 + 0.1 * number - 0.002


async def test_times_come_from_one_place():
    with pytest.raises(UserError, match="--ttft and --itl are what the queue makes"):
        async with open_sim_server(parse_sim("ttft=1s"), queue=QueueConfig()):
            pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no scripts"),
        ("{", "scripts.jsonl:1: "),
        ('{"turns": []}', "`turns` is empty"),
        ('{"turns": [{}]}', "turn 1 needs either text or calls"),
        ('{"turns": [{"text": "a"}, {"text": "b"}]}', "only the last can be one"),
        ('{"turn": []}', "turn"),
        ('{"turns": [{"calls": [{"arguments": {}}]}]}', "name"),
    ],
)
def test_bad_scripts_are_named(tmp_path, text, says):
    path = tmp_path / "scripts.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_scripts(path)
