"""The simulated provider over real sockets."""

import json

import httpx2
import pytest
import trio

from runmgr.exceptions import UserError
from runmgr.models.sim_config import parse_sim
from runmgr.sim import open_sim_server

HELLO = {"model": "any", "messages": [{"role": "user", "content": "hello there"}]}


async def post(url, body, **extra):
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        return await client.post(f"{url}/chat/completions", json=body, **extra)


async def test_plain_answer_and_stats():
    async with open_sim_server(parse_sim("tokens=4")) as server:
        response = await post(server.url, HELLO)
        assert response.status_code == 200
        body = response.json()
        assert body["choices"][0]["message"] == {"role": "assistant", "content": "the run keeps its"}
        assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
        assert server.stats() == {
            "requests": 1,
            "completed": 1,
            "prompt_tokens": 2,
            "completion_tokens": 4,
            "max_in_flight": 1,
        }


async def test_stream_holds_the_planned_times_and_the_same_text():
    async with open_sim_server(parse_sim("ttft=80ms,itl=20ms,tokens=6")) as server:
        body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
        began, arrived, text, usage = trio.current_time(), [], "", None
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
            async with client.stream("POST", f"{server.url}/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    event = json.loads(line[6:])
                    usage = event.get("usage") or usage
                    if event["choices"] and event["choices"][0]["delta"].get("content"):
                        text += event["choices"][0]["delta"]["content"]
                        arrived.append(trio.current_time() - began)
        assert text == "the run keeps its place while"
        assert usage["completion_tokens"] == 6
        assert len(arrived) == 6
        for number, moment in enumerate(arrived):
            assert moment >= 0.08 + number * 0.02 - 0.002


async def test_tool_calls_first_then_text():
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        },
    }
    async with open_sim_server(parse_sim("calls=1")) as server:
        body = {**HELLO, "tools": [tool]}
        message = (await post(server.url, body)).json()["choices"][0]["message"]
        (call,) = message["tool_calls"]
        assert call["function"]["name"] == "look"
        assert isinstance(json.loads(call["function"]["arguments"])["x"], int)
        body["messages"] = [
            *HELLO["messages"],
            message,
            {"role": "tool", "tool_call_id": call["id"], "content": "7"},
        ]
        assert (await post(server.url, body)).json()["choices"][0]["finish_reason"] == "stop"
        body["tool_choice"] = "required"
        assert "tool_calls" in (await post(server.url, body)).json()["choices"][0]["message"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"model', "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"model": "x"}', "messages"),
        (b'{"model": "x", "messages": []}', "messages"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
    ],
)
async def test_bad_requests_say_what_is_wrong(data, says):
    async with open_sim_server() as server, httpx2.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{server.url}/chat/completions", content=data)
        assert response.status_code == 400
        assert says in response.json()["error"]["message"]
        assert (await client.get(f"{server.url}/nothing")).status_code == 404


@pytest.mark.parametrize("fault", ["disconnect", "truncate"])
@pytest.mark.parametrize("stream", [False, True])
async def test_broken_answers_are_broken(fault, stream):
    async with open_sim_server(parse_sim(f"fail=1,faults={fault}")) as server:
        with pytest.raises(httpx2.TransportError):
            await post(server.url, {**HELLO, "stream": stream})
        assert server.stats()[f"fault {fault}"] == 1
        assert "completed" not in server.stats()


async def test_limits_answer_429_with_headers():
    async with open_sim_server(parse_sim("ttft=300ms"), max_in_flight=2) as server:
        statuses = []

        async def ask():
            response = await post(server.url, HELLO)
            statuses.append(response.status_code)
            if response.status_code == 429:
                assert response.headers["retry-after"] == "1"

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert sorted(statuses) == [200, 200, 429, 429, 429]
    async with open_sim_server(rpm=3) as server:
        answers = [await post(server.url, HELLO) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"


async def test_keep_alive_serves_many_requests_on_one_connection():
    async with open_sim_server() as server:
        limits = httpx2.Limits(max_connections=1)
        async with httpx2.AsyncClient(limits=limits, trust_env=False) as client:
            for _ in range(50):
                assert (await client.post(f"{server.url}/chat/completions", json=HELLO)).status_code == 200
        assert server.stats()["completed"] == 50


async def test_a_port_that_is_taken_is_named():
    async with open_sim_server() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with open_sim_server(port=port):
                pass
