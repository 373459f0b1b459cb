"""Service levels, traces and prompts: read, or refused with the line and the way out."""

import json

import pytest

from runmgr.exceptions import UserError
from runmgr.load import LoadConfig
from runmgr.load.arrivals import parse_rates
from runmgr.load.prompts import SyntheticPrompts, TracePrompts, read_prompts
from runmgr.load.slo import Objective, parse_slo
from runmgr.load.trace import read_trace
from runmgr.models.sim_config import Distribution, parse_distribution


def test_slo():
    assert parse_slo("ttft=200ms, itl=50ms") == (Objective("ttft", 0.2), Objective("itl", 0.05))
    assert parse_slo("e2e.p95=2s,goodput=95%,errors=0.01") == (
        Objective("e2e", 2.0, 95.0),
        Objective("goodput", 0.95),
        Objective("errors", 0.01),
    )
    assert [one.name for one in parse_slo("tpot.p99.9=1ms,errors=1%")] == ["tpot_p99.9", "errors"]


@pytest.mark.parametrize(
    "text",
    ["", "ttft", "ttft=", "ttft=200", "speed=1ms", "ttft.95=1ms", "ttft.p0=1ms", "goodput=2", "errors=x"],
)
def test_slo_that_is_none(text):
    with pytest.raises(UserError, match="--slo"):
        parse_slo(text)


def test_trace_in_both_forms(tmp_path):
    rows = [{"timestamp": 2000, "input_length": 600, "output_length": 51, "hash_ids": [4, 9]}]
    rows.append({"timestamp": 1000, "input_length": 100, "output_length": 0})
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_trace(path, time_scale=0.1, length_scale=0.1)
    assert (first.at, first.input_tokens, first.output_tokens) == (0.0, 10, 1)
    assert (round(second.at, 9), second.input_tokens, second.output_tokens) == (0.1, 60, 5)
    assert second.blocks == (4, 9)
    assert len(read_trace(path, until=1.0)) == 1
    table = tmp_path / "t.csv"
    table.write_text("timestamp,input_length,output_length\n0,10,20\n5,11,21\n")
    assert [row.input_tokens for row in read_trace(table)] == [10, 11]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no arrivals"),
        ("{", ":1: not JSON"),
        ("[]", ":1: an object"),
        ('{"timestamp": 1}', ":1: no 'input_length'"),
        ('{"timestamp": -1, "input_length": 1, "output_length": 1}', ":1: timestamp=-1"),
    ],
)
def test_bad_traces_are_named(tmp_path, text, says):
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_trace(path)


def words_of(body):
    return json.loads(body)["messages"][0]["content"].split()


def test_synthetic_prompts_have_their_lengths_and_are_a_function_of_their_index():
    made = SyntheticPrompts(
        "m",
        input=Distribution(a=50.0),
        output=parse_distribution("uniform(5,9)", "x"),
        fields={"top_p": 1},
        seed=1,
    )
    bodies = [made.prepared(i) for i in range(200)]
    assert {len(words_of(body)) for body in bodies} == {50}
    assert len({body for body in bodies}) == 200
    assert {json.loads(body)["max_tokens"] for body in bodies} == {5, 6, 7, 8, 9}
    assert json.loads(bodies[0])["top_p"] == 1
    assert json.loads(bodies[0])["stream_options"] == {"include_usage": True}
    assert made.prepared(7) == bodies[7]
    long = SyntheticPrompts("m", input=Distribution(a=100_000.0), output=None, fields={}, seed=1, prefix=10)
    assert len(words_of(long.prepared(0))) == 100_010
    assert words_of(long.prepared(0))[:10] == words_of(long.prepared(1))[:10]
    assert "max_tokens" not in json.loads(long.prepared(0))


def test_trace_prompts_share_the_blocks_of_equal_ids(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [([1, 2], 1200), ([1, 2], 1300), ([1, 3], 1200)]
    path.write_text(
        "\n".join(
            json.dumps({"timestamp": 0, "input_length": n, "output_length": 7, "hash_ids": ids})
            for ids, n in rows
        )
    )
    made = TracePrompts("m", read_trace(path), length_scale=1.0, fields={}, seed=0)
    first, second, third = (words_of(made.prepared(i)) for i in range(3))
    assert [len(first), len(second), len(third)] == [1200, 1300, 1200]
    assert first[:1024] == second[:1024]
    assert first[1024:] != second[1024:1200]
    assert first[:512] == third[:512]
    assert first[512:1024] != third[512:1024]


def test_prompt_files(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('"a"\n\n{"question": "b"}\n{"messages": [{"role": "user", "content": "c"}]}\n')
    assert read_prompts(path) == ["a", "b", [{"role": "user", "content": "c"}]]
    path.write_text('{"text": "b"}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:1: a text, or an object with prompt"):
        read_prompts(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no prompts"):
        read_prompts(path)


SOUND = {"base_url": "http://x/v1", "model": "openai:m", "rates": parse_rates("5")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rates": None}, "one of --rate, --concurrency, --trace and --sweep"),
        ({"concurrency": 3}, "not --rate and --concurrency"),
        ({"base_url": None}, "--base-url is needed"),
        ({"model": None}, "--model is needed"),
        ({"model": "anthropic:x"}, "named openai:NAME"),
        ({"model": "openai:"}, "named openai:NAME"),
        ({"arrival": "weibull"}, "constant, poisson, gamma"),
        ({"burstiness": 0.0}, "--burstiness"),
        ({"rates": parse_rates("1..5")}, "needs --duration"),
        ({"duration": 2.0, "warmup": 2.0}, "leaves nothing"),
        ({"duration": 3.0, "warmup": 2.0, "cooldown": 1.0}, "leave nothing"),
        ({"duration": 3.0, "cooldown": -1.0}, "--cooldown -1"),
        ({"requests": 9, "rates": None, "concurrency": 2, "cooldown": 1.0}, "--cooldown needs --duration"),
        ({"requests": 0}, "--requests 0"),
        ({"duration": -1.0}, "--duration -1"),
        ({"timeout": 0.0}, "--timeout 0"),
        ({"defs": "wrk"}, "--defs wrk"),
        ({"agent": "a:b"}, "--agent needs --prompts"),
    ],
)
def test_loads_that_cannot_be(change, says):
    LoadConfig(**SOUND)
    with pytest.raises(UserError, match=says):
        LoadConfig(**SOUND | change)
